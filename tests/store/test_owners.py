import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from allready.store import owners
from allready.store.contract import Owner
from allready.store.owners import is_alive, this_process


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def owner_of(pid: int) -> Owner:
    started = owners._started(pid)
    assert started is not None
    return this_process()._replace(pid=pid, started=started)


def test_this_process_lives_and_is_always_the_same() -> None:
    assert is_alive(this_process()) is True
    assert this_process() == this_process()
    assert this_process().pid == os.getpid()


def test_a_process_is_dead_once_it_was_killed_even_before_its_parent_knows(
    child: subprocess.Popen[bytes],
) -> None:
    owner = owner_of(child.pid)
    assert is_alive(owner) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert psutil.pid_exists(child.pid)
    assert is_alive(owner) is False
    child.wait()
    assert is_alive(owner) is False


def test_a_pid_that_was_used_again_is_not_the_owner(child: subprocess.Popen[bytes]) -> None:
    owner = owner_of(child.pid)
    assert is_alive(owner._replace(started=owner.started - 0.05)) is False


def test_nothing_outlives_a_boot() -> None:
    assert is_alive(this_process()._replace(boot_id="before")) is False


def test_other_hosts_can_not_be_judged() -> None:
    assert is_alive(this_process()._replace(host="elsewhere")) is None


def test_names_with_parentheses_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "77").mkdir()
    fields = " ".join(map(str, range(4, 22)))
    (tmp_path / "77/stat").write_text(f"77 (a) b (c) S {fields} 12345 99\n")
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    assert owners._started(77) == 12345 / os.sysconf("SC_CLK_TCK")


def test_without_proc_the_system_is_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    owners.boot_id.cache_clear()
    owners.host_name.cache_clear()
    try:
        owner = owner_of(child.pid)
        assert owner.boot_id.startswith("boot-")
        assert is_alive(owner) is True
        child.kill()
        child.wait()
        assert is_alive(owner) is False
    finally:
        owners.boot_id.cache_clear()
        owners.host_name.cache_clear()


def test_another_container_is_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026539999]")
    outside = this_process()
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    owners.host_name.cache_clear()
    try:
        assert owners.host_name().endswith("/pid:[4026539999]")
        assert is_alive(outside) is None
    finally:
        owners.host_name.cache_clear()
