"""Options that several commands share, and the settings that stand behind them.

Settings come from `[tool.allready]` in pyproject.toml, `allready.toml` and the environment
(`ALLREADY_STORE`, `ALLREADY_MODEL`, `ALLREADY_MAX_PARALLEL`), in rising order; an option on the command line
stands above them all.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allready.errors import PlanError, Problem, UserError

if TYPE_CHECKING:
    from allready.plan.plan import Limits
    from allready.store.contract import Store

MAX_DIGITS = 20
"""Of a number in the environment."""
SHOWN = 100
"""Characters of an argument that a message repeats."""

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Where runs are kept. Default: sqlite:///.allready/runs.db"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong, and the answer.")]
MaxParallelOption = Annotated[
    int | None,
    typer.Option(
        "--max-parallel",
        min=1,
        max=1_000_000,
        metavar="N",
        help="Places in the pool. Default: the plan's, or 5",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="The model, such as openai:gpt-5. Default: ALLREADY_MODEL, or by keys"
    ),
]
MaxTokensOption = Annotated[
    int | None, typer.Option("--max-tokens", min=1, metavar="N", help="Tokens that the run may use up.")
]
MaxRequestsOption = Annotated[
    int | None, typer.Option("--max-requests", min=1, metavar="N", help="Requests to models it may make.")
]
MaxCostOption = Annotated[
    float | None, typer.Option("--max-cost", min=0, metavar="USD", help="US dollars that it may cost.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Give a variable of the plan a value; can be repeated."),
]
PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="A plan file, - for standard input, or package.module:plan.")
]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of one, or latest.")
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task's id.")]


@dataclass(slots=True)
class Settings:
    """What is configured, for commands whose option was not given."""

    store: str | None = None
    model: str | None = None
    max_parallel: int | None = None
    quiet: bool = False
    providers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Provider of models → what it allows, as `ProviderLimits` names it."""

    def limit_providers(self) -> None:
        """Let this process keep to what the providers of models allow."""
        if not self.providers:
            return
        from allready.pool.provider import ProviderLimits, limit_provider

        for name, limits in self.providers.items():
            limit_provider(name, ProviderLimits(**limits))


def load_settings(folder: Path | None = None) -> Settings:
    """Read the configuration of `folder` (None: the current one) and of the environment.

    Raises `PlanError` with everything in it that is not valid.
    """
    folder = folder or Path()
    problems: list[Problem] = []
    settings = Settings()
    for path, table in ((folder / "pyproject.toml", ("tool", "allready")), (folder / "allready.toml", ())):
        for key, value in _read(path, table, problems).items():
            _set(settings, key, value, str(path.name), key, problems)
    for key in ("store", "model", "max_parallel", "quiet"):
        name = f"ALLREADY_{key.upper()}"
        text = os.environ.get(name)
        if text:
            _set(settings, key, _from_text(key, text), "the environment", name, problems)
    if problems:
        raise PlanError(problems)
    return settings


def _read(path: Path, table: tuple[str, ...], problems: list[Problem]) -> dict[str, Any]:
    try:
        content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if table and not isinstance(error, OSError):
            return {}  # somebody else's file: they will tell
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        problems.append(Problem(f"can't be read: {reason}", path.name))
        return {}
    for name in table:
        content = content.get(name, {}) if isinstance(content, dict) else {}
    return content if isinstance(content, dict) else {}


def _from_text(key: str, text: str) -> Any:
    if key == "max_parallel" and text.strip().isdecimal() and len(text) <= MAX_DIGITS:
        return int(text)
    if key == "quiet":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def _set(settings: Settings, key: str, value: Any, where: str, name: str, problems: list[Problem]) -> None:
    wanted = {"store": str, "model": str, "max_parallel": int, "quiet": bool, "providers": dict}
    if key == "providers" and isinstance(value, dict):
        _set_providers(settings, value, where, problems)
    elif key not in wanted:
        problems.append(Problem(f"unknown key {name!r}; there are {', '.join(wanted)}", where))
    elif type(value) is not wanted[key] or (isinstance(value, int) and key == "max_parallel" and value < 1):
        kinds = {
            "store": "a URL or path",
            "model": "the name of a model",
            "max_parallel": "a whole number from 1",
            "quiet": "true or false",
            "providers": "a table: [providers.NAME]",
        }
        problems.append(Problem(f"{name} must be {kinds[key]}, not {value!r}", where))
    else:
        setattr(settings, key, value)


def _set_providers(settings: Settings, tables: dict[str, Any], where: str, problems: list[Problem]) -> None:
    names = ("requests_per_minute", "tokens_per_minute", "max_concurrent")
    for provider, table in tables.items():
        if not isinstance(table, dict):
            problems.append(Problem(f"providers.{provider} must be a table, not {table!r}", where))
            continue
        for name, value in table.items():
            if name not in names:
                known = ", ".join(names)
                problems.append(
                    Problem(f"unknown key 'providers.{provider}.{name}'; there are {known}", where)
                )
            elif type(value) is not int or value < 1:
                text = f"providers.{provider}.{name} must be a whole number from 1, not {value!r}"
                problems.append(Problem(text, where))
            else:
                settings.providers.setdefault(provider, {})[name] = value


def variables_of(given: list[str] | None) -> dict[str, str]:
    """Give the variables of `--set`. Raises `UserError` for what is not NAME=VALUE."""
    found = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UserError(f"--set {text[:SHOWN]}: write --set NAME=VALUE")
        found[name] = value
    return found


def limits_of(max_tokens: int | None, max_requests: int | None, max_cost: float | None) -> Limits:
    """Give the limits of the options. Raises `UserError` for a cost of nothing."""
    from allready.plan.plan import Limits

    if max_cost == 0:
        raise UserError("--max-cost must be more than 0")
    return Limits(max_tokens, max_requests, max_cost)


def open_settled_store(store: str | None, *, create: bool = False) -> Store:
    """Open the store of an option, else the configured one; without `create` it has to be there."""
    from allready.store.open import open_store

    url = store if store is not None else load_settings().store
    return open_store(url, create=create)


def json_line(value: Any) -> str:
    """Give a value as one line of JSON that stdout can hold."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    return json.dumps(value, ensure_ascii=not unicode, separators=(",", ":")) + "\n"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(json_line(value))
    sys.stdout.flush()
