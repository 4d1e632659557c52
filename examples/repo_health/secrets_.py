"""Finds what should not be in a repository; says where it is, never what it is (git grep)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from common import GOOD, LOOK, Found, code, count, git, run_check, table, tracked

NAMES = re.compile(
    r"id_(rsa|dsa|ecdsa|ed25519)|\.env(\.(local|production))?|\.netrc|\.pgpass|\.htpasswd|credentials(\.json)?"
    r"|.*\.(pem|key|p12|pfx|jks|keystore|kdbx)",
    re.IGNORECASE,
)
CONTENTS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "AWS access key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "GitLab token": r"\bglpat-[A-Za-z0-9_-]{20}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10}",
    "key of an LLM provider": r"\bsk-[A-Za-z0-9_-]{32}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}",
    "password in an address": r"[a-z][a-z0-9+]*://[^/ :@{}$<>\"']+:[^/ :@{}$<>\"'*]{3,}@[a-z0-9]",
}
TESTS = re.compile(r"(^|/)(tests?|testing|fixtures|spec)(/|_)|(^|/)test_")


def secrets(repo: Path) -> Found:
    """Look at the names of the tracked files, and for well-known shapes in them."""
    places = [(name, "its name") for name in tracked(repo) if NAMES.fullmatch(PurePosixPath(name).name)]
    for kind, pattern in CONTENTS.items():
        found = git(repo, "grep", "-zInP", "--no-color", "-e", pattern, success=(0, 1))
        split = (line.split("\0") for line in found.splitlines() if "\0" in line)
        places += [(f"{name}:{line}", kind) for name, line, *_ in split]
    if not places:
        return Found(GOOD, "nothing that looks like a key or a password")
    real = [place for place in places if not TESTS.search(place[0])]
    tested = [place for place in places if place not in real]
    finding = f"{count(len(real), 'place')} to look at" if real else "nothing outside tests"
    finding += f"; {count(len(tested), 'place')} in tests" if tested else ""
    rows = ((code(name), kind) for name, kind in [*real, *tested])
    return Found(LOOK if real else GOOD, finding, table(["place", "looks like"], rows, 12))


if __name__ == "__main__":
    run_check(secrets)
