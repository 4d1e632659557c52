"""`agents` and `doctor`: what is there to work with, and what is wrong with it."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
