"""Stores that earlier versions wrote, in both kinds of database, and ones that are none of ours.

`earlier/NNNN-KIND.sql` is a dump of a store at that version, written by the code of its time: a run that
waits for approval, one that has completed, and one with whatever a row can hold. `.json` is what that code
read there. A new migration comes with the dumps of the version before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.acceptance.program import allready
from tests.postgres import PostgresServer
from tests.store.opening import open_at_once

from allready.errors import StoreError
from allready.store import open_store, schema, upgrade
from allready.store.sql import SqlStore
from allready.store.sqlite import APPLICATION_ID
from allready.testing.store_contract import RUN, a_run

EARLIER = Path(__file__).with_name("earlier")
DUMPS = sorted(path.stem for path in EARLIER.glob("*.sql"))
FOLDER = "@FOLDER@"
"""Stands in the dumps where the store's folder was."""


class Place:
    """A place for a store of one kind, which can be filled and looked at behind the store's back."""

    def __init__(self, url: str, folder: Path, server: PostgresServer | None) -> None:
        self.url = url
        self.folder = folder
        self._server = server
        self._file = folder / "runs.db"

    def run_script(self, script: str) -> None:
        if self._server is None:
            with contextlib.closing(sqlite3.connect(self._file)) as connection:
                connection.executescript(script)
        else:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(script.encode())

    def load(self, dump: str) -> None:
        text = (EARLIER / f"{dump}.sql").read_bytes().decode()
        self.run_script(text.replace(FOLDER, str(self.folder)))
        if self._server is None:  # what a dump does not tell
            self.run_script(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA journal_mode = WAL")

    def contents(self) -> bytes:
        """Give all there is, to be compared."""
        if self._server is None:
            return b"".join(
                path.name.encode() + path.read_bytes() for path in sorted(self.folder.glob("runs.db*"))
            )
        dump: list[str | Path] = [self._server.binaries / "pg_dump", self.url]
        told = subprocess.run(dump, capture_output=True, check=True).stdout
        return b"\n".join(line for line in told.split(b"\n") if not line.startswith(b"\\"))  # \restrict KEY


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Place]:
    def make(kind: str) -> Place:
        if kind == "sqlite":
            return Place(f"sqlite:///{tmp_path}/runs.db", tmp_path, None)
        server = request.getfixturevalue("postgres")
        return Place(request.getfixturevalue("postgres_url"), tmp_path, server)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Place:
    return make_place(request.param)


# --- from every earlier version ---------------------------------------------------------------------------


def test_there_is_a_dump_of_every_earlier_version() -> None:
    assert [
        f"{version}-{kind}" for version in schema.VERSIONS[:-1] for kind in ("postgresql", "sqlite")
    ] == DUMPS


def read_all(store: SqlStore) -> dict[str, Any]:
    """Give what the code of the dump's time gave, and more."""
    return {
        row.id: {
            "run": dataclasses.asdict(store.run(row.id)),
            "tasks": [dataclasses.asdict(task) for task in store.tasks(row.id, outputs=True)],
            "events": [event._asdict() for event in store.events(row.id)],
            "inputs": [entry._asdict() for entry in store.inputs(row.id)],
            "commands": [dataclasses.asdict(command) for command in store.pending_commands(row.id)],
        }
        for row in store.runs()
    }


