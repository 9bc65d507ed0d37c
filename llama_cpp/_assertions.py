"""ggml's failed assertions while something is opened: an exception instead of the process's end.

``GGML_ASSERT`` and ``GGML_ABORT`` call a callback, and then ``abort()``. The callback can neither
return something else nor raise into C, but it need not return: what may fail so runs in a thread of
its own, and the callback keeps that thread for ever. Nothing is freed of what it was about to make.

This is for loading and for making a context, which are one thread's work. An assertion in a
computation leaves ggml's other threads waiting for the one that failed, so there it stays the end.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from llama_cpp import _abi, _library, _log

if TYPE_CHECKING:
    from collections.abc import Callable

    Result = TypeVar("Result")


class FailedAssertionError(Exception):
    """ggml would have ended the process; the text is its own."""


class _Call:
    """A call in a thread of its own, and how it ended."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.over = threading.Event()
        self.result: object = None
        self.error: BaseException | None = None
        self.log: _log.Taken | None = None


_calls: dict[int, _Call] = {}
_lock = threading.Lock()
# held for ever: who waits for it waits for ever
_never = threading.Lock()
_never.acquire()
_callback: object = None


def guarded(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a native function in a thread of its own and return what it returns.

    Its log lines become this thread's. What is raised meanwhile (Ctrl-C) is raised at the end; to stop
    the native function itself, give it a callback that looks at
    :func:`llama_cpp._interrupts.deferred`.

    Raises:
        FailedAssertionError: ggml would have ended the process.
    """
    _set_callback()
    call = _Call()
    quiet = _log.quiet()

    def run() -> None:
        if not call.turn.acquire(blocking=False):
            return
        _calls[threading.get_ident()] = call
        try:
            with _log.inherited(quiet):
                call.result = function(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            call.error = error
        finally:
            del _calls[threading.get_ident()]
            call.log = _log.take()
            call.over.set()

    meanwhile = _run(run, call.over)
    if call.log is not None:
        _log.give(call.log)
    if meanwhile is not None:
        raise meanwhile
    if call.error is not None:
        raise call.error
    return cast("Result", call.result)


def _run(function: Callable[[], None], over: threading.Event) -> BaseException | None:
    """Run a function in a thread to its end, whatever is raised in this one, and return that.

    It works with objects that who called would free. A signal handler may raise between any two
    lines here, so the thread may be started twice, and the function has to see to it.
    """
    raised, started = None, False
    while not over.is_set():
        try:
            if not started:
                threading.Thread(target=function, name="llama_cpp-open", daemon=True).start()
                started = True
            over.wait()
        except RuntimeError:  # noqa: PERF203 - once, but for signals
            if not started:
                # no thread is to be had
                raise
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            raised = error
    return raised


def _set_callback() -> None:
    global _callback  # noqa: PLW0603 - ggml has one for the process
    with _lock:
        if _callback is None:
            _callback = _abi.ggml_abort_callback_t(_failed)
            _library.load().ggml_set_abort_callback(_callback)


def _failed(message: bytes | None) -> None:
    """Take ggml's last words; where nobody waits for the thread they go where ggml writes them."""
    message = message or b""
    call = _calls.get(threading.get_ident())
    if call is None:
        with suppress(OSError):
            os.write(2, message + b"\n")
        return
    call.error = FailedAssertionError(message.decode("utf-8", "replace").strip())
    call.log = _log.take()
    call.over.set()
    _never.acquire()
