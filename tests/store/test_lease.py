import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from allready.errors import LeaseLost, StoreError
from allready.store import open_store
from allready.store.contract import LEASE_SECONDS, RENEW_SECONDS, CommandRow, Lease, Store
from allready.store.lease import LOOK_SECONDS, RETRY_SECONDS, LeaseKeeper, lease_clock
from allready.store.owners import this_process
from allready.store.sql import SqlStore
from allready.testing.store_contract import ELSEWHERE, OTHER_RUN, RUN, a_run

PATIENCE = 30.0


class ScriptedStore:
    """Renews as told, notes when it was asked for what; time passes only while the keeper waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.until = 100.0
        self.calls: list[tuple[float, str]] = []
        self.pending: list[int] = []
        self.has_changed = False
        self.renewals: Callable[[float], None] = lambda now: None
        self.renewal_takes = 0.0
        self.broken_looks = 0

    def clock(self) -> float:
        return self.now

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        assert seconds >= 0
        self.now = round(self.now + max(seconds, 1e-3), 6)
        if self.now > self.until:
            stop.set()
        return stop.is_set()

    def renew(self, run_id: str, epoch: int) -> None:
        self.calls.append((self.now, "renew"))
        self.now += self.renewal_takes
        self.renewals(self.now)

    def changed(self, watcher: str) -> bool:
        assert watcher == RUN
        self.calls.append((self.now, "changed"))
        changed, self.has_changed = self.has_changed, False
        return changed

    def pending_commands(self, run_id: str) -> list[CommandRow]:
        self.calls.append((self.now, "pending"))
        if self.broken_looks:
            self.broken_looks -= 1
            raise StoreError("for now")
        return [CommandRow(number, run_id, "pause", None, 0.0) for number in self.pending]

    def times(self, call: str) -> list[float]:
        return [round(at - 100, 3) for at, name in self.calls if name == call]

    def keep(self, seconds: float, **callbacks: Any) -> LeaseKeeper:
        """Let a keeper run for some seconds of scripted time."""
        self.until = self.now + seconds
        lease = Lease(RUN, 1, None, self.now)
        keeper = LeaseKeeper(cast("Store", self), lease, clock=self.clock, wait=self.wait, **callbacks)
        keeper.start()
        keeper._thread.join(PATIENCE)
        return keeper


def heard_into(heard: list[list[int]]) -> Callable[[list[CommandRow]], None]:
    return lambda commands: heard.append([command.id for command in commands])


# --- in scripted time -------------------------------------------------------------------------------------


def test_renews_every_three_seconds_and_looks_eight_times_in_between() -> None:
    store = ScriptedStore()
    keeper = store.keep(9.5, on_commands=lambda commands: None)
    assert store.times("renew") == [3, 6, 9]
    assert store.times("changed") == [round(number * LOOK_SECONDS, 3) for number in range(26)]
    assert store.times("pending") == [0]
    assert keeper.valid()


def test_without_a_listener_it_only_renews() -> None:
    store = ScriptedStore()
    store.keep(9.5)
    assert [name for _, name in store.calls] == ["renew"] * 3


def test_every_command_is_handed_over_once() -> None:
    store = ScriptedStore()
    store.pending = [1, 2]
    heard: list[list[int]] = []

    def on_commands(commands: list[CommandRow]) -> None:
        heard.append([command.id for command in commands])
        if len(heard) == 1:
            store.pending, store.has_changed = [2, 3], True
        elif len(heard) == 2:
            store.has_changed = True

    store.keep(5, on_commands=on_commands)
    assert heard == [[1, 2], [3]]


def test_a_look_that_fails_is_made_again() -> None:
    store = ScriptedStore()
    store.pending, store.broken_looks = [1], 3
    heard: list[list[int]] = []
    store.keep(2, on_commands=heard_into(heard))
    assert heard == [[1]]
    assert store.times("pending") == [number * LOOK_SECONDS for number in range(4)]


def test_counts_from_the_start_of_a_renewal() -> None:
    store = ScriptedStore()
    store.renewal_takes = 2.0
    keeper = store.keep(4)  # one renewal, from 3 to 5
    assert store.times("renew") == [3]
    store.now = 100 + 3 + LEASE_SECONDS - 0.01
    assert keeper.valid()
    store.now += 0.02
    assert not keeper.valid()


def test_counts_from_when_the_store_was_asked_at_first() -> None:
    store = ScriptedStore()
    lease = Lease(RUN, 1, None, store.now - LEASE_SECONDS + 0.5)
    keeper = LeaseKeeper(cast("Store", store), lease, clock=store.clock)
    assert keeper.valid()
    store.now += 0.5
    assert not keeper.valid()


def test_a_store_that_fails_is_asked_again_and_again() -> None:
    store = ScriptedStore()
    lost: list[LeaseLost] = []

    def fail(_: float) -> None:
        raise StoreError("the disk is away")

    store.renewals = fail
    keeper = store.keep(60, on_lost=lost.append)
    assert store.times("renew") == [RENEW_SECONDS + number * RETRY_SECONDS for number in range(115)]
    assert lost == [], "nobody may have taken the run"
    assert not keeper.valid(), "but nobody knows"


def test_a_store_that_comes_back_is_forgiven() -> None:
    store = ScriptedStore()
    lost: list[LeaseLost] = []

    def fail_for_a_while(now: float) -> None:
        if now < 100 + 30:
            raise StoreError("for now")

    store.renewals = fail_for_a_while
    keeper = store.keep(42, on_lost=lost.append)
    assert keeper.valid()
    assert lost == []
    assert store.times("renew")[-4:] == [33, 36, 39, 42]


def test_another_owner_ends_it_at_once_and_it_is_told_once() -> None:
    store = ScriptedStore()
    lost: list[LeaseLost] = []

    def taken(_: float) -> None:
        raise LeaseLost("process 7 took over")

    store.renewals = taken
    keeper = store.keep(60, on_lost=lost.append)
    assert store.times("renew") == [RENEW_SECONDS]
    assert [str(error) for error in lost] == ["process 7 took over"]
    assert not keeper.valid()


def test_after_a_long_sleep_the_lease_is_tried_first() -> None:
    """Nobody may have taken the run meanwhile: then it simply goes on."""
    store = ScriptedStore()
    keeper = LeaseKeeper(cast("Store", store), Lease(RUN, 1, None, 100.0), clock=store.clock, wait=store.wait)
    store.now = 3700.0
    assert not keeper.valid()
    store.until = store.now + 1
    keeper.start()
    keeper._thread.join(PATIENCE)
    assert keeper.valid()


# --- in real time, on a real store ------------------------------------------------------------------------


@pytest.fixture
def store(store_url: str) -> Iterator[SqlStore]:
    store = open_store(store_url)
    store.create_run(a_run(), [])
    yield store
    store.close()


def test_a_command_of_another_process_is_heard_within_a_second(store: SqlStore, store_url: str) -> None:
    early = store.add_command(RUN, "pause")
    heard: list[int] = []
    news = threading.Semaphore(0)

    def on_commands(commands: list[CommandRow]) -> None:
        heard.extend(command.id for command in commands)
        news.release()

    keeper = LeaseKeeper(store, store.acquire(RUN, this_process()), on_commands=on_commands)
    keeper.start()
    try:
        assert news.acquire(timeout=PATIENCE)
        other = open_store(store_url)
        begin = time.monotonic()
        late = other.add_command(RUN, "cancel")
        other.close()
        assert news.acquire(timeout=PATIENCE)
        assert time.monotonic() - begin < 1
        assert heard == [early, late]
    finally:
        keeper.stop()


def test_keepers_that_share_a_store_hear_what_is_for_each(store: SqlStore) -> None:
    store.create_run(a_run(OTHER_RUN), [])
    heard: dict[str, list[int]] = {RUN: [], OTHER_RUN: []}
    news = threading.Semaphore(0)

    def listen(run_id: str) -> LeaseKeeper:
        def on_commands(commands: list[CommandRow]) -> None:
            heard[run_id].extend(command.id for command in commands)
            news.release()

        return LeaseKeeper(store, store.acquire(run_id, this_process()), on_commands=on_commands)

    keepers = [listen(RUN), listen(OTHER_RUN)]
    given: dict[str, list[int]] = {RUN: [], OTHER_RUN: []}
    for keeper in keepers:
        keeper.start()
    try:
        for run_id in (RUN, OTHER_RUN, OTHER_RUN, RUN):
            given[run_id].append(store.add_command(run_id, "pause"))
            assert news.acquire(timeout=PATIENCE), f"the command for {run_id} was not heard"
        assert heard == given
    finally:
        for keeper in keepers:
            keeper.stop()


def test_stopping_is_quick_and_does_not_release(store: SqlStore) -> None:
    keeper = LeaseKeeper(store, store.acquire(RUN, this_process()), on_commands=lambda commands: None)
    keeper.start()
    begin = time.monotonic()
    keeper.stop()
    keeper.stop()
    assert time.monotonic() - begin < 1
    assert not keeper._thread.is_alive()
    assert store.run(RUN).owner == this_process()
    assert keeper.valid()


def test_it_may_be_stopped_from_its_own_callback_and_before_it_was_started(store: SqlStore) -> None:
    store.add_command(RUN, "pause")
    lease = store.acquire(RUN, this_process())
    LeaseKeeper(store, lease).stop()
    keeper = LeaseKeeper(store, lease, on_commands=lambda commands: keeper.stop())
    keeper.start()
    keeper._thread.join(PATIENCE)
    assert not keeper._thread.is_alive()


def test_a_run_that_was_taken_over_is_noticed(store: SqlStore) -> None:
    lost: list[LeaseLost] = []
    told = threading.Event()

    def on_lost(error: LeaseLost) -> None:
        lost.append(error)
        told.set()

    owner = this_process()
    lease = store.acquire(RUN, owner)
    keeper = LeaseKeeper(
        store, lease._replace(taken_at=lease_clock() - RENEW_SECONDS), on_lost=on_lost
    )  # due at once
    store.release(RUN, lease.epoch)
    store.acquire(RUN, ELSEWHERE)
    keeper.start()
    try:
        assert told.wait(PATIENCE)
        assert "process 1 on elsewhere took over" in str(lost[0])
        assert not keeper.valid()
    finally:
        keeper.stop()


@pytest.mark.slow
def test_it_costs_next_to_nothing(store: SqlStore) -> None:
    keeper = LeaseKeeper(store, store.acquire(RUN, this_process()), on_commands=lambda commands: None)
    keeper.start()
    try:
        begin, used = time.monotonic(), time.process_time()
        threading.Event().wait(8)
        share = (time.process_time() - used) / (time.monotonic() - begin)
        assert share < 0.005  # 0.0007 on an idle machine; others may be at work on this one
    finally:
        keeper.stop()
