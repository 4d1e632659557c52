"""Questions about a plan's dependencies, by index of task: cycles, and who comes before whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_CYCLES = 20
"""Cycles that are reported at once."""
TARGETS_AT_ONCE = 2048
"""Tasks that are looked for in one pass over the graph: bits of one number per task."""
SHOWN_OF_PATH = 8
"""Tasks of a long cycle that a message names."""

Dependencies = Sequence[Sequence[int]]
"""For each task the indexes of those it depends on."""


def find_cycles(dependencies: Dependencies) -> list[list[int]]:
    """Give cycles, each from its first task in the plan's order, every next one a dependency of the last.

    Takes time in proportion to the graph. Of cycles that overlap not all may be given, but at least one.
    """
    new, open_, done = 0, 1, 2
    state = bytearray(len(dependencies))
    in_cycle: set[int] = set()
    cycles: list[list[int]] = []
    for root in range(len(dependencies)):
        if state[root] != new:
            continue
        state[root] = open_
        path, rest = [root], [iter(dependencies[root])]
        while path:
            following = next(rest[-1], None)
            if following is None:
                state[path.pop()] = done
                rest.pop()
            elif state[following] == new:
                state[following] = open_
                path.append(following)
                rest.append(iter(dependencies[following]))
            elif state[following] == open_ and not (following in in_cycle and path[-1] in in_cycle):
                cycle = path[path.index(following) :]
                in_cycle.update(cycle)
                start = cycle.index(min(cycle))
                cycles.append(cycle[start:] + cycle[:start])
                if len(cycles) == MAX_CYCLES:
                    return cycles
    return cycles


def describe_cycle(names: Sequence[str]) -> str:
    """Write a cycle as `a → b → a`, shortened if it is long."""
    shown = [*names, names[0]]
    left_out = len(shown) - SHOWN_OF_PATH
    if left_out > 1:
        half = SHOWN_OF_PATH // 2
        shown = [*shown[:half], f"({left_out:,} more)", *shown[-half:]]
    return " → ".join(shown)


def topological_order(dependencies: Dependencies) -> list[int]:
    """Give the tasks so that each comes after what it depends on. The graph must have no cycles."""
    dependents: list[list[int]] = [[] for _ in dependencies]
    missing = [len(needed) for needed in dependencies]
    for task, needed in enumerate(dependencies):
        for dependency in needed:
            dependents[dependency].append(task)
    order = [task for task, count in enumerate(missing) if not count]
    for task in order:  # grows while it is read
        for dependent in dependents[task]:
            missing[dependent] -= 1
            if not missing[dependent]:
                order.append(dependent)
    return order


def not_before(dependencies: Dependencies, pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Give those pairs (task, other) in which `other` is no dependency of `task`, not even a transitive one.

    The graph must have no cycles. Each pass carries the answer for thousands of tasks as bits of one number.
    """
    asked: dict[int, list[int]] = {}
    for task, other in pairs:
        asked.setdefault(other, []).append(task)
    if not asked:
        return set()
    targets = sorted(asked)
    order = topological_order(dependencies)
    missing: set[tuple[int, int]] = set()
    for start in range(0, len(targets), TARGETS_AT_ONCE):
        bits = {target: 1 << place for place, target in enumerate(targets[start : start + TARGETS_AT_ONCE])}
        before = [0] * len(dependencies)
        for task in order:
            found = 0
            for dependency in dependencies[task]:
                found |= before[dependency] | bits.get(dependency, 0)
            before[task] = found
        missing.update(
            (task, other) for other, bit in bits.items() for task in asked[other] if not before[task] & bit
        )
    return missing
