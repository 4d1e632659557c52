"""The examples with models, through the real program; a scripted server stands in for a provider."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.examples.places import EXAMPLES, PATIENCE, commit, git, program, repository, write

from allready.testing import Call, Refused, ScriptedServer, rate_limited

MODEL = "openai-chat:scripted"


class Ran(NamedTuple):
    code: int
    events: list[dict[str, Any]]
    errors: str

    @property
    def last(self) -> dict[str, Any]:
        """The run's end: status, answer and tasks."""
        return self.events[-1]

    @property
    def statuses(self) -> dict[str, str]:
        return {task: told["status"] for task, told in self.last["tasks"].items()}


def run_plan(server: ScriptedServer, plan: Path | str, cwd: Path, *options: str) -> Ran:
    """Run a plan with the server's model."""
    done = program(
        *("-m", "allready", "run", str(plan), "--model", MODEL, "--json", *options),
        cwd=cwd,
        **server.environment,
    )
    return Ran(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def copied(name: str, tmp_path: Path) -> Path:
    """A copy of an example's folder, so that its run leaves nothing behind here."""
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name))


def prompt_with(server: ScriptedServer, words: str) -> str:
    """The first prompt with these words."""
    return next(request.prompt for request in server.requests if words in request.prompt)


# --- research/ --------------------------------------------------------------------------------------------

RESEARCH: dict[str, Any] = {
    "what one has to know": "A mail server sends mail.\nSource: https://example.org/mail",
    "reasons for yes": "Control. Source: https://example.org/control",
    "reasons for no": "Spam filters. Source: https://example.org/spam",
    "figures would decide": "10 hours a month. Source: general knowledge\nNot found: outages",
    "contradict each other": "Nothing to object to.",
}


def test_research(tmp_path: Path) -> None:
    folder = copied("research", tmp_path)
    met = threading.Barrier(2)

    def answer_together(prompt: str) -> str:
        met.wait(PATIENCE)  # the two sides are looked at at the same time, or this fails
        return str(next(RESEARCH[words] for words in RESEARCH if words in prompt))

    rules = {**RESEARCH, "reasons for yes": answer_together, "reasons for no": answer_together}
    with ScriptedServer(rules, answer="Rather not.\n", default=None) as server:
        ran = run_plan(server, "plan.yaml", folder, "--set", "question=Own server?")
    assert ran.code == 0, ran.errors
    assert set(ran.statuses.values()) == {"completed"}
    assert ran.last["answer"].strip() == "Rather not."
    assert {ran.last["tasks"][task]["agent"] for task in ("background", "numbers")} == {"researcher"}
    assert ran.last["tasks"]["doubts"]["agent"] == "sceptic"
    assert "Not found: outages" in prompt_with(server, "contradict each other")
    answered = server.requests[-1]
    assert answered.for_an_answer
    assert "Own server?" in answered.prompt
    links = [f"https://example.org/{page}" for page in ("control", "mail", "spam")]
    assert "\n".join(links) in answered.prompt
    asked = next(request for request in server.requests if "reasons for yes" in request.prompt)
    assert asked.instructions.startswith("You find things out")
    assert asked.tools == ("fetch_url",)
    assert 2 <= server.most_at_once <= 3, "no more researchers at once than their definition says"


def test_research_answers_without_a_side_that_could_not_be_looked_at(tmp_path: Path) -> None:
    folder = copied("research", tmp_path)
    rules = {
        **RESEARCH,
        "figures would decide": Refused(400, "too long", code="context_length_exceeded"),
        "reasons for no": [rate_limited(0.01), "Cost."],
    }
    with ScriptedServer(rules, answer="Without figures.", default=None) as server:
        ran = run_plan(server, "plan.yaml", folder)
    assert ran.code == 0, ran.errors
    done = ran.statuses
    assert done.pop("numbers") == "failed"
    assert set(done.values()) == {"completed"}
    asked = [request.outcome for request in server.requests if "reasons for no" in request.prompt]
    assert asked == ["refused", "answered"]
    against = [event["type"] for event in ran.events if event.get("task") == "against"]
    assert "task.deferred" in against
    assert "task.retrying" not in against, "a refusal for now is no failed attempt"
    assert "`numbers`" in ran.last["answer"]
    assert "Without figures." in ran.last["answer"]


# --- code_review/ -----------------------------------------------------------------------------------------

