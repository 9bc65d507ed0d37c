"""llama.cpp's log, routed into ``logging`` under the name ``llama_cpp``.

llama.cpp writes to stderr until a callback is set. The callback here turns its output into lines,
hands each line to ``logging`` and keeps the last warnings and errors of each thread for exceptions.
No file descriptor is ever touched.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

LOGGER = logging.getLogger("llama_cpp")

_KEPT_LINES = 16

# enum ggml_log_level in ggml.h: NONE 0, DEBUG 1, INFO 2, WARN 3, ERROR 4, CONT 5
_NONE = 0
_WARN = 3
_CONT = 5
_LEVELS = (logging.INFO, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_LEVEL_NAMES = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_NOTHING = logging.CRITICAL + 1


class _ThreadState(threading.local):
    """One thread's unfinished line, its last complaints, and what a callback raised."""

    def __init__(self) -> None:
        self.text = ""
        self.level = _NONE
        self.complaints: deque[str] = deque(maxlen=_KEPT_LINES)
        self.raised: BaseException | None = None
        self.quiet = False


_state = _ThreadState()
_applied_level = logging.NOTSET


def receive(level: int, text: bytes | None, _user_data: object = None) -> None:
    """Take one piece of llama.cpp's log; never raises, because C is below it on the stack.

    Args:
        level: ``enum ggml_log_level``; 5 continues the previous piece.
        text: UTF-8 bytes; a line ends with a newline, a piece need not.
    """
    try:
        _receive(level, (text or b"").decode("utf-8", "replace"))
    except BaseException as error:  # noqa: BLE001 - ctypes would print it and go on
        _state.raised = error


def _receive(level: int, text: str) -> None:
    state = _state
    if level != _CONT:
        if state.text:
            _emit(state.level, state.text)
            state.text = ""
        state.level = level
    state.text += text
    if "\n" in state.text:
        *lines, state.text = state.text.split("\n")
        for line in lines:
            _emit(state.level, line)


def _emit(level: int, line: str) -> None:
    line = line.rstrip()
    if not line:
        return
    if _WARN <= level < _CONT:
        _state.complaints.append(line)
    if _state.quiet:
        return
    LOGGER.log(_LEVELS[level] if level < _CONT else logging.INFO, "%s", line)


def clear() -> None:
    """Forget this thread's kept lines; called before an operation whose failure will ask for them."""
    _state.complaints.clear()


@contextmanager
def kept() -> Iterator[None]:
    """Keep this thread's warnings and errors for :func:`complaints` alone: the caller tells them."""
    _state.quiet = True
    try:
        yield
    finally:
        _state.quiet = False


def complaints() -> tuple[str, ...]:
    """Return this thread's last warnings and errors, oldest first, and forget them."""
    state = _state
    if state.text:
        _emit(state.level, state.text)
        state.text = ""
    lines = tuple(state.complaints)
    state.complaints.clear()
    return lines


class Taken(NamedTuple):
    """What a thread has kept, to be given to another."""

    complaints: tuple[str, ...]
    raised: BaseException | None


def take() -> Taken:
    """Return what this thread has kept, and forget it."""
    lines = complaints()
    raised, _state.raised = _state.raised, None
    return Taken(lines, raised)


def give(taken: Taken) -> None:
    """Keep what another thread has kept while it worked for this one."""
    _state.complaints.extend(taken.complaints)
    if _state.raised is None:
        _state.raised = taken.raised


def quiet() -> bool:
    """Whether this thread's lines stay out of the log."""
    return _state.quiet


@contextmanager
def inherited(quiet: bool) -> Iterator[None]:
    """Keep this thread's lines out of the log where those of the thread that it works for are."""
    before, _state.quiet = _state.quiet, quiet
    try:
        yield
    finally:
        _state.quiet = before


def reraise() -> None:
    """Raise what a log handler of the application raised inside the C call just made."""
    state = _state
    if state.raised is not None:
        error, state.raised = state.raised, None
        raise error


def set_verbose(verbose: bool) -> None:
    """Choose what passes the logger ``llama_cpp``: all that the application wants, or errors only.

    A level that the application has set on the logger itself is left alone.
    """
    global _applied_level  # noqa: PLW0603 - the logger is process-wide, and so is this
    if LOGGER.level not in (_applied_level, logging.NOTSET):
        return
    _applied_level = logging.NOTSET if verbose else logging.ERROR
    LOGGER.setLevel(_applied_level)


def set_log_level(level: int | str) -> None:
    """Choose from which level on llama.cpp's lines pass the logger ``llama_cpp``.

    ``verbose`` of a later :class:`llama_cpp.Llama` does not change it. What becomes of the lines is
    for the application's ``logging`` configuration to say; without one Python writes warnings and
    errors to stderr.

    Args:
        level: a level of ``logging`` (``logging.INFO``, ``"info"`` …), or one of ggml's numbers: 1
            debug, 2 info, 3 warning, 4 error; 0 lets everything through.

    Raises:
        ValidationError: there is no such level.
    """
    LOGGER.setLevel(_level(level))


def _level(level: int | str) -> int:
    if isinstance(level, str):
        named = _LEVEL_NAMES.get(level.lower())
        if named is not None:
            return named
    elif isinstance(level, int) and 0 <= level <= _NOTHING:
        return _LEVELS[level] if 0 < level < len(_LEVELS) else level
    raise ValidationError(
        f"log level {level!r}; choose one of {', '.join(_LEVEL_NAMES)}, or a number of `logging`"
    )


def disable_logging() -> None:
    """Let none of llama.cpp's lines pass the logger ``llama_cpp``; exceptions still tell them."""
    LOGGER.setLevel(_NOTHING)


def reset_logging() -> None:
    """Leave the level to the application's ``logging`` configuration again."""
    global _applied_level  # noqa: PLW0603 - the logger is process-wide, and so is this
    _applied_level = logging.NOTSET
    LOGGER.setLevel(logging.NOTSET)


class suppress_stdout_stderr:  # noqa: N801 - the compatible interface's name
    """Keeps llama.cpp's lines of this thread from the log while a ``with`` block runs.

    llama.cpp's output goes through ``logging`` alone here, so the process's stdout and stderr are
    not touched, and other threads lose nothing.
    """

    def __init__(self, disable: bool = True) -> None:
        """Choose whether to do anything.

        Args:
            disable: True leaves the log as it is.
        """
        self.disable = disable
        self._before = False

    def __enter__(self) -> Self:
        """Begin."""
        self._before = _state.quiet
        if not self.disable:
            _state.quiet = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        _state.quiet = self._before
