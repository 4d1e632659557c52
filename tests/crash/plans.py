"""The reference plans, with what must come of each whatever is killed, and what the person does meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.crash import ledger, tasks

from allready.agents.models import Models
from allready.engine.session import Session
from allready.engine.start import new_session, resume_session
from allready.plan.load import plan_from_document
from allready.plan.plan import Function, Limits, Plan
from allready.planning.planner import LlmPlanner
from allready.pool.manager import SubAgentManager
from allready.store.contract import Store
from allready.testing import ScriptedModel

GRACE = 0.3
"""Seconds between asking a sub-agent to stop and forcing it."""
SEED = 7


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person says while the run goes on."""

    kind: str
    task: str | None = None
    once: Sequence[tuple[str, ...]] = ()
    """Beginnings of lines that the ledger must have."""
    paused: bool = False
    """Whether the run must be paused, as far as the ledger tells."""
    opens: str | None = None
    """The gate that opens when it has been said."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A plan and all that is known of it."""

    name: str
    make: Callable[[], Plan]
    """The plan, without its goal."""
    status: str = "completed"
    states: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Task → the states that it may end in, if not `completed`."""
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Task → what the person answers each time that the task needs one; the last stays."""
    wishes: Sequence[Wish] = ()
    again: bool = False
    """Whether the person has the run retried when it has failed."""
    planned: bool = False
    """Whether the plan is written by a planner while it runs."""
    model: Callable[[], ScriptedModel] | None = None
    limit: int | None = None
    """Requests of the run, at first; the person adds as many each time that it is reached."""
    fresh: bool = False
    """Whether the store is to be made by the run, too."""
    may_refuse: Sequence[str] = ()
    """Wishes that may come too late, or a second time because the one who said it was killed."""
    outputs: Mapping[str, str] | None = None
    """Task → its output, where that can't be worked out from the plan."""

    def begin(self, store: Store, goal: str) -> Session:
        """Make a new run."""
        models = None if self.model is None else Models(self.model())
        limits = Limits(max_requests=self.limit)
        pool = None
        if self.planned:
            assert models is not None
            plan = Plan(goal, answer=True)
            planner = LlmPlanner(models.get(), [])
        else:
            plan = self.make()
            plan.goal = goal
            if plan.document is not None:
                plan.document = {**plan.document, "goal": goal}
            pool = _pool(plan.max_parallel)
            planner = None
        plan.limits = limits
        return new_session(plan, agents={}, store=store, pool=pool, seed=SEED, models=models, planner=planner)

    def resume(self, store: Store, run: str, *, limit: int | None) -> Session:
        """Take up a run as `allready resume` does."""
        models = None if self.model is None else Models(self.model())
        limits = None if limit is None else Limits(max_requests=limit)
        pool = _pool(None if self.planned else self.make().max_parallel)
        return resume_session(store, run, pool=pool, models=models, limits=limits)

    def answer(self, task: str, before: int) -> str:
        """Give what the person says of a task that needs a decision, after so many answers before."""
        answers = self.answers[task]
        return answers[min(before, len(answers) - 1)]

    def states_of(self, task: str) -> Sequence[str]:
        return self.states.get(task, ["completed"])

    def value(self, task: str) -> str | None:
        """Give what a completed task must have given; None if that is not known beforehand."""
        if self.outputs is not None:
            return self.outputs.get(task)
        return _value(self.make(), self, task)


def _value(plan: Plan, reference: Reference, task: str) -> str | None:
    body = plan.tasks[task].body
    if not isinstance(body, Function):
        return None
    given = []
    for name in body.inputs.get("given", ()):
        completes = list(reference.states_of(name)) == ["completed"]
        given.append(_output(plan, reference, name) if completes else None)
    return tasks.made(task, given)


