"""`logs`: what happens in a run, or what a task writes; also while it goes on."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
