"""Sees whether there is something to read, and whether its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from common import GOOD, LOOK, Found, code, count, run_check, table, tracked

README = re.compile(r"readme(\..*)?", re.IGNORECASE)
LINK = re.compile(r"\[[^\]\n]*\]\(<?([^)\s>]+)>?[^)]*\)")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//|#", re.IGNORECASE)
SHORT = 200
"""Characters; a README below that tells nothing."""


def docs(repo: Path) -> Found:
    """Look for a README and for local links in Markdown that lead nowhere."""
    names = tracked(repo)
    readmes = [name for name in names if "/" not in name and README.fullmatch(name)]
    pages = [name for name in names if PurePosixPath(name).suffix.lower() == ".md"]
    links = 0
    broken = []
    for page in pages:
        text = CODE.sub("", (repo / page).read_text(encoding="utf-8", errors="replace"))
        for target in LINK.findall(text):
            if not ELSEWHERE.match(target):
                links += 1
                path = unquote(target.partition("#")[0].partition("?")[0])
                start = repo if path.startswith("/") else (repo / page).parent
                if not (start / path.lstrip("/")).exists():
                    broken.append((page, target))
    length = max((len((repo / name).read_bytes()) for name in readmes), default=0)
    wrong = [] if readmes else ["no README"]
    wrong += ["the README says next to nothing"] if readmes and length < SHORT else []
    wrong += [f"{count(len(broken), 'link')} to files that are not there"] if broken else []
    right = [f"{count(len(pages), 'page')} of Markdown, {count(links, 'local link')}"] if pages else []
    rows = ((code(page), code(target)) for page, target in broken)
    return Found(LOOK if wrong else GOOD, "; ".join([*wrong, *right]), table(["page", "broken link"], rows))


if __name__ == "__main__":
    run_check(docs)