def _output(plan: Plan, reference: Reference, task: str) -> Any:
    """Give what dependents of a task are given."""
    value = _value(plan, reference, task)
    assert value is not None
    body = plan.tasks[task].body
    assert isinstance(body, Function)
    if body.call is tasks.long_text:
        return (value + " ") * (tasks.LONG_TEXT // len(value))
    if body.call is tasks.long_data:
        return [value] * (tasks.LONG_TEXT // len(value))
    return value


def _pool(places: int | None) -> SubAgentManager:
    return SubAgentManager(places or 4, grace=GRACE)


# --- plans of functions -----------------------------------------------------------------------------------


def _add(
    plan: Plan, task: str, *given: str, call: Any = tasks.step, args: Sequence[Any] = (), **more: Any
) -> None:
    plan.add(call, id=task, args=[task, *args], inputs={"given": given} if given else None, **more)


def chain() -> Plan:
    plan = Plan()
    _add(plan, "a1")
    for number in range(2, 7):
        _add(plan, f"a{number}", f"a{number - 1}")
    return plan


def wide() -> Plan:
    plan = Plan(max_parallel=4)
    leaves = [f"leaf{number}" for number in range(10)]
    _add(plan, "source")
    for leaf in leaves:
        _add(plan, leaf, "source")
    _add(plan, "sink", *leaves)
    return plan


def diamonds() -> Plan:
    plan = Plan()
    flaky: dict[str, Any] = {"call": tasks.unsteady}
    _add(plan, "top")
    _add(plan, "left", "top", args=[2], max_retries=2, **flaky)
    _add(plan, "right", "top", args=[1], max_retries=1, **flaky)
    _add(plan, "middle", "left", "right")
    _add(plan, "left2", "middle", args=[1], max_retries=3, **flaky)
    _add(plan, "right2", "middle")
    _add(plan, "broken", "top", args=[-1], max_retries=2, failure_strategy="skip", **flaky)
    _add(plan, "after", "broken")
    _add(plan, "bottom", "left2", "right2", "broken", run_if="all_done")
    return plan


def asking() -> Plan:
    plan = Plan()
    _add(plan, "moody", call=tasks.unsteady, args=[1], failure_strategy="ask")
    _add(plan, "hopeless", call=tasks.unsteady, args=[-1], failure_strategy="ask", max_retries=1)
    _add(plan, "beside")
    _add(plan, "beside2", "beside")
    _add(plan, "lost", "hopeless")
    _add(plan, "last", "moody", "hopeless", "beside2", run_if="all_done")
    return plan


def aborted() -> Plan:
    plan = Plan()
    _add(plan, "fatal", call=tasks.unsteady, args=[-1], failure_strategy="ask")
    _add(plan, "beside")
    _add(plan, "never", "fatal")
    return plan


def approvals() -> Plan:
    plan = Plan()
    _add(plan, "slow", call=tasks.held, args=["early"])
    _add(plan, "early", approval=True)
    _add(plan, "wanted", "slow", approval=True)
    _add(plan, "then", "wanted", "early")
    _add(plan, "unwanted", approval=True)
    _add(plan, "dropped", "unwanted")
    return plan


def canceled() -> Plan:
    plan = Plan()
    _add(plan, "quick")
    _add(plan, "held", "quick", call=tasks.held)
    plan.add(tasks.patient, id="patient", args=["patient"])
    _add(plan, "later", "held")
    program = plan_from_document({"tasks": [_command("program", CHILDREN + "while :; do sleep 0.1; done")]})
    plan.tasks |= program.tasks
    return plan


def paused() -> Plan:
    plan = Plan()
    _add(plan, "first")
    _add(plan, "held", "first", call=tasks.held, args=["paused"])
    _add(plan, "next", "held")
    _add(plan, "beside", args=[])
    _add(plan, "end", "next", "beside")
    return plan


def long() -> Plan:
    plan = Plan()
    _add(plan, "text", call=tasks.long_text)
    _add(plan, "data", call=tasks.long_data)
    _add(plan, "text2", "text", call=tasks.long_text)
    _add(plan, "digest", "text", "data", "text2", call=tasks.digest)
    return plan


def functions() -> Plan:
    plan = Plan()
    _add(plan, "coroutine", args=[])
    _add(plan, "thread", "coroutine", call=tasks.thread)
    _add(plan, "inline", "coroutine", inline=True)
    _add(plan, "isolated", "coroutine", call=tasks.isolated, isolate=True)
    _add(plan, "sum", "thread", "inline", "isolated", call=tasks.thread)
    return plan


def careful() -> Plan:
    plan = Plan()
    _add(plan, "once", idempotent=False)
    _add(plan, "side")
    _add(plan, "twice", "once", call=tasks.thread, idempotent=False, failure_strategy="skip")
    _add(plan, "end", "twice", "side")
    return plan


def again() -> Plan:
    plan = Plan()
    _add(plan, "good")
    _add(plan, "bad", "good", call=tasks.unsteady, args=[1])
    _add(plan, "then", "bad")
    return plan


def fresh() -> Plan:
    plan = Plan()
    _add(plan, "only")
    return plan


# --- plans of commands ------------------------------------------------------------------------------------

START = 'echo "start $ALLREADY_TASK_ID $ALLREADY_ATTEMPT $ALLREADY_IDEMPOTENCY_KEY $$" >> "$CRASH_LEDGER"; '
CHILD = 'echo "child $ALLREADY_TASK_ID $!" >> "$CRASH_LEDGER"; '
FAIL = 'echo "fail $ALLREADY_TASK_ID $ALLREADY_ATTEMPT" >> "$CRASH_LEDGER"; '
END = 'echo "end $ALLREADY_TASK_ID $ALLREADY_ATTEMPT $value" >> "$CRASH_LEDGER"; echo "$value"'
CHILDREN = (
    f"setsid sleep 300 >/dev/null 2>&1 & {CHILD}"
    f"""setsid sh -c 'trap "" TERM; sleep 300; sleep 300' >/dev/null 2>&1 & {CHILD}"""
    f"sleep 300 >/dev/null 2>&1 & {CHILD}"
)
"""One that left the session, one that does not want to end, one in the session."""


def _command(task: str, script: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": task, "run": START + script, "shell": True, "depends_on": [*depends_on], **more}


def commands() -> Plan:
    unsteady = (
        f"""if [ "$(grep -c "^fail unsteady " "$CRASH_LEDGER")" -lt 1 ]; then {FAIL} exit 3; fi; """
        f"value=steady; {END}"
    )
    flood = (
        f"value=$(yes {tasks.made('flood')} | head -c {tasks.LONG_TEXT}| sha256sum | cut -c1-16); "
        f"yes {tasks.made('flood')} | head -c {tasks.LONG_TEXT}; {END}"
    )
    wrote = """printf '{"number": 42}' > "$ALLREADY_OUTPUT"; echo file > "$ALLREADY_ARTIFACTS/a.txt"; """
    took = "value={{ family.output }}+{{ unsteady.output }}+{{ wrote.data.number }}"
    took += "+$(wc -c < {{ flood.output_file }}); "
    return plan_from_document(
        {
            "max_parallel": 4,
            "tasks": [
                _command("family", f"{CHILDREN} sleep {tasks.SHORT}; value=family; {END}"),
                _command("unsteady", unsteady, max_retries=1),
                _command("wrote", f"{wrote} value=wrote; {END}", "family"),
                _command("flood", flood),
                _command("took", took + END, "family", "unsteady", "wrote", "flood"),
            ],
        }
    )


def paying() -> Plan:
    """A program that must not run twice unasked."""
    return plan_from_document(
        {
            "tasks": [
                _command("pay", f"sleep {tasks.SHORT}; value=paid; {END}", idempotent=False),
                _command("thank", f"value={{{{ pay.output }}}}-thanks; {END}", "pay"),
            ]
        }
    )


# --- plans of prompts -------------------------------------------------------------------------------------

DRAFT = [
    {"id": "facts", "prompt": "do facts", "depends_on": []},
    {"id": "far", "prompt": "do far", "depends_on": []},
    {"id": "numbers", "prompt": "do numbers", "depends_on": ["facts"]},
    {"id": "more", "prompt": "do more", "depends_on": ["numbers", "far"]},
]
PIECE_SECONDS = 0.001
"""Between two pieces of what a scripted model says: so that tasks run while the plan is written."""


def _ask(task: str) -> Callable[[str], Any]:
    async def said(_: str) -> str:
        import asyncio

        ledger.begin(task)
        await asyncio.sleep(0)
        return ledger.end(task, f"{task}-said")

    return said


def _rest_of_the_plan(prompt: str) -> dict[str, Any]:
    """Give the tasks that the planner is not told to be there."""
    known = prompt.partition("<task-plan-so-far>")[2]
    missing = [task for task in DRAFT if json.dumps({"id": task["id"]})[1:-1] not in known]
    return {"tasks": [{"title": task["id"], **task} for task in missing]}


def planner_model() -> ScriptedModel:
    rules: dict[str, Any] = {"<task-goal>": _rest_of_the_plan}
    rules |= {f"do {task['id']}": _ask(str(task["id"])) for task in DRAFT}
    return ScriptedModel(rules, answer=_ask("answer"), default=None, pause=PIECE_SECONDS)


ASKED = ("p1", "p2", "p3", "p4", "p5")


def budget_model() -> ScriptedModel:
    return ScriptedModel({f"do {task}": _ask(task) for task in ASKED}, default=None)


def budget() -> Plan:
    before = {"p3": ["p1"], "p4": ["p2"], "p5": ["p3"]}
    listed = [{"id": task, "prompt": f"do {task}", "depends_on": before.get(task, [])} for task in ASKED]
    return plan_from_document({"tasks": listed})


PROMPTED = {task: f"{task}-said" for task in (*(str(task["id"]) for task in DRAFT), "answer", *ASKED)}

PLANS: dict[str, Reference] = {
    reference.name: reference
    for reference in (
        Reference("fresh", fresh, fresh=True),
        Reference("chain", chain),
        Reference("wide", wide),
        Reference("diamonds", diamonds, states={"broken": ["failed"], "after": ["skipped"]}),
        Reference(
            "asking",
            asking,
            states={"hopeless": ["failed"], "lost": ["skipped"]},
            answers={"moody": ["retry"], "hopeless": ["retry", "skip"]},
        ),
        Reference(
            "aborted",
            aborted,
            status="failed",
            states={"fatal": ["failed"], "never": ["canceled"]},
            answers={"fatal": ["abort"]},
        ),
        Reference(
            "approvals",
            approvals,
            states={"unwanted": ["skipped"], "dropped": ["skipped"]},
            answers={"early": ["approve"], "wanted": ["approve"], "unwanted": ["skip"]},
            wishes=[Wish("approve", "early", once=[("start", "slow")], opens="early")],
            may_refuse=["approve"],
        ),
        Reference("growth", Plan, planned=True, model=planner_model, outputs=PROMPTED),
        Reference(
            "canceled",
            canceled,
            status="canceled",
            states={
                "quick": ["completed", "canceled"],
                **{task: ["canceled"] for task in ("held", "patient", "later", "program")},
            },
            wishes=[
                Wish("cancel", once=[("start", "held"), ("start", "patient"), ("child", "program")]),
            ],
        ),
        Reference(
            "paused",
            paused,
            wishes=[
                Wish("pause", once=[("start", "held")], opens="paused"),
                Wish("resume", once=[("end", "held")], paused=True),
            ],
            may_refuse=["pause", "resume"],
        ),
        Reference(
            "commands",
            commands,
            outputs={
                "family": "family",
                "unsteady": "steady",
                "wrote": "wrote",
            },
        ),
        Reference("long", long),
        Reference("functions", functions),
        Reference("careful", careful, answers={"once": ["retry"], "twice": ["retry"]}),
        Reference(
            "paying", paying, answers={"pay": ["retry"]}, outputs={"pay": "paid", "thank": "paid-thanks"}
        ),
        Reference("again", again, again=True, may_refuse=["retry"]),
        Reference("budget", budget, model=budget_model, limit=2, outputs=PROMPTED),
    )
}
