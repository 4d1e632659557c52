"""What a plan file may contain, key by key: the models that check it and give the published JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from allready.plan.durations import PATTERN as DURATION_PATTERN
from allready.plan.durations import parse_duration

ID_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
"""Ids of tasks, and names of resources and agents: also good as names of files."""
ID_REGEX = re.compile(ID_PATTERN)
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

MAX_COUNT = 1_000_000
"""Upper bound of counts (slots, units, retries): far above any use, far below what overflows."""
MAX_AMOUNT = 10**15
"""Upper bound of tokens and requests."""


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("plan", "{text}", {"text": str(error)}) from None


def _positive_duration(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise PydanticCustomError("plan", "{text}", {"text": "must be longer than 0 seconds"})
    return seconds


_DURATION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": DURATION_PATTERN}],
        "examples": [90, "250ms", "5m", "1h30m"],
    }
)
Duration = Annotated[float, BeforeValidator(_duration), _DURATION_SCHEMA]
Timeout = Annotated[float, BeforeValidator(_positive_duration), _DURATION_SCHEMA]


def _argument(value: object) -> object:
    """Let numbers and true/false pass as text: `["sleep", 1]`, `{"DEBUG": true}`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def shorten(value: object) -> str:
    """Write a value for a message: as Python would, but never long."""
    if value is None:
        return "empty"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _names_to_counts(value: object) -> object:
    """Take `[browser]` for `{browser: 1}`."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, 1)
    return value


def _words(value: object) -> object:
    """Take `Read, Grep` for `[Read, Grep]`."""
    if isinstance(value, str):
        return [word for word in (part.strip() for part in value.split(",")) if word]
    return value


Argument = Annotated[
    str, BeforeValidator(_argument), WithJsonSchema({"type": ["string", "number", "boolean"]})
]


def _kind_of_run(value: object) -> str | None:
    return "text" if isinstance(value, str) else "arguments" if isinstance(value, list) else None


CommandLine = Annotated[
    Annotated[str, StringConstraints(min_length=1), Tag("text")]
    | Annotated[list[Argument], Field(min_length=1), Tag("arguments")],
    Discriminator(
        _kind_of_run,
        custom_error_type="plan",
        custom_error_message="must be a command as text, or a list of arguments",
    ),
]
Name = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
_DEMANDS_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
            {"type": "array", "items": {"type": "string"}},
        ]
    }
)
Demands = Annotated[dict[Name, Count], BeforeValidator(_names_to_counts), _DEMANDS_SCHEMA]
Environment = dict[Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")], Argument]
SuccessCodes = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=1)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
_WORDS_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class LimitsFile(_Model):
    """What may be used up in all; nothing is limited unless it is named."""

    max_tokens: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    """Tokens, read and written together."""
    max_requests: Annotated[int, Field(ge=1, le=MAX_AMOUNT)] | None = None
    """Requests to models."""
    max_cost: Annotated[float, Field(gt=0, le=MAX_AMOUNT)] | None = None
    """US dollars. Needs a model whose price is known."""


class TaskSettings(_Model):
    """What a task may set for itself, and `defaults` for all tasks."""

    agent: Name | None = None
    """Who does a task that has a prompt: the name of an agent. Without it one is chosen."""
    run_if: Literal["all_completed", "all_done", "any_completed"] | None = None
    """When the dependencies let it go: all completed (default), all ended (also failed), any completed."""
    failure_strategy: Literal["abort", "retry", "skip", "ask"] | None = None
    """What its failure does, once its retries are used up: abort the run (default; also the end of retry),
    skip what depends on it, or ask a person."""
    max_retries: Annotated[int, Field(ge=0, le=MAX_COUNT)] | None = None
    """How often it is tried again. Default 0; 3 under failure_strategy retry."""
    timeout: Timeout | None = None
    """How long one attempt may take. Default 10 minutes."""
    priority: Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT)] | None = None
    """When places are short, higher goes first. Default 0."""
    estimate: Duration | None = None
    """How long it will take, roughly: helps to start the longest chain first."""
    resources: Demands | None = None
    """What it needs of the named resources: name → units, or a list of names for one unit each."""
    approval: bool | None = None
    """Whether a person must agree before it starts."""
    idempotent: bool | None = None
    """Whether it may safely run twice. If not, a person is asked after a crash. Default: as the agent says,
    else true."""
    inline: bool | None = None
    """Whether it runs beside the scheduler, without a place in the pool."""
    shell: bool | None = None
    """Whether `run` is one text for `sh -c`; values from templates are quoted. Default false: no shell."""
    cwd: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Where the command runs (template); relative to where allready was started."""
    env: Environment | None = None
    """Added to the environment of the command; values are templates. Those of `defaults` are added to."""
    success_codes: SuccessCodes | None = None
    """Exit codes that count as success. Default [0]."""


