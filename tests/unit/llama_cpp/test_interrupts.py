"""Ctrl-C during native calls."""

from __future__ import annotations

import signal
import threading

import pytest

from llama_cpp._interrupts import deferred


def test_ctrl_c_is_noted_and_raised_at_the_end() -> None:
    seen = []

    def run() -> None:
        with deferred() as interrupt:
            seen.append(interrupt.pressed)
            signal.raise_signal(signal.SIGINT)
            seen.append(interrupt.pressed)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [False, True]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_ctrl_c_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred() as interrupt:
        pass
    assert not interrupt.pressed
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_comes_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match=r"^inside$"), deferred():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_handlers_alone() -> None:
    same = []

    def run() -> None:
        before = signal.getsignal(signal.SIGINT)
        with deferred():
            same.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert same == [True]
