from __future__ import annotations

import os
from pathlib import Path

import pytest

from allready.agents.folders import remove_folder


def test_a_folder_without_rights_links_and_odd_names(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "a b"
    (folder / "x" / "y").mkdir(parents=True)
    (folder / "x" / "y" / "file").touch()
    (folder / "x" / "link").symlink_to(outside)
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\n")).touch()
    (folder / "x" / "y").chmod(0)
    (folder / "x").chmod(0o500)
    folder.chmod(0o500)
    remove_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "kept").exists()


def test_a_folder_deeper_than_any_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("level", dir_fd=here)
        below = os.open("level", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_folder(folder)
    assert not folder.exists()


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_folder(tmp_path / "none")
