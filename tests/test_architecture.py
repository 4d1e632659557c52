"""The house's plan: which rooms may know of which. Read from the imports, wherever they stand in a file."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "allready"
SOURCES = Path(__file__).parents[1] / "src" / PACKAGE
FACES = {"cli", "tui", "web", "mcp"}
BELOW_THE_FACES = {"engine", "pool", "planning", "store", "agents", "plan", "core"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "core": set(),
    "plan": {"core"},
    "agents": {"core", "plan"},
    "pool": {"core", "plan", "agents"},
    "planning": {"core", "plan", "agents"},
    "store": {"core", "plan", "agents"},
    "engine": BELOW_THE_FACES,
    **dict.fromkeys(FACES, BELOW_THE_FACES),
    "testing": BELOW_THE_FACES | FACES,
    "": BELOW_THE_FACES,  # the package itself: the public names
}
"""Room → the rooms it may import, besides itself and `errors`."""

PURE = {
    *("__future__", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "functools"),
    *("hashlib", "heapq", "itertools", "json", "math", "operator", "string", "types", "typing", "weakref"),
}
"""What the core may take from the standard library: no clock, no randomness, no I/O, no configuration."""


class Import(NamedTuple):
    module: str
    line: int
    for_types_only: bool


def imports_of(tree: ast.Module, package: tuple[str, ...]) -> Iterator[Import]:
    """Give every module that the file imports; `package` is the one it is in, for relative imports."""
    typing_lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for line in range(part.lineno, (part.end_lineno or part.lineno) + 1)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from allready import engine` names a room only in the second half
            names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            target = node.args[0] if node.args else None
            constant = isinstance(target, ast.Constant) and isinstance(target.value, str)
            names = [target.value] if constant else []  # type: ignore[union-attr]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, node.lineno in typing_lines)


def room_of(module: str) -> str | None:
    """Give the room that a module of the package is in; None for other people's."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else ""


def wrong_arrows(sources: Path) -> list[str]:
    """Give every import that goes against the plan, as `file:line: from → to`, and why."""
    wrong = []
    for path in sorted(sources.rglob("*.py")):
        inside = path.relative_to(sources)
        room = (
            inside.parts[0].removesuffix(".py") if inside.name != "__init__.py" or inside.parent.name else ""
        )
        here = f"{PACKAGE}/{inside}"
        if room not in MAY_IMPORT and room != "__main__":
            wrong.append(
                f"{here}:1: {room} is no room of the house: add it to the plan in {Path(__file__).name}"
            )
            continue
        room = "cli" if room == "__main__" else room
        package = (PACKAGE, *inside.parent.parts)
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for found in imports_of(tree, package):
            reason = _objection(room, found)
            if reason:
                wrong.append(f"{here}:{found.line}: {room or PACKAGE} → {found.module}: {reason}")
    return wrong


def _objection(room: str, found: Import) -> str | None:
    target = room_of(found.module)
    if target is not None:
        if target in (room, "errors") or target in MAY_IMPORT[room]:
            return None
        if target == "" and room in FACES | {"testing"}:
            return None  # the public names
        if room in FACES and target in FACES:
            return "faces don't know each other"
        if target == "testing":
            return "only tests import what is for tests"
        allowed = ", ".join(sorted(MAY_IMPORT[room])) or "nothing"
        return f"{room or PACKAGE} may import errors, itself, {allowed}"
    top = found.module.partition(".")[0]
    if room == "core" and top not in PURE and not found.for_types_only:
        return "the core is pure: what it needs of the world is handed in"
    return None


def test_no_arrow_goes_back() -> None:
    assert "\n".join(wrong_arrows(SOURCES)) == ""


# --- the reader itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "code", "arrow"),
    [
        (
            "plan/x.py",
            "from allready.agents.base import Agent",
            "allready/plan/x.py:1: plan → allready.agents.base:",
        ),
        ("plan/x.py", "import allready.engine.loop as loop", "plan/x.py:1: plan → allready.engine.loop:"),
        (
            "core/x.py",
            "from allready.plan.plan import Plan",
            "core → allready.plan.plan: core may import errors",
        ),
        (
            "agents/x.py",
            "def f():\n    from allready.pool import manager",
            "agents/x.py:2: agents → allready.pool:",
        ),
        ("agents/x.py", "from allready import engine", "agents → allready.engine:"),
        ("agents/x.py", "from ..engine import loop", "agents → allready.engine:"),
        ("agents/x.py", "from .. import engine", "agents → allready.engine:"),
        ("agents/deep/x.py", "from ...engine import loop", "agents → allready.engine:"),
        ("agents/x.py", "from allready import Plan", "agents → allready.Plan:"),
        (
            "store/x.py",
            "import importlib\nimportlib.import_module('allready.engine')",
            "x.py:2: store → allready.engine",
        ),
        ("pool/x.py", "import allready.store", "pool → allready.store:"),
        ("planning/x.py", "import allready.pool", "planning → allready.pool:"),
        ("engine/x.py", "import allready.cli", "engine → allready.cli:"),
        ("cli/x.py", "import allready.tui.app", "cli → allready.tui.app: faces don't know each other"),
        ("cli/x.py", "import allready.testing", "only tests import what is for tests"),
        ("errors.py", "import allready.core.states", "errors → allready.core.states:"),
        ("__init__.py", "from allready.cli.main import main", "allready → allready.cli.main:"),
        ("__main__.py", "import allready.tui", "cli → allready.tui:"),
        ("cellar/x.py", "", "cellar is no room of the house"),
        ("core/x.py", "import asyncio", "core → asyncio: the core is pure"),
        ("core/x.py", "import os.path", "core → os.path: the core is pure"),
        ("core/x.py", "def f():\n    import random", "core/x.py:2: core → random"),
        ("core/x.py", "from pydantic import BaseModel", "core → pydantic: the core is pure"),
        (
            "plan/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from allready.engine import loop",
            "plan/x.py:3: plan → allready.engine:",
        ),
        (
            "core/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from allready.plan.plan import Plan",
            "core/x.py:3: core → allready.plan.plan:",
        ),
    ],
)
def test_an_arrow_that_goes_back_is_found(file: str, code: str, arrow: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    (wrong,) = wrong_arrows(tmp_path)
    assert arrow in wrong


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "core/x.py",
            "import heapq\nfrom collections.abc import Iterable\nfrom allready.errors import BugError",
        ),
        ("core/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pathlib import Path"),
        ("core/x.py", "from . import states\nfrom .states import TaskState\nimport allready.core.events"),
        ("plan/x.py", "import yaml, asyncio\nfrom allready.core import states"),
        ("pool/x.py", "from allready.agents.base import Agent"),
        ("store/x.py", "from allready.agents.base import TaskResult\nfrom allready.plan.plan import Plan"),
        (
            "engine/x.py",
            "import allready.pool, allready.planning, allready.store, allready.agents, allready.plan",
        ),
        ("mcp/x.py", "import mcp\nimport allready.engine\nfrom allready import run"),
        ("testing/x.py", "from allready.cli.main import main\nfrom allready import run"),
        ("__init__.py", "from allready.engine.loop import run_scheduler_loop as run_scheduler_loop"),
        ("__main__.py", "from allready.cli.main import main"),
        ("errors.py", "from typing import NamedTuple"),
    ],
)
def test_an_arrow_that_goes_forward_is_none(file: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    assert wrong_arrows(tmp_path) == []


def test_there_is_something_to_read() -> None:
    read = {path.relative_to(SOURCES).parts[0] for path in SOURCES.rglob("*.py")}
    assert {"core", "plan", "agents", "errors.py", "__init__.py"} <= read
