from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.planning.scripts import task

from allready.plan.models import ID_REGEX
from allready.planning.draft import DraftTask
from allready.planning.draft_check import MAX_PROBLEMS, DraftCheck
from allready.planning.events import Noted, Written
from allready.planning.json_stream import Item

FIXED = DraftTask("first", "", "Begin.", None, ())


def check(
    *entries: Any, fixed: tuple[DraftTask, ...] = (), agents: tuple[str, ...] = ("reader",), most: int = 5
) -> tuple[list[str], list[str], list[str]]:
    """Give ids in the order of writing, notes, and problems at the end."""
    checking = DraftCheck(fixed, agents, most)
    events = [event for entry in entries for event in checking.take(Item(entry))]
    written = [event.task.id for event in events if isinstance(event, Written)]
    assert list(checking.written) == written
    return written, [event.text for event in events if isinstance(event, Noted)], checking.finish(None)


def test_tasks_are_read() -> None:
    checking = DraftCheck((), ["reader"], 5)
    entry = {
        "id": "a",
        "title": " Look\n at it ",
        "agent": "reader",
        "depends_on": None,
        "prompt": "Read\r\n{{ x }}\x1b[31m!\n",
    }
    assert checking.take(Item(entry)) == [
        Written(DraftTask("a", "Look at it", "Read\n{{ x }}!", "reader", ()))
    ]
    assert checking.take(Item({"id": "b", "prompt": "Go on.", "depends_on": ["a", "a"]})) == [
        Written(DraftTask("b", "", "Go on.", None, ("a",)))
    ]
    assert checking.finish(None) == []


def test_a_task_is_held_back_until_what_it_depends_on_is_written() -> None:
    checking = DraftCheck((), (), 5)
    assert checking.take(Item(task("c", "b", "a"))) == []
    assert checking.take(Item(task("b", "a"))) == []
    events = checking.take(Item(task("a")))
    assert [event.task.id for event in events if isinstance(event, Written)] == ["a", "b", "c"]
    assert checking.finish(None) == []


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([], "the plan has no tasks"),
        (["a"], "entry 1 is not an object but 'a'"),
        ([{"prompt": "x"}], "entry 1 has no id"),
        ([{"id": "", "prompt": "x"}], "entry 1 has no id"),
        ([{"id": "…", "prompt": "x"}], "entry 1: '…' is no id"),
        ([{"id": ["a"], "prompt": "x"}], "entry 1: a list is no id"),
        ([{"id": True, "prompt": "x"}], "entry 1: true is no id"),
        ([task("a", prompt=" \x00")], "task 'a' has no prompt"),
        ([{"id": "a"}], "task 'a' has no prompt"),
        ([task("a", prompt="x", depends_on="b")], "task 'a': depends_on is not a list of ids but 'b'"),
        ([task("a", prompt="x", depends_on=[None])], "task 'a': depends_on names empty, which is no id"),
        ([task("a", "a")], "task 'a' depends on itself"),
        ([task("a"), task("a")], "the id 'a' is used twice"),
        ([task("a"), task("b", "c")], "task 'b' depends on 'c', which is not in the plan"),
        ([task("a", "b"), task("b", "a")], "tasks depend on each other in a circle: a → b → a"),
    ],
)
def test_what_is_wrong_is_said(entries: list[Any], problem: str) -> None:
    assert problem in check(*entries)[2]


def test_each_problem_is_said_once_and_hides_no_other() -> None:
    written, _, problems = check(task("a", prompt=""), task("b", "a"), task("c"), 7)
    assert written == ["c"]
    assert problems == ["task 'a' has no prompt", "entry 4 is not an object but 7"]


def test_an_entry_that_is_no_json_and_a_list_without_end() -> None:
    checking = DraftCheck((), (), 5)
    assert checking.take(Item(None, "Expecting value")) == []
    assert checking.finish("it breaks off") == ["entry 1 is not valid JSON: Expecting value", "it breaks off"]


def test_no_more_tasks_than_allowed() -> None:
    written, _, problems = check(*(task(f"t{number}") for number in range(8)), task("x", "t7"))
    assert written == ["t0", "t1", "t2", "t3", "t4"]
    assert problems == ["more than 5 tasks: put some together into one"]
    assert check(task("a"), task("b"), fixed=(FIXED,), most=2)[0] == ["a"]


