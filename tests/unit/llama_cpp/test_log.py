"""llama.cpp's log on its way into logging."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from llama_cpp import ValidationError, _log

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUG, INFO, WARN, ERROR, CONT = 1, 2, 3, 4, 5


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    _log.complaints()
    yield
    _log.complaints()
    _log.LOGGER.setLevel(logging.NOTSET)


def test_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "llama_cpp")
    for level, text in ((DEBUG, b"d\n"), (INFO, b"i\n"), (WARN, b"w\n"), (ERROR, b"e\n")):
        _log.receive(level, text)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "d"),
        ("INFO", "i"),
        ("WARNING", "w"),
        ("ERROR", "e"),
    ]


def test_continuations_join_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llama_cpp")
    for text in (b"loading ", b".", b".", b"\n"):
        _log.receive(CONT if text != b"loading " else INFO, text)
    _log.receive(INFO, b"two\nlines\n")
    assert caplog.messages == ["loading ..", "two", "lines"]


def test_unfinished_line_ends_where_the_next_begins(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llama_cpp")
    _log.receive(WARN, b"half")
    _log.receive(INFO, b"next\n")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", "half"),
        ("INFO", "next"),
    ]


def test_percent_signs_and_bad_utf8_are_harmless(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llama_cpp")
    _log.receive(INFO, b"100 %s \xff\n")
    _log.receive(INFO, None)
    assert caplog.messages == ["100 %s \ufffd"]


def test_complaints_are_kept_once_and_per_thread() -> None:
    other: list[tuple[str, ...]] = []

    def elsewhere() -> None:
        _log.receive(ERROR, b"other\n")
        other.append(_log.complaints())

    _log.receive(INFO, b"info\n")
    _log.receive(WARN, b"warn\n")
    _log.receive(ERROR, b"error")
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert _log.complaints() == ("warn", "error")
    assert _log.complaints() == ()
    assert other == [("other",)]


def test_clear_forgets() -> None:
    _log.receive(ERROR, b"old\n")
    _log.clear()
    assert _log.complaints() == ()


def test_a_raising_handler_is_reported_after_the_call() -> None:
    class Stop(BaseException):
        pass

    class Handler(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise Stop

    handler = Handler()
    _log.LOGGER.addHandler(handler)
    try:
        _log.receive(ERROR, b"boom\n")
    finally:
        _log.LOGGER.removeHandler(handler)
    with pytest.raises(Stop):
        _log.reraise()
    _log.reraise()


def test_verbose_switches_unless_the_application_chose() -> None:
    _log.set_verbose(False)
    assert _log.LOGGER.level == logging.ERROR
    _log.set_verbose(True)
    assert _log.LOGGER.level == logging.NOTSET
    _log.LOGGER.setLevel(logging.DEBUG)
    _log.set_verbose(False)
    assert _log.LOGGER.level == logging.DEBUG


@pytest.mark.parametrize(
    ("level", "passing"),
    [
        pytest.param("debug", "diwe", id="debug"),
        pytest.param("Warning", "we", id="name in any case"),
        pytest.param("critical", "", id="critical"),
        pytest.param(logging.ERROR, "e", id="number of logging"),
        pytest.param(3, "we", id="number of ggml"),
        pytest.param(2, "iwe", id="ggml's info"),
    ],
)
def test_set_log_level(level: int | str, passing: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _log.set_log_level(level)
    _log.set_verbose(True)
    for number, text in ((DEBUG, b"d\n"), (INFO, b"i\n"), (WARN, b"w\n"), (ERROR, b"e\n")):
        _log.receive(number, text)
    assert "".join(caplog.messages) == passing


@pytest.mark.parametrize("level", [pytest.param("loud", id="name"), pytest.param(-1, id="number")])
def test_no_such_log_level(level: int | str) -> None:
    with pytest.raises(ValidationError) as caught:
        _log.set_log_level(level)
    assert str(caught.value) == (
        f"log level {level!r}; choose one of debug, info, warn, warning, error, critical, "
        "or a number of `logging`"
    )


def test_disabled_and_reset(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _log.disable_logging()
    _log.receive(ERROR, b"unseen\n")
    assert (caplog.messages, _log.complaints()) == ([], ("unseen",))
    _log.reset_logging()
    _log.receive(INFO, b"seen\n")
    assert caplog.messages == ["seen"]
    _log.set_verbose(False)
    _log.receive(INFO, b"not for the quiet\n")
    assert caplog.messages == ["seen"]


def test_suppressed_in_a_block_of_one_thread(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with _log.suppress_stdout_stderr(disable=False), _log.suppress_stdout_stderr():
        with _log.suppress_stdout_stderr(disable=False):
            _log.receive(INFO, b"unseen\n")
        _log.receive(INFO, b"unseen too\n")
        thread = threading.Thread(target=_log.receive, args=(INFO, b"elsewhere\n"))
        thread.start()
        thread.join()
    _log.receive(INFO, b"after\n")
    with _log.suppress_stdout_stderr():
        _log.receive(INFO, b"disabled\n")
    assert caplog.messages == ["elsewhere", "after", "disabled"]
