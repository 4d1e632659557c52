"""The benchmark of makespans: its reader of traces, its bounds and schedules, and a small run of all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # benchmarks are run from there, and are no part of what is installed

from benchmarks.makespan import (  # noqa: E402
    Runner,
    diamond,
    first_come_by_hand,
    knowing,
    not_knowing,
    waves,
)
from benchmarks.traces import BadTrace, read_folder, read_trace  # noqa: E402
from benchmarks.workloads import (  # noqa: E402
    GENERATED,
    Task,
    Workload,
    bound,
    critical_path,
    critical_path_first,
    first_come,
    list_schedule,
    most_steps_first,
    shortest,
)

from allready.testing import run_virtual  # noqa: E402

SEEDS = range(5)

# --- traces -----------------------------------------------------------------------------------------------


def trace(edges: dict[str, list[str]], seconds: dict[str, float]) -> dict[str, Any]:
    """Give a trace in WfFormat; the values of `edges` are children."""
    specified = [
        {
            "name": task,
            "id": task,
            "children": children,
            "parents": [parent for parent, others in edges.items() if task in others],
        }
        for task, children in edges.items()
    ]
    executed = [{"id": task, "runtimeInSeconds": time} for task, time in seconds.items()]
    workflow = {"specification": {"tasks": specified, "files": []}, "execution": {"tasks": executed}}
    return {"name": "small", "schemaVersion": "1.5", "workflow": workflow}


def small() -> dict[str, Any]:
    # the last task stands first in the file
    return trace(
        {"end": [], "a": ["end"], "b": ["end"], "begin": ["a", "b"]},
        {
            "begin": 1,
            "a": 2.5,
            "b": 0.0,
            "end": 1e-3,
        },
    )


def write(folder: Path, read: object, name: str = "t.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(read), encoding="utf-8")
    return path


def test_a_trace_is_read_with_dependencies_first(tmp_path: Path) -> None:
    read = read_trace(write(tmp_path, small(), "small-001.json"))
    assert read.name == "small-001"
    by_id = {task.id: task for task in read.tasks}
    assert by_id["begin"] == Task("begin", (), 1.0)
    assert by_id["a"] == Task("a", ("begin",), 2.5)
    assert by_id["end"].seconds == 0.001
    assert set(by_id["end"].depends_on) == {"a", "b"}
    order = [task.id for task in read.tasks]
    assert order[0] == "begin"
    assert order[-1] == "end"
    assert critical_path(read) == read.work == pytest.approx(3.501)


@pytest.mark.parametrize("end", ["parents", "children"])
def test_an_edge_that_stands_at_one_end_only_counts(tmp_path: Path, end: str) -> None:
    whole, half = small(), small()
    for task in half["workflow"]["specification"]["tasks"]:
        task[end] = []
    assert read_trace(write(tmp_path, half)) == read_trace(write(tmp_path, whole))


def test_a_folder_is_read_by_name_and_must_hold_traces(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="no trace"):
        read_folder(tmp_path)
    write(tmp_path, small(), "b.json")
    write(tmp_path, small(), "a.json")
    (tmp_path / "SOURCES.md").write_text("where they are from")
    assert [read.name for read in read_folder(tmp_path)] == ["a", "b"]


def spoiled(kind: str) -> dict[str, Any]:
    read = small()
    specified = read["workflow"]["specification"]["tasks"]
    executed = read["workflow"]["execution"]["tasks"]
    if kind == "schema":
        read["schemaVersion"] = "1.4"
    elif kind == "circle":
        specified[0]["children"] = ["begin"]
    elif kind == "stranger":
        specified[0]["parents"] = ["nobody"]
    elif kind == "child":
        specified[0]["children"] = ["nobody"]
    elif kind == "double":
        specified.append(specified[0])
    elif kind == "not executed":
        del executed[0]
    elif kind == "negative":
        executed[0]["runtimeInSeconds"] = -1
    elif kind == "endless":
        executed[0]["runtimeInSeconds"] = float("inf")
    elif kind == "no runtime":
        del executed[0]["runtimeInSeconds"]
    elif kind == "no tasks":
        del read["workflow"]["specification"]
    elif kind == "list":
        read["workflow"] = []
    return read


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("schema", "schema 1.4"),
        ("circle", "in a circle"),
        ("stranger", "a parent that is no task: nobody"),
        ("child", "a child that is no task: nobody"),
        ("double", "two tasks have the id end"),
        ("not executed", "begin was not executed"),
        ("negative", "begin took -1.0 seconds"),
        ("endless", "begin took inf seconds"),
        ("no runtime", "runtimeInSeconds"),
        ("no tasks", "specification"),
        ("list", "not as WfFormat"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_name_and_why(tmp_path: Path, kind: str, said: str) -> None:
    path = write(tmp_path, spoiled(kind))
    with pytest.raises(BadTrace, match=said) as caught:
        read_trace(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(BadTrace, match=r"t\.json"):
        read_trace(path)


# --- bounds and schedules ---------------------------------------------------------------------------------

FORK = Workload("fork", [Task("a", (), 1), Task("b", ("a",), 2), Task("c", ("a",), 4), Task("d", ("b",), 1)])


def test_bounds_are_the_critical_path_or_the_work() -> None:
    assert critical_path(FORK) == 5
    assert FORK.work == 8
    assert bound(FORK, 1) == 8
    assert bound(FORK, 2) == 5
    assert critical_path(Workload("nothing", [])) == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_scaling_sets_the_bound(slots: int) -> None:
    assert bound(shortest(FORK, 2, slots), slots) == pytest.approx(2)
    assert critical_path(shortest(FORK, 2)) == pytest.approx(2)


def test_schedules_differ_by_their_order_alone() -> None:
    # two places; the long one comes last, and has no steps after it
    tasks = [Task("a", (), 2), Task("b", (), 2), Task("c", ("a",), 1), Task("long", (), 6)]
    late = Workload("late", tasks)
    assert critical_path_first(late, 2) == 6
    assert most_steps_first(late, 2) == 8
    assert first_come(late, 2) == 8
    assert list_schedule(late, 3, None) == 6
    assert list_schedule(late, 1, None) == 11


def test_tasks_that_end_together_free_their_places_before_anything_starts() -> None:
    tasks = [Task("a", (), 1), Task("b", (), 1), Task("short", ("a",), 1), Task("long", ("b",), 3)]
    more = [Task("x", ("b",), 3)]
    assert critical_path_first(Workload("together", tasks + more), 2) == 5


@pytest.mark.parametrize("make", GENERATED)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_schedule_beats_the_bound_or_is_worse_than_a_list_schedule_can_be(make: Any, seed: int) -> None:
    workload = make(seed)
    assert workload == make(seed)
    assert workload != make(seed + 1)
    longest, work = critical_path(workload), workload.work
    for slots in (1, 5, len(workload.tasks)):
        for schedule in (critical_path_first, most_steps_first, first_come):
            makespan = schedule(workload, slots)
            assert makespan >= bound(workload, slots) * (1 - 1e-9)
            assert makespan <= (work / slots + longest * (1 - 1 / slots)) * (1 + 1e-9)
    assert first_come(workload, len(workload.tasks)) == pytest.approx(longest)


# --- who runs, on the virtual clock: without overhead, a run is its schedule ------------------------------


def makespan(runner: Runner, workload: Workload, places: int) -> tuple[float, dict[str, float]]:
    seconds = {task.id: task.seconds for task in workload.tasks}
    ends: dict[str, float] = {}

    async def timed() -> float:
        clock = asyncio.get_running_loop().time

        async def work(name: str) -> None:
            await asyncio.sleep(seconds[name])
            ends[name] = clock()

        await runner(workload, places, work)
        return clock()

    took = run_virtual(timed())
    assert ends.keys() == seconds.keys()
    return took, ends


@pytest.mark.parametrize("make", GENERATED)
@pytest.mark.parametrize(
    ("runner", "schedule"), [(knowing, critical_path_first), (first_come_by_hand, first_come)]
)
def test_runs_are_the_schedules_that_they_are_compared_with(make: Any, runner: Runner, schedule: Any) -> None:
    workload = shortest(make(0), 5, 5)
    assert makespan(runner, workload, 5)[0] == pytest.approx(schedule(workload, 5), rel=1e-6)


@pytest.mark.parametrize("make", GENERATED)
@pytest.mark.parametrize("places", [1, 5])
def test_no_place_stays_empty_when_durations_are_not_known(make: Any, places: int) -> None:
    workload = shortest(make(0), 5, places)
    took, _ = makespan(not_knowing, workload, places)
    worst = workload.work / places + critical_path(workload) * (1 - 1 / places)
    assert bound(workload, places) * (1 - 1e-9) <= took <= worst * (1 + 1e-9)


def test_a_slow_sibling_holds_up_waves_only() -> None:
    workload = diamond(0.1, 2.0)
    for runner in (knowing, not_knowing, first_come_by_hand):
        took, ends = makespan(runner, workload, 5)
        assert ends["fast-0-7"] == pytest.approx(0.9)
        assert took == pytest.approx(2.2)
    took, ends = makespan(waves, workload, 5)
    assert ends["fast-0-7"] == pytest.approx(2.8)


# --- the whole --------------------------------------------------------------------------------------------


def test_the_benchmark_prints_its_tables(tmp_path: Path) -> None:
    write(tmp_path, small(), "small-001.json")
    command = [sys.executable, "-m", "benchmarks.makespan", "--quick", "--traces", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    tables = [part.splitlines() for part in done.stdout.split("\n\n") if part.startswith("|")]
    assert [len(table) - 2 for table in tables] == [3, 3, 1, 3]
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "small-001" in tables[2][2]


def test_the_benchmark_of_agents_prints_its_table() -> None:
    command = [sys.executable, "-m", "benchmarks.agents_shape", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    assert [line[3].strip() for line in lines[2:]] == ["4", "8", "16"]
    assert len({len(line) for line in lines}) == 1


def test_the_benchmark_says_what_is_wrong_with_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.makespan", "--traces", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"{tmp_path}: there is no trace" in done.stderr
