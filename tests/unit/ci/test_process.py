"""Subprocesses: what they print, how they end, what is missing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from ci.errors import ToolchainError, ToolMissingError
from ci.process import ProcessError, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_of_both_streams_comes_in_order() -> None:
    code = "import sys; print('a', flush=True); print('b', file=sys.stderr)"
    assert run(python(code)) == "a\nb"


def test_each_line_is_handed_over() -> None:
    lines: list[str] = []
    run(python("print('a'); print('b')"), on_line=lines.append)
    assert lines == ["a", "b"]


def test_a_failure_keeps_the_last_lines() -> None:
    with pytest.raises(ProcessError) as caught:
        run(python("print('one'); raise SystemExit(3)"))
    assert (caught.value.returncode, caught.value.tail) == (3, ("one",))
    assert "ended with exit code 3\n  | one" in caught.value.what


def test_an_empty_value_removes_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "1")
    code = "import os; print('X' in os.environ, os.environ.get('Y'))"
    assert run(python(code), env={"X": "", "Y": "2"}) == "False 2"
    assert run(python(code), env={"Z": ""}) == "True None"


def test_a_missing_command_is_named() -> None:
    with pytest.raises(ToolMissingError, match="there is no command 'no-such-tool'"):
        run(["no-such-tool"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"no folder .*nowhere"):
        run(python(""), cwd=tmp_path / "nowhere")


def test_a_command_that_hangs_is_stopped() -> None:
    with pytest.raises(ProcessError, match=r"was stopped after 0\.5 s"):
        run(python("import time; print('x', flush=True); time.sleep(60)"), timeout=0.5)


def test_what_a_stopped_command_started_is_stopped_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(ProcessError):
        run(python(parent), timeout=0.7)
    time.sleep(2.5)
    assert not mark.exists()
