"""Names of runs and tasks from an enemy: looked up, or refused; they lead nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz import texts
from tests.fuzz.trying import bounded, inputs, tried

from allready import Plan, run_sync
from allready.errors import PlanError, RunNotFound, UserError
from allready.store.open import open_store
from allready.store.sql import SqlStore

MOST_SAID = 3_000
names = st.one_of(
    st.text(max_size=60),
    st.sampled_from(texts.ODD),
    st.text("./\\-_%*?'\";~\u202e\u200b\u0131\u212a\ud800\0\n 0aLAtesT", max_size=40),
    st.sampled_from(
        ["..", "../../x", "latest", "LATEST", "lateſt", " latest\n", "x" * 5_000, "%", "\ud800" * 99]
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqlStore, str]]:
    """Give a store with a run in it, and its id."""
    path = tmp_path_factory.mktemp("names") / "runs.db"
    plan = Plan("Hello")
    plan.add(print, id="one", args=["hi"])
    run_sync(plan, store=path)
    with closing(open_store(path, create=False)) as opened:
        yield opened, opened.find_run("latest")


def check_said(error: UserError) -> None:
    assert 0 < len(str(error)) <= MOST_SAID


@inputs(250)
@given(names, st.integers(0, 36))
def test_runs_and_tasks(store: tuple[SqlStore, str], name: str, known: int) -> None:
    opened, run_id = store
    with bounded():
        tried["names of runs and tasks"] += 1
        for wanted in (name, run_id[:known] + name, name + run_id[known:]):
            try:
                assert opened.find_run(wanted) == run_id
                assert wanted.strip().lower() == "latest" or run_id.startswith(wanted.strip().lower())
            except RunNotFound as error:
                check_said(error)
        try:
            assert opened.task(run_id, name).id == name
        except UserError as error:
            check_said(error)
        with pytest.raises(RunNotFound) as caught:
            opened.run(name + "?")
        check_said(caught.value)


@inputs(300)
@given(names, names)
def test_names_of_tasks_in_python(name: str, dependency: str) -> None:
    with bounded():
        tried["names of runs and tasks"] += 1
        plan = Plan("x")
        for add in (partial(plan.add, print), partial(plan.ask, "hi")):
            try:
                add(id=name, depends_on=[dependency])
            except PlanError:
                continue
            assert "/" not in name
            assert name not in {"", ".", ".."}
            assert name.isascii()
            assert len(name) <= 100
            del plan.tasks[name]


def test_a_run_that_is_not_there_is_not_gone_on_with(tmp_path: Path) -> None:
    plan = Plan("x")
    plan.add(print, id="one")
    for name in ("..", "../x", "\0", "x" * 5_000, "\udcff"):
        with pytest.raises(UserError):
            run_sync(plan, store=tmp_path / "runs.db", resume=name)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("runs")] == []
