"""All figures, beside the peers, in Markdown.

    ./dev poe benchmark                             all of them: half an hour and more, on a quiet machine
    ./dev poe benchmark overhead durable --write    two of them; docs/performance.md gets their sections
    ./dev poe benchmark --quick                     small and once, without peers: to try the scripts

The peers are installed into environments of their own below `benchmarks/.envs`, from the pinned requirements
in `benchmarks/peers`, when they are missing.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import VERSIONS, Options, add_options, machine, options_from, table, versions_line
from benchmarks.traces import BadTrace, read_folder
from benchmarks.workloads import Workload

from benchmarks import agents_shape, durable, growth, makespan, overhead, refusals

DOCUMENT = Path(__file__).absolute().parents[1] / "docs" / "performance.md"
HEAD = """# Performance

Figures beside the peers, in the same run. To repeat them: `./dev poe benchmark`; `--help` says what can be
chosen. This page is written by `./dev poe benchmark --write`, section by section; each says when, where and
with which versions it was measured. `benchmarks/peers/` has how each peer is used, with links to what its
documentation says about that. Goals that were missed are bold; the last section, by hand, says why.

The peers do more, or something else, than is measured here: Dask and Ray spread work over many machines,
Prefect and DBOS keep a record of far more than a graph. All of them are asked for one thing: the same graphs
of tasks that do nothing, on one machine.
"""
TO_REACH = "To reach"
GOAL = re.compile(r"\([≤≥] [\d.,]+\)")


class Section(NamedTuple):
    """One benchmark."""

    title: str
    doc: str | None
    report: Callable[[Options], Iterator[str]]


def makespans(traces: list[Workload], options: Options) -> Iterator[str]:
    seconds, seeds = (makespan.QUICK, 1) if options.quick else (makespan.SECONDS, makespan.SEEDS)
    for lines in makespan.tables(traces, seconds=seconds, seeds=seeds, peers=options.peers):
        yield from lines


def agents(options: Options) -> Iterator[str]:
    yield from agents_shape.report(quick=options.quick)


def sections(traces: list[Workload]) -> dict[str, Section]:
    return {
        "overhead": Section("Overhead", overhead.__doc__, overhead.report),
        "durable": Section("Durable runs", durable.__doc__, durable.report),
        "makespan": Section("Makespan", makespan.__doc__, partial(makespans, traces)),
        "agents": Section("Agents", agents_shape.__doc__, agents),
        "growth": Section("Growth", growth.__doc__, growth.report),
        "refusals": Section("Waiting and starting", refusals.__doc__, refusals.report),
    }


# --- the document -----------------------------------------------------------------------------------------


def explained(doc: str | None) -> str:
    """Give a script's docstring without how it is started."""
    paragraphs = (doc or "").strip().split("\n\n")
    return "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith("    "))


def goals(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Find what was to be reached, in the heads of tables, and the worst that was found."""
    found: dict[str, list[str]] = {}
    head: list[str] | None = None
    for line in lines:
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if head is None:
            head = cells
        elif not line.startswith(("| ---", "|---")):
            for what, cell in zip(head, cells, strict=True):
                if GOAL.search(what) and cell and not cell.startswith("("):  # in brackets: has no goal
                    found.setdefault(what, []).append(cell)
    for what, values in found.items():
        yield what, (max if "(≤" in what else min)(values, key=number)


def number(cell: str) -> float:
    return float(re.sub(r"[*,]", "", cell).split()[0])


def parts(text: str) -> dict[str, str]:
    """Give heading → text below it, of the document as it is."""
    _, *found = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {title: below.strip() for title, below in zip(found[::2], found[1::2], strict=True)}


def document(kept: dict[str, str], order: list[str]) -> str:
    """Put sections together; those that are not measured but written by hand come last."""
    measured = [title for title in order if title in kept]
    rows = []
    for title in measured:
        anchor = title.lower().replace(" ", "-")
        for what, worst in goals(kept[title].splitlines()):
            rows.append([f"[{title}](#{anchor})", what, worst])
    whole = [HEAD, f"## {TO_REACH}\n", "The worst of each column that has a goal.\n"]
    whole += table([" section", " figure (goal)", "found"], rows)
    for title in [*measured, *(title for title in kept if title not in (TO_REACH, *order))]:
        whole.append(f"## {title}\n\n{kept[title].strip()}\n")
    return "\n".join(whole)


def stamp(load: float) -> str:
    date = time.strftime("%Y-%m-%d", time.gmtime())
    versions = f" {versions_line()}." if VERSIONS else ""
    return f"*{date}; {machine()}; load average before: {load:.1f}.{versions}*"


# --- the command ------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./dev poe benchmark", description="All figures, beside the peers, in Markdown."
    )
    parser.add_argument(
        "sections", nargs="*", help=f"some of {', '.join(sections([]))}; all if none is named"
    )
    add_options(parser)
    parser.add_argument(
        "--traces", type=Path, help="a folder of traces, WfFormat JSON 1.5, for the makespans"
    )
    parser.add_argument("--write", action="store_true", help=f"write these sections of docs/{DOCUMENT.name}")
    given = parser.parse_args()
    options = options_from(parser, given)
    try:
        known = sections(read_folder(given.traces) if given.traces else [])
    except BadTrace as error:
        parser.error(str(error))
    if unknown := set(given.sections) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(f"{machine()}. Goals missed are bold.\n")
    for name in given.sections or known:
        section = known[name]
        VERSIONS.clear()
        load = os.getloadavg()[0]
        print(f"## {section.title}\n")
        lines = []
        for line in section.report(options):
            lines.append(line)
            print(line, flush=True)
        if given.write:
            below = "\n".join([explained(section.doc), "", *lines, stamp(load)])
            kept = parts(DOCUMENT.read_text()) if DOCUMENT.exists() else {}
            kept[section.title] = below
            DOCUMENT.write_text(document(kept, [one.title for one in known.values()]))


if __name__ == "__main__":
    main()
