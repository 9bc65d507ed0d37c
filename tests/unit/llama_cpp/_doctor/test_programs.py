"""Other programs: what they say, and what becomes of those that hang."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from llama_cpp._doctor.programs import ask, ask_json


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_an_answer() -> None:
    answer = ask(python("import sys; print('said'); print('complained', file=sys.stderr)"))
    assert answer == (0, "said\n", "complained\n", None)


def test_a_failure_is_the_last_line() -> None:
    answer = ask(python("import sys; print('first\\nno devices', file=sys.stderr); sys.exit(9)"))
    assert answer.status == 9
    assert answer.failure == f"{Path(sys.executable).name} failed with status 9: no devices"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    answer = ask([str(tmp_path / "nvidia-smi")])
    assert answer.status is None
    assert (answer.failure or "").startswith("nvidia-smi does not run: [Errno 2] ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_crash_names_the_signal() -> None:
    answer = ask(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert answer.status == -signal.SIGSEGV
    assert (answer.failure or "").endswith(" was killed by SIGSEGV")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_one_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = tmp_path / "rocminfo"
    program.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nsleep 60\n")
    program.chmod(0o755)
    begin = time.monotonic()
    answer = ask([str(program)], seconds=0.5)
    assert time.monotonic() - begin < 5
    assert (answer.status, answer.failure) == (None, "rocminfo gave no answer in 0.5 s")
    child = Path(f"/proc/{int((tmp_path / 'pid').read_text())}/stat")
    deadline = time.monotonic() + 5
    while child.exists() and " Z " not in child.read_text():
        assert time.monotonic() < deadline, "what the program started is still running"
        time.sleep(0.02)


def test_json_after_what_a_driver_prints() -> None:
    said = python("print('WARNING: radv is not conformant'); print('{\"a\": {\"b\": 1}}')")
    assert ask_json(said) == ({"a": {"b": 1}}, None)
    assert ask_json(python('print(\'{\\n  "a": {\\n    "b": 1\\n  }\\n}\')'))[0] == {"a": {"b": 1}}


def test_no_json() -> None:
    record, failure = ask_json(python("print('{nothing')"))
    assert record == {}
    assert (failure or "").startswith(f"{Path(sys.executable).name} said no JSON: ")
    assert ask_json(python("raise SystemExit(3)"))[1] == (
        f"{Path(sys.executable).name} failed with status 3: no message"
    )
