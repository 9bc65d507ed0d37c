"""A program that is attached ends with the process that started it, even if that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.attached import attached

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of it")

# waits for ever in a program of its own; both hold the pipe
PARENT = """
import subprocess, sys
from ci.attached import attached
subprocess.Popen(attached("tests.endless"))
sys.stdin.read()
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"running\n"
        parent.kill()
        # the end of the file: nobody is left that could write
        assert parent.stdout.read() == b""


def test_it_does_not_begin_without_its_parent() -> None:
    command = attached("tests.endless")
    command[3] = str(os.getppid())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_module_gets_its_arguments_and_its_exit_code_counts() -> None:
    command = attached("ci", "check", "--help")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "python -m ci check" in done.stdout
    command = attached("ci", "nothing")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2
