"""A screen that nobody looks at: an X server in memory, for what starts no GPU without one."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from ci.errors import ToolMissingError

_PROGRAM = "Xvfb"
_START_S = 60.0


def require_screen() -> str:
    """Return the program of such a screen.

    Raises:
        ToolMissingError: it is not on this machine.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ToolMissingError(
            f"there is no {_PROGRAM} on this machine, and without a screen wine knows no GPU",
            cure="install it (Debian: apt install xvfb)",
        )
    return program


@contextmanager
def screen() -> Iterator[str | None]:
    """Start Xvfb and say its ``DISPLAY``; it ends at the end. None where it does not start.

    Raises:
        ToolMissingError: it is not on this machine.
    """
    program = require_screen()
    reading, writing = os.pipe()
    # the server takes a number that is free and writes it there once it listens
    command = [
        program,
        "-displayfd",
        str(writing),
        "-nolisten",
        "tcp",
        "-screen",
        "0",
        "640x480x24",
    ]
    with os.fdopen(reading, encoding="ascii") as numbers:
        try:
            server = subprocess.Popen(
                command,
                pass_fds=[writing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(writing)
        try:
            ready = select.select([numbers], [], [], _START_S)[0]
            number = numbers.readline().strip() if ready else ""
            yield f":{number}" if number else None
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
