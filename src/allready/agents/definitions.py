"""Who can do tasks: agent definitions, from plans and from Markdown files with YAML front matter.

The files have the format that people already keep in `.claude/agents/*.md`:

    ---
    name: reviewer
    description: Reviews changes for bugs and missing tests
    tools: Read, Grep
    model: openai:gpt-5
    max_concurrent: 2
    ---
    You review code. …

What is there for Claude Code only (its models' short names, tools that are not here) is set aside in `notes`,
so that the agent can be made again from its settings, in another process. Python code (tools, functions and
models that are objects of modules) is taken from our own files alone, and reading files imports none of it.

They are read from the project's `.allready/agents/` and `.claude/agents/`, then from the user's own
`~/.config/allready/agents` and `~/.claude/agents`, with their subfolders. Of several with the same name the
first is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from allready.agents.models import PYTHON, split_name
from allready.agents.tools.names import OURS_ONLY, READ_ONLY, resolve_tools
from allready.errors import PlanError, Problem
from allready.plan.commands import split_command, unsafe_in_shell
from allready.plan.document import Document, check_plain, place_in, sorted_problems
from allready.plan.models import ID_PATTERN, AgentSettings
from allready.plan.plan import Limits
from allready.plan.positions import Place, Positions
from allready.plan.problems import findings, model_keys, unknown
from allready.plan.template import names_used
from allready.plan.yaml_positions import parse_yaml

MAX_FILE_BYTES = 1024 * 1024
"""Of an agent's file: instructions of that size would fill a model's window."""
MAX_FILES = 2_000
"""Agent files in one folder with its subfolders; more is a folder that was not meant."""
SUFFIX = ".md"
FENCE = "---"
"""The line before and after the front matter."""

CLAUDE_MODELS = frozenset({"sonnet", "opus", "haiku", "inherit", "default"})
"""Short names in files of `.claude/agents/`, for Claude Code's own choice; all mean the run's model here."""

_KEYS = model_keys(AgentSettings)


@dataclass(slots=True)
class AgentDefinition:
    """An agent: its name and settings. The keys are those of agent files; times in seconds."""

    name: str
    kind: Literal["llm", "command", "python", "a2a"] = "llm"
    description: str = ""
    instructions: str = ""
    """The system prompt: the body of the Markdown file."""
    model: str | None = None
    tools: tuple[str, ...] | None = None
    """Names of the tools it may use; None: nothing was said about them."""
    argv: tuple[str, ...] = ()
    """For kind command: templates, one an argument; with `shell` a single one for `sh -c`."""
    shell: bool = False
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    success_codes: tuple[int, ...] = (0,)
    function: str | None = None
    """For kind python: `package.module:function`."""
    url: str | None = None
    """For kind a2a: the remote agent's address."""
    max_concurrent: int | None = None
    """How many of its attempts may run at once; None: as many as the pool has places."""
    resources: Mapping[str, int] = field(default_factory=dict)
    idempotent: bool | None = None
    timeout: float | None = None
    """For tasks that don't say otherwise."""
    limits: Limits = field(default_factory=Limits)
    """What one attempt may use up."""
    source: Path | None = None
    """Its file; None for one that a plan defines."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the front matter that other programs know and we don't (`color` and the like), and what a file
    of `.claude/agents/` says about `tools` and `model` that means something else here."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What it was made from, as JSON values: `from_settings(name, settings)` makes it again."""

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, Any]) -> AgentDefinition:
        """Make the agent that a plan defines under `agents`.

        Raises `PlanError` with all that is wrong in the settings.
        """
        document = Document({"agents": {name: dict(settings)}})
        return _define({"name": name, **settings}, document, ("agents", name), "")


class AgentLibrary(NamedTuple):
    """What was found in the agents' folders."""

    agents: dict[str, AgentDefinition]
    """By name, in the order in which they were found."""
    problems: list[Problem]
    """Why some files could not be taken."""
    warnings: list[Problem]
    """What is odd in files that could be taken, or are not meant for us."""
    shadowed: list[AgentDefinition]
    """Those that an earlier one of the same name stands before."""


class _Folder(NamedTuple):
    path: Path
    ours: bool
    """Whether it is for allready alone, so that a key we don't know is a slip of the pen."""


class _NotAnAgent(Exception):
    """The file has no front matter."""


def load_agents(base_dir: Path, home: Path | None = None) -> AgentLibrary:
    """Read all agent files of the project at `base_dir` and of the user (`home`, else the user's own).

    What is wrong with one file hides no other: it is in `problems`.
    """
    library = AgentLibrary({}, [], [], [])
    seen: set[Path] = set()
    for folder in agent_folders(base_dir, home):
        real = folder.path.resolve()
        if real not in seen:
            seen.add(real)
            _read_folder(folder, base_dir, library)
    return library


