import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from allready.errors import StoreError
from allready.store.files import make_folder, read_checked, write_synced

DATA = b"some bytes\0\xff" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "output.txt"
    path.write_bytes(b"older")
    write_synced(path, DATA)
    assert read_checked(path, len(DATA), DIGEST) == DATA
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_rights_that_files_have(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_synced(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_data_and_name_are_on_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    path = tmp_path / "output.txt"
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append("folder" if name == tmp_path else f"data, named: {path.exists()}")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", watched)
    write_synced(path, DATA)
    assert order == ["data, named: False", "folder"]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file or directory.*check that its folder"):
        write_synced(tmp_path / "missing" / "output.txt", DATA)


def test_a_full_disk_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "output.txt"
    path.write_bytes(b"older")
    code = (
        "import sys; from pathlib import Path; from allready.store.files import write_synced\n"
        "from allready.errors import StoreError\n"
        "try: write_synced(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except StoreError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "free some space" in done.stdout
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "is missing"),
        (DATA[:-1], "11999 bytes instead of 12000"),
        (DATA[:-1] + b"x", "SHA-256"),
        (b"", "0 bytes instead of"),
    ],
)
def test_a_file_that_is_not_the_recorded_one_is_told(
    tmp_path: Path, found: bytes | None, message: str
) -> None:
    path = tmp_path / "output.txt"
    if found is not None:
        path.write_bytes(found)
    with pytest.raises(StoreError, match=message) as told:
        read_checked(path, len(DATA), DIGEST)
    assert str(path) in str(told.value)
    assert "retry the task" in str(told.value)


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="could not read"):
        read_checked(tmp_path, 0, "")


def test_folders_are_made_durable_with_those_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("os.fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a/b"]
    make_folder(tmp_path / "a/b/c")
    assert len(synced) == 3


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not make"):
        make_folder(tmp_path / "file/a/b")
