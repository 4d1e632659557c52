"""Commands that look: `list`, `status`, `show`, `logs`, `why`, `agents`, `doctor`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
