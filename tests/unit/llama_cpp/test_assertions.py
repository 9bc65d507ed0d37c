from __future__ import annotations

import ctypes
import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _library, _log
from llama_cpp._assertions import FailedAssertionError, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

pytestmark = pytest.mark.build


# a key of a file that has none: ggml asserts that there is one
FAILING = """
from llama_cpp import _library
from llama_cpp._assertions import FailedAssertionError, guarded

lib = _library.load()
empty = lib.gguf_init_empty()
"""


def failing() -> object:
    """Ask ggml for a key of a file that has none: it asserts that there is one."""
    lib = _library.load()
    empty = lib.gguf_init_empty()
    assert empty is not None
    return lib.gguf_get_key(empty, 5)


def test_a_result_comes_back() -> None:
    assert guarded(lambda a, b: a + b, 1, 2) == 3


def test_it_runs_in_a_thread_of_its_own() -> None:
    assert guarded(threading.get_ident) != threading.get_ident()


def test_an_exception_comes_back() -> None:
    with pytest.raises(ctypes.ArgumentError):
        guarded(_library.load().ggml_type_size, "two")


def test_a_failed_assertion_is_an_exception() -> None:
    with pytest.raises(FailedAssertionError, match=r"gguf\.cpp:[0-9]+: GGML_ASSERT\(.*\) failed$"):
        guarded(failing)


def test_the_thread_that_failed_stays_where_it_is() -> None:
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(FailedAssertionError):
            guarded(failing)
    assert threading.active_count() == before + 3
    assert all(each.daemon for each in threading.enumerate() if each.name == "llama_cpp-open")


def test_kept_lines_become_the_callers() -> None:
    def complain() -> None:
        _log.receive(4, b"went wrong\n")

    _log.clear()
    with _log.kept():
        guarded(complain)
    assert _log.complaints() == ("went wrong",)


def test_what_a_log_handler_raised_becomes_the_callers() -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record.getMessage())

    handler = Raising()
    _log.LOGGER.addHandler(handler)
    try:
        guarded(lambda: _log.receive(4, b"bad\n"))
        with pytest.raises(RuntimeError, match=r"^bad$"):
            _log.reraise()
    finally:
        _log.LOGGER.removeHandler(handler)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_what_is_raised_while_waiting_is_raised_at_the_end(
    run_python: Callable[..., Outcome],
) -> None:
    outcome = run_python(
        "import os, signal, time\n"
        "from llama_cpp._assertions import guarded\n"
        "ended = []\n"
        "def work():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.3)\n"
        "    ended.append(1)\n"
        "try:\n"
        "    guarded(work)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted after', ended)\n"
    )
    assert (outcome.code, outcome.output) == (0, "interrupted after [1]\n"), outcome.error


def test_an_assertion_elsewhere_still_ends_the_process(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(f"{FAILING}\nguarded(int)\nlib.gguf_get_key(empty, 5)")
    assert outcome.code < 0
    assert "gguf.cpp" in outcome.error


def test_a_process_with_a_kept_thread_ends(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        f"{FAILING}\n"
        "try:\n"
        "    guarded(lib.gguf_get_key, empty, 5)\n"
        "except FailedAssertionError:\n"
        "    print('kept')\n"
    )
    assert (outcome.code, outcome.output, outcome.error) == (0, "kept\n", "")
