"""What is in a folder of texts? Words, readability, what changes often, and texts that are nearly the same.

A plan made in Python, without network and without anything to install:

    python examples/text_survey.py docs                            # in memory
    TEXTS=docs allready run examples.text_survey:plan              # kept in the store, can be resumed

Functions become tasks; a parameter that is named after a task is a dependency and gets its result. Plain
functions run in threads, async ones in the event loop, and `isolate=True` gives one a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from allready import PermanentError, Plan, run_sync

SUFFIXES = {".md", ".rst", ".txt"}
PARTS = 3
"""The files are read by as many tasks, side by side."""
SHINGLE = 5
"""Words in a row; texts that share most of these are nearly the same."""
ALIKE = 0.5
"""From this share on."""
LARGEST = 1_000_000
"""Characters of a text that are read."""

plan = Plan("What is in these texts?", max_parallel=4)


# --- what is there ----------------------------------------------------------------------------------------


def find_texts(folder: str) -> list[str]:
    """Give the paths of all texts below a folder, without hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        found += [str(path) for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise PermanentError(f"there are no texts ({', '.join(sorted(SUFFIXES))}) in {folder}")
    return found


folder = sys.argv[1] if __name__ == "__main__" and len(sys.argv) > 1 else os.environ.get("TEXTS", ".")
plan.add(find_texts, id="texts", args=[folder], title="Find the texts")


def words_of(path: str) -> list[str]:
    """Give the words of a text in lower case."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")[:LARGEST]
    return re.findall(r"[^\W\d_]{2,}", text.lower())


# --- a loop makes tasks -----------------------------------------------------------------------------------


def measure(part: int, texts: list[str]) -> dict[str, dict[str, int]]:
    """Count the words of every PARTS-th text; `part` is given, `texts` is the result of the task."""
    return {path: dict(Counter(words_of(path))) for path in texts[part::PARTS]}


for number in range(PARTS):
    plan.add(measure, id=f"part_{number}", args=[number], title=f"Count words, part {number + 1} of {PARTS}")


# --- decorated functions ----------------------------------------------------------------------------------


@plan.task(title="All words together")
def words(
    part_0: dict[str, dict[str, int]], part_1: dict[str, dict[str, int]], part_2: dict[str, dict[str, int]]
) -> dict[str, dict[str, int]]:
    """Put the parts together: text → word → how often."""
    return {**part_0, **part_1, **part_2}


@plan.task(isolate=True, timeout="5m", estimate="2s", failure_strategy="skip", title="Nearly the same")
def near_duplicates(texts: list[str]) -> list[tuple[str, str, float]]:
    """Find pairs of texts that share most of their word sequences (Jaccard index of shingles).

    Pure computing: in a thread it would hold up everybody else, so it gets a process.
    """
    shingles = {path: set(_shingles(words_of(path))) for path in texts}
    pairs = []
    for one, two in combinations(texts, 2):
        common = len(shingles[one] & shingles[two])
        either = len(shingles[one]) + len(shingles[two]) - common
        if common and common / either >= ALIKE:
            pairs.append((one, two, round(common / either, 2)))
    return sorted(pairs, key=lambda pair: -pair[2])


def _shingles(row: list[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(row[start:] for start in range(SHINGLE)), strict=False)


@plan.task(timeout=30, failure_strategy="skip", title="Ask git for changes")
async def changes(texts: list[str]) -> dict[str, int]:
    """Count the commits of each text: an async function may start programs and wait for many at once."""

    async def commits(path: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *("git", "-C", str(Path(path).parent), "rev-list", "--count", "HEAD", "--", Path(path).name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await process.communicate()
        return int(output or 0)  # 0 outside of a repository

    some = texts[:50]
    return dict(zip(some, await asyncio.gather(*map(commits, some)), strict=True))


@plan.task(run_if="all_done", title="Report")
async def report(
    words: dict[str, dict[str, int]] | None,
    near_duplicates: list[tuple[str, str, float]] | None,
    changes: dict[str, int] | None,
) -> str:
    """Write what was found as Markdown; None stands for a task that gave nothing."""
    words = words or {}
    total: Counter[str] = Counter()
    for counts in words.values():
        total.update(counts)
    lines = [f"# {len(words):,} texts, {total.total():,} words, {len(total):,} different ones", ""]
    long_words = Counter({word: n for word, n in total.items() if len(word) > 5})
    lines += ["Words of more than five letters that come up most:", ""]
    lines += [f"- {word}: {n:,}" for word, n in long_words.most_common(10)]
    lines += ["", "## The longest", ""]
    longest = sorted(words, key=lambda path: -sum(words[path].values()))[:5]
    lines += [f"- {path}: {sum(words[path].values()):,} words" for path in longest]
    lines += ["", "## Nearly the same", ""]
    pairs = near_duplicates or []
    lines += [f"- {one} and {two}: {share:.0%}" for one, two, share in pairs[:10]]
    lines += [] if pairs else ["No two texts." if near_duplicates is not None else "Could not be found out."]
    often = [(path, n) for path, n in Counter(changes or {}).most_common(5) if n > 1]
    lines += ["", "## Changed most often", "", *(f"- {path}: {n:,} commits" for path, n in often)]
    lines += [] if often else ["No text has changed more than once in a repository."]
    return "\n".join(lines)


def main() -> int:
    """Run the plan and print its report."""
    result = run_sync(plan)
    if result.status != "completed":
        print(result.error, file=sys.stderr)
        return 1
    print(result["report"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
