"""Ctrl-C during a long native call that calls back into Python.

Python runs its signal handlers at the next bytecode of the main thread. Inside a long C call that is
a callback's, and an exception that leaves a callback is printed and lost: the Ctrl-C would be, too.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Interrupt:
    """Whether Ctrl-C was pressed since :func:`deferred` began."""

    def __init__(self) -> None:
        """Start with no."""
        self.pressed = False


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of raising; hand it to the application's own handler at the end.

    Only the main thread can change signal handlers; elsewhere, and where the application has left
    the default to the system, this does nothing.
    """
    interrupt = Interrupt()
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield interrupt
        return
    frames: list[object] = []

    def note(_number: int, frame: object) -> None:
        interrupt.pressed = True
        frames.append(frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, handler)
    if frames:
        handler(signal.SIGINT, frames[0])  # type: ignore[arg-type]
