"""What an llm agent may use: files, commands, web pages, Python functions, and tools of MCP servers.

`names.py` says what the names in an agent's `tools` mean; it is light, so that a plan can be checked without
any model library. The tools themselves are made for one attempt, by `toolsets_for`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.toolsets import AbstractToolset

    from allready.agents.base import Attempt
    from allready.agents.definitions import AgentDefinition


def toolsets_for(definition: AgentDefinition, attempt: Attempt) -> list[AbstractToolset[Any]]:
    """Give the toolsets that the agent may use in this attempt: to be entered, used and left once.

    Raises `PermanentError` if a tool is not there (which `tools_problem` says before anything runs).
    Needs the extra `llm`.
    """
    from allready.agents.tools.assemble import assemble

    return assemble(definition, attempt)
