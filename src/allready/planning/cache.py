"""`PlanCache`: plans that were written before, for the same goal, agents and model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from allready.agents.definitions import AgentDefinition
from allready.planning.draft import DraftTask
from allready.planning.draft_check import DraftCheck
from allready.planning.events import Written
from allready.planning.json_stream import Item
from allready.planning.prompts import plan_schema, planner_instructions

KEPT = 500
"""Plans in the folder; with more the oldest go."""
_SUFFIX = ".json"


class PlanCache:
    """Plans as JSON files in a folder, which is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, goal: str, agents: Sequence[AgentDefinition], model: str | None, max_tasks: int) -> str:
        """Give the name for a plan that was written for these, with the present wording of the request."""
        names = [agent.name for agent in agents]
        parts = [
            *(goal, model, max_tasks),
            [[agent.name, dict(agent.settings)] for agent in agents],
            planner_instructions(agents, max_tasks),
            plan_schema(names, max_tasks),
        ]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> list[DraftTask] | None:
        """Give the plan that is kept under `key`; None if there is none, or none that can be read."""
        try:
            document = json.loads(self._path(key).read_text(encoding="utf-8"))
            entries = document["tasks"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            return None
        if not isinstance(entries, list):
            return None
        check = DraftCheck((), None, len(entries))
        events = [event for entry in entries for event in check.take(Item(entry))]
        if check.finish(None) or not all(isinstance(event, Written) for event in events):
            return None
        return check.tasks

    def put(self, key: str, goal: str, tasks: Sequence[DraftTask]) -> None:
        """Keep a plan. Raises `OSError` if it can't be written; what was kept before stays whole."""
        text = json.dumps({"goal": goal, "tasks": [asdict(task) for task in tasks]}, indent=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".tmp", f"{key}.", self.folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(self._path(key))
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._prune()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _prune(self) -> None:
        """Remove the oldest plans; another process may be doing the same."""
        files = sorted(self.folder.glob(f"*{_SUFFIX}"), key=_changed_at)
        for path in files[: max(len(files) - KEPT, 0)]:
            with contextlib.suppress(OSError):
                path.unlink()


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it is gone already
        return 0
