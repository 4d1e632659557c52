"""`allready do` from the outside, where nobody can be asked: scripts, pipes, files."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.acceptance.program import PATIENCE, PROGRAM, Running, allready, environment, lines_of, wait_until

from allready.testing.llm_server import ScriptedServer

GOAL = "Which of the two libraries is the better one?"
READING = ("read-a", "read-b")
IDS = [*READING, "compare"]
PLAN: list[dict[str, Any]] = [
    {"id": "read-a", "title": "Read about A", "prompt": "What does A do?"},
    {"id": "read-b", "title": "Read about B", "prompt": "What does B do?"},
    {"id": "compare", "title": "Compare", "prompt": "Compare {{ both }}.", "depends_on": READING},
]
RULES = {"What does A do?": "A adds.", "What does B do?": "B bends.", "Compare {{ both }}.": "A, as it adds."}
INVALID: list[dict[str, Any]] = [{"id": "a", "prompt": "A", "depends_on": ["nobody"]}]
MODEL = "openai-chat:anything"


class Project:
    """A folder to work in, with a model on this machine."""

    def __init__(self, folder: Path, server: ScriptedServer) -> None:
        self.folder = folder
        self.server = server

    def do(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.call("do", *arguments, **options)

    def call(
        self,
        *arguments: str,
        model: str = MODEL,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        variables = {"ALLREADY_MODEL": model, **self.server.environment, **(env or {})}
        return allready(*arguments, cwd=self.folder, stdin=stdin, timeout=PATIENCE, **variables)

    @property
    def planned(self) -> int:
        """How often a plan was asked for."""
        return sum(request.for_a_plan for request in self.server.requests)

    def runs(self) -> list[dict[str, Any]]:
        """Give the runs that were ever started here."""
        if not (self.folder / ".allready" / "runs.db").exists():
            return []
        listed = allready("list", "--json", cwd=self.folder)
        return lines_of(listed.stdout)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with ScriptedServer(RULES, plan=PLAN) as server:
        yield Project(tmp_path, server)


def with_plan(folder: Path, *plans: Any) -> tuple[ScriptedServer, Project]:
    server = ScriptedServer(RULES, plan=list(plans))
    return server, Project(folder, server)


# --- what is refused before a model is asked -------------------------------------------------------------


def test_without_a_model_two_lines_say_how_to_get_one(tmp_path: Path) -> None:
    done = allready(
        "do", "--yes", GOAL, cwd=tmp_path, ANTHROPIC_API_KEY="", OPENAI_API_KEY="", GOOGLE_API_KEY=""
    )
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("allready: no model is chosen: set a key")
    assert "local server" in second


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([GOAL], "this is no terminal, so nobody can be asked"),
        ([GOAL, "--json"], "--json can't ask whether to run the plan"),
        ([GOAL, "--yes", "-o", "plan.yaml"], "add --plan-only"),
        (["", "--yes"], "the goal is empty"),
        (["  \n ", "--plan-only"], "the goal is empty"),
        (["-", "--plan-only"], "the goal is empty"),
        ([GOAL, "--yes", "--max-cost", "1"], "the price of openai-chat:anything is not known"),
        ([GOAL, "--plan-only", "-o", "."], ".: can't be written: it is a folder"),
        (
            [GOAL, "--plan-only", "-o", "no/where.yaml"],
            "no/where.yaml: can't be written: there is no folder no",
        ),
        ([GOAL, "--yes", "--store", "mysql://host/db"], "unknown kind of store 'mysql'"),
        ([GOAL, "--yes", "--model", "anything"], "'anything' does not say whose model it is"),
    ],
)
def test_what_can_not_work_is_refused_before_a_model_is_asked(
    project: Project, arguments: list[str], told: str
) -> None:
    done = (
        project.do(*arguments)
        if "--model" not in arguments
        else allready("do", *arguments, cwd=project.folder)
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert project.server.requests == []
    assert project.runs() == []


def test_a_goal_that_is_no_text_is_refused(project: Project) -> None:
    done = subprocess.run(
        [*PROGRAM, "do", "-", "--plan-only", "--model", MODEL],
        cwd=project.folder,
        env=environment(**project.server.environment),
        input=b"\xff\xfe",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"the goal is not text in UTF-8" in done.stderr


# --- only the plan ---------------------------------------------------------------------------------------


def test_a_plan_is_written_to_a_file_that_run_accepts(project: Project) -> None:
    done = project.do(GOAL, "--plan-only", "-o", "plan.yaml", "--max-tokens", "9000", "--max-parallel", "2")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run it with: allready run plan.yaml" in done.stderr
    document = yaml.safe_load((project.folder / "plan.yaml").read_text())
    assert document["goal"] == GOAL
    assert (document["answer"], document["max_parallel"]) == (True, 2)
    assert document["limits"] == {"max_tokens": 9000}
    assert [task["id"] for task in document["tasks"]] == IDS
    assert project.runs() == []
    ran = project.call("run", "plan.yaml", "--json")
    assert ran.returncode == 0, ran.stderr
    tasks = lines_of(ran.stdout)[-1]["tasks"]
    assert {name: task["status"] for name, task in tasks.items()} == dict.fromkeys(
        [*IDS, "answer"], "completed"
    )
    assert any("Compare {{ both }}." in request.prompt for request in project.server.requests)


def test_the_goal_may_come_from_standard_input_and_the_plan_go_to_standard_output(project: Project) -> None:
    done = project.do("-", "--plan-only", stdin=f"{GOAL}\n")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["goal"] == GOAL
    checked = project.call("validate", "-", stdin=done.stdout)
    assert checked.returncode == 0, checked.stderr
    assert [line.split()[2:5] for line in done.stderr.splitlines()[:2]] == [
        ["planning", "with", MODEL],
        ["planned", "read-a:", "Read"],
    ]
    assert "planned    compare after read-a, read-b: Compare" in done.stderr


def test_json_gives_the_plan_as_json(project: Project) -> None:
    document = json.loads(project.do(GOAL, "--plan-only", "--json").stdout)
    assert [task["id"] for task in document["tasks"]] == IDS
    assert project.do(GOAL, "--plan-only", "-o", "plan.json").returncode == 0
    assert json.loads((project.folder / "plan.json").read_text()) == document
    assert project.call("validate", "plan.json").returncode == 0


def test_quiet_writes_the_plan_and_says_nothing(project: Project) -> None:
    done = project.do(GOAL, "--plan-only", "--quiet", "-o", "plan.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (project.folder / "plan.yaml").exists()


# --- plans from before -----------------------------------------------------------------------------------


def test_the_same_goal_is_planned_once(project: Project) -> None:
    first = project.do(GOAL, "--plan-only")
    again = project.do(GOAL, "--plan-only")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "this plan was written before; --fresh plans anew" in again.stderr
    assert project.planned == 1
    assert project.do(GOAL, "--plan-only", "--fresh").returncode == 0
    assert project.planned == 2


def test_what_makes_another_plan_is_planned_anew(project: Project) -> None:
    project.do(GOAL, "--plan-only")
    project.do(f"{GOAL} Why?", "--plan-only")
    project.do(GOAL, "--plan-only", "--max-tasks", "7")
    project.do(GOAL, "--plan-only", "--model", "openai-chat:other")
    agents = project.folder / ".allready" / "agents"
    agents.mkdir()
    (agents / "reader.md").write_text("---\ndescription: Reads\n---\nYou read.\n")
    project.do(GOAL, "--plan-only")
    assert project.planned == 5


# --- what goes wrong while planning ----------------------------------------------------------------------


def test_an_invalid_plan_is_put_right_once(tmp_path: Path) -> None:
    server, project = with_plan(tmp_path, INVALID, PLAN)
    with server:
        done = project.do(GOAL, "--plan-only")
        assert done.returncode == 0, done.stderr
        assert [task["id"] for task in yaml.safe_load(done.stdout)["tasks"]] == [
            "read-a",
            "read-b",
            "compare",
        ]
        assert "planning   once more: " in done.stderr
        assert "nobody" in done.stderr


def test_no_valid_plan_is_an_error_that_keeps_what_the_model_wrote(tmp_path: Path) -> None:
    secret = "sk-the-key-of-this-server"
    invalid = [INVALID[0] | {"prompt": f"Use {secret}"}]
    with ScriptedServer(RULES, plan=[invalid], api_key=secret) as server:
        project = Project(tmp_path, server)
        done = project.do(GOAL, "--yes", "--plan-only")
        assert (done.returncode, done.stdout) == (2, "")
        assert "nothing was run" in done.stderr
        (kept,) = (tmp_path / ".allready" / "plans").glob("failed-*.txt")
        assert f"what the model wrote: {kept}" in done.stderr
        assert '"nobody"' in kept.read_text()
        assert secret not in kept.read_text()
        assert project.planned == 2
        assert project.runs() == []
        # nothing of it is taken for a plan the next time
        assert project.do(GOAL, "--plan-only").returncode == 2
        assert project.planned == 4


def test_where_nothing_can_be_kept_that_is_told(tmp_path: Path) -> None:
    (tmp_path / ".allready").mkdir()
    (tmp_path / ".allready" / "plans").write_text("no folder")
    server, project = with_plan(tmp_path, PLAN, PLAN, INVALID)
    with server:
        done = project.do(GOAL, "--yes")
        assert done.returncode == 0, "the run is none the worse for it"
        assert "warning: the plan can't be kept for the next time: " in done.stderr
        done = project.do(GOAL, "--plan-only")
        assert done.returncode == 0, done.stderr
        assert [task["id"] for task in yaml.safe_load(done.stdout)["tasks"]] == IDS
        assert "warning: the plan can't be kept for the next time: " in done.stderr
        done = project.do(GOAL, "--plan-only")
        assert done.returncode == 2
        assert re.search(r"what the model wrote: not kept, as \S+ can't be written: ", done.stderr)


def test_a_wrong_key_is_told_with_advice(project: Project) -> None:
    done = project.do(GOAL, "--plan-only", env={"OPENAI_API_KEY": "sk-of-somebody-else"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "OPENAI_API_KEY" in done.stderr
    assert "sk-of-somebody-else" not in done.stderr
    assert "nothing was run" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_provider_that_is_busy_is_waited_for(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=PLAN, refuse_first=1, retry_after=0.05) as server:
        done = Project(tmp_path, server).do(GOAL, "--plan-only")
        assert done.returncode == 0, done.stderr
        assert "planning   waits " in done.stderr


def test_agents_that_can_not_work_are_left_out_with_a_warning(project: Project) -> None:
    agents = project.folder / ".allready" / "agents"
    agents.mkdir(parents=True)
    (agents / "far.md").write_text("---\nkind: a2a\nurl: https://example.com/agent\n---\n")
    (agents / "near.md").write_text("---\ndescription: Reads about libraries\n---\nYou read.\n")
    (agents / "broken.md").write_text("---\nkind: wrong\n---\n")
    done = project.do(GOAL, "--plan-only")
    assert done.returncode == 0, done.stderr
    assert "warning: agent 'far': " in done.stderr
    assert "warning: .allready/agents/broken.md:2:7: " in done.stderr
    asked = next(request for request in project.server.requests if request.for_a_plan)
    assert "near" in asked.instructions + asked.prompt
    assert "far" not in asked.instructions.split() + asked.prompt.split()


def plan_with_resources(folder: Path) -> list[dict[str, Any]]:
    """Make agents that need resources, and give a plan for them."""
    agents = folder / ".allready" / "agents"
    agents.mkdir(parents=True)
    needs = {"reader": "{browser: 1, gpu: 2}", "surfer": "{browser: 3}", "idle": "{tape: 1}"}
    for name, resources in needs.items():
        text = f"---\ndescription: A {name}\nresources: {resources}\n---\nYou work.\n"
        (agents / f"{name}.md").write_text(text)
    return [task | {"agent": agent} for task, agent in zip(PLAN, ("reader", "surfer", "reader"), strict=True)]


def test_a_plan_has_the_resources_that_its_agents_need(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=plan_with_resources(tmp_path)) as server:
        project = Project(tmp_path, server)
        for arguments in (["--yes"], ["--yes"]):  # while it is written, and from before
            done = project.do(GOAL, *arguments, "--json")
            assert done.returncode == 0, done.stderr
            assert lines_of(done.stdout)[-1]["status"] == "completed"
        assert project.planned == 1
        done = project.do(GOAL, "--plan-only", "-o", "plan.yaml")
        assert done.returncode == 0, done.stderr
        written = yaml.safe_load((tmp_path / "plan.yaml").read_text())
        assert written["resources"] == {"browser": 3, "gpu": 2}
        assert project.call("validate", "plan.yaml").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_planning_stops_it_and_nothing_was_run(tmp_path: Path, number: signal.Signals) -> None:
    with ScriptedServer(RULES, plan=PLAN, pause=0.05) as server:
        with subprocess.Popen(
            [*PROGRAM, "do", GOAL, "--plan-only", "--model", MODEL],
            cwd=tmp_path,
            env=environment(**server.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            while "planned" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (128 + number, "")
        assert "stopped while planning; nothing was run" in err
        assert "Traceback" not in err
        wait_until(lambda: server.requests[-1].outcome == "gone", "the server saw that nobody listens")
        assert not list((tmp_path / ".allready").glob("plans/*"))


# --- without being asked ---------------------------------------------------------------------------------


def test_yes_goes_from_the_goal_to_the_answer(project: Project) -> None:
    project.server.script._default = "A is better."
    done = project.do(GOAL, "--yes")
    assert done.returncode == 0, done.stderr
    assert "A is better." in done.stdout
    assert "completed  compare" in done.stdout
    (run,) = project.runs()
    assert run["status"] == "completed"


def test_yes_starts_tasks_while_the_plan_is_written(tmp_path: Path) -> None:
    plan = [*PLAN[:2], PLAN[2] | {"prompt": "Compare {{ both }}." + " Say why." * 40}]
    with ScriptedServer(RULES, plan=plan, pause=0.03) as server:
        done = Project(tmp_path, server).do(GOAL, "--yes", "--json")
        assert done.returncode == 0, done.stderr
    types = [(event["type"], event.get("task")) for event in lines_of(done.stdout)]
    assert types.index(("task.completed", "read-a")) < types.index(("task.added", "compare"))
    assert types.index(("task.added", "compare")) < types.index(("plan.closed", None))


def test_yes_takes_the_plan_from_before_and_keeps_new_ones(project: Project) -> None:
    assert project.do(GOAL, "--yes").returncode == 0
    assert project.planned == 1
    again = project.do(GOAL, "--yes", "--json")
    assert again.returncode == 0, again.stderr
    assert project.planned == 1
    assert lines_of(again.stdout)[-1]["status"] == "completed"
    assert "--fresh" in again.stderr


def test_yes_says_on_stdout_only_the_answer_if_it_is_to_be_quiet(project: Project) -> None:
    done = project.do(GOAL, "--yes", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_yes_without_a_valid_plan_is_a_run_that_failed(tmp_path: Path) -> None:
    server, project = with_plan(tmp_path, INVALID)
    with server:
        done = project.do(GOAL, "--yes")
        assert done.returncode == 1, done.stderr
        assert "planning failed: " in done.stdout
        (run,) = project.runs()
        assert run["status"] == "failed"
        assert not list((tmp_path / ".allready").glob("plans/*.json"))


def test_a_run_that_is_interrupted_while_it_is_planned_goes_on_with_the_rest(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=PLAN, pause=0.1) as server:
        project = Project(tmp_path, server)
        variables = {"ALLREADY_MODEL": MODEL, **server.environment}
        with Running("do", GOAL, "--yes", cwd=tmp_path, **variables) as running:
            running.wait_for("task.started", "read-a")
            running.process.send_signal(signal.SIGINT)
            assert running.end() == 130
            assert not any(event["type"] == "plan.closed" for event in running.events)
        server.script.pause = 0.0
        done = project.call("resume", "latest", "--json")
        assert done.returncode == 0, done.stderr
        last = lines_of(done.stdout)[-1]
        assert last["answer"] == "ok"
        assert set(last["tasks"]) == {*IDS, "answer"}


@pytest.mark.parametrize("moment", [("plan.started", None), ("task.started", "read-a")])
def test_the_resources_are_still_there_when_planning_goes_on(
    tmp_path: Path, moment: tuple[str, str | None]
) -> None:
    with ScriptedServer(RULES, plan=plan_with_resources(tmp_path), pause=0.1) as server:
        project = Project(tmp_path, server)
        variables = {"ALLREADY_MODEL": MODEL, **server.environment}
        with Running("do", GOAL, "--yes", cwd=tmp_path, **variables) as running:
            running.wait_for(*moment)
            running.process.send_signal(signal.SIGINT)
            assert running.end() == 130
        server.script.pause = 0.0
        done = project.call("resume", "latest", "--json")
        assert done.returncode == 0, done.stderr
        assert set(lines_of(done.stdout)[-1]["tasks"]) == {*IDS, "answer"}


def test_limits_count_planning_and_the_run_can_go_on_with_higher_ones(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=PLAN, tokens=(100, 100)) as server:
        project = Project(tmp_path, server)
        done = project.do(GOAL, "--yes", "--json", "--max-requests", "3")
        assert done.returncode == 3, done.stderr
        assert len(server.requests) == 3
        done = project.call("resume", "latest", "--json", "--max-requests", "5")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 5
        assert lines_of(done.stdout)[-1]["usage"]["input_tokens"] == 500


def test_money_can_be_limited_where_the_price_is_known(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=PLAN, tokens=(1000, 1000)) as server:
        done = Project(tmp_path, server).do(GOAL, "--yes", "--max-cost", "0.01", model="openai-chat:gpt-4o")
        assert done.returncode == 3, done.stderr
        assert "max_cost: $" in done.stdout
        assert len(server.requests) < len(IDS) + 2  # planning and the answer
