"""`allready do` on a real (pseudo) terminal: the plan as it is written, the question, the editor."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.program import allready, wait_until
from tests.cli.test_do import GOAL, INVALID, MODEL, PLAN, RULES, Project
from tests.cli.test_live import Terminal

from allready.testing.llm_server import ScriptedServer

QUESTION = "[r]un, [e]dit, [q]uit? "
MENDING = "[e]dit, [q]uit? "


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with ScriptedServer(RULES, plan=PLAN, default="A is better.") as server:
        yield Project(tmp_path, server)


def terminal(
    project: Project, *arguments: str, columns: int = 100, env: dict[str, str] | None = None
) -> Terminal:
    variables = {"ALLREADY_MODEL": MODEL, **project.server.environment, **(env or {})}
    return Terminal("do", GOAL, *arguments, cwd=project.folder, columns=columns, **variables)


def editor(folder: Path, *edits: tuple[str, str] | None) -> dict[str, str]:
    """Give the environment of an editor that replaces a text by another, a different one each time.

    Where there is None instead it fails.
    """
    program = folder / "editor.py"
    program.write_text(
        "import pathlib, sys\n"
        f"edits = {list(edits)!r}\n"
        f"turns = pathlib.Path({str(folder / 'turns')!r})\n"
        "turn = len(turns.read_text()) if turns.exists() else 0\n"
        "turns.write_text('x' * (turn + 1))\n"
        "if edits[turn] is None:\n"
        "    sys.exit(3)\n"
        "path = pathlib.Path(sys.argv[-1])\n"
        "text = path.read_text()\n"
        "assert edits[turn][0] in text, text\n"
        "path.write_text(text.replace(*edits[turn]))\n"
    )
    return {"VISUAL": f"{shlex.quote(sys.executable)} '{program}' --wait", "EDITOR": "/nonexistent"}


def wait_for_question_after(shown: Terminal, text: str, question: str = QUESTION) -> None:
    """Wait until the question is there that follows on a text, and nothing after it."""
    shown.wait_for(text)
    while not shown.text.partition(text)[2].endswith(question):
        assert shown.read(), f"the program ended without the question:\n{shown.text}"


def kept_file(text: str) -> Path:
    found = re.search(r"what you edited is in (\S+\.yaml)", text)
    assert found is not None, text
    return Path(found[1])


# --- run, quit ----------------------------------------------------------------------------------------------


def test_the_plan_is_shown_as_it_is_written_and_runs_when_a_person_agrees(project: Project) -> None:
    project.server.script.pause = 0.02
    with terminal(project) as shown:
        shown.wait_for("planning · 0 tasks · ")
        shown.wait_for(f" s · {MODEL}")
        shown.wait_for("· 1 task ·")
        assert len(project.server.requests) == 1
        assert project.server.requests[0].outcome == "running"  # it is still written
        shown.wait_for(QUESTION)
        whole = shown.text.rpartition("3 tasks planned in ")[2]
        assert "task     agent       title\n" in whole
        assert "read-a   assistant   Read about A\n" in whole
        assert "← read-a, read-b\n" in whole
        assert project.runs() == []
        shown.type("\n")  # Enter alone is no answer
        shown.wait_for(f"{QUESTION}\n{QUESTION}")
        shown.type("r\n")
        assert shown.end() == 0
        assert "A is better." in shown.text
        assert "used 5 requests, " in shown.text  # planning counts
        assert "Traceback" not in shown.text
    assert [run["status"] for run in project.runs()] == ["completed"]


def test_quit_runs_nothing_and_keeps_the_plan(project: Project) -> None:
    with terminal(project) as shown:
        shown.wait_for(QUESTION)
        shown.type("q\n")
        assert shown.end() == 4
        assert "nothing was run" in shown.text
    assert project.runs() == []
    with terminal(project) as shown:
        shown.wait_for("this plan was written before; --fresh plans anew")
        shown.wait_for(QUESTION)
        shown.type("\x04")  # Ctrl-D: nobody answers any more
        assert shown.end() == 4
    assert project.planned == 1


def test_ctrl_c_at_the_question_runs_nothing(project: Project) -> None:
    with terminal(project) as shown:
        shown.wait_for(QUESTION)
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 130
        assert "Traceback" not in shown.text
    assert project.runs() == []


def test_ctrl_c_while_the_plan_is_written_stops_that(project: Project) -> None:
    project.server.script.pause = 0.05
    with terminal(project) as shown:
        shown.wait_for("· 1 task ·")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 130
        assert "stopped while planning; nothing was run" in shown.text
        assert "Traceback" not in shown.text
        assert b"\x1b[?25h" in shown.raw.rpartition(b"\x1b[?25l")[2]  # the cursor is there again
    wait_until(lambda: project.server.requests[-1].outcome == "gone", "the server saw that nobody listens")
    assert project.runs() == []


def test_corrections_stay_in_sight(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=[INVALID, PLAN], refuse_first=1, retry_after=0.05) as server:
        project = Project(tmp_path, server)
        with terminal(project) as shown:
            shown.wait_for(QUESTION)
            shown.type("q\n")
            assert shown.end() == 4
            assert "waits " in shown.text
            assert "once more: " in shown.text
            assert "nobody" in shown.text


def test_no_plan_is_an_error(tmp_path: Path) -> None:
    with ScriptedServer(RULES, plan=[INVALID]) as server, terminal(Project(tmp_path, server)) as shown:
        assert shown.end() == 2
        assert "failed-" in shown.text
        assert "nothing was run" in shown.text
        assert "[r]un" not in shown.text


def test_yes_shows_the_run_while_it_is_planned(project: Project) -> None:
    project.server.script.pause = 0.02
    with terminal(project, "--yes") as shown:
        assert shown.end() == 0
        assert "✎ planning" in shown.text
        assert "A is better." in shown.text
        assert "[r]un" not in shown.text


# --- edit ---------------------------------------------------------------------------------------------------


def test_an_edited_plan_is_shown_again_and_is_what_runs(project: Project) -> None:
    variables = editor(project.folder, ("title: Read about A", "title: Read about everything"))
    with terminal(project, env=variables) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "Read about everything")
        assert project.runs() == []
        shown.type("r\n")
        assert shown.end() == 0
        assert "what you edited" not in shown.text
    task = allready("show", "latest", "read-a", "--json", cwd=project.folder)
    assert "Read about everything" in task.stdout


def test_a_broken_edit_can_be_mended(project: Project) -> None:
    variables = editor(
        project.folder, ("- read-b\n", "- read-c\n"), ("title: Compare", "title: Mend"), ("read-c", "read-b")
    )
    with terminal(project, env=variables) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "1 problem in the plan as it was edited\n", MENDING)
        assert re.search(r"/allready-\S+\.yaml:\d+:\d+: .*'read-c'", shown.text)
        shown.type("e\n")
        wait_for_question_after(shown, f"{MENDING}e\n", MENDING)
        shown.type("e\n")
        wait_for_question_after(shown, "  Mend\n")  # the changes of all times are there
        shown.type("r\n")
        assert shown.end() == 0


@pytest.mark.parametrize("edit", [("- read-b\n", "- read-c\n"), ("Read about A", "Read it all")])
def test_what_was_edited_is_not_lost_with_quit(project: Project, edit: tuple[str, str]) -> None:
    with terminal(project, env=editor(project.folder, edit)) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wrong = "read-c" in edit[1]
        wait_for_question_after(shown, edit[1].strip("- \n"), MENDING if wrong else QUESTION)
        shown.type("q\n")
        assert shown.end() == 4
        kept = kept_file(shown.text)
        assert f"run it with: allready run {kept}" in shown.text
    assert edit[1] in kept.read_text()
    kept.unlink()
    assert project.runs() == []


def test_what_was_edited_is_not_lost_with_ctrl_c(project: Project) -> None:
    with terminal(project, env=editor(project.folder, ("Read about A", "Read it all"))) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "Read it all")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 130
        kept = kept_file(shown.text)
    assert "Read it all" in kept.read_text()
    kept.unlink()


def test_an_editor_that_fails_changes_nothing(project: Project, tmp_path: Path) -> None:
    variables = editor(project.folder, None) | {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    with terminal(project, env=variables) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "ended with code 3: the plan is as it was before\n")
        shown.type("q\n")
        assert shown.end() == 4
        assert "what you edited" not in shown.text
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"VISUAL": "/nonexistent/editor"}, "the editor /nonexistent/editor can't be started: No such file"),
        ({"VISUAL": "'open"}, "VISUAL can't be understood (No closing quotation): 'open"),
        ({"VISUAL": "", "EDITOR": "", "PATH": "/nonexistent"}, "there is no editor: name one in the"),
    ],
)
def test_an_editor_that_can_not_be_started_is_told(
    project: Project, variables: dict[str, str], told: str
) -> None:
    with terminal(project, env=variables) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, told)
        shown.type("r\n")
        assert shown.end() == 0


def test_an_editor_that_changes_nothing_is_told(project: Project) -> None:
    with terminal(project, env={"VISUAL": "true"}) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "the plan was not changed\n")
        shown.type("q\n")
        assert shown.end() == 4
        assert "what you edited" not in shown.text


def test_what_an_editor_left_when_it_failed_is_not_lost(project: Project) -> None:
    """It is not what runs, but somebody typed it."""
    program = project.folder / "editor.sh"
    program.write_text('echo "# and more" >> "$1"; exit 1\n')
    with terminal(project, env={"VISUAL": f"sh '{program}'"}) as shown:
        shown.wait_for(QUESTION)
        shown.type("e\n")
        wait_for_question_after(shown, "the plan is as it was before\n")
        shown.type("r\n")
        assert shown.end() == 0
        kept = kept_file(shown.text)
    assert kept.read_text().endswith("# and more\n")
    kept.unlink()


# --- terminals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 50])
def test_no_line_is_wider_than_the_terminal(project: Project, columns: int) -> None:
    project.server.script.pause = 0.01
    with terminal(project, columns=columns) as shown:
        shown.wait_for(QUESTION)
        shown.type("q\n")
        assert shown.end() == 4
        plan = shown.text.rpartition("planned in ")[2].partition("[r]un")[0]
    assert "read-a" in plan
    assert max(map(len, plan.splitlines()[1:])) <= columns


def test_no_colour_where_none_is_wanted(project: Project) -> None:
    with terminal(project, env={"NO_COLOR": "1"}) as shown:
        shown.wait_for(QUESTION)
        shown.type("q\n")
        assert shown.end() == 4
        assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown.raw)


def test_a_dumb_terminal_gets_plain_lines(project: Project) -> None:
    with terminal(project, env={"TERM": "dumb"}) as shown:
        shown.wait_for(QUESTION)
        shown.type("r\n")
        assert shown.end() == 0
        assert b"\x1b" not in shown.raw
        assert "planned    read-a: Read about A" in shown.text


def test_what_models_write_can_not_steer_the_terminal(tmp_path: Path) -> None:
    evil = {"id": "evil", "title": "\x1b[2J\x1b]0;owned\x07plain", "prompt": "\x1b[2Jshow it"}
    with ScriptedServer(plan=[evil]) as server, terminal(Project(tmp_path, server)) as shown:
        shown.wait_for(QUESTION)
        shown.type("q\n")
        assert shown.end() == 4
        assert b"\x1b[2J" not in shown.raw
        assert b"owned" not in shown.raw
        assert "plain" in shown.text
