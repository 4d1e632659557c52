"""What `doctor` looks at, one small check after the other; none of them changes anything."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allready.errors import AllreadyError, PlanError

if TYPE_CHECKING:
    from allready.store.contract import RunRow, Store
    from allready.store.database import ServerState
    from allready.store.sql import SqlStore

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LIBRARIES = (
    *("alembic", "jinja2", "psutil", "pydantic", "pyyaml", "rich", "sqlalchemy", "typer", "uuid-utils"),
)
"""Distributions that the core of the program needs."""
MANY_RUNS = 10_000
"""Runs that are counted; beyond that it is "more than"."""
NAMED = 5
"""Abandoned runs that are named."""
SCARCE_DISK = 1024**3
FULL_DISK = 50 * 1024**2
"""Bytes free on the store's disk."""
MANY_CONNECTIONS = 0.9
"""Part of what the server allows."""
FEW_FILES = 256
"""Files a process may have open: a sub-agent needs about four."""
GIT_TIME = 5.0
"""Seconds for `git --version`."""
OURS = ("ALLREADY_STORE", "ALLREADY_MODEL", "ALLREADY_MAX_PARALLEL", "ALLREADY_QUIET")
"""Variables that configure us."""
OF_TASKS = (
    *("ALLREADY_RUN_ID", "ALLREADY_ATTEMPT_ID", "ALLREADY_TASK_ID", "ALLREADY_ATTEMPT"),
    *("ALLREADY_IDEMPOTENCY_KEY", "ALLREADY_DEPS", "ALLREADY_OUTPUT", "ALLREADY_ARTIFACTS"),
)
"""Variables that tasks find."""


class Check(NamedTuple):
    """One thing looked at."""

    name: str
    status: str
    """`ok`, `warning`, or `problem`: has to be mended first."""
    text: str
    hint: str | None = None
    """What to do."""


def all_checks(store: str | None, model: str | None = None) -> Iterator[Check]:
    """Give everything that was looked at. `store` and `model` are the options'."""
    yield from _program()
    yield from _system()
    yield from _environment()
    yield from _configuration(store)
    yield from _store(store)
    yield from _model(model)
    yield from _agents()
    yield from _tools()


# --- the program and what it stands on --------------------------------------------------------------------


def _program() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    import allready

    where = Path(allready.__file__).parent if allready.__file__ else ""
    yield Check("allready", OK, f"{version('allready')} in {where}")
    too_old = sys.version_info < (3, 11)
    yield Check(
        "python",
        PROBLEM if too_old else OK,
        f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}",
        "use Python 3.11 or later" if too_old else None,
    )
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Check("libraries", OK, ", ".join(found))
    if missing:
        yield Check(
            "libraries",
            PROBLEM,
            f"not installed: {', '.join(missing)}",
            "install allready again: pip install --force-reinstall allready",
        )
    import yaml

    if not yaml.__with_libyaml__:
        yield Check(
            "yaml", WARNING, "without libyaml: large plans load slowly", "install PyYAML from a wheel"
        )


def _system() -> Iterator[Check]:
    from allready.store.owners import boot_id, host_name

    yield Check("platform", OK, f"{platform.platform()}, {os.cpu_count() or '?'} processors")
    yield Check("host", OK, f"{host_name()}, boot {boot_id()}")
    now = time.time()
    clock = f"{time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now))}"
    if time.gmtime(now).tm_year < 2025:
        yield Check("clock", WARNING, f"{clock}: that can't be right", "set the system's clock")
    else:
        yield Check("clock", OK, clock)
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        more = f"raise it: ulimit -n {min(4096, hard) if hard > 0 else 4096}"
        yield Check("open files", WARNING, f"a process may have only {soft}", more)


def _environment() -> Iterator[Check]:
    from difflib import get_close_matches

    if sys.flags.dont_write_bytecode or os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield Check(
            "environment",
            WARNING,
            "PYTHONDONTWRITEBYTECODE is set: every start compiles what was not compiled before",
            "unset it, or compile once: python -m compileall",
        )
    if os.environ.get("ALLREADY_TASK_ID"):
        yield Check("environment", OK, f"inside of task {os.environ['ALLREADY_TASK_ID']} of another run")
    for name in sorted(os.environ):
        if name.startswith("ALLREADY_") and name not in OURS and name not in OF_TASKS:
            similar = get_close_matches(name, OURS, 1)
            advice = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(OURS)}"
            yield Check("environment", WARNING, f"{name} means nothing to allready", advice)


