"""Tables, times and hints."""

from __future__ import annotations

import time

import pytest
from rich.cells import cell_len

from allready.cli.tables import ago, count, fit, hint, pad, span, table, time_text

ROWS = [["a", "first", "1"], ["bb", "日本語" * 10, "22"]]


def test_columns_are_aligned_whatever_the_width_of_characters() -> None:
    assert list(table([["日本", "x", "1"], ["a", "y", "10"]], ("A", "B", "N"), right=(2,))) == [
        "A     B   N",
        "日本  x   1",
        "a     y  10",
    ]


def test_columns_without_anything_are_left_out() -> None:
    assert list(table([["a", "", "b"]], ("A", "B", "C"))) == ["A  C", "a  b"]
    assert list(table([])) == []


@pytest.mark.parametrize("columns", [25, 40, 60])
def test_tables_fit_the_screen(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = list(table(ROWS, ("A", "B", "C"), cut=(1,)))
    assert max(map(cell_len, lines)) <= columns
    assert "…" in lines[-1]


def test_nothing_is_cut_where_no_screen_is() -> None:
    assert "…" not in "".join(table(ROWS, cut=(0, 1, 2)))


def test_texts_are_cut_to_a_width() -> None:
    assert fit("日本語", 5) == "日本…"
    assert fit("日本語", 4) == "日…"
    assert fit("abc", 3) == "abc"
    assert fit("abcd", 3) == "ab…"
    assert fit("abcd", 0) == ""
    assert pad("日", 4) == "日  "
    assert pad("1", 3, right=True) == "  1"


def test_times_have_their_date_unless_it_is_today() -> None:
    now = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
    assert time_text(now - 3_600, now) == "11:00:00"
    assert time_text(now - 86_400, now) == "2026-11-23 12:00:00"
    assert time_text(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "just now"),
        (-5, "just now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (7_199, "1 h ago"),
        (90_000, "25 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert ago(1_000_000 - seconds, 1_000_000) == text


def test_spans_need_both_ends() -> None:
    assert span(1.0, 3.5) == "2.5 s"
    assert span(None, 1.0) == span(1.0, None) == ""


def test_hints_can_be_pasted_into_a_shell() -> None:
    assert hint("resume", "01a2") == "allready resume 01a2"
    assert hint("show", "01a2", "a", store="my runs.db") == "allready show 01a2 a --store 'my runs.db'"


def test_counts_read_well() -> None:
    assert (count(1, "task"), count(12_000, "task")) == ("1 task", "12,000 tasks")
