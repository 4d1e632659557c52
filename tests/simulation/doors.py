"""What stands between the program under test and the world: its store, its pools, its clocks and files.

Behind each door is the real thing. The door lets a process crash right before it, right after it and, for a
transaction, just before its COMMIT; it makes calls fail; and it is shut to dead processes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from unittest import mock

import sqlalchemy as sa
from tests.simulation.processes import PROCESS, Crashed, SteppingKeeper, this_process
from tests.simulation.world import EPOCH, Driver, World

from allready.agents import llm as llm_module
from allready.core.events import Outcome
from allready.engine import loop as loop_module
from allready.engine import results as results_module
from allready.engine import session as session_module
from allready.engine import start as start_module
from allready.engine import steer as steer_module
from allready.engine import worker as worker_module
from allready.errors import ConcurrencyLimit, StoreBusy, StoreError, StoreUnavailable
from allready.pool.manager import SpawnRequest, SubAgent, SubAgentManager
from allready.store import files as files_module
from allready.store import schema
from allready.store import sql as sql_module
from allready.store.contract import Batch, Lease, Owner, RunRow, Store, TaskRow
from allready.store.open import open_store
from allready.store.sql import SqlStore

T = TypeVar("T")
LONGEST_RELEASE = 30.0
"""Virtual seconds after the end of a process within which it lets the run go."""


class StoreFile:
    """A real SQLite store for many simulated runs, one after the other.

    It does not wait for the disk: no simulated crash is one of the machine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "runs").mkdir()  # it is made, and synced, for the first run only
        self.store: SqlStore = open_store(folder / "runs.db", clock=_store_clock)
        self.on_commit: Callable[[], None] | None = None
        """Called right before the next COMMIT of a transaction that writes."""
        self.writes = 0
        engine = self.store._database.engine
        sa.event.listen(engine, "checkout", _be_quick)
        sa.event.listen(engine, "commit", self._committing)

    def _committing(self, connection: sa.Connection) -> None:
        call, self.on_commit = self.on_commit, None
        if call is not None:
            call()

    def clear(self, run_id: str | None) -> None:
        """Remove what a run left."""
        if run_id is not None:
            with self.store._writing() as connection:
                for table in reversed(schema.metadata.sorted_tables):
                    delete = sa.delete(table)
                    if table is not schema.task_times:  # of no run; but no simulated run knows another
                        column = table.c.id if table is schema.runs else table.c.run_id
                        delete = delete.where(column == run_id)
                    connection.execute(delete)
            shutil.rmtree(self.folder / "runs" / run_id, ignore_errors=True)

    def close(self) -> None:
        self.store.close()


def _be_quick(connection: Any, record: Any, _proxy: object) -> None:
    if "quick" not in record.info:
        record.info["quick"] = True
        connection.execute("PRAGMA synchronous = OFF")


def _store_clock() -> float:
    """The wall clock of the process that asks."""
    try:
        now = asyncio.get_running_loop().time()
    except RuntimeError:
        return EPOCH
    process = sim_process()
    return EPOCH + now + (process.skew if process is not None else 0.0)


def sim_process() -> Driver | None:
    process = PROCESS.get()
    assert process is None or isinstance(process, Driver)
    return process


def here() -> Driver:
    """Give the process whose code is running."""
    process = this_process()
    assert isinstance(process, Driver)
    return process


