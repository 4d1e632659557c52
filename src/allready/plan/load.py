"""From a plan file, or a stored plan, to a checked `Plan`: everything that is wrong is reported at once."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from allready.errors import PlanError, Problem
from allready.plan.document import MAX_BYTES, Document, check_plain, read_document
from allready.plan.plan import Plan

MAX_TASKS = 1_000_000
"""Tasks of a plan, unless the caller says otherwise."""
STDIN = "-"


def load_plan(
    source: str | bytes | Path,
    *,
    file: str | None = None,
    variables: Mapping[str, str] | None = None,
    known_agents: Collection[str] | None = None,
    base_dir: Path | None = None,
    max_tasks: int = MAX_TASKS,
) -> Plan:
    """Load a plan from its text, or from the file that a `Path` names.

    `file` is what messages call it (and a name in `.json` makes it JSON). `variables` are those of `--set`.
    Tasks may name only `known_agents` and the plan's own; None: any. Relative working directories start at
    `base_dir` (None: the current directory). Raises `PlanError` with all problems in reading order.
    """
    if isinstance(source, Path):
        file, source = file or str(source), _read(source)
    document = read_document(source, file)
    return _load(document, variables, known_agents, base_dir, max_tasks)


def load_plan_file(
    path: str | Path,
    *,
    variables: Mapping[str, str] | None = None,
    known_agents: Collection[str] | None = None,
    base_dir: Path | None = None,
    max_tasks: int = MAX_TASKS,
) -> Plan:
    """Load a plan file, or standard input if `path` is `-`. See `load_plan`."""
    is_stdin = str(path) == STDIN
    data = sys.stdin.buffer.read(MAX_BYTES + 1) if is_stdin else _read(Path(path))
    document = read_document(data, "<stdin>" if is_stdin else str(path))
    return _load(document, variables, known_agents, base_dir, max_tasks)


def plan_from_document(
    document: Mapping[str, Any],
    *,
    file: str | None = None,
    variables: Mapping[str, str] | None = None,
    known_agents: Collection[str] | None = None,
    base_dir: Path | None = None,
    max_tasks: int = MAX_TASKS,
) -> Plan:
    """Load a plan from plain values, such as a stored `Plan.document`. See `load_plan`.

    Problems name the task instead of a line.
    """
    plain = Document(document, file)
    check_plain(plain)
    return _load(plain, variables, known_agents, base_dir, max_tasks)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # of what has no end, no more than tells that it is too much
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PlanError([Problem(f"can't be read: {reason}", str(path))]) from None


def _load(
    document: Document,
    variables: Mapping[str, str] | None,
    known_agents: Collection[str] | None,
    base_dir: Path | None,
    max_tasks: int,
) -> Plan:
    from allready.plan.build import build_plan

    return build_plan(document, variables or {}, known_agents, base_dir, max_tasks)
