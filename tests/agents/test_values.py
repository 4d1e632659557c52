from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allready.agents.values import MAX_DEPTH, is_deeper, jsonable
from allready.errors import PermanentError


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Pair(NamedTuple):
    a: int
    b: str


class Model(pydantic.BaseModel):
    path: Path
    inner: list[float] = []


@dataclasses.dataclass
class Point:
    x: int
    where: Path


class Text(str):
    __slots__ = ()


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(nested)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    assert jsonable(value) == value
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2,)), [1, [2]]),
        (Pair(1, "b"), [1, "b"]),
        (Color.RED, "red"),
        (Number.ONE, 1),
        (Text("t"), "t"),
        (Path("/a/b"), "/a/b"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Model(path=Path("x"), inner=[1]), {"path": "x", "inner": [1.0]}),
        ([Point(1, Path("p"))], [{"x": 1, "where": "p"}]),
    ],
)
def test_what_has_a_plain_form(value: Any, plain: Any) -> None:
    converted = jsonable(value)
    assert converted == plain
    assert json.loads(json.dumps(converted)) == converted
    assert type(converted) is type(plain)


circle: list[Any] = []
circle.append(circle)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"a value of type set at \['a'\]\[1\]"),
        (b"bytes", "a value of type bytes;"),
        (object(), "a value of type object"),
        (Point, "a value of type type"),
        ([float("nan")], r"nan, which is not a JSON number at \[0\]"),
        (float("inf"), "inf"),
        ({"a": 10**5_000}, r"a number that is too long to be written at \['a'\]"),
        (Model(path=Path("x"), inner=[float("inf")]), r"inf, .* at \['inner'\]\[0\]"),
        ({1: 2}, r"a dictionary key that is not text \(1\)"),
        ("\ud800", "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        (circle, "contains itself"),
        (dataclasses.make_dataclass("D", ["f"])({1}), "type set at f"),
    ],
)
def test_what_json_can_not_carry(value: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        jsonable(value)


def test_depth() -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert not is_deeper(value, MAX_DEPTH)
    assert is_deeper([value], MAX_DEPTH)
    assert is_deeper({"a": [[]]}, 2)
    assert not is_deeper({"a": [1]}, 2)
