"""Finding Python objects by name: `package.module:qualified.name`."""

from __future__ import annotations

import importlib
from typing import Any


def import_object(reference: str) -> Any:
    """Give what `package.module:qualified.name` stands for.

    Raises `ValueError` if it is not of that form (or names something local to a function), `ImportError` or
    `AttributeError` if it is not there.
    """
    module, colon, name = reference.partition(":")
    if not colon or not module or not name or "<" in name:
        raise ValueError(f"{reference!r} is not of the form package.module:name")
    if module == "__main__":
        raise ImportError("it was defined in the program that was started, not in a module")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
