"""For tests, ours and yours: a virtual clock, and models and their servers that answer as they are told."""

from typing import TYPE_CHECKING, Any

from allready.engine.virtual_clock import DeadlockError as DeadlockError
from allready.engine.virtual_clock import VirtualClockLoop as VirtualClockLoop
from allready.engine.virtual_clock import run_virtual as run_virtual
from allready.testing.llm_server import ScriptedServer as ScriptedServer
from allready.testing.script import Call as Call
from allready.testing.script import Dropped as Dropped
from allready.testing.script import Refused as Refused
from allready.testing.script import Request as Request
from allready.testing.script import overloaded as overloaded
from allready.testing.script import rate_limited as rate_limited

if TYPE_CHECKING:
    from allready.testing.model import ScriptedModel as ScriptedModel


def __getattr__(name: str) -> Any:
    if name == "ScriptedModel":  # imports pydantic-ai, which takes a second
        from allready.testing.model import ScriptedModel

        return ScriptedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