def agent_folders(base_dir: Path, home: Path | None = None) -> list[_Folder]:
    """Give the folders that agents are read from, first come first; whether they exist or not."""
    configured = os.environ.get("XDG_CONFIG_HOME", "") if home is None else ""
    home = Path.home() if home is None else home
    # relative paths in XDG_CONFIG_HOME are invalid and to be ignored, says its specification
    config = Path(configured) if Path(configured).is_absolute() else home / ".config"
    return [
        _Folder(base_dir / ".allready" / "agents", ours=True),
        _Folder(base_dir / ".claude" / "agents", ours=False),
        _Folder(config / "allready" / "agents", ours=True),
        _Folder(home / ".claude" / "agents", ours=False),
    ]


def _read_folder(folder: _Folder, base_dir: Path, library: AgentLibrary) -> None:
    own: dict[str, AgentDefinition] = {}
    for path in _agent_files(folder.path, library.problems):
        shown = _as_text(path.relative_to(base_dir) if path.is_relative_to(base_dir) else path)
        try:
            text = _read_text(path, shown)
            definition, warnings = parse_agent(
                text, file=shown, stem=_as_text(Path(path.stem)), ours=folder.ours, base_dir=base_dir
            )
        except _NotAnAgent:
            message = f"no agent: it has no front matter (settings between two lines of {FENCE} at its start)"
            (library.problems if folder.ours else library.warnings).append(Problem(message, shown, 1, 1))
            continue
        except PlanError as error:
            library.problems.extend(error.problems)
            continue
        definition.source = path
        library.warnings.extend(warnings)
        if definition.name in own:
            first = own[definition.name].source
            message = f"the agent {definition.name!r} is also in {first}, which is taken: rename one"
            library.warnings.append(Problem(message, shown))
        own.setdefault(definition.name, definition)
        if library.agents.setdefault(definition.name, definition) is not definition:
            library.shadowed.append(definition)


def _agent_files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError) or error.filename != str(folder):
            problems.append(Problem(f"the folder can't be read: {error.strerror}", str(error.filename)))

    count = 0
    for parent, below, names in os.walk(folder, onerror=unreadable):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIX) and not name.startswith("."):
                count += 1
                if count > MAX_FILES:
                    problems.append(
                        Problem(f"more than {MAX_FILES:,} agent files: the rest is left out", str(folder))
                    )
                    return
                yield Path(parent, name)


def _as_text(path: Path) -> str:
    """Give a path so that it can be printed, whatever bytes its names are made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def _read_text(path: Path, shown: str) -> str:
    try:
        if not path.is_file():
            raise PlanError([Problem("not a regular file (a link that leads nowhere?)", shown)])
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PlanError([Problem(f"can't be read: {error.strerror or error}", shown)]) from None
    if len(data) > MAX_FILE_BYTES:
        raise PlanError([Problem(f"larger than {MAX_FILE_BYTES // 1024:,} KiB", shown)])
    try:
        text = data.decode("utf-8")
        place = data.find(b"\0")
    except UnicodeDecodeError as error:
        text, place = "", error.start
    if place >= 0:
        raise PlanError([Problem("not text in UTF-8", shown, *place_in(data, place))])
    return text


def parse_agent(
    text: str,
    *,
    file: str | None = None,
    stem: str = "",
    ours: bool = True,
    base_dir: Path | None = None,
) -> tuple[AgentDefinition, list[Problem]]:
    """Make an agent from the text of its Markdown file; give it with warnings about what is ignored in it.

    Without a `name` in it, it is called `stem`. Unless the file is `ours`, keys that we don't know are no
    mistake, values need not be quoted as YAML wants it (`description: Use it: often` is common), and tools
    that are not here are left out; MCP servers are looked up in the project at `base_dir`, else in the
    current directory. Raises `PlanError` with all that is wrong.
    """
    head, body = _split(text, file)
    value, positions = _parse_head(head, file, lenient=not ours)
    value = {} if value is None else value
    document = Document(value, file, lambda: positions or Positions(Place(2, 1)))
    check_plain(document)
    if not isinstance(value, dict):
        raise PlanError([document.problem("the front matter must be a mapping: lines of `key: value`")])
    notes = {key: item for key, item in value.items() if key not in _KEYS}
    settings = {key: item for key, item in value.items() if key in _KEYS}
    if settings.get("name") is None:
        if not re.fullmatch(ID_PATTERN, stem):
            message = f"the file's name, {stem!r}, can't be the name of an agent: add a line `name: …`"
            raise PlanError([document.problem(message)])
        settings["name"] = stem
    if body and settings.get("instructions"):
        message = "the instructions are here and below the front matter: keep one of the two"
        raise PlanError([document.problem(message, ("instructions",), at_key=True)])
    definition = _define(settings, document, (), body)
    definition.notes = notes
    if not ours:
        return _adopt(definition, document, base_dir or Path.cwd())
    warnings = [
        document.problem(f"{unknown('key', key, _KEYS)}; it is ignored", (key,), at_key=True) for key in notes
    ]
    return definition, warnings


def _adopt(
    definition: AgentDefinition, document: Document, base_dir: Path
) -> tuple[AgentDefinition, list[Problem]]:
    """Translate what a file for Claude Code says about model and tools; its own words stay in the notes.

    Nothing is imported for it, and nothing will be. Raises `PlanError` if the agent is itself Python code.
    """
    for key, value in (("function", definition.function), ("model", definition.model)):
        if value is not None and (key == "function" or split_name(value)[0] == PYTHON):
            raise PlanError([document.problem(f"{definition.name}: {key} {value}: {OURS_ONLY}", (key,))])
    if definition.kind != "llm":
        return definition, []
    notes, settings = dict(definition.notes), dict(definition.settings)
    warnings = []
    if definition.model in CLAUDE_MODELS:
        notes["model"] = settings.pop("model")
        definition.model = None
    if definition.tools is None or "*" in definition.tools:
        notes["tools"] = list(definition.tools or ("*",))
        definition.tools = READ_ONLY
    else:
        choice = resolve_tools(definition, base_dir, functions=False)
        definition.tools = tuple(choice.available)
        if choice.missing:
            notes["tools"] = [missing.name for missing in choice.missing]
            told = ", ".join(map(str, choice.missing))
            warnings.append(document.problem(f"{definition.name}: not here: {told}", ("tools",)))
    settings["tools"] = list(definition.tools)
    definition.notes, definition.settings = notes, settings
    return definition, warnings


def _split(text: str, file: str | None) -> tuple[str, str]:
    """Part a file's text into front matter and body."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != FENCE:
        raise _NotAnAgent
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == FENCE:
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]).strip()
    message = f"the front matter is not closed: put a line {FENCE} after its last key"
    raise PlanError([Problem(message, file, 1, 1)])


