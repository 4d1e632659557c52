"""Python objects and their names: `package.module:qualified.name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

MAIN = ("__main__", "__mp_main__")
"""The program itself: to another process these names mean another one."""


def import_object(reference: str) -> Any:
    """Give what `package.module:qualified.name` stands for.

    Raises `ValueError` if it is not of that form (or names something local to a function), `ImportError` or
    `AttributeError` if it is not there.
    """
    module, colon, name = reference.partition(":")
    if not colon or not module or not name or "<" in name:
        raise ValueError(f"{reference!r} is not of the form package.module:name")
    if module in MAIN:
        raise ImportError("it was defined in the program that was started, not in a module")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def reference_of(wanted: object) -> str | None:
    """Give `package.module:name` by which another process finds an object; None if no module holds it.

    Looks at the variables of all modules that were imported, which takes some milliseconds. Left out are the
    program itself, and modules that were made while it ran.
    """
    for module, content in list(sys.modules.items()):  # in the order of loading: importers later
        try:  # not by `getattr`, which would load modules that are to be loaded late
            names: dict[str, Any] = object.__getattribute__(content, "__dict__")
        except AttributeError:
            continue
        if module in MAIN or names.get("__spec__") is None:
            continue
        for name, value in list(names.items()):
            if value is wanted and _is_found(f"{module}:{name}", wanted):
                return f"{module}:{name}"
    return None


def _is_found(reference: str, wanted: object) -> bool:
    try:
        return import_object(reference) is wanted
    except Exception:  # whatever a module does that passes for another one
        return False


def use_folder(folder: Path) -> None:
    """Let the modules of a project be imported from its folder; before others, unless it is known already."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
