from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.agents.output import BoundedText, clean_text, cut_middle, without_last_newline

LIMIT = 200


def test_what_fits_is_kept_whole() -> None:
    kept = BoundedText(LIMIT)
    assert kept.feed(b"a" * LIMIT) == "a" * LIMIT
    assert kept.finish() == ""
    assert kept.text() == "a" * LIMIT
    assert kept.total == LIMIT


def test_one_byte_more_is_cut_in_the_middle_and_marked() -> None:
    kept = BoundedText(LIMIT)
    kept.feed(b"a" * 100 + b"b" * 101)
    assert kept.text() == "a" * 68 + "\n[… 65 bytes left out …]\n" + "b" * 68


@given(st.lists(st.text(max_size=120), max_size=30), st.data())
def test_bounds_and_counts_hold_for_any_text_and_any_pieces(texts: list[str], data: st.DataObject) -> None:
    text = clean_text("".join(texts))
    whole = text.encode()
    kept = BoundedText(LIMIT)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    shown = (
        "".join(kept.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
        + kept.finish()
    )
    assert shown == text
    assert kept.total == len(whole)
    assert len(kept.text().encode()) <= LIMIT
    assert kept.text() == cut_middle(text, LIMIT)
    if len(whole) <= LIMIT:
        assert kept.text() == text
        return
    head, left_out, tail = re.split(r"\n\[… (\d+) bytes left out …\]\n", kept.text())
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head.encode()) + int(left_out) + len(tail.encode()) == len(whole)
    assert min(len(head.encode()), len(tail.encode())) >= (LIMIT - 64) // 2 - 3


def test_bytes_that_are_no_text() -> None:
    kept = BoundedText(LIMIT)
    assert kept.feed(b"\x00\xff\xc3") == "\ufffd\ufffd"
    assert kept.feed(b"\xa9\xe2\x82") == "é"
    assert kept.finish() == "\ufffd"
    assert kept.text() == "\ufffd\ufffdé\ufffd"


def test_memory_stays_the_same_for_any_amount_of_output() -> None:
    kept = BoundedText()
    piece = b"x" * 65_536
    tracemalloc.start()
    try:
        for _ in range(4_000):  # 262 MB, without a newline
            kept.feed(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.total == 4_000 * 65_536
    assert peak < 2_000_000


def test_many_small_pieces_take_linear_time_and_keep_the_ends() -> None:
    kept = BoundedText(LIMIT)
    for number in range(100_000):
        kept.feed(b"%d " % number)
    assert kept.text().startswith("0 1 2 ")
    assert kept.text().endswith(" 99998 99999 ")


def test_cut_middle_of_a_long_text() -> None:
    text = cut_middle("ä" * 1_000_000)
    assert len(text.encode()) <= 65_536
    assert text.startswith("ää")
    assert text.endswith("ää")


def test_clean_text() -> None:
    assert clean_text("plain") == "plain"
    assert clean_text("a\0b\ud800c é") == "a\ufffdb\ufffdc é"
    assert cut_middle("a\0") == "a\ufffd"


def test_without_last_newline() -> None:
    assert [without_last_newline(text) for text in ("", "a", "a\n", "a\n\n", "a\r\n", "\n")] == [
        "",
        "a",
        "a",
        "a\n",
        "a",
        "",
    ]


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves no room"):
        BoundedText(10)
