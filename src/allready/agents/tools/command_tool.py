"""The tool `run`: commands that the agent's rules allow, without a shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from allready.agents.tools.commands_allowed import CommandRule, split_words
from allready.agents.tools.programs import MAX_OUTPUT, Programs
from allready.agents.tools.workspace import Refused
from allready.errors import PermanentError, text_of

RUN_TIME = 120
"""Seconds for a command that sets no time."""
MAX_RUN_TIME = 600
"""Seconds that a command may ask for."""


def command_tool(rules: Sequence[CommandRule], programs: Programs) -> Callable[..., Awaitable[str]]:
    """Give the tool that runs the commands which one of the rules allows."""
    allowed = "; ".join(map(str, rules))

    async def run(command: str, seconds: int = RUN_TIME) -> str:
        if not 0 < seconds <= MAX_RUN_TIME:
            raise Refused(f"seconds must be from 1 to {MAX_RUN_TIME}")
        try:
            argv = split_words(command)
        except ValueError as error:
            raise Refused(str(error)) from None
        if not any(rule.allows(argv) for rule in rules):
            raise Refused(f"this command is not allowed; allowed are: {allowed}")
        try:
            ended = await programs.run(argv, name="run", seconds=seconds)
        except PermanentError as error:
            raise Refused(text_of(error)) from None
        if ended.too_much:
            remark = f"[ended: it wrote more than {MAX_OUTPUT // 1024**2} MiB]"
        elif ended.exit_code is None:
            remark = f"[ended after {seconds} seconds]"
        else:
            remark = f"[exit code {ended.exit_code}]"
        text = ended.text
        return text + ("" if not text or text.endswith("\n") else "\n") + remark

    run.__doc__ = f"""Run a command in the working folder; gives what it writes, and its exit code.

        There is no shell: pipes, redirections, variables and wildcards are plain text. Allowed (… stands for
        any further arguments): {allowed}

        Args:
            command: Program and arguments, quoted as for a shell.
            seconds: How long it may take, at most {MAX_RUN_TIME}.
        """
    return run
