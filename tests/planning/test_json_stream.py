import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allready.planning.json_stream import MAX_DEPTH, Item, ItemReader

TEXT = st.text(st.sampled_from(list('{}[],:"\\/ \n\tntu`é😀x0tasks')) | st.characters(), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PROSE = st.text(st.sampled_from(list("Here is the plan: `\n.,\"'}]")), max_size=30)
BRACES = st.sampled_from(
    ["", "{", "[1] ", "{a plan} ", "```json\n", "{}", "[]", '{"a" ', "[x", '{"tasks": null} ']
)


def read(text: str, cuts: list[int] | None = None) -> tuple[list[Any], ItemReader]:
    reader = ItemReader("tasks")
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts or [])})
    items: list[Item] = []
    for start, end in itertools.pairwise(places):
        items += reader.feed(text[start:end])
    assert all(item.problem is None for item in items), items
    return [item.value for item in items], reader


@given(
    st.dictionaries(TEXT.filter(lambda key: key != "tasks"), VALUES, max_size=3),
    st.lists(VALUES, max_size=5),
    st.dictionaries(TEXT.filter(lambda key: key != "tasks"), VALUES, max_size=2),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    PROSE,
    BRACES,
    PROSE,
    st.lists(st.integers(0), max_size=20),
)
@example({}, ["{"], {}, None, False, "", "", "", [13])
def test_any_list_at_any_cuts(
    before: dict[str, Any],
    tasks: list[Any],
    after: dict[str, Any],
    indent: int | None,
    plain: bool,
    prose: str,
    braces: str,
    end: str,
    cuts: list[int],
) -> None:
    text = json.dumps({**before, "tasks": tasks, **after}, indent=indent, ensure_ascii=plain)
    values, reader = read(prose + braces + text + end, cuts)
    assert values == tasks
    assert reader.found
    assert reader.closed


@given(
    st.lists(st.dictionaries(TEXT, VALUES, max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(0), max_size=9),
)
def test_a_list_by_itself(tasks: list[Any], cuts: list[int]) -> None:
    values, reader = read(f"Sure [a list]:\n{json.dumps(tasks)}\nDone.", cuts)
    assert values == tasks
    assert reader.closed


@given(st.text())
def test_no_text_is_too_much_for_it(text: str) -> None:
    whole, single = ItemReader("tasks"), ItemReader("tasks")
    at_once = whole.feed(text)
    assert at_once == [item for character in text for item in single.feed(character)]
    assert (whole.found, whole.closed) == (single.found, single.closed)


@given(st.text(st.sampled_from(list('{}[]",:\\ 1')), max_size=60))
def test_cuts_change_nothing(text: str) -> None:
    text = '{"tasks": [' + text
    whole, single = ItemReader("tasks"), ItemReader("tasks")
    at_once = whole.feed(text)
    assert at_once == [item for character in text for item in single.feed(character)]
    assert (whole.found, whole.closed) == (single.found, single.closed)


def test_an_entry_is_given_with_its_last_character() -> None:
    reader = ItemReader("tasks")
    assert reader.feed('{"tasks": [{"id": "}\\"", "deep": [{}]') == []
    assert reader.feed("}") == [Item({"id": '}"', "deep": [{}]})]
    states = [reader.closed]
    assert reader.feed(', {"id"') == []
    assert reader.feed(': "b"}]') == [Item({"id": "b"})]
    assert [*states, reader.closed] == [False, True]
    assert reader.feed('{"tasks": [{"id": "c"}]}') == []


def test_a_key_within_is_none() -> None:
    assert read('{"plan": {"tasks": [{"id": "x"}]}, "tasks": [{"id": "y"}]}')[0] == [{"id": "y"}]


def test_brackets_that_don_t_fit_are_prose() -> None:
    assert read('{"x": [}] {"tasks": [{"id": "y"}]}')[0] == [{"id": "y"}]


def test_line_breaks_within_strings() -> None:
    assert read('{"tasks": [{"prompt": "a\n\tb"}]}')[0] == [{"prompt": "a\n\tb"}]


def test_a_comma_too_many_at_the_end_of_the_list() -> None:
    values, reader = read('{"tasks": [{"id": "a"}, ]}')
    assert values == [{"id": "a"}]
    assert reader.closed


@pytest.mark.parametrize(
    "entry", ["{'id': 'a'}", '{"id": }', '{"id" "a"}', "truth", "[" * 100_000 + "]" * 100_000]
)
def test_an_entry_that_is_no_json(entry: str) -> None:
    reader = ItemReader("tasks")
    first, second = reader.feed(f'{{"tasks": [{entry}, {{"id": "b"}}]}}')
    assert first.value is None
    assert first.problem
    assert second == Item({"id": "b"})
    assert reader.closed


@pytest.mark.parametrize("end", ["", ',{"id": "b"', "}}", ":", ",{]", '{"id": "b}]'])
def test_a_list_that_is_not_closed(end: str) -> None:
    reader = ItemReader("tasks")
    assert reader.feed('{"tasks": [{"id": "a"}' + end) == [Item({"id": "a"})]
    assert reader.found
    assert not reader.closed


@pytest.mark.parametrize("text", ["", "I can't.", '{"plan": []}', '{"tasks": {"id": 1}}', "[1, 2]", '["a"]'])
def test_no_list_at_all(text: str) -> None:
    values, reader = read(text)
    assert values == []
    assert not reader.found
    assert not reader.closed


def test_many_pieces_of_a_long_text_take_no_time() -> None:
    """Read again from the start with every piece, it would take minutes."""
    entry = {"id": "a", "prompt": "\\n{" * 100_000}
    text = json.dumps({"thoughts": "[" * 100_000, "tasks": [entry] * 2})
    reader = ItemReader("tasks")
    items = [item for start in range(0, len(text), 40) for item in reader.feed(text[start : start + 40])]
    assert [item.value for item in items] == [entry] * 2


@pytest.mark.parametrize("opening", ['{"a":', '{"a":[', '{"a":{"b":[1,'])
def test_brackets_without_an_end_are_read_in_one_go(opening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is counted in tokens: not more for each bracket, however many there are."""
    tokens = 0
    read_token = ItemReader._token

    def counted(reader: ItemReader) -> object:
        nonlocal tokens
        tokens += 1
        return read_token(reader)

    monkeypatch.setattr(ItemReader, "_token", counted)
    reader = ItemReader("tasks")
    text = opening * 3_000
    for start in range(0, len(text), 500):
        assert reader.feed(text[start : start + 500]) == []
    assert reader.feed("}]") == []
    assert tokens < 3_000 * MAX_DEPTH * 10


def test_what_stands_beside_the_list_may_be_nested() -> None:
    text = '{"about": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + ', "tasks": [1]}'
    assert [item.value for item in ItemReader("tasks").feed(text)] == [1]
