"""Reads published traces of real workflows: WfFormat JSON, schema 1.5, of the project WfCommons.

What is read: tasks, their parents and children, how long each took. A trace's transfers of files, cores and
machines are left out: a task is something that takes a place for its time.
"""

from __future__ import annotations

import json
from graphlib import CycleError, TopologicalSorter
from math import isfinite
from pathlib import Path
from typing import Any

from benchmarks.workloads import Task, Workload

SCHEMA = "1.5"


class BadTrace(ValueError):
    """A file that is not a trace that can be run; says which and why."""


def read_folder(folder: Path) -> list[Workload]:
    """Read all traces (`*.json`) of a folder, by name. Raises `BadTrace`, also for a folder without any."""
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise BadTrace(f"{folder}: there is no trace (*.json) here")
    return [read_trace(path) for path in paths]


def read_trace(path: Path) -> Workload:
    """Read one trace, its tasks in an order with dependencies first. Raises `BadTrace`."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return _workload(path.stem, read)
    except (OSError, ValueError) as error:  # texts that are not JSON, or not UTF-8, raise ValueErrors
        raise BadTrace(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadTrace(f"{path}: not as WfFormat {SCHEMA} says: {error!r}") from error


def _workload(name: str, read: dict[str, Any]) -> Workload:
    if read["schemaVersion"] != SCHEMA:
        raise BadTrace(f"schema {read['schemaVersion']}, not {SCHEMA}")
    specified = read["workflow"]["specification"]["tasks"]
    took = {task["id"]: _seconds(task) for task in read["workflow"]["execution"]["tasks"]}
    parents: dict[str, dict[str, None]] = {}
    for task in specified:
        if task["id"] in parents:
            raise BadTrace(f"two tasks have the id {task['id']}")
        parents[task["id"]] = dict.fromkeys(task["parents"])
    for task in specified:  # an edge stands at both of its ends, or should
        for child in task["children"]:
            if child not in parents:
                raise BadTrace(f"{task['id']} has a child that is no task: {child}")
            parents[child][task["id"]] = None
    for task, deps in parents.items():
        if task not in took:
            raise BadTrace(f"{task} was not executed")
        if strangers := [dep for dep in deps if dep not in parents]:
            raise BadTrace(f"{task} has a parent that is no task: {strangers[0]}")
    try:
        order = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        raise BadTrace(f"tasks depend on each other in a circle: {' → '.join(error.args[1])}") from None
    return Workload(name, [Task(task, tuple(parents[task]), took[task]) for task in order])


def _seconds(task: dict[str, Any]) -> float:
    seconds = float(task["runtimeInSeconds"])
    if not isfinite(seconds) or seconds < 0:
        raise BadTrace(f"{task['id']} took {seconds} seconds")
    return seconds
