import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.planning.scripts import task

from allready.agents.definitions import AgentDefinition
from allready.planning import cache as cache_module
from allready.planning.cache import PlanCache
from allready.planning.draft import DraftTask

READER = AgentDefinition.from_settings("reader", {"description": "Reads."})
TASKS = [
    DraftTask("a", "Löse es", "Read {{ x }}\n\ud800", "reader", ()),
    DraftTask("b", "", "Go on.", None, ("a",)),
]


def test_a_plan_is_there_again(tmp_path: Path) -> None:
    plans = PlanCache(tmp_path / "deep" / "plans")
    key = plans.key("Why?", [READER], "openai:gpt-5", 20)
    assert plans.get(key) is None
    tasks = [DraftTask("a", "Löse es", "Read {{ x }}\n→", "reader", ()), TASKS[1]]
    plans.put(key, "Why?", tasks)
    assert PlanCache(tmp_path / "deep" / "plans").get(key) == tasks
    assert [path.name for path in (tmp_path / "deep" / "plans").iterdir()] == [f"{key}.json"]


def test_what_the_key_is_made_of() -> None:
    plans = PlanCache(Path("nowhere"))
    writer = AgentDefinition.from_settings("writer", {"description": "Writes."})
    other = AgentDefinition.from_settings("reader", {"description": "Reads more."})
    keys = [
        plans.key("Why?", [READER], "m", 20),
        plans.key("How?", [READER], "m", 20),
        plans.key("Why?", [READER], "n", 20),
        plans.key("Why?", [READER], None, 20),
        plans.key("Why?", [READER], "m", 21),
        plans.key("Why?", [], "m", 20),
        plans.key("Why?", [other], "m", 20),
        plans.key("Why?", [READER, writer], "m", 20),
        plans.key("Why?", [writer, READER], "m", 20),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == plans.key("Why?", [READER], "m", 20)


def test_another_wording_of_the_request_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = PlanCache(Path("nowhere"))
    before = plans.key("Why?", [READER], "m", 20)
    monkeypatch.setattr("allready.planning.prompts.PLANNER", "Plan {max_tasks} {shape}")
    assert plans.key("Why?", [READER], "m", 20) != before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "null",
        '{"goal": "Why?"}',
        '{"tasks": {}}',
        '{"tasks": []}',
        '{"tasks": [1]}',
        '{"tasks": [{"id": "a"}]}',
        '{"tasks": [{"id": "a b", "prompt": "x"}]}',
        '{"tasks": [{"id": "a", "prompt": "x", "run": "ls"}]}',
        '{"tasks": [{"id": "a", "prompt": "x", "depends_on": ["b"]}]}',
        json.dumps({"tasks": [task("a", "b"), task("b", "a")]}),
        json.dumps({"tasks": [task("b", "c"), task("c")]})[:-9],
    ],
)
def test_a_broken_file_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(text)
    assert PlanCache(tmp_path).get("key") is None
    (tmp_path / "key.json").write_bytes(b"\xff")
    assert PlanCache(tmp_path).get("key") is None


def test_what_can_t_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    plans = PlanCache(tmp_path)
    (tmp_path / "key.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        plans.put("key", "Why?", TASKS)
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("")
    with pytest.raises(OSError, match="plans"):
        PlanCache(tmp_path / "plans").put("key", "Why?", TASKS)


def test_the_oldest_plans_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "KEPT", 2)
    plans = PlanCache(tmp_path)
    for number in range(4):
        plans.put(f"key{number}", "Why?", TASKS)
        os.utime(tmp_path / f"key{number}.json", (number, number))
    plans.put("key9", "Why?", TASKS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["key3", "key9"]


def test_another_process_may_prune_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "KEPT", 1)
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    (tmp_path / "stays.json").mkdir()  # can't be removed
    os.utime(tmp_path / "stays.json", (1, 1))
    PlanCache(tmp_path).put("key", "Why?", TASKS)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["key", "stays"]


def test_the_file_is_for_people_too(tmp_path: Path) -> None:
    PlanCache(tmp_path).put("key", "Why?", TASKS)
    document: Any = json.loads((tmp_path / "key.json").read_text())
    assert document["goal"] == "Why?"
    assert document["tasks"][1] == {
        "id": "b",
        "title": "",
        "prompt": "Go on.",
        "agent": None,
        "depends_on": ["a"],
    }
