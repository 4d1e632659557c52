import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from allready.errors import AllreadyError, StoreError, UserError
from allready.store import StoreMissing, migrate, open_store, schema, sqlite, upgrade
from allready.store.open import without_password
from allready.testing.store_contract import RUN, a_run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one run in it, closed."""
    path = tmp_path / "runs.db"
    store = open_store(path)
    store.create_run(a_run(), [])
    store.close()
    return path


def run_python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- where it is ------------------------------------------------------------------------------------------


def test_the_default_is_a_folder_that_git_ignores_but_for_the_agents(here: Path) -> None:
    store = open_store()
    assert store.path == here / ".allready/runs.db"
    assert store.url == f"sqlite:///{here}/.allready/runs.db"
    (here / ".allready/agents").mkdir()
    (here / ".allready/agents/writer.md").write_text("")
    (here / ".allready/runs").mkdir()
    (here / ".allready/runs/output.txt").write_text("")
    subprocess.run(["git", "init", "-q"], check=True, cwd=here)
    seen = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], check=True, cwd=here, capture_output=True, text=True
    ).stdout.split()[1::2]
    assert seen == [".allready/agents/writer.md"]
    store.close()


def test_a_gitignore_that_is_there_stays_and_other_folders_get_none(here: Path) -> None:
    (here / ".allready").mkdir()
    (here / ".allready/.gitignore").write_text("mine")
    open_store().close()
    assert (here / ".allready/.gitignore").read_text() == "mine"
    open_store("other/runs.db").close()
    assert not (here / "other/.gitignore").exists()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:///x/y.db", "x/y.db"),
        ("SQLite:///y.db", "y.db"),
        ("sqlite+pysqlite:///y.db", "y.db"),
        ("y.db", "y.db"),
        (Path("with blanks #?%20 ö.db"), "with blanks #?%20 ö.db"),
        ("sqlite:///with blanks #%20 ö.db", "with blanks #%20 ö.db"),
    ],
)
def test_urls_and_paths(here: Path, url: str | Path, place: str) -> None:
    for create in (True, False):
        store = open_store(url, create=create)
        assert store.path == here / place
        store.close()
    assert (here / place).is_file()
    absolute = open_store(f"sqlite:///{here / place}" if "?" not in place else here / place, create=False)
    absolute.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:secret@host/db", r"mysql://me:\*\*\*@host/db: unknown kind of store 'mysql'"),
        ("postgresql://me:sec@ret/x@host/db", "characters of a password must be written otherwise"),
        ("postgresql://me:secret/x@host/db", "characters of a password must be written otherwise"),
        ("postgresql://me:secret@host/db?x=%zz", "this is no URL of a PostgreSQL database: write"),
        ("postgres://host/db?pasword=x", "this is no URL .*invalid URI query parameter"),
        ("postgresql://ho\0st/db", "NUL"),
        ("http://host/?password=secret", r"password=\*\*\*: unknown kind"),
        ("sqlite://", "write sqlite:///relative"),
        ("sqlite://x.db", "write sqlite:///relative"),
        ("sqlite:///x.db?mode=ro", "without options"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        (":memory:", "names no file"),
        ("  ", "names no file"),
        ("a\0b", "names no file"),
        ("runs.db/", "runs.db/ names a folder; a store is a file: runs.db/runs.db, say"),
        ("sqlite:///runs/", "names a folder; a store is a file: sqlite:///runs/runs.db, say"),
    ],
)
def test_urls_that_make_no_sense(here: Path, url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        open_store(url)
    assert "secret" not in str(told.value)
    assert list(here.iterdir()) == []


def test_passwords_are_not_shown() -> None:
    assert without_password("postgresql://me@host/db") == "postgresql://me@host/db"
    assert without_password("sqlite:////a:b/c.db") == "sqlite:////a:b/c.db"


# --- what is missing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [None, "missing/runs.db", "sqlite:///runs.db"])
def test_a_missing_store_is_told_apart_if_none_is_to_be_made(here: Path, url: str | None) -> None:
    for ask in (lambda: open_store(url, create=False), lambda: upgrade(url)):
        with pytest.raises(StoreMissing):
            ask()
    assert list(here.iterdir()) == []


def test_an_empty_file_is_no_store_yet(path: Path) -> None:
    path.write_bytes(b"")
    for ask in (lambda: open_store(path, create=False), lambda: upgrade(path)):
        with pytest.raises(StoreMissing):
            ask()
    assert path.read_bytes() == b""
    open_store(path).close()
    open_store(path, create=False).close()


def test_a_store_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    sqlite.SqliteDatabase(path).prepare()
    with pytest.raises(StoreMissing):
        open_store(path, create=False)
    store = open_store(path)
    assert store.runs() == []
    store.close()


def test_a_folder_is_made_but_not_those_above_it(tmp_path: Path) -> None:
    open_store(tmp_path / "one/runs.db").close()
    with pytest.raises(StoreError, match=r"there is no folder .*two; make it first"):
        open_store(tmp_path / "two/three/runs.db")
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


# --- what is in the way -----------------------------------------------------------------------------------


def test_places_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place, message in (
        (tmp_path, "is not a file"),
        (Path(os.devnull), "is not a file"),
        (tmp_path / "file/runs.db", "File exists"),
        (tmp_path / "file/folder/runs.db", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/proc/runs.db"), "check the rights"),
    ):
        with pytest.raises(StoreError, match=message) as told:
            open_store(place)
        assert str(place) in str(told.value)
    assert contents(tmp_path) == {"file": b"mine"}


@pytest.mark.parametrize(
    "garbage", [b"no database at all\n" * 100, b"x", b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(garbage)
    for ask in (lambda: open_store(tmp_path / "notes.txt"), lambda: upgrade(tmp_path / "notes.txt")):
        with pytest.raises(StoreError, match=r"nothing was changed|damaged"):
            ask()
    assert contents(tmp_path) == {"notes.txt": garbage}


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE runs (id TEXT); INSERT INTO runs VALUES ('theirs')",
        "PRAGMA application_id = 99",
        "PRAGMA journal_mode = wal; CREATE TABLE alembic_version (version_num TEXT)",
    ],
)
def test_a_database_of_another_program_stays_as_it_is(tmp_path: Path, script: str) -> None:
    path = tmp_path / "theirs.db"
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    before = contents(tmp_path)
    for ask in (lambda: open_store(path), lambda: open_store(path, create=False), lambda: upgrade(path)):
        with pytest.raises(StoreError, match=r"of another program.*nothing was changed"):
            ask()
    assert contents(tmp_path) == before


def test_tables_of_a_newer_allready_stay_as_they_are(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = contents(path.parent)
    for ask in (lambda: open_store(path), lambda: upgrade(path)):
        with pytest.raises(StoreError, match=r"newer allready \(its tables are at version 9999"):
            ask()
    assert contents(path.parent) == before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)


@pytest.fixture
def locked(path: Path) -> Iterator[Path]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield path
    connection.close()


@pytest.mark.usefixtures("impatient")
def test_a_locked_store_can_be_read_and_says_so_when_written(locked: Path) -> None:
    store = open_store(locked)
    assert [run.id for run in store.runs()] == [RUN]
    with pytest.raises(StoreError, match="another process keeps the store locked"):
        store.add_command(RUN, "pause")
    store.close()


@pytest.mark.usefixtures("impatient")
def test_a_new_store_that_another_process_has_locked_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="another process keeps the store locked"):
            open_store(path)
    finally:
        connection.close()


def test_rights_that_are_missing_are_told() -> None:
    """As somebody who may read but not write, also if the tests run as root."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        open_store(path).close()
        _check_rights(path)


