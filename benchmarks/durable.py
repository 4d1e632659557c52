"""What a task costs that does nothing, in durable runs, beside peers that are durable.

    ./dev python -m benchmarks.durable                  with the peers, installed when they are missing
    ./dev python -m benchmarks.durable --peers none     without

Graphs, contestants' processes and times as in `overhead.py`, with 100 places; every contestant has a new
SQLite file in the folder for temporary files (name another one with TMPDIR). What each writes down, by
its own defaults:

* allready: before a task starts that it does, when it has ended that it has and its output; one
  transaction for all that happened in a round of the loop. Write-ahead log, full sync.
* one commit a task: asyncio by hand, that the task has ended. Write-ahead log, full sync.
* LangGraph: the state after each step (all tasks that are ready together) and what each task gave.
  Write-ahead log, full sync. "async" writes while the next step runs, which is the default; "sync" before
  it begins.
* DBOS: each step when it has ended. Rollback journal, full sync.
* Prefect: changes of tasks' states, gathered by a server of its own; write-ahead log, SQLite's
  `synchronous=NORMAL`, which may lose the last of them when the power fails. Results in files.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.common import (
    Contestant,
    Options,
    Times,
    compete,
    judged,
    main,
    note,
    short,
    spread,
    table,
)
from benchmarks.overhead import PLACES, SHAPES

OURS = Contestant("allready, run(plan)", "allready", "run")
COMMITS = Contestant("one commit a task", "asyncio", "commits")
CONTESTANTS = [
    OURS,
    COMMITS,
    Contestant("LangGraph, async", "langgraph", "async", "langgraph"),
    Contestant("LangGraph, sync", "langgraph", "sync", "langgraph"),
    Contestant("DBOS", "dbos", environment="dbos", largest=300),
    Contestant("Prefect", "prefect", environment="prefect", largest=100),
]
GOAL_AHEAD, GOAL_COMMITS = 5, 1


def medians(found: dict[str, dict[str, Times]], shape: str) -> dict[str, float]:
    return {name: statistics.median(times[shape].wall) for name, times in found.items()}


def ahead(found: dict[str, dict[str, Times]]) -> Iterator[list[str]]:
    for shape in SHAPES:
        walls = medians(found, shape)
        ours, commit = walls.pop(OURS.name), walls.pop(COMMITS.name)
        best = min(walls, key=lambda name: walls[name]) if walls else None
        yield [
            judged(walls[best] / ours, GOAL_AHEAD, at_least=True) if best else "",
            judged(ours / commit, GOAL_COMMITS) if shape == "wide" else f"({short(ours / commit)})",
            shape,
            best or "",
            short(ours),
            short(walls[best]) if best else "",
            short(commit),
        ]


def everyone(found: dict[str, dict[str, Times]]) -> Iterator[list[str]]:
    for shape in SHAPES:
        walls = medians(found, shape)
        for name, times in found.items():
            yield [
                short(walls[name] / walls[OURS.name]),
                name,
                shape,
                f"{times[shape].size:,}",
                spread(times[shape].wall),
                short(statistics.median(times[shape].processor)),
            ]


def report(options: Options) -> Iterator[str]:
    found, versions = compete(
        options.chosen(CONTESTANTS), SHAPES, options.size, rounds=options.rounds, places=PLACES, durable=True
    )
    note(versions)
    yield (
        f"{PLACES} places, started {options.rounds} times in turn; µs a task on the clock, medians. What is "
        "in brackets has no goal.\n"
    )
    head = [
        f"best peer ÷ ours (≥ {GOAL_AHEAD})",
        f"ours ÷ one commit a task (≤ {GOAL_COMMITS})",
        " shape",
    ]
    yield from table([*head, " best peer", "ours", "best peer", "one commit a task"], ahead(found))
    yield "All of them; median on the clock (least to most), and processor time.\n"
    yield from table(["÷ ours", " who", " shape", "tasks", "µs a task", "processor"], everyone(found))


if __name__ == "__main__":
    main(report, __doc__)
