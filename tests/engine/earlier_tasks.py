"""Tasks that take their time on a virtual clock."""

from __future__ import annotations

import asyncio

seconds: dict[str, float] = {}
"""Task → how long it takes in this run, for `named`."""


async def take(took: float) -> float:
    await asyncio.sleep(took)
    return took


async def named(name: str) -> None:
    await asyncio.sleep(seconds[name])
