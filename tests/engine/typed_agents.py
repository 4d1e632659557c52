"""Agents of pydantic-ai with outputs of all kinds, which other processes can import, for plans under test."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, TextOutput, ToolOutput
from typing_extensions import TypedDict

from allready import Plan
from allready.testing import Call, ScriptedModel


class City(BaseModel):
    name: str


class River(BaseModel):
    name: str
    length: int


class Trip(TypedDict):
    cities: list[City]


@dataclasses.dataclass
class Place:
    city: City
    on: dt.date


class Colour(enum.StrEnum):
    RED = "red"


made: list[City] = []
"""What output functions gave in this process."""


def found(name: str) -> City:
    made.append(City(name=name))
    return made[-1]


async def cities(text: str) -> list[City]:
    return [City(name=name) for name in text.split()]


def nothing(name: str) -> None:
    assert name


def unsaid(name: str):  # type: ignore[no-untyped-def]
    return {"name": name}


OSLO, NILE = City(name="Oslo"), River(name="Nile", length=6650)
_OSLO = {"name": "Oslo"}
_NILE = {"name": "Nile", "length": 6650}


def _agent(kind: Any, said: Any) -> Agent[None, Any]:
    return Agent(ScriptedModel(default=said), output_type=kind)


one = _agent(City, _OSLO)
many = _agent(list[City], {"response": [_OSLO]})
named = _agent(dict[str, City], {"response": {"capital": _OSLO}})
union = _agent(City | River, Call("final_result_River", _NILE))
listed = _agent([City, River], Call("final_result_River", _NILE))
typed = _agent(Trip, {"cities": [_OSLO]})
place = _agent(Place, {"city": _OSLO, "on": "2026-01-02"})
colour = _agent(Colour, {"response": "red"})
day = _agent([dt.date, str], {"response": "2026-01-02"})
tool = _agent(ToolOutput(list[City], name="cities"), {"response": [_OSLO]})
native = _agent(NativeOutput([City]), _OSLO)
prompted = _agent(PromptedOutput(list[City]), '{"response": [{"name": "Oslo"}]}')
called = _agent(found, _OSLO)
text = _agent(TextOutput(cities), "Oslo Bergen")
gone = _agent(nothing, _OSLO)
bare = _agent(unsaid, _OSLO)
plain = _agent([City, str], "Oslo")

held = ScriptedModel(default="held")
"""The own model of runs."""

EXPECTED: dict[str, Any] = {
    "one": OSLO,
    "many": [OSLO],
    "named": {"capital": OSLO},
    "union": NILE,
    "listed": NILE,
    "typed": {"cities": [OSLO]},
    "place": Place(OSLO, dt.date(2026, 1, 2)),
    "colour": Colour.RED,
    "day": dt.date(2026, 1, 2),
    "tool": [OSLO],
    "native": OSLO,
    "prompted": [OSLO],
    "called": OSLO,
    "text": [OSLO, City(name="Bergen")],
    "gone": None,
    "bare": _OSLO,
    "plain": "Oslo",
}
"""Agent → what it gives."""


def describe(values: list[Any]) -> list[str]:
    return [repr(value) for value in values]


def plan(*, by_name: bool) -> Plan:
    """Ask all of them, and describe what they gave before and after a person has agreed."""
    plan = Plan("Know the world")
    for name in EXPECTED:
        plan.ask("Go on", id=name, agent=f"{__name__}:{name}" if by_name else globals()[name])
    plan.add(describe, id="seen", inputs={"values": list(EXPECTED)})
    plan.add(describe, id="later", inputs={"values": list(EXPECTED)}, depends_on=["seen"], approval=True)
    return plan
