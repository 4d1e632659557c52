"""Finds out what kind of repository it is, so that the other checks know what applies."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path, PurePosixPath

from common import GOOD, Found, count, git, run, run_check, tracked

LANGUAGES = {
    "C": ".c .h",
    "C#": ".cs",
    "C++": ".cc .cpp .cxx .hpp .hh",
    "CSS": ".css .scss .less",
    "Go": ".go",
    "HTML": ".html .htm",
    "Java": ".java",
    "JavaScript": ".js .mjs .cjs .jsx",
    "JSON": ".json",
    "Kotlin": ".kt .kts",
    "Markdown": ".md",
    "Perl": ".pl .pm",
    "PHP": ".php",
    "Python": ".py .pyi",
    "reStructuredText": ".rst",
    "Ruby": ".rb",
    "Rust": ".rs",
    "Scala": ".scala",
    "Shell": ".sh .bash .zsh",
    "SQL": ".sql",
    "Swift": ".swift",
    "Text": ".txt",
    "TOML": ".toml",
    "TypeScript": ".ts .tsx",
    "YAML": ".yaml .yml",
}
BY_SUFFIX = {suffix: name for name, suffixes in LANGUAGES.items() for suffix in suffixes.split()}
DOCUMENTS = {"HTML", "JSON", "Markdown", "reStructuredText", "Text", "TOML", "YAML"}
"""Not what a program is written in."""


def language(path: str) -> str:
    """Give the language of a file by its name."""
    return BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "other")


def facts(repo: Path) -> Found:
    """Find out what there is."""
    if not repo.is_dir():
        sys.exit(f"there is no folder {repo}")
    root = Path(git(repo, "rev-parse", "--show-toplevel").strip())
    files = tracked(repo)
    languages = Counter(map(language, files))
    spoken = [name for name, _ in languages.most_common() if name not in DOCUMENTS | {"other"}]
    head = run(["git", "log", "-1", "--format=commit %h of %cs"], repo).stdout.strip() or "no commit yet"
    branch = run(["git", "branch", "--show-current"], repo).stdout.strip() or "no branch"
    changed = len(git(repo, "status", "--porcelain", "-uno", "--ignore-submodules").splitlines())
    written = f"mostly {spoken[0]}" if spoken else "no programming language"
    finding = f"{count(len(files), 'file')}, {written}"
    finding += f", {changed} changed and not committed" if changed else ""
    data = {
        "name": root.name,
        "folder": str(repo.resolve()),
        "head": head,
        "branch": branch,
        "languages": languages,
    }
    return Found(GOOD, finding, data=data)


if __name__ == "__main__":
    run_check(facts)
