"""What commands leave behind: their JSON and their artifacts."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from allready.agents.exchange import DATA_LIMIT, check_artifacts, read_data
from allready.agents.folders import remove_folder
from allready.errors import PermanentError, TaskError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 99_999, "nested deeper than 100 levels"),
        (b"[" * 101 + b"]" * 101, "nested deeper than 100 levels"),
        (b"9" * 5_000, "a number of 5,000 digits is too long"),
        (b"1e" + b"9" * 5_000, "is too large a number"),
        (b"-Infinity", "-Infinity is not a JSON number"),
        (b"  ", "is empty"),
        (b" " * (DATA_LIMIT + 1), "is larger than"),
    ],
)
def test_data_that_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=message) as caught:
        read_data(path)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"\\ud800"', "holds half of a character"),
        (b'{"\\udc00": 1}', "holds half of a character"),
        (b'"\xed\xa0\x80"', "is not text in UTF-8: byte 2 is 0xed"),
        (b'\xef\xbb\xbf"\xff"', "is not text in UTF-8: byte 5 is 0xff"),
        (b'["a\0"]', "holds a NUL character at byte 4"),
        (b"\xff\xfe1\0", "holds a NUL character at byte 4"),
        (b"\0", "holds a NUL character at byte 1"),
    ],
)
def test_data_that_no_second_try_would_mend(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=message):
        read_data(path)


def test_an_escaped_nul_is_a_character_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(rb'"a\u0000b \ud83d\ude00"')
    assert read_data(tmp_path / "data.json") == "a\0b \N{GRINNING FACE}"


def test_artifacts_a_thousand_levels_deep(tmp_path: Path) -> None:
    folder = here = tmp_path / "artifacts"
    folder.mkdir()
    for _ in range(1_200):
        here = here / "x"
        here.mkdir()
    (here / "out").symlink_to("/etc")
    try:
        assert check_artifacts(folder) == folder
        assert not os.path.lexists(here / "out")
    finally:
        remove_folder(folder)  # pytest could not


def test_artifacts_deeper_than_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("x" * 200, dir_fd=here)
        below = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        with pytest.raises(
            TaskError, match="artifacts can't be looked through: File name too long"
        ) as caught:
            check_artifacts(folder)
        assert len(str(caught.value)) < 500
    finally:
        remove_folder(folder)


def test_names_in_warnings_steer_no_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "a\x1b[2Jb\n")
    with caplog.at_level(logging.WARNING):
        assert check_artifacts(tmp_path) is None
    (record,) = caplog.records
    assert r"a\x1b[2Jb\n" in record.getMessage()
    assert "\x1b" not in record.getMessage()


def test_a_folder_without_rights(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    try:
        if os.geteuid() == 0:
            assert check_artifacts(tmp_path) == tmp_path
        else:
            with pytest.raises(TaskError, match="can't be looked through: Permission denied"):
                check_artifacts(tmp_path)
    finally:
        (tmp_path / "closed").chmod(stat.S_IRWXU)
