"""The inside of a process that runs one function: `python -m allready.agents.isolated_process DESCRIPTOR`.

The call comes on standard input, as JSON: `function` (`module:qualified.name`), `script` (the file to load
where the module was a script, else null), `args`, `kwargs`, `path` (for `sys.path`). The result goes to the
descriptor, as JSON with either `value`, or `error` with `type`, `message`, `kind` and `retry_after`. The
other side is in `isolated`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from importlib.machinery import SourceFileLoader
from typing import Any

from allready.agents.values import jsonable
from allready.errors import PermanentError, TaskError, TransientError, text_of

SCRIPT_MODULE = "__allready_script__"
"""Name under which a script is loaded, so that what it guards with `__name__ == "__main__"` does not run."""


LOADING_VARIABLE = "ALLREADY_LOADING_SCRIPT"
"""Set while a script is loaded: one that starts its run then, unguarded, would start it again and again."""


def load_function(reference: str, script: str | None = None) -> Callable[..., Any]:
    """Find a function by `module:qualified.name`; raises `PermanentError` if there is none."""
    module_name, _, qualified_name = reference.partition(":")
    try:
        module = importlib.import_module(module_name) if script is None else _load_script(script)
        found = reduce(getattr, qualified_name.split("."), module)
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        where = script or module_name
        raise PermanentError(
            f"the function {qualified_name} can't be loaded from {where} in a process of its own: {error}"
        ) from error
    if not callable(found):
        raise PermanentError(f"{reference} is not a function")
    return found  # type: ignore[no-any-return]


def _load_script(script: str) -> Any:
    loader = SourceFileLoader(SCRIPT_MODULE, script)  # named, since a script may lack the ending .py
    spec = importlib.util.spec_from_loader(SCRIPT_MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module  # dataclasses and type hints look their module up
    sys.argv = [script]
    os.environ[LOADING_VARIABLE] = script
    loader.exec_module(module)
    del os.environ[LOADING_VARIABLE]
    return module


def _call(call: dict[str, Any]) -> Any:
    function = load_function(call["function"], call["script"])
    value = function(*call["args"], **call["kwargs"])
    return asyncio.run(_finish(value)) if inspect.isawaitable(value) else value


async def _finish(value: Any) -> Any:
    return await value


def _describe(error: BaseException) -> dict[str, Any]:
    kinds = {PermanentError: "permanent", TransientError: "transient", TaskError: "task"}
    kind = next((name for base, name in kinds.items() if isinstance(error, base)), "other")
    return {
        "type": type(error).__qualname__,
        "message": text_of(error),
        "kind": kind,
        "retry_after": getattr(error, "retry_after", None) if kind == "transient" else None,
    }


def main(result: int) -> int:
    """Make the call; gives the exit code: 0 if the function returned, 1 if it raised."""
    os.set_inheritable(result, False)  # what the function starts has no business with it
    call = json.loads(sys.stdin.buffer.read())
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    sys.path[:] = call["path"]
    try:
        answer = {"value": jsonable(_call(call))}
    except BaseException as error:
        traceback.print_exc()
        answer = {"error": _describe(error)}
    with open(result, "wb") as file:
        file.write(json.dumps(answer).encode())
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