class Door:
    """The store as one process sees it."""

    def __init__(self, world: World, file: StoreFile, process: Driver) -> None:
        self._world = world
        self._file = file
        self._process = process
        self._store = file.store
        self._seen = -1
        self.url = file.store.url
        self.path = file.store.path

    # --- what may go wrong ----------------------------------------------------------------------------

    def _call(self, what: str, call: Callable[[], T], *, writes: bool = False) -> T:
        world, process = self._world, self._process
        world.point(process, f"before {what}")
        fault = self._fault(writes=writes)
        if fault is not None:
            raise fault(f"simulated: {what} did not work")
        if writes:
            self._file.on_commit = lambda: world.point(process, f"in {what}")
        try:
            value = call()
        finally:
            self._file.on_commit = None
        if writes:
            self._file.writes += 1
        return value

    def _answer(self, what: str, *, lost: bool) -> None:
        """Give the answer of a call that has written, or lose it."""
        self._world.point(self._process, f"after {what}")
        if lost:
            self._world.log(f"{self._process.name} has no answer to its {what}")
            raise StoreUnavailable(f"simulated: no answer to {what}")

    def _fault(self, *, writes: bool) -> type[StoreError] | None:
        world, faults = self._world, self._world.faults
        if world.calm:
            return None
        if world.now < max(world.away_until, self._process.away_until):
            world.count("calls while the store is away")
            return StoreUnavailable
        for share, kind, what in (
            (faults.busy, StoreBusy, "store busy"),
            (faults.away, StoreUnavailable, "store away"),
            (faults.broken, StoreError, "store broken"),
        ):
            if world.chance(share):
                world.count(what)
                world.log(f"{self._process.name}: {kind.__name__}")
                return kind
        return None

    def _lose_answer(self) -> bool:
        lost = self._world.chance(self._world.faults.answer_lost)
        if lost:
            self._world.count("answers lost")
        return lost

    # --- writing --------------------------------------------------------------------------------------

    def create_run(self, run: RunRow, tasks: Iterable[TaskRow]) -> None:
        rows = list(tasks)
        self._call("create", lambda: self._store.create_run(run, rows), writes=True)
        self._world.run_id = run.id
        self._world.names = [row.id for row in rows]
        self._answer("create", lost=self._lose_answer())

    def acquire(self, run_id: str, owner: Owner) -> Lease:
        taken_at = self._world.now
        lease = self._call("acquire", lambda: self._store.acquire(run_id, owner), writes=True)
        self._world.acquired(self._process)
        self._answer("acquire", lost=self._lose_answer())
        return lease._replace(taken_at=taken_at)

    def renew(self, run_id: str, epoch: int) -> None:
        if self._process.over.is_set() and self._world.now > self._process.over_at + LONGEST_RELEASE:
            self._world.problem(f"{self._process.name} is over, and renews its lease")
        self._call("renew", lambda: self._store.renew(run_id, epoch), writes=True)
        self._answer("renew", lost=self._lose_answer())

    def release(self, run_id: str, epoch: int) -> None:
        self._call("release", lambda: self._store.release(run_id, epoch), writes=True)
        self._world.released(self._process)
        self._answer("release", lost=self._lose_answer())

    def commit(self, run_id: str, epoch: int, batch: Batch) -> int:
        last = self._call("commit", lambda: self._store.commit(run_id, epoch, batch), writes=True)
        self._world.wrote(self._process, batch, last)
        self._answer("commit", lost=self._lose_answer())
        return last

    def add_command(self, run_id: str, kind: str, task: str | None = None) -> int:
        number = self._call("command", lambda: self._store.add_command(run_id, kind, task), writes=True)
        self._world.wishes.append((number, kind, task))
        self._answer("command", lost=self._lose_answer())
        return number

    def add_task_times(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self._call("times", lambda: self._store.add_task_times(seconds), writes=True)
        self._answer("times", lost=self._lose_answer())

    # --- reading --------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Give what reads: it may fail, and crash before it."""
        method = getattr(self._store, name)

        def read(*args: Any, **options: Any) -> Any:
            return self._call(name, lambda: method(*args, **options))

        return read

    def changed(self, watcher: str = "") -> bool:
        """Say whether anybody wrote. The real one can't tell: to it all processes here are one."""
        if not self._process.alive:
            raise Crashed
        before, self._seen = self._seen, self._file.writes
        return before != self._seen


def door(world: World, file: StoreFile, process: Driver) -> Store:
    """Give the store as a process sees it."""
    return cast("Store", Door(world, file, process))


class SimPool(SubAgentManager):
    """A real pool that crashes, refuses and can't start things now and then."""

    def __init__(self, world: World, process: Driver, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._world = world
        self._process = process
        process.pools.append(self)

    def spawn(self, request: SpawnRequest) -> str:
        world = self._world
        if world.chance(world.faults.refusals):
            world.count("refusals")
            scope = world.random.choice(["agent:a", "provider:p", "pool"])
            raise ConcurrencyLimit("not in the mood", scope, 1, 1)
        if world.chance(world.faults.spawn_errors):
            world.count("spawn errors")
            raise OSError("no memory")

        async def start(sub_agent: SubAgent) -> Any:
            from tests.simulation.work import SUB_AGENT

            SUB_AGENT.set(sub_agent)
            return await request.start(sub_agent)

        def on_end(task: str, handle: str, outcome: Outcome) -> None:
            self._tell(request, task, handle, outcome)

        return super().spawn(request._replace(start=start, on_end=on_end))

    def _tell(self, request: SpawnRequest, task: str, handle: str, outcome: Outcome) -> None:
        world, process = self._world, self._process
        if not process.alive:
            return
        if handle in process.reported:
            world.problem(f"{task}: attempt {request.number} was reported twice")
        process.reported[handle] = type(outcome).__name__, world.now
        world.point(process, "before report")
        request.on_end(task, handle, outcome)
        world.point(process, "after report")

    def launch(self, handle: str) -> None:
        world, process = self._world, self._process
        world.point(process, "before launch")
        if world.holder is not process and not world.faults.skew:
            world.problem(f"{process.name} launches an attempt for a run that it does not own")
        if handle not in world.started:
            world.problem(f"{process.name} launches an attempt whose start is not durable")
        world.launched[handle] = process, len(world.completed)
        super().launch(handle)
        world.point(process, "after launch")


class SimClock:
    """The clock of a run in a simulated process: as `MonotonicClock`, in virtual time."""

    def __init__(self, at_least: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._offset = max(_store_clock(), at_least) - self._loop.time()

    def __call__(self) -> float:
        return self._loop.time() + self._offset


def _inline_pool(*args: Any, **options: Any) -> SubAgentManager:
    return SimPool(here().world, here(), *args, **options)


def _end_leftovers(run_id: str, *_: Any, **__: Any) -> int:
    here().world.count("looks for leftovers")
    return 0


def _in_thread(call: Callable[[], T], name: str, *, timeless: bool = False) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(None, call)


def _write_synced(path: Path, data: bytes) -> None:
    process = here()
    process.world.point(process, "before file")
    files_module.write_synced(path, data)
    process.world.point(process, "after file")


def _sync_folder(folder: Path) -> None:
    process = sim_process()
    if process is not None:
        process.world.point(process, "before folder's sync")


def _lives(owner: Owner) -> bool | None:
    return here().world.lives(owner)


@contextmanager
def simulated() -> Generator[None]:
    """Have the program take owners, clocks, threads and files of the simulated process that it runs in."""
    clock = SimpleNamespace(time=_store_clock, monotonic=_loop_time, sleep=lambda _: None)
    with ExitStack() as stack:
        for module, names in (
            (start_module, {"MonotonicClock": SimClock, "end_leftovers": _end_leftovers}),
            (start_module, {"this_process": lambda: here().owner}),
            (session_module, {"MonotonicClock": SimClock, "LeaseKeeper": SteppingKeeper}),
            (steer_module, {"MonotonicClock": SimClock, "end_leftovers": _end_leftovers, "time": clock}),
            (steer_module, {"this_process": lambda: here().owner, "is_alive": _lives}),
            (sql_module, {"is_alive": _lives}),
            (loop_module, {"SubAgentManager": _inline_pool}),
            (worker_module, {"in_thread": _in_thread}),
            (llm_module, {"in_thread": _in_thread}),
            (results_module, {"write_synced": _write_synced, "sync_folder": _sync_folder}),
            (files_module, {"sync_folder": _sync_folder}),
        ):
            for name, value in names.items():
                stack.enter_context(mock.patch.object(module, name, value))
        yield


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
