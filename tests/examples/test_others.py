"""The smaller examples: a plan in Python, a release, an agent from a Markdown file."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest
from tests.examples.places import EXAMPLES, ROOT, commit, git, program, repository, write

from allready import RunResult, TaskState, run_sync
from allready.engine.steer import steer
from allready.store.contract import JournalEvent
from allready.store.open import open_store

STORE = "store/runs.db"


# --- text_survey.py ---------------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "some texts"
    sentence = "a quick brown fox jumps over the lazy dog while everybody watches from behind a fence "
    write(folder, "one.txt", sentence * 3)
    write(folder, "deep/two.md", sentence * 3 + "except one")
    write(folder, "three.md", "elephants never forget; elephants remember")
    write(folder, ".hidden/four.md", "elephants")
    write(folder, "five.py", "elephants")
    return folder


def test_a_survey_of_texts(texts: Path) -> None:
    done = program(str(EXAMPLES / "text_survey.py"), str(texts), cwd=texts)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# 3 texts, ")
    assert "- elephants: 2\n" in done.stdout
    assert f"- {texts}/one.txt and {texts}/deep/two.md: " in done.stdout
    assert "three.md and" not in done.stdout


def test_a_survey_kept_in_a_store(texts: Path, tmp_path: Path) -> None:
    store = str(tmp_path / STORE)
    arguments = ["examples.text_survey:plan", "--store", store]
    done = program("-m", "allready", "run", *arguments, cwd=ROOT, TEXTS=str(texts))
    assert done.returncode == 0, done.stdout + done.stderr
    shown = program("-m", "allready", "show", "latest", "report", "--output", "--store", store, cwd=ROOT)
    assert shown.stdout.startswith("# 3 texts, ")
    assert "one.txt and" in shown.stdout


def test_a_survey_of_nothing(tmp_path: Path) -> None:
    done = program(str(EXAMPLES / "text_survey.py"), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "there are no texts" in done.stderr
    assert "Traceback" not in done.stderr


# --- release.yaml -----------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    repo = repository(tmp_path / "a project", **{"a.txt": "one\n"})
    write(repo, "a.txt", "two\n")
    commit(repo, "It's better; now")
    return repo


def release(project: Path, resume: str | None = None, unlock: Path | None = None) -> RunResult:
    """Start or resume the release; its lock is taken away as soon as publishing is to be tried again."""

    def told(event: JournalEvent) -> None:
        if unlock is not None and event.type == "task.retrying":
            unlock.unlink()

    variables = {"repo": str(project), "folder": "a release", "version": "1.2 beta"}
    return run_sync(
        EXAMPLES / "release.yaml", store=STORE, resume=resume, variables=variables, on_event=told, seed=1
    )


def decide(run: str, kind: str, task: str) -> None:
    store = open_store(STORE)
    try:
        assert steer(store, run, kind, task).done
    finally:
        store.close()


def test_a_release_waits_for_approval_and_for_a_lock(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a release"
    waiting = release(project)
    assert waiting.status == "paused"
    assert waiting.tasks["publish"].status is TaskState.AWAITING_APPROVAL
    assert not (folder / "published").exists()
    (folder / "LOCK").touch()
    decide(waiting.id, "approve", "publish")
    done = release(project, resume=waiting.id, unlock=folder / "LOCK")
    assert done.status == "completed"
    assert done.tasks["publish"].attempts == 2
    published = folder / "published" / "1.2 beta"
    archive = (published / "source.tar.gz").read_bytes()
    assert (published / "SHA256SUMS").read_text().split() == [
        hashlib.sha256(archive).hexdigest(),
        "source.tar.gz",
    ]
    assert (published / "NOTES.md").read_text() == "# 1.2 beta\n\n- It's better; now\n- The first | commit\n"
    with tarfile.open(published / "source.tar.gz") as packed:
        assert "1.2 beta/a.txt" in packed.getnames()


def test_a_release_asks_when_something_is_not_committed(project: Path) -> None:
    write(project, "a.txt", "three\n")
    asking = release(project)
    assert asking.status == "paused"
    assert asking.tasks["archive"].status is TaskState.PENDING
    commit(project, "The third")
    decide(asking.id, "retry", "committed")
    waiting = release(project, resume=asking.id)
    assert waiting.tasks["committed"].attempts == 2
    assert waiting.tasks["publish"].status is TaskState.AWAITING_APPROVAL
    assert waiting["notes"].startswith("- The third\n")


def test_a_release_through_the_command_line(project: Path, tmp_path: Path) -> None:
    store = ("--store", STORE)
    plan = str(EXAMPLES / "release.yaml")
    begun = program("-m", "allready", "run", plan, "--set", "repo=a project", *store, cwd=tmp_path)
    assert begun.returncode == 3, begun.stdout + begun.stderr
    approved = program("-m", "allready", "approve", "latest", "publish", *store, cwd=tmp_path)
    assert approved.returncode == 0, approved.stdout + approved.stderr
    ended = program("-m", "allready", "resume", "latest", *store, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "release" / "published" / "0.0.0" / "NOTES.md").exists()


# --- agents/ ----------------------------------------------------------------------------------------------


def test_an_agent_that_is_a_command(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "b.js", "one()\nconsole.log(2)\n")
    commit(project, "Look at it")
    here = tmp_path / "agents"
    shutil.copytree(EXAMPLES / "agents", here)
    monkeypatch.chdir(here)
    result = run_sync("review.yaml", store=STORE, variables={"repo": str(project)})
    assert result.status == "completed"
    assert result.tasks["review"].agent == "reviewer"
    assert result["review"] == {"remarks": 2}
    assert result["conclusion"].startswith("## Look at it\n\n- b.js:2: left over from looking for a bug\n")
    assert "- code changed (b.js), and no test\n## It's better; now\n" in result["conclusion"]
    assert result["conclusion"].rstrip().endswith("Nothing to remark.")


def test_an_agent_and_a_commit_that_has_none_before_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "agents"
    shutil.copytree(EXAMPLES / "agents", here)
    monkeypatch.chdir(here)
    first = git(project, "rev-list", "--max-parents=0", "HEAD").strip()
    result = run_sync("review.yaml", store=STORE, variables={"repo": str(project), "commit": first})
    assert result.status == "completed"
    assert result.tasks["review_before"].status is TaskState.SKIPPED
    assert "The change before could not be reviewed." in result["conclusion"]