@pytest.mark.parametrize("entry", [7, {}, task("first"), task("twice"), task("held", "never")])
def test_entries_that_are_no_tasks_count_as_well(entry: Any) -> None:
    checking = DraftCheck((FIXED,), (), 5)
    events = [event for _ in range(100) for event in checking.take(Item(entry))]
    assert checking.too_many
    assert len(events) <= 5
    assert len(checking.finish(None)) <= 6


def test_of_very_many_problems_some_are_told() -> None:
    problems = check(task("a", *(f"t{number}" for number in range(1_000))))[2]
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 950 more of this sort"


@pytest.mark.parametrize(
    ("given_id", "name"),
    [("fetch data", "fetch-data"), ("Évaluer ça ?", "Evaluer-ca"), (7, "7"), ("a" * 150, "a" * 100)],
)
def test_ids_are_put_right_and_dependencies_follow(given_id: Any, name: str) -> None:
    checking = DraftCheck((), (), 5)
    assert checking.take(Item(task("b", depends_on=[given_id]))) == []
    note, first, second = checking.take(Item(task(given_id)))
    assert isinstance(note, Noted)
    assert note.text.endswith(f"is called {name!r}")
    assert isinstance(first, Written)
    assert first.task.id == name
    assert isinstance(second, Written)
    assert second.task.depends_on == (name,)


def test_the_id_of_the_answer_is_taken() -> None:
    written, notes, problems = check(task("answer"), task("b", "answer"))
    assert written == ["answer-task", "b"]
    assert notes == ["task 'answer' is called 'answer-task' (the id 'answer' is the answer's own)"]
    assert problems == []


def test_agents_that_nobody_knows_are_left_out() -> None:
    checking = DraftCheck((), ["Reader", "writer"], 9)
    names = ["reader", " Writer ", "rm", 7, "", None]
    entries = [task(str(number), agent=name) for number, name in enumerate(names)]
    events = [event for entry in entries for event in checking.take(Item(entry))]
    assert [event.task.agent for event in events if isinstance(event, Written)] == [
        *("Reader", "writer", None, None, None, None)
    ]
    assert [event.text for event in events if isinstance(event, Noted)] == [
        "task '2': there is no agent 'rm'; another one is chosen for it",
        "task '3': there is no agent 7; another one is chosen for it",
    ]


def test_commands_can_t_be_written() -> None:
    checking = DraftCheck((), (), 5)
    note, written = checking.take(Item(task("a", run="rm -rf /", shell=True)))
    assert note == Noted("task 'a': 'run', 'shell' can't be set by a planner, and is left out")
    assert written == Written(DraftTask("a", "", "Do it.", None, ()))


def test_fixed_tasks_stay_as_they_are() -> None:
    written, notes, problems = check(
        task("first", prompt="Something else."), task("b", "first"), fixed=(FIXED,)
    )
    assert written == ["b"]
    assert notes == ["task 'first' is there already: it stays as it is, what came for it is left out"]
    assert problems == []


def test_nothing_more_to_write_is_no_problem_if_there_are_tasks() -> None:
    assert check(fixed=(FIXED,))[2] == []


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "a b", "answer", "", "…"])
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"id": NAMES, "depends_on": st.lists(NAMES, max_size=3), "prompt": st.sampled_from(["x", ""])}
    ),
    max_size=8,
)


@given(ENTRIES)
def test_what_is_written_can_start_in_its_order(entries: list[dict[str, Any]]) -> None:
    checking = DraftCheck((FIXED,), (), 5)
    there = {"first"}
    for entry in entries:
        for event in checking.take(Item(entry)):
            if isinstance(event, Written):
                assert ID_REGEX.fullmatch(event.task.id)
                assert event.task.id not in there
                assert there.issuperset(event.task.depends_on)
                there.add(event.task.id)
    assert len(there) <= 5
    if not checking.finish(None):
        assert len(there) == 1 + len(entries)


def test_agents_whose_names_differ_in_case_only() -> None:
    checking = DraftCheck((), ("Reader", "READER", "writer"), 5)
    names = ("Reader", "READER", "reader", "Writer", " writer ")
    entries = [task(str(number), agent=name) for number, name in enumerate(names)]
    events = [event for entry in entries for event in checking.take(Item(entry))]
    chosen = [event.task.agent for event in events if isinstance(event, Written)]
    assert chosen == ["Reader", "READER", None, "writer", "writer"]
    assert [event.text for event in events if isinstance(event, Noted)] == [
        "task '2': there is no agent 'reader'; another one is chosen for it"
    ]
