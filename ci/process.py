"""Subprocesses: argument lists through one function."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ci.errors import ToolchainError, ToolMissingError

_TAIL = 40
_PATIENCE_S = 10.0


class ProcessError(ToolchainError):
    """A command that ended with an error; ``tail`` holds the last lines that it printed."""

    def __init__(self, args: Sequence[str], returncode: int, tail: Sequence[str]) -> None:
        printed = "".join(f"\n  | {line}" for line in tail)
        super().__init__(
            f"{shlex.join(args)} ended with exit code {returncode}{printed}",
            cure="read its last lines above",
        )
        self.returncode = returncode
        self.tail = tuple(tail)


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
) -> str:
    """Run a command and return what it printed (standard output and error together).

    Args:
        args: the command; never goes through a shell.
        cwd: the folder that it runs in.
        env: variables on top of this process's own; an empty value removes the variable.
        on_line: called with every line as it is printed.
        timeout: seconds until it is stopped.

    Raises:
        ToolMissingError: there is no such command.
        ProcessError: it ended with another exit code than 0.
    """
    command = [str(arg) for arg in args]
    environment = {**os.environ, **(env or {})}
    for name in [name for name, value in (env or {}).items() if value == ""]:
        del environment[name]
    process = _start(command, cwd, environment)
    lines: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL)
    too_long = threading.Event()

    def stop() -> None:
        too_long.set()
        _kill(process)

    timer = threading.Timer(timeout or 0, stop)
    if timeout is not None:
        timer.start()
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                text = line.rstrip("\n")
                lines.append(text)
                tail.append(text)
                if on_line is not None:
                    on_line(text)
            returncode = process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            timer.cancel()
    if too_long.is_set():
        tail.append(f"was stopped after {timeout} s")
    if returncode != 0:
        raise ProcessError(command, returncode, tail)
    return "\n".join(lines)


def _start(
    command: list[str], cwd: Path | None, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            # a group of its own, so that what it started can be stopped with it
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ToolchainError(f"no folder {cwd}", cure="check the path") from error
        raise ToolMissingError(
            f"there is no command {command[0]!r} on this machine",
            cure=f"install {Path(command[0]).name} or put it on PATH",
        ) from error


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    # ninja gives each compiler a group of its own, and ends them when it is asked to end itself
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_PATIENCE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
