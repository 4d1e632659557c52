"""`show`: a run with its tasks and results, or a task with everything about it."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
