"""A plan before it runs, and the person in front of the terminal: run it, edit it, or leave it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allready.cli.planning_view import plan_lines
from allready.cli.tables import count, say
from allready.cli.text import clean, clean_line
from allready.errors import PlanError, UserError

if TYPE_CHECKING:
    from allready.engine.compile import Compiled

EDITORS = ("sensible-editor", "nano", "vi")
"""Tried in this order where neither VISUAL nor EDITOR says which one is liked."""
QUESTION = {"r": "run", "e": "edit", "q": "quit"}
MENDING = {"e": "edit", "q": "quit"}
"""First letter of an answer → what it stands for. As with all our questions an empty line is no answer: a run
costs money, and Enter is typed too easily."""
HEAD = """\
# Change what you like, save, and leave the editor: the plan is shown again before anything runs.
"""

Load = Callable[[str, str | None], "Compiled"]
"""Makes a plan ready to run from its text and the name of the file it is in; raises `PlanError`."""


class Draft:
    """A plan as it stands between the planner and the run, and the file in which it is edited."""

    def __init__(self, document: Mapping[str, Any], load: Load) -> None:
        from allready.plan.dump import plan_to_yaml

        self._load = load
        text = plan_to_yaml(document)
        self.compiled = load(text, None)
        """The last version that was valid."""
        self._first = (HEAD + text).encode()
        self._accepted = self._first
        """What `compiled` was made from."""
        self._file: Path | None = None

    def edit(self) -> str | None:
        """Let the person edit the text; gives what is wrong with it, None if it is a plan.

        Raises `UserError` if there is no editor, or it failed: the plan is as before.
        """
        try:
            file = self._file or self._make_file()
            run_editor(file)
            data = file.read_bytes()
        except OSError as error:
            raise UserError(f"{error.filename or 'the plan'} can't be edited: {error.strerror}") from None
        if data == self._accepted:
            return None
        try:
            self.compiled = self._load(data.decode("utf-8"), str(file))
        except UnicodeDecodeError:
            return f"{file}: not text in UTF-8"
        except PlanError as error:
            return str(error)
        self._accepted = data
        return None

    def _make_file(self) -> Path:
        descriptor, name = tempfile.mkstemp(prefix="allready-", suffix=".yaml")
        self._file = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._accepted)
        return self._file

    def leave(self, *, run: bool) -> Path | None:
        """Remove the file, unless it has what would be lost otherwise: then it is given.

        `run` says that there is a run now, which keeps the plan.
        """
        file = self._file
        if file is None or not file.exists():
            return None
        if file.read_bytes() != (self._accepted if run else self._first):
            return file
        file.unlink()
        return None


def confirm(draft: Draft, run_hint: Callable[[Path], str]) -> Compiled | None:
    """Show the plan and ask until it is to be run (it is given), or not (None).

    `run_hint` gives the command that runs a plan file: for what was edited, if it is not run now.
    """
    run = False
    try:
        run = _ask_until_settled(draft)
    except KeyboardInterrupt:
        print()
        raise
    finally:
        file = draft.leave(run=run)
        if file is not None:
            say(f"what you edited is in {file}; run it with: {run_hint(file)}")
    return draft.compiled if run else None


def _ask_until_settled(draft: Draft) -> bool:
    """Say whether the plan is to be run."""
    _show(draft)
    question = QUESTION
    while (answer := ask(question)) == "edit":
        before = draft.compiled
        try:
            wrong = draft.edit()
        except UserError as error:
            print(f"allready: {clean(str(error))}", file=sys.stderr)
            continue
        question = MENDING if wrong is not None else QUESTION
        if wrong is not None:
            say(clean(wrong))
            say(f"{count(len(wrong.splitlines()), 'problem')} in the plan as it was edited")
        elif draft.compiled is before:
            say("the plan was not changed")
        else:
            _show(draft)
    return answer == "run"


def _show(draft: Draft) -> None:
    for line in plan_lines(draft.compiled):
        say(line)
    say()


def ask(answers: Mapping[str, str]) -> str:
    """Ask until one of the answers is given; the end of the input is the last of them."""
    choices = ", ".join(f"[{letter}]{word[1:]}" for letter, word in answers.items())
    while True:
        print(f"{choices}? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            print()
            return [*answers.values()][-1]
        answer = answers.get(line.strip().lower()[:1])
        if answer is not None:
            return answer
        if line.strip():
            print(f"answer with {' or '.join(answers)}")


# --- the editor -------------------------------------------------------------------------------------------


def editor() -> list[str]:
    """Give the command of the person's editor. Raises `UserError` if there is none."""
    for name in ("VISUAL", "EDITOR"):
        text = os.environ.get(name, "").strip()
        if text:
            try:
                return shlex.split(text)
            except ValueError as error:
                raise UserError(f"{name} can't be understood ({error}): {clean_line(text)}") from None
    for name in EDITORS:
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise UserError("there is no editor: name one in the environment variable EDITOR")


def run_editor(file: Path) -> None:
    """Let the person edit a file; returns when the editor is left. Raises `UserError` if it failed."""
    command = editor()
    try:
        with _deaf():
            code = subprocess.call([*command, str(file)])
    except OSError as error:
        raise UserError(f"the editor {command[0]} can't be started: {error.strerror}") from None
    if code != 0:
        raise UserError(f"the editor {command[0]} ended with code {code}: the plan is as it was before")


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Leave Ctrl-C to the editor: the terminal sends it to both of us."""
    # a handler of ours, as SIG_IGN would be inherited by the editor
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