def _check_rights(path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    code = """
import os, sys
from allready.errors import StoreError
from allready.store import open_store
import allready.store.sql, allready.store.sqlite, alembic.command, sqlalchemy.dialects.sqlite
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for place in sys.argv[1:]:
    try:
        store = open_store(place)
        store.add_command("0193a5b0-0000-7000-8000-0000000000a1", "pause")
    except StoreError as error:
        print(error)
"""
    try:
        told = run_python(code, path, path.parent / "new.db", path.parent / "new/runs.db").splitlines()
    finally:
        path.parent.chmod(0o755)
    assert len(told) == 3, told
    assert "change its rights" in told[0]
    assert "change its rights" in told[1]
    assert "can't be made: Permission denied" in told[2]
    assert [entry.name for entry in path.parent.iterdir()] == ["runs.db"]


# --- how it is set ----------------------------------------------------------------------------------------


def test_every_connection_is_set_as_it_must_be(path: Path) -> None:
    store = open_store(path)
    with store._database.engine.connect() as one, store._database.writer.connect() as two:
        for connection in (one, two):
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "application_id")
            }
            assert pragmas == {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "busy_timeout": 5000,
                "application_id": sqlite.APPLICATION_ID,
            }
    store.close()


def test_opening_a_store_again_takes_no_locks_away(path: Path) -> None:
    """A file that is opened and closed beside SQLite would lose this process's locks on it."""
    first = open_store(path)
    first.add_command(RUN, "pause")
    for _ in range(2):
        open_store(path).close()
    run_python("import sys; from allready.store import open_store; open_store(sys.argv[1]).close()", path)
    assert (path.parent / "runs.db-wal").exists()  # that process saw that it was not the last
    first.add_command(RUN, "cancel")
    second = open_store(path)
    assert [command.kind for command in second.pending_commands(RUN)] == ["pause", "cancel"]
    first.close()
    second.close()


