"""What `doctor` says about the model: which one, why this one, and whether it answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from allready.agents.models import (
    MODEL_SETTINGS,
    NO_LIBRARY,
    Models,
    NoModel,
    choose_model,
    deciding_key,
    has_models,
)
from allready.errors import PermanentError, TaskError, Unreachable, UserError

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

PATIENCE = 15.0
"""Seconds for the answer."""
MAX_TOKENS = 16
"""Of the answer; the least that OpenAI's Responses API takes."""
QUESTION = "Reply with the word ok."


class Verdict(NamedTuple):
    """What came of it."""

    status: str
    """`ok`, `warning` or `problem`."""
    text: str
    hint: str | None = None


def try_model(wanted: str | None, origin: str | None) -> Verdict:
    """Choose the model as a run would and ask it for one word.

    `wanted` is the option's or the configured one, None if there is none; `origin` says where it is from.
    """
    name = choose_model(wanted)
    if name is None:
        commands = "plans of commands and functions need none"
        if not has_models():
            return Verdict("warning", f"none is chosen; {commands}", NO_LIBRARY)
        hosted, local = str(NoModel()).removeprefix("no model is chosen: ").split("\n")
        return Verdict("warning", f"none is chosen; {commands}", f"{hosted} {local}")
    why = origin if wanted else f"{deciding_key(name)} is set"
    chosen = f"{name} ({why})"
    models = Models(name)
    problem = models.problem_of(None)
    if problem is not None:
        said = problem.removeprefix(f"model {name}: ")
        return Verdict("problem", f"{chosen} can't be used: {said}", "or name another one with --model")
    try:
        took = asyncio.run(_ask(models))
    except PermanentError as error:
        return Verdict("problem", f"{chosen}: {_said(error, name)}", "or name another one with --model")
    except Unreachable as error:
        where = "start the server, or say where it is (OPENAI_BASE_URL, OLLAMA_BASE_URL)"
        return Verdict("problem", f"{chosen}: {_said(error, name)}", where)
    except TaskError as error:
        return Verdict("warning", f"{chosen}: {_said(error, name)}", "try again later")
    except UserError as error:
        return Verdict("problem", f"{chosen}: {error}", "name another one with --model")
    return Verdict("ok", f"{chosen} answered in {took:.1f} s")


def _said(error: TaskError, name: str) -> str:
    from allready.agents.provider_errors import DOCTOR

    return str(error).removeprefix(f"{name}: ").removesuffix(DOCTOR).rstrip()


async def _ask(models: Models) -> float:
    """Ask for a word; give the seconds that it took. Raises as `task_error` has it, and `UserError`."""
    model = models.get()
    from pydantic_ai.exceptions import UnexpectedModelBehavior

    from allready.agents.provider_errors import task_error

    start = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE):
            await _one_word(model)
    except UnexpectedModelBehavior:
        pass  # so few tokens may be thoughts alone; but it answered
    except Exception as error:
        raise task_error(error, models.default_name or "") from error
    finally:
        await models.close()
    return time.monotonic() - start


async def _one_word(model: Model) -> None:
    from pydantic_ai.direct import model_request, model_request_stream
    from pydantic_ai.messages import ModelRequest

    from allready.agents.llm import can_stream

    settings: ModelSettings = {"max_retries": MODEL_SETTINGS["max_retries"], "max_tokens": MAX_TOKENS}
    messages = [ModelRequest.user_text_prompt(QUESTION)]
    if not can_stream(model):
        await model_request(model, messages, model_settings=settings)
        return
    async with model_request_stream(model, messages, model_settings=settings) as response:
        async for _ in response:
            pass
