"""Tells under which licence it is, and under which ones is what it needs (pip-licenses)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from common import GOOD, LOOK, Found, cell, code, count, dependency, run, run_check, table, tool, tracked

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|unlicense)([.-].*)?", re.IGNORECASE)
KNOWN = {
    "Apache-2.0": "Apache License",
    "AGPL-3.0": "GNU AFFERO GENERAL PUBLIC LICENSE",
    "LGPL": "GNU LESSER GENERAL PUBLIC LICENSE",
    "GPL": "GNU GENERAL PUBLIC LICENSE",
    "MPL-2.0": "Mozilla Public License",
    "MIT": "Permission is hereby granted, free of charge",
    "ISC": "Permission to use, copy, modify, and/or distribute",
    "BSD": "Redistribution and use in source and binary forms",
    "Unlicense": "free and unencumbered software",
    "CC0-1.0": "CC0 1.0",
}
"""Licence → what its text says near its beginning."""
COPYLEFT = re.compile(r"\b(A?GPL|GNU (Affero )?General Public)", re.IGNORECASE)
UNKNOWN = "UNKNOWN"


def own_licence(repo: Path) -> tuple[str, str] | None:
    """Give the licence of the repository and the file that says so, or None."""
    for name in tracked(repo):
        if LICENCE_FILE.fullmatch(name):
            text = (repo / name).read_text(encoding="utf-8", errors="replace")
            return recognized(text) or "one that I don't know", name
    return None


def recognized(text: str) -> str | None:
    """Give the licence that a text is, as far as its beginning tells."""
    beginning = " ".join(text[:4000].split()).lower()
    return next((key for key, phrase in KNOWN.items() if phrase.lower() in beginning), None)


def installed_licences(repo: Path, names: list[str]) -> list[dict[str, str]] | None:
    """Ask pip-licenses for the licences of those that are installed; None if there is no pip-licenses."""
    found = tool(repo, "pip-licenses")
    if found is None or not names:
        return [] if not names else None
    own = repo.resolve() / ".venv" / "bin" / "python"
    python = ["--python", str(own)] if own.exists() else []
    what = ["--format=json", "--from=mixed", "--with-system", "--with-license-file", "--no-license-path"]
    done = run([found, *what, *python, "--packages", *names], repo)
    if done.returncode:
        sys.exit(f"pip-licenses could not run: {done.stderr.strip()}")
    listed: list[dict[str, str]] = json.loads(done.stdout)
    for row in listed:
        if row["License"] == UNKNOWN:  # some packages bring only the text
            row["License"] = recognized(row.get("LicenseText", "")) or UNKNOWN
    return listed


def licences(repo: Path) -> Found:
    """Look for a licence file, and at the licences of the declared dependencies."""
    own = own_licence(repo)
    names = dependency("dependencies").get("python", [])
    listed = installed_licences(repo, names)
    parts = [f"{own[0]} ({own[1]})" if own else "no licence file"]
    if listed is None:
        parts.append("pip-licenses is not installed")
        listed = []
    elif names:
        parts.append(f"{len(listed)} of {count(len(names), 'Python dependency')} looked at")
    free = bool(own and COPYLEFT.search(own[0]))
    strict = [row["Name"] for row in listed if COPYLEFT.search(row["License"]) and not free]
    unknown = [row["Name"] for row in listed if row["License"] == UNKNOWN]
    parts += [f"copyleft: {', '.join(strict)}"] if strict else []
    parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
    rows = ((cell(row["Name"]), code(row["Version"]), cell(row["License"])) for row in listed)
    verdict = GOOD if own and not strict and not unknown else LOOK
    return Found(verdict, "; ".join(parts), table(["name", "version", "licence"], rows, 25))


if __name__ == "__main__":
    run_check(licences)