def test_an_old_sqlite_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"need SQLite 3\.35"):
        open_store(tmp_path / "runs.db")


def test_a_closed_store_leaves_one_file(path: Path) -> None:
    assert list(contents(path.parent)) == ["runs.db"]


def test_a_copy_that_lost_its_mode_gets_it_back(path: Path) -> None:
    copy = path.with_name("copy.db")
    connection = sqlite3.connect(path)
    connection.execute(f"VACUUM INTO '{copy}'")
    connection.close()
    store = open_store(copy, create=False)
    assert [run.id for run in store.runs()] == [RUN]
    with store._database.engine.connect() as opened:
        assert opened.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_many_processes_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    code = """
import sys
from allready.store import open_store
from allready.testing.store_contract import a_run
import allready.store.sql, alembic.command
url, number = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
store = open_store(url)
store.create_run(a_run(f"run-{number}"), [])
print(sorted(run.id for run in store.runs() if run.id == f"run-{number}"))
store.close()
"""
    count = 5
    for round_ in range(2):
        path = tmp_path / str(round_) / "runs.db"
        children = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", code, str(path), str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=60) for child in children]
        assert answers == [(f"['run-{number}']\n", "") for number in range(count)]
        store = open_store(path, create=False)
        assert len(store.runs()) == count
        store.close()


# --- migrations -------------------------------------------------------------------------------------------


def test_migrations_lead_to_the_tables_of_the_schema(path: Path, tmp_path: Path) -> None:
    import sqlalchemy as sa

    straight = sa.create_engine(f"sqlite:///{tmp_path}/straight.db")
    schema.metadata.create_all(straight)
    straight.dispose()

    def tables(file: Path) -> dict[str, str]:
        connection = sqlite3.connect(file)
        found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        connection.close()
        return {name: " ".join(sql.split()) for name, sql in found.items() if name != "alembic_version"}

    assert tables(path) == tables(tmp_path / "straight.db")


def test_alembic_finds_nothing_to_do(path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    store = open_store(path)
    with store._database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    store.close()


def test_the_versions_are_those_of_the_migrations() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrate.MIGRATIONS))
    versions = [revision.revision for revision in script.walk_revisions()][::-1]
    assert tuple(versions) == schema.VERSIONS


def test_upgrading_says_from_where_to_where(path: Path) -> None:
    assert upgrade(path) == (schema.VERSIONS[-1], schema.VERSIONS[-1])
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA foreign_keys = OFF; DROP TABLE alembic_version")
    for table in reversed(schema.metadata.sorted_tables):
        connection.execute(f"DROP TABLE {table.name}")
    connection.execute("CREATE TABLE left_over (x)")
    connection.close()
    assert upgrade(path) == (None, schema.VERSIONS[-1])


def test_a_migration_that_fails_leaves_the_old_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = migrate.run_migrations

    def fail(connection: object) -> None:
        real(connection)  # type: ignore[arg-type]
        raise RuntimeError("at the end of the migrations")

    monkeypatch.setattr(migrate, "run_migrations", fail)
    with pytest.raises(RuntimeError):
        open_store(tmp_path / "runs.db")
    connection = sqlite3.connect(tmp_path / "runs.db")
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


# --- what is imported when --------------------------------------------------------------------------------


def test_what_is_heavy_is_imported_when_it_is_needed(path: Path) -> None:
    heavy = "print([name for name in ('sqlalchemy', 'alembic', 'mako') if name in sys.modules])"
    light = run_python(
        "import sys, allready.store, allready.store.contract, allready.store.owners, allready.store.files, "
        "allready.store.lease\n"
        "try: allready.store.open_store(sys.argv[1] + '-missing', create=False)\n"
        f"except allready.store.StoreMissing: {heavy}",
        path,
    )
    assert light == "[]\n"
    current = run_python(
        f"import sys; from allready.store import open_store; open_store(sys.argv[1]).close(); {heavy}", path
    )
    assert current == "['sqlalchemy']\n"


def test_the_errors_are_ours() -> None:
    assert issubclass(StoreMissing, UserError)
    assert issubclass(StoreMissing, AllreadyError)
