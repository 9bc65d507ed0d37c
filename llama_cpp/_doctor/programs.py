"""Other programs, asked with a limit of time: one that hangs or is broken is an answer, too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    # what a parser gives
    Record = dict[str, Any]

SECONDS = 10.0
_KILLED = 2.0


class Answer(NamedTuple):
    """What a program said."""

    status: int | None
    """Its exit status, negative for a signal; None where it did not run or did not end."""
    output: str
    error: str
    failure: str | None
    """Why there is no answer, in words; None where it ended with status 0."""


def find_program(name: str) -> str | None:
    """Return the path of a program on PATH."""
    return shutil.which(name)


def ask(arguments: Sequence[str], *, seconds: float = SECONDS) -> Answer:
    """Run a program without input and return what it said; never raises, never waits longer.

    Args:
        arguments: the program, found on PATH, and its arguments.
        seconds: after this long it and what it started are killed.
    """
    name = Path(arguments[0]).name
    try:
        # files, since a grandchild that keeps a pipe open would keep us waiting
        output, error = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    except OSError as problem:
        return Answer(None, "", "", f"{name} was not asked: {problem}")
    with output, error:
        try:
            process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=sys.platform != "win32",
            )
        except (OSError, ValueError) as problem:
            return Answer(None, "", "", f"{name} does not run: {problem}")
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Answer(
                None, _text(output), _text(error), f"{name} gave no answer in {seconds:g} s"
            )
        said, complained = _text(output), _text(error)
    return Answer(status, said, complained, _failure(name, status, complained or said))


def ask_json(arguments: Sequence[str], *, seconds: float = SECONDS) -> tuple[Record, str | None]:
    """Run a program that prints one JSON object at the end of what it says, and return that.

    Returns:
        The object and None, or an empty one and why there is none.
    """
    answer = ask(arguments, seconds=seconds)
    if answer.failure is not None:
        return {}, answer.failure
    # drivers print lines of their own before it
    start = ("\n" + answer.output).rfind("\n{")
    try:
        record = json.loads(answer.output[max(start, 0) :])
    except ValueError as error:
        return {}, f"{Path(arguments[0]).name} said no JSON: {error}"
    return record, None


def _failure(name: str, status: int, said: str) -> str | None:
    if status == 0:
        return None
    last = said.strip().splitlines()[-1:] or ["no message"]
    if status < 0:
        with suppress(ValueError):
            return f"{name} was killed by {signal.Signals(-status).name}"
    return f"{name} failed with status {status}: {last[0].strip()}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    # one that waits for a broken driver does not even die
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