# --- configuration ----------------------------------------------------------------------------------------


def _configuration(store: str | None) -> Iterator[Check]:
    from allready.cli.options import load_settings
    from allready.plan.plan import DEFAULT_SLOTS
    from allready.store.open import DEFAULT_PATH, without_password

    try:
        settings = load_settings()
    except PlanError as error:
        for problem in error.problems:
            yield Check("configuration", PROBLEM, str(problem), "correct it, or take it out")
        return
    defaults: dict[str, Any] = {
        "store": f"sqlite:///{DEFAULT_PATH}",
        "max_parallel": f"the plan's, or {DEFAULT_SLOTS}",
        "quiet": False,
    }
    for key, default in defaults.items():
        value, origin = getattr(settings, key), _origin(key)
        if key == "store" and store is not None:
            value, origin = store, "--store"
        if origin is None:
            value, origin = default, "default"
        shown = str(value).lower() if isinstance(value, bool) else without_password(str(value))
        yield Check("configuration", OK, f"{key} = {shown} ({origin})")


def _origin(key: str) -> str | None:
    """Say where a setting comes from: the last of those that give it."""
    import tomllib

    name = f"ALLREADY_{key.upper()}"
    if os.environ.get(name):
        return name
    for file, table in (("allready.toml", ()), ("pyproject.toml", ("tool", "allready"))):
        try:
            content: Any = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for part in table:
            content = content.get(part, {}) if isinstance(content, dict) else {}
        if isinstance(content, dict) and key in content:
            return file
    return None


# --- store ------------------------------------------------------------------------------------------------


def _store(option: str | None) -> Iterator[Check]:
    from allready.cli.options import load_settings
    from allready.store.open import (
        StoreMissing,
        files_folder,
        is_on_server,
        open_store,
        place_of,
        sqlite_path,
    )

    try:
        url = option if option is not None else load_settings().store
        path = files_folder(url) / "runs" if is_on_server(url) else sqlite_path(url)
    except PlanError:
        return  # told already
    except AllreadyError as error:
        yield Check("store", PROBLEM, str(error), "name another one with --store")
        return
    yield from _disk(path)
    try:
        opened = open_store(url, create=False)
    except StoreMissing:
        yield Check("store", OK, f"none yet at {place_of(url)}: the first run makes it")
        return
    except AllreadyError as error:
        yield Check("store", PROBLEM, str(error))
        return
    try:
        yield from _opened(opened, path)
        yield from _abandoned(opened, option)
    except AllreadyError as error:
        yield Check("store", PROBLEM, str(error))
    finally:
        opened.close()


def _disk(path: Path) -> Iterator[Check]:
    folder = next(parent for parent in path.parents if parent.exists())
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        what = path if path.exists() and os.access(folder, os.W_OK) else folder
        yield Check(
            "store", PROBLEM, f"{what} can't be written", "change its rights, or name another --store"
        )
    free = shutil.disk_usage(folder).free
    status = PROBLEM if free < FULL_DISK else WARNING if free < SCARCE_DISK else OK
    hint = None if status == OK else "free some space: outputs of tasks are kept there"
    yield Check("disk", status, f"{size_text(free)} free at {folder}", hint)


def _opened(opened: SqlStore, path: Path) -> Iterator[Check]:
    from allready.store.schema import VERSIONS

    server = opened.server()
    if server is None:
        size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if file.is_file())
        about = f"{path}: {size_text(size)}"
    else:
        about = f"{opened.url}: {server.version}"
        yield from _server(server)
    count, newest = _count_runs(opened)
    runs = f"{count:,} run{'s' * (count != 1)}" if count <= MANY_RUNS else f"more than {MANY_RUNS:,} runs"
    yield Check("store", OK, f"{about}, tables {VERSIONS[-1]}, {runs}")
    if newest is not None and newest.created_at > time.time() + 60:
        yield Check(
            "clock",
            WARNING,
            "the newest run is from the future: the clock was set back",
            "nothing to do, if the clock is right now",
        )