REVIEW: dict[str, Any] = {
    "Find what is wrong": [
        Call("read_file", {"path": "thing.py"}),
        "thing.py:2: divides by zero for an empty list.",
    ],
    "covered by no test": "mean([]) is not tested.",
    "no longer true": "README.md: says that it gives a sum.",
}


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A repository whose second commit is to be reviewed."""
    repo = repository(
        tmp_path / "repo", **{"thing.py": "def mean(values):\n    return 0\n", "README.md": "Sums\n"}
    )
    write(repo, "thing.py", "def mean(values):\n    return sum(values) / len(values) \n")
    commit(repo, "Means are means")
    return repo


def test_code_review(changed: Path) -> None:
    plan = EXAMPLES / "code_review" / "plan.yaml"
    with ScriptedServer(REVIEW, answer="Not yet: thing.py:2", default=None) as server:
        ran = run_plan(server, plan, changed)
    assert ran.code == 0, ran.errors
    assert set(ran.statuses.values()) == {"completed"}
    assert ran.last["answer"].strip() == "Not yet: thing.py:2"
    prompt = prompt_with(server, "Find what is wrong")
    assert "+    return sum(values) / len(values)" in prompt
    assert "Means are means" in prompt
    read = next(request for request in server.requests if request.results)
    assert "return sum(values)" in read.results[0]
    assert set(read.tools) == {"read_file", "list_files", "search_files"}
    answered = server.requests[-1].prompt
    assert "thing.py:2: trailing whitespace" in answered
    assert "mean([]) is not tested." in answered


def test_code_review_of_a_branch_with_a_reviewer_missing(changed: Path) -> None:
    git(changed, "branch", "base", "HEAD~1")
    rules = {**REVIEW, "no longer true": Refused(400, "too long", code="context_length_exceeded")}
    with ScriptedServer(rules, answer="Not yet.", default=None) as server:
        ran = run_plan(server, EXAMPLES / "code_review" / "plan.yaml", changed, "--set", "base=base")
    assert ran.code == 0, ran.errors
    assert ran.statuses["find_untrue"] == "failed"
    assert "`find_untrue`" in ran.last["answer"]


def test_code_review_without_a_change_asks_no_model(changed: Path) -> None:
    with ScriptedServer(default=None) as server:
        ran = run_plan(server, EXAMPLES / "code_review" / "plan.yaml", changed, "--set", "base=HEAD")
    assert ran.code == 1
    assert "nothing differs from HEAD" in ran.last["tasks"]["diff"]["error"]
    assert [request for request in server.requests if not request.for_an_answer] == []


# --- document_comparison/ ---------------------------------------------------------------------------------

FACTS = {
    "North Office Care": "price: 480 a month\n> Price | 480 a month\n\nnotice: 3 months\n> three months",
    "Harbour Cleaning": "price: 390 a month\n> “390 a month”\n\nliability:\n> We are liable for nothing.",
    "QuickClean": "price: 299, later 449\n> Only 299 a month for the first six months!",
}


def read_document(prompt: str) -> str:
    """Answer as the reader of the document that the prompt has in it."""
    return next(facts for title, facts in FACTS.items() if title in prompt)


def test_document_comparison(tmp_path: Path) -> None:
    folder = copied("document_comparison", tmp_path)
    table = "| | north | harbour | quick |\n"
    with ScriptedServer({"What does the document say": read_document}, answer=table, default=None) as server:
        ran = run_plan(server, "plan.yaml", folder, "--set", "criteria=price, liability")
    assert ran.code == 0, ran.errors
    assert set(ran.statuses.values()) == {"completed"}
    assert ran.last["answer"].strip() == table.strip()
    answered = server.requests[-1].prompt
    assert "first: all quotes are in the document" in answered
    assert "second: not in the document:\n  > We are liable for nothing." in answered
    assert "third: all quotes are in the document" in answered
    assert "price, liability" in prompt_with(server, "What does the document say")


def test_document_comparison_of_two(tmp_path: Path) -> None:
    folder = copied("document_comparison", tmp_path)
    with ScriptedServer(
        {"What does the document say": read_document}, answer="a table", default=None
    ) as server:
        ran = run_plan(server, "plan.yaml", folder, "--set", "third=")
    assert ran.code == 0, ran.errors
    found = ran.statuses
    assert (found["read_third"], found["facts_third"], found["quotes"]) == ("failed", "skipped", "completed")
    assert "third: was not read" in server.requests[-1].prompt
    assert "`read_third`" in ran.last["answer"]


def findings(prompt: str) -> dict[str, Any]:
    """Answer as the typed reader: what it quotes of the third document is not in there."""
    price = next(price for price in ("480 a month", "390 a month", "299 a month") if price in prompt)
    quote = "cheap" if price.startswith("299") else price
    return {
        "findings": [
            {"criterion": "price", "says": price, "quote": quote},
            {"criterion": "animals", "says": "", "quote": ""},
        ]
    }


def test_document_comparison_in_python(tmp_path: Path) -> None:
    folder = copied("document_comparison", tmp_path)
    paths = [*(f"documents/{name}.md" for name in ("north", "harbour", "quick")), "documents/gone.md"]
    with ScriptedServer(default=findings) as server:
        done = program(*("compare.py", MODEL, "price, animals", *paths), cwd=folder, **server.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "| | north | harbour | quick | gone |",
        "| --- | --- | --- | --- | --- |",
        "| price | 480 a month | 390 a month | 299 a month (?) | (could not be read) |",
        "| animals | – | – | – | (could not be read) |",
    ]
    assert len(server.requests) == 3


def test_the_python_comparison_says_how_it_is_used(tmp_path: Path) -> None:
    done = program("compare.py", cwd=EXAMPLES / "document_comparison")
    assert done.returncode == 1
    assert "python compare.py" in done.stderr