def check_same(now: Any, then: Any, where: str) -> None:
    """All that was there is there; columns may have come."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key, value in then.items():
            check_same(now[key], value, f"{where}.{key}")
    elif isinstance(then, list) and isinstance(now, list | tuple):
        assert len(now) == len(then), where
        for number, value in enumerate(then):
            check_same(now[number], value, f"{where}[{number}]")
    else:
        assert now == then, where


@pytest.mark.parametrize("dump", DUMPS)
def test_nothing_is_lost_on_the_way_from_an_earlier_version(
    make_place: Callable[[str], Place], dump: str
) -> None:
    version, _, kind = dump.partition("-")
    place = make_place(kind)
    place.load(dump)
    assert upgrade(place.url) == (version, schema.VERSIONS[-1])
    store = open_store(place.url)
    expected = json.loads((EARLIER / f"{dump}.json").read_bytes().decode().replace(FOLDER, str(place.folder)))
    found = read_all(store)
    assert set(found) == set(expected)
    check_same(found, expected, dump)
    assert store.add_command(RUN, "cancel") == expected[RUN]["commands"][0]["id"] + 1
    store.create_run(a_run("0193a5b0-0000-7000-8000-00000000ffff"), [])
    store.close()


@pytest.mark.parametrize("dump", DUMPS)
def test_a_run_of_an_earlier_version_goes_on(make_place: Callable[[str], Place], dump: str) -> None:
    place = make_place(dump.partition("-")[2])
    place.load(dump)
    expected = json.loads((EARLIER / f"{dump}.json").read_bytes())
    (run,) = [name for name, view in expected.items() if view["run"]["status"] == "paused"]
    options = ("--store", place.url)
    assert allready("approve", run, "gate", *options, cwd=place.folder).returncode == 0
    resumed = allready("resume", run, *options, cwd=place.folder)
    assert resumed.returncode == 0, resumed.stderr
    view = json.loads(allready("status", run, "--json", *options, cwd=place.folder).stdout)
    before = {task["id"]: task["attempts"] for task in expected[run]["tasks"]}
    after = {name: (task["status"], task["attempts"] - before[name]) for name, task in view["tasks"].items()}
    assert after == {
        "hello": ("completed", 0),
        "data": ("completed", 0),
        "flaky": ("failed", 0),
        "after": ("skipped", 0),
        "gate": ("completed", 1),
        "last": ("completed", before["last"] == 0),
    }
    shown = allready("show", run, "gate", "--output", *options, cwd=place.folder)
    assert shown.stdout == "approved: 42\n"


@pytest.mark.parametrize("dump", DUMPS)
def test_several_processes_may_migrate_at_the_same_instant(
    make_place: Callable[[str], Place], dump: str
) -> None:
    place = make_place(dump.partition("-")[2])
    place.load(dump)
    assert open_at_once(place.url) == ["3"] * 4
    assert upgrade(place.url) == (schema.VERSIONS[-1], schema.VERSIONS[-1])


# --- what is not ours, or not yet -------------------------------------------------------------------------


def refused(place: Place, message: str) -> None:
    """Whatever is asked for, the store says why not, and nothing there changes."""
    before = place.contents()
    for ask in (
        lambda: open_store(place.url),
        lambda: open_store(place.url, create=False),
        lambda: upgrade(place.url),
    ):
        with pytest.raises(StoreError, match=message):
            ask()
    assert place.contents() == before


def test_tables_of_a_newer_version_stay_as_they_are(place: Place) -> None:
    store = open_store(place.url)
    store.create_run(a_run(), [])
    store.close()
    prefix = "" if place.url.startswith("sqlite") else "allready."
    place.run_script(
        f"UPDATE {prefix}alembic_version SET version_num = '9999'; "
        f"ALTER TABLE {prefix}runs ADD COLUMN from_the_future TEXT"
    )
    refused(place, r"newer allready \(its tables are at version 9999.*nothing was changed")


@pytest.mark.parametrize(
    "script",
    [
        "CREATE SCHEMA allready; CREATE TABLE allready.runs (id) AS SELECT 'theirs'",
        "CREATE SCHEMA allready; CREATE VIEW allready.alembic_version AS SELECT '0001' AS version_num",
        "CREATE SCHEMA allready; CREATE TABLE allready.alembic_version (version_num text)",
    ],
)
def test_a_schema_of_another_program_stays_as_it_is(make_place: Callable[[str], Place], script: str) -> None:
    place = make_place("postgresql")
    place.run_script(script)
    refused(place, r"the schema 'allready' there is of another program.*nothing was changed")


def test_other_schemas_of_a_database_are_left_alone(make_place: Callable[[str], Place]) -> None:
    place = make_place("postgresql")
    place.run_script(
        "CREATE TABLE runs (id text); CREATE TABLE alembic_version (version_num text); "
        "INSERT INTO alembic_version VALUES ('abc'); INSERT INTO runs VALUES ('theirs')"
    )
    before = place.contents()
    store = open_store(place.url)
    store.create_run(a_run(), [])
    assert [run.id for run in store.runs()] == [RUN]
    store.close()
    place.run_script("DROP SCHEMA allready CASCADE")
    assert place.contents() == before