def _server(server: ServerState) -> Iterator[Check]:
    if not server.syncs:
        yield Check(
            "server",
            WARNING,
            "fsync is off: a crash of its machine may lose or damage runs",
            "turn it on again",
        )
    if server.standby:
        yield Check(
            "server", WARNING, "a standby: runs can be looked at, not driven", "name the primary with --store"
        )
    if server.lacking is not None:
        yield Check(
            "server",
            WARNING,
            "the user may not write to all tables: runs can be looked at, not driven",
            f"whoever they belong to says: {server.lacking}",
        )
    used = f"{server.connections} of {server.most_connections} connections in use"
    if server.connections > MANY_CONNECTIONS * server.most_connections:
        yield Check("server", WARNING, used, "raise max_connections, or see who holds them: pg_stat_activity")
    else:
        yield Check("server", OK, used)


def _count_runs(opened: Store) -> tuple[int, RunRow | None]:
    count, newest, last = 0, None, None
    while count <= MANY_RUNS and (rows := opened.runs(1_000, before=last)):
        newest = newest or rows[0]
        count += len(rows)
        last = rows[-1].id
    return count, newest


def _abandoned(opened: Store, option: str | None) -> Iterator[Check]:
    from allready.cli.tables import hint
    from allready.cli.text import clean_line
    from allready.core.states import RUN_ENDED, RunState
    from allready.engine.views import is_abandoned, short_id

    unfinished = [
        row for state in RunState if state not in RUN_ENDED for row in opened.runs(1_000, status=state)
    ]
    unfinished.sort(key=lambda row: row.id, reverse=True)
    alone = [row for row in unfinished if is_abandoned(row)]
    for row in alone[:NAMED]:
        what = "is paused" if row.status == RunState.PAUSED else f"is {row.status}, but no process drives it"
        status = OK if row.status == RunState.PAUSED else WARNING
        goal = f" ({clean_line(row.goal)})" if clean_line(row.goal) else ""
        resume = hint("resume", short_id(row.id), store=option)
        yield Check("run", status, f"{short_id(row.id)}{goal} {what}", f"go on with: {resume}")
    if len(alone) > NAMED:
        yield Check(
            "run",
            WARNING,
            f"{len(alone) - NAMED:,} more wait to be resumed",
            f"see: {hint('list', store=option)}",
        )
    going = len(unfinished) - len(alone)
    if going:
        yield Check("run", OK, f"{going:,} in progress")


def size_text(size: float) -> str:
    """Give a number of bytes: `512 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


# --- the model, agents and tools --------------------------------------------------------------------------


def _model(option: str | None) -> Iterator[Check]:
    from allready.cli.model_check import try_model
    from allready.cli.options import load_settings

    try:
        configured = load_settings().model
    except PlanError:
        return  # told already
    origin = "--model" if option is not None else _origin("model")
    verdict = try_model(option if option is not None else configured, origin)
    yield Check("model", *verdict)


def _agents() -> Iterator[Check]:
    from allready.agents.definitions import load_agents
    from allready.cli.surroundings import unfit

    library = load_agents(Path.cwd())
    found = len(library.agents)
    yield Check(
        "agents", OK, f"{found} found in files" if found else "none in files: plans may bring their own"
    )
    for problem in library.problems:
        yield Check("agents", WARNING, str(problem), "correct the file; until then this agent is left out")
    for problem in library.warnings:
        yield Check("agents", WARNING, str(problem))
    for agent in library.agents.values():
        reason = unfit(agent)
        if reason is not None:
            yield Check("agents", WARNING, f"{agent.name}: {reason}", f"see: allready agents {agent.name}")


def _tools() -> Iterator[Check]:
    import subprocess

    git = shutil.which("git")
    if git is None:
        yield Check("git", WARNING, "not found: plans about repositories need it", "install git")
        return
    try:
        told = subprocess.run([git, "--version"], capture_output=True, timeout=GIT_TIME, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        yield Check("git", WARNING, f"{git} does not work: {error}")
        return
    yield Check("git", OK, f"{told.decode('utf-8', 'replace').strip().removeprefix('git version ')}, {git}")
