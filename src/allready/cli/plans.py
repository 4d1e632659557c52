"""Commands about plans, before anything runs: `validate`, `graph`, `schema`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