class TaskFile(TaskSettings):
    """A task: a command (`run`) or something for an agent (`prompt`, or just `agent`)."""

    id: Name
    """Names the task, in `depends_on`, templates and commands."""
    title: str | None = None
    """A few words for people."""
    run: CommandLine | None = None
    """The command (template): text that is split as a shell would, or a list of arguments."""
    prompt: Annotated[str, StringConstraints(min_length=1)] | None = None
    """What to ask of the agent (template). Default, with `agent`: the task's title and the goal."""
    depends_on: list[str] | None = None
    """Ids of the tasks that come first."""


class AgentSettings(_Model):
    """Who can do tasks: in a plan under `agents`, or as the head of a Markdown file."""

    name: Name | None = None
    """Only in Markdown files; in a plan the key is the name."""
    description: str | None = None
    """What it is good at: tasks without a named agent are given to the one whose words fit."""
    kind: Literal["llm", "command", "python", "a2a"] = "llm"
    """What it is: a model, a command, a Python function, or a remote agent."""
    instructions: str | None = None
    """For a model: the system prompt. In a Markdown file this is its body."""
    model: str | None = None
    """For llm: the model's name, such as `openai:gpt-5`."""
    tools: Annotated[list[str], BeforeValidator(_words), _WORDS_SCHEMA] | None = None
    """Names of the tools it may use: a list, or text with commas."""
    run: CommandLine | None = None
    """For command: the command (template)."""
    shell: bool = False
    """For command: whether `run` is one text for `sh -c`."""
    cwd: Annotated[str, StringConstraints(min_length=1)] | None = None
    """For command: where it runs."""
    env: Environment = Field(default_factory=dict)
    """For command: added to its environment."""
    success_codes: SuccessCodes = Field(default_factory=lambda: [0])
    """For command: exit codes that count as success."""
    function: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")] | None = None
    """For python: `package.module:function`."""
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")] | None = None
    """For a2a: the address of the remote agent."""
    max_concurrent: Count | None = None
    """How many of its attempts may run at the same time."""
    resources: Demands = Field(default_factory=dict)
    """What each of its attempts needs of the named resources."""
    idempotent: bool | None = None
    """Whether its work may safely be done twice."""
    timeout: Timeout | None = None
    """How long one attempt may take, for tasks that don't say."""
    limits: LimitsFile | None = None
    """What one attempt may use up."""

    @model_validator(mode="after")
    def _check_kind(self) -> AgentSettings:
        for kind, key in (("command", "run"), ("python", "function"), ("a2a", "url")):
            value = getattr(self, key)
            if self.kind == kind and value is None:
                raise PydanticCustomError(
                    "plan", "{text}", {"text": f"an agent of kind {kind} needs the key {key}"}
                )
            if self.kind != kind and value is not None:
                raise PydanticCustomError("plan", "{text}", {"text": f"the key {key} needs kind: {kind}"})
        return self


class PlanHead(_Model):
    """All of a plan but its tasks."""

    goal: str = ""
    """What it is all for."""
    max_parallel: Count | None = None
    """How many sub-agents run at the same time, unless the command line says otherwise. Default 5."""
    vars: dict[VariableName, Any] = Field(default_factory=dict)
    """Variables for templates, with their default values; filled by `--set name=value`. One without a value
    must be set."""
    defaults: TaskSettings = Field(default_factory=TaskSettings)
    """Settings for all tasks that don't say otherwise."""
    agents: dict[Name, AgentSettings] = Field(default_factory=dict)
    """Agents of this plan: name → settings."""
    limits: LimitsFile = Field(default_factory=LimitsFile)
    """What the whole run may use up."""
    resources: dict[Name, Annotated[int, Field(ge=0, le=MAX_COUNT)]] = Field(default_factory=dict)
    """Named resources of the pool: name → how many units there are."""
    timeout: Timeout | None = None
    """How long the whole run may take."""
    answer: bool = False
    """Whether the run ends with an answer to the goal, made of what its tasks gave: one more task,
    `answer`. Default false."""


class PlanFile(PlanHead):
    """A plan for allready: tasks, what they depend on, and their settings."""

    tasks: Annotated[list[TaskFile], Field(min_length=1)]
    """What is to be done, in any order."""


def plan_schema() -> dict[str, Any]:
    """Give the JSON Schema of plan files, as `allready schema plan` prints it."""
    schema = PlanFile.model_json_schema()
    return {"$schema": SCHEMA_DIALECT, "title": "allready plan", **_without_nulls(schema)}


def _without_nulls(node: Any) -> Any:
    """Take away what only the models need: null as "not given", and titles made from names."""
    if isinstance(node, list):
        return [_without_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: _without_nulls(value) for key, value in node.items() if key not in ("default", "title")}
    options = [option for option in result.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1 and len(result["anyOf"]) == 2:
        del result["anyOf"]
        return {**options[0], **result}
    if options:
        result["anyOf"] = options
    return result
