"""Commands that steer a run from outside: `pause`, `cancel`, `retry`, `approve`, `skip`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
