"""Python functions that tests give to models."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from pydantic_ai import ModelRetry, ToolReturn

from allready.agents.function import cancel_requested
from allready.errors import TransientError

started = threading.Event()


@dataclass
class Place:
    """Somewhere on a map."""

    name: str
    east: float


def weather(place: Place, days: int = 1) -> dict[str, Any]:
    """Tell the weather.

    Args:
        place: Where.
        days: How many days ahead.
    """
    return {"place": place.name, "days": days, "thread": threading.current_thread().name}


async def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def fail(how: str) -> str:
    if how == "exit":
        raise SystemExit("bye")
    if how == "transient":
        raise TransientError("the service is busy", 7)
    if how == "retry":
        raise ModelRetry("ask for something else")
    raise ValueError(how)


def leak() -> list[str]:
    return ["the key is " + os.environ["TEST_API_KEY"]]


def long_text() -> str:
    return "x" * 1_000_000


def long_list() -> list[int]:
    return list(range(100_000))


def opaque() -> object:
    return {1, 2, 3}.union()


def with_extras() -> ToolReturn:
    return ToolReturn("for the model", metadata={"not": "for it"})


def untyped(call: threading.Event) -> str:
    return ""


def wait() -> str:
    started.set()
    while not cancel_requested():
        pass
    return "stopped"


read_file = shout
NOT_A_FUNCTION = 7


class Other:
    @staticmethod
    def shout(text: str) -> str:
        return text
