"""4, 8 and 16 agents on one graph of tasks that last as long as calls of a model. Prints a Markdown table.

    ./dev python -m benchmarks.agents_shape            minutes
    ./dev python -m benchmarks.agents_shape --quick    seconds, on a tiny graph: to try the script

The shape is that of DynTaskMAS (Yu, Ding, Sato: https://arxiv.org/abs/2503.07675), whose abstract reports,
from 4 to 16 agents, 3.47 times the throughput, and a use of resources that rose from 65 % to 88 % against
what the authors call traditional approaches. Its tasks, models and machines are not here: what can be
compared is how throughput grows with the places, not how long anything takes.

Durations are drawn log-normally. That is an assumption, as is its spread (σ = 0.8, the standard deviation is
0.95 of the mean): ServeGen (https://arxiv.org/abs/2505.09999) found the lengths of models' answers, which set
the time of a call, to be about exponential, whose standard deviation is its mean. The mean is scaled down.

*ours* knows no durations, as nobody does before a model answers; *knowing* is told them. *barrier*: the
standard library's graphlib, all that is ready is waited for before the next are started. *one after the
other*: one place. *use* is work ÷ (places × makespan); *most* is that of a simulated schedule that costs
nothing and knows the durations, critical path first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.common import machine, table
from benchmarks.makespan import knowing, measure, not_knowing, waves
from benchmarks.workloads import Workload, critical_path_first, layered

PLACES = (4, 8, 16)
LAYERS, NARROWEST, WIDEST = 8, 40, 60
MEAN = 0.12
"""Seconds a task lasts: long enough that a timer's millisecond is little."""
SEEDS = 3
QUICK_MEAN, QUICK_LAYERS = 0.005, 2
"""Of a trial of this script itself."""
REPORTED_GROWTH = 3.47
"""Of throughput from 4 agents to 16, in the paper's abstract."""


def graph(seed: int, mean: float, layers: int = LAYERS) -> Workload:
    drawn = layered(seed, layers=layers, narrowest=NARROWEST, widest=WIDEST, name="agents")
    return drawn.scaled(mean * len(drawn.tasks) / drawn.work)


def measured(graphs: Sequence[Workload]) -> Iterator[str]:
    """Give the table, and how throughput grows from the fewest places to the most."""
    counts = [len(graph.tasks) for graph in graphs]
    yield (
        f"{len(graphs)} graphs of {min(counts)} to {max(counts)} tasks that last "
        f"{graphs[0].work / counts[0] * 1000:.0f} ms in the mean; medians. Throughput is in tasks a second.\n"
    )
    alone = [measure(not_knowing, graph, 1).makespan for graph in graphs]
    growth = []

    def rows() -> Iterator[list[str]]:
        for places in PLACES:
            ours, known, barrier = (
                [measure(runner, graph, places).makespan for graph in graphs]
                for runner in (not_knowing, knowing, waves)
            )
            free = [critical_path_first(graph, places) for graph in graphs]
            growth.append((ours, known, barrier))
            yield [
                f"{_median_ratio(barrier, ours):.2f}",
                f"{_median_ratio(alone, ours):.2f}",
                str(places),
                *(f"{use(graphs, places, spans):.0%}" for spans in (ours, known, barrier, free)),
                *(f"{throughput(graphs, spans):.1f}" for spans in (ours, known, barrier, alone)),
            ]

    head = ["ours ÷ barrier", "ours ÷ one after the other", "places"]
    head += ["use: ours", "knowing", "barrier", "most"]
    head += ["throughput: ours", "knowing", "barrier", "one after the other"]
    yield from table(head, rows())
    grown = [f"{_median_ratio(few, many):.2f}" for few, many in zip(growth[0], growth[-1], strict=True)]
    yield (
        f"Throughput with {PLACES[-1]} places ÷ with {PLACES[0]}: ours {grown[0]}, knowing {grown[1]}, "
        f"barrier {grown[2]}; DynTaskMAS reports {REPORTED_GROWTH} for its own."
    )


def use(graphs: Sequence[Workload], places: int, spans: Sequence[float]) -> float:
    return median(graph.work / (places * span) for graph, span in zip(graphs, spans, strict=True))


def throughput(graphs: Sequence[Workload], spans: Sequence[float]) -> float:
    return median(len(graph.tasks) / span for graph, span in zip(graphs, spans, strict=True))


def _median_ratio(spans: Sequence[float], others: Sequence[float]) -> float:
    return median(span / other for span, other in zip(spans, others, strict=True))


def report(*, mean: float = MEAN, seeds: int = SEEDS, quick: bool = False) -> Iterator[str]:
    """Give the lines of the report as they are measured; `quick`: of one tiny graph."""
    if quick:
        return measured([graph(0, QUICK_MEAN, QUICK_LAYERS)])
    return measured([graph(seed, mean) for seed in range(seeds)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mean", type=float, default=MEAN, help=f"seconds a task lasts ({MEAN:g})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"graphs ({SEEDS})")
    parser.add_argument("--quick", action="store_true", help="one tiny graph: to try the script")
    given = parser.parse_args()
    print(f"{machine()}.\n")
    for line in report(mean=given.mean, seeds=given.seeds, quick=given.quick):
        print(line, flush=True)


if __name__ == "__main__":
    main()
