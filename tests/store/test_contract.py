from collections.abc import Callable
from pathlib import Path

import pytest

from allready.store.contract import Batch, Store
from allready.store.owners import this_process
from allready.testing.store_contract import RUN, StoreContract, a_run, changes


class TestSqlite(StoreContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/runs.db"

    def test_all_that_others_write_is_noticed(self, store: Store, open_another: Callable[..., Store]) -> None:
        other = open_another()
        store.create_run(a_run(), [])
        lease = store.acquire(RUN, this_process())
        for write in (
            lambda: store.commit(RUN, lease.epoch, Batch(changes("a"))),
            lambda: store.renew(RUN, lease.epoch),
            lambda: store.release(RUN, lease.epoch),
        ):
            other.changed()
            write()
            other.events(RUN)
            assert other.changed()

    def test_silence_while_nobody_writes(self, store: Store, open_another: Callable[..., Store]) -> None:
        other = open_another()
        store.create_run(a_run(), [])
        lease = store.acquire(RUN, this_process())
        other.changed()
        for _ in range(3):
            assert not other.changed()
            assert [run.id for run in store.runs()] == [run.id for run in other.runs()]
            assert other.pending_commands(RUN) == []
            assert not other.changed()
            store.commit(RUN, lease.epoch, Batch(changes("a")))
            assert other.changed()


class TestPostgresql(StoreContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url
