"""`allready db upgrade`: from which version to which."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from tests.cli.conftest import STORE, Call

from allready.store.migrate import MIGRATIONS
from allready.store.open import open_store
from allready.store.schema import VERSIONS


@pytest.fixture
def first_version() -> None:
    """Make a store as the first version of its tables was, with a run."""
    STORE.parent.mkdir()
    open_store(STORE).close()
    with closing(sqlite3.connect(STORE)) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN last_batch")
        connection.execute("DROP TABLE task_times")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()


@pytest.mark.usefixtures("first_version")
def test_an_old_store_is_brought_up_to_date_and_it_is_said(call: Call) -> None:
    answer = call("db", "upgrade")
    assert (answer.code, answer.lines) == (
        0,
        [f"{STORE.absolute()} was brought from version 0001 to {VERSIONS[-1]}"],
    )
    assert call("db", "upgrade").lines == [f"{STORE.absolute()} is up to date: version {VERSIONS[-1]}"]


@pytest.mark.usefixtures("first_version")
def test_as_json(call: Call) -> None:
    told = json.loads(call("db", "upgrade", "--json").out)
    assert told == {
        "store": str(STORE.absolute()),
        "before": "0001",
        "after": VERSIONS[-1],
        "changed": True,
    }
    assert json.loads(call("db", "upgrade", "--json").out)["changed"] is False


def test_a_store_of_a_newer_version_is_refused_and_left_alone(call: Call) -> None:
    STORE.parent.mkdir()
    open_store(STORE).close()
    with closing(sqlite3.connect(STORE)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = STORE.read_bytes()
    answer = call("db", "upgrade")
    assert answer.code == 2
    assert "newer allready" in answer.err
    assert "nothing was changed" in answer.err
    assert STORE.read_bytes() == before


def test_without_a_store_there_is_nothing_to_upgrade(call: Call) -> None:
    answer = call("db", "upgrade")
    assert answer.code == 2
    assert "nothing to upgrade" in answer.err
    assert not STORE.parent.exists()


def test_the_group_alone_says_what_there_is(call: Call) -> None:
    answer = call("db")
    assert "upgrade" in answer.out + answer.err


def test_all_versions_have_a_migration() -> None:
    names = sorted(path.name[1:5] for path in (MIGRATIONS / "versions").glob("v*.py"))
    assert names == list(VERSIONS)
