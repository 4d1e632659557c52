"""Lists what it needs, in which versions (pyproject.toml, requirements*.txt, package.json, …)."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from common import GOOD, LOOK, NOT_APPLICABLE, Found, cell, code, count, run_check, table, tracked

LOCKS = """
Cargo.lock Gemfile.lock Pipfile.lock composer.lock constraints.txt go.sum npm-shrinkwrap.json
package-lock.json pdm.lock pnpm-lock.yaml poetry.lock pylock.toml uv.lock yarn.lock
""".split()  # noqa: SIM905 - easier to read
NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;#]*)")


class Declared(NamedTuple):
    """One dependency as it is declared."""

    name: str
    version: str
    """What is said of the version; empty: nothing."""
    file: str
    python: bool = True


def requirement(text: str, file: str) -> Iterator[Declared]:
    """Take `name[extra]>=1; marker` apart."""
    found = NAME.match(text)
    if found and not text.lstrip().startswith(("-", "#")):
        yield Declared(found[1], found[2].strip(), file)


def pyproject(path: Path, file: str) -> Iterator[Declared]:
    """Read the standard tables, and Poetry's."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    project = content.get("project", {})
    groups = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
    groups += content.get("dependency-groups", {}).values()
    own = str(project.get("name", ""))
    for text in (text for group in groups for text in group if isinstance(text, str)):
        yield from (found for found in requirement(text, file) if found.name != own)
    for name, version in content.get("tool", {}).get("poetry", {}).get("dependencies", {}).items():
        if name != "python":
            yield Declared(name, _version(version), file)


def cargo(path: Path, file: str) -> Iterator[Declared]:
    """Read what a Rust crate needs."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
        for name, version in content.get(kind, {}).items():
            yield Declared(name, _version(version), file, python=False)


def package(path: Path, file: str) -> Iterator[Declared]:
    """Read what a package of Node needs."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for kind in ("dependencies", "devDependencies"):
        for name, version in content.get(kind, {}).items():
            yield Declared(name, _version(version), file, python=False)


def go(path: Path, file: str) -> Iterator[Declared]:
    """Read what a module of Go needs."""
    text = path.read_text(encoding="utf-8")
    for name, version in re.findall(r"^(?:require)?\s+([\w./~-]+\.[\w./~-]+) (v\S+)", text, re.MULTILINE):
        yield Declared(name, version, file, python=False)


def requirements(path: Path, file: str) -> Iterator[Declared]:
    """Read a list for pip."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        yield from requirement(line, file)


def _version(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("version") or value.get("path") or value.get("git") or ""
    return "" if value in ("*", "latest") else str(value)


READERS = {"pyproject.toml": pyproject, "Cargo.toml": cargo, "package.json": package, "go.mod": go}


def dependencies(repo: Path) -> Found:
    """Read all files at the top of the repository that declare dependencies."""
    names = [name for name in tracked(repo) if "/" not in name]
    declared: list[Declared] = []
    broken = []
    for name in names:
        listed = PurePosixPath(name).match("requirements*.txt")
        reader = requirements if listed else READERS.get(name)
        try:
            declared += reader(repo / name, name) if reader else ()
        except (ValueError, AttributeError, TypeError) as error:
            broken.append(f"{name} can't be read: {error}")
    locks = [name for name in LOCKS if name in names]
    if not declared and not broken:
        return Found(NOT_APPLICABLE, "declares no dependencies")
    loose = [found for found in declared if not found.version]
    files = ", ".join(dict.fromkeys(found.file for found in declared))
    finding = f"{count(len(declared), 'dependency')} in {files}" if declared else ""
    finding += f", {len(loose)} without a version" if loose else ""
    finding += f"; versions fixed in {locks[0]}" if locks else "; no lock file" if declared else ""
    finding = "; ".join([*broken, *([finding] if finding else [])])
    declared.sort(key=lambda found: found.version != "")
    rows = [
        (cell(found.name), code(found.version) if found.version else "any", found.file) for found in declared
    ]
    verdict = LOOK if broken or (loose and not locks) else GOOD
    data = {"python": sorted({found.name for found in declared if found.python})}
    return Found(verdict, finding, table(["name", "version", "in"], rows, 15), data)


if __name__ == "__main__":
    run_check(dependencies)
