"""Functions that other processes can import, for plans under test."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import enum
import os
import threading
from typing import Any

import pydantic


class Finding(pydantic.BaseModel):
    name: str
    lines: list[int] = []


class Aliased(pydantic.BaseModel):
    kind: str = pydantic.Field(alias="type")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: dt.datetime


@dataclasses.dataclass
class Point:
    x: int
    y: tuple[int, int]


class Colour(enum.Enum):
    RED = "red"


def finding() -> Finding:
    return Finding(name="f", lines=[1])


def findings() -> list[Finding]:
    return [Finding(name="f")]


def aliased() -> Aliased:
    return Aliased(type="t")


def strict() -> Strict:
    return Strict(when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))


def point() -> Point:
    return Point(1, (2, 3))


def pair() -> tuple[int, str]:
    return 1, "two"


def bare_pair():  # type: ignore[no-untyped-def]
    return 1, "two"


def colour() -> Colour:
    return Colour.RED


def when() -> dt.datetime:
    return dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def nothing() -> None:
    return None


def maybe() -> Finding | None:
    return Finding(name="m")


def text() -> str:
    return "text\n"


def number() -> float:
    return 1.5


def flag() -> bool:
    return False


def mapping() -> dict[str, list[int]]:
    return {"a": [1]}


def liar() -> Finding:
    return [1, 2]  # type: ignore[return-value]


def describe(point: Point) -> str:
    return f"{type(point).__name__}"


def process_id() -> int:
    return os.getpid()


def add(*numbers: Any) -> Any:
    return sum(numbers)


let_go = threading.Event()


async def stuck_in_a_thread() -> None:
    await asyncio.to_thread(let_go.wait)


def leave_mark(path: str) -> None:
    with open(path, "a") as file:  # noqa: PTH123
        file.write("x")


async def leave_mark_async(path: str) -> None:
    leave_mark(path)