_PLAIN_LINE = re.compile(r"^([A-Za-z][\w-]*: +)([^\s'\"\[{|>].*)$", re.MULTILINE)
_NEEDS_QUOTES = re.compile(r": | #|:$|^[@`%&*!]")


def _parse_head(head: str, file: str | None, *, lenient: bool) -> tuple[Any, Positions | None]:
    try:
        return parse_yaml(head, file=file, first_line=2)
    except PlanError:
        quoted = _PLAIN_LINE.sub(_quote_if_needed, head)
        if not lenient or quoted == head:
            raise
        try:
            return parse_yaml(quoted, file=file, first_line=2)
        except PlanError:
            pass
        raise


def _quote_if_needed(line: re.Match[str]) -> str:
    if _NEEDS_QUOTES.search(line[2]):
        return line[1] + "'" + line[2].replace("'", "''") + "'"
    return line[0]


def _define(
    settings: dict[str, Any], document: Document, path: tuple[str | int, ...], body: str
) -> AgentDefinition:
    """Check the settings, which stand at `path` in the document, and make the agent."""
    try:
        checked = AgentSettings.model_validate(settings)
    except ValidationError as error:
        problems = [
            document.problem(found.message, (*path, *found.path), at_key=found.at_key)
            for found in findings(error, settings, _KEYS)
        ]
        raise PlanError(sorted_problems(problems)) from None
    try:
        argv = _argv(checked)
    except ValueError as error:
        raise PlanError([document.problem(str(error), (*path, "run"))]) from None
    instructions = body or (checked.instructions or "").strip()
    plain = {key: value for key, value in settings.items() if key not in ("name", "instructions")}
    return AgentDefinition(
        name=checked.name or "",
        kind=checked.kind,
        description=checked.description or "",
        instructions=instructions,
        model=checked.model,
        tools=None if checked.tools is None else tuple(checked.tools),
        argv=argv,
        shell=checked.shell,
        cwd=checked.cwd,
        env=checked.env,
        success_codes=tuple(checked.success_codes),
        function=checked.function,
        url=checked.url,
        max_concurrent=checked.max_concurrent,
        resources=checked.resources,
        idempotent=checked.idempotent,
        timeout=checked.timeout,
        limits=Limits(**checked.limits.model_dump()) if checked.limits else Limits(),
        settings=plain | ({"instructions": instructions} if instructions else {}),
    )


def _argv(settings: AgentSettings) -> tuple[str, ...]:
    """Give the command's arguments. Raises `ValueError` that says what is wrong with it."""
    run = settings.run
    if run is None:
        return ()
    if settings.shell and not isinstance(run, str):
        raise ValueError("run must be one text with shell: true, not a list")
    if settings.shell and isinstance(run, str):
        unsafe = unsafe_in_shell(run)
        if unsafe is not None:
            raise ValueError(
                f"{unsafe} is not safe inside quotes: its value brings its own, so put it outside"
            )
        argv: tuple[str, ...] = (run,)
    else:
        argv = split_command(run) if isinstance(run, str) else tuple(run)
    if not argv or not argv[0].strip():
        raise ValueError("run names no program")
    for argument in argv:
        names_used(argument)
    return argv
