"""What a release takes: every process counts, and one build is multiplied by the Pythons."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bench import machine
from bench.results import ReleaseResult, read, write
from bench.tables import release_text
from ci.record import read_record
from ci.table import load_table
from tests.releases import write_bare_wheel
from tests.reports import write_build

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "linux":
    pytest.skip("it waits for processes as Linux alone can", allow_module_level=True)

from bench import release

TABLE = load_table()
CPU = TABLE.target("cpu", "manylinux_x86_64")
MUSL = TABLE.target("cpu", "musllinux_x86_64")


@pytest.fixture
def result(tmp_path: Path) -> ReleaseResult:
    records = tuple(
        read_record(write_build(write_bare_wheel(tmp_path, target), target))
        for target in (CPU, MUSL)
    )
    measured = release.Measured(
        cold=release.Run(seconds=2000.04, cpu_seconds=3000.06),
        warm=release.Run(seconds=200.0, cpu_seconds=150.0),
        records=records,
    )
    content = release.report(
        measured,
        pythons=10,
        reference=CPU.name,
        date=datetime(2026, 11, 21, tzinfo=UTC),
        circumstances={"commit": "0" * 40},
    )
    write("release", content, tmp_path)
    return read("release", ReleaseResult, tmp_path)


def test_one_build_is_multiplied_by_the_pythons(result: ReleaseResult) -> None:
    assert result["cold"] == {"seconds": 2000.0, "cpu_seconds": 3000.1}
    assert result["each_python"] == {
        "reference_cpu_seconds": 1182.0,
        "all_cpu_seconds": 2364.0,
        "compiled_once_cpu_seconds": 236.4,
    }


def test_the_table_says_what_each_takes(result: ReleaseResult) -> None:
    head, *rows = release_text(result).splitlines()
    assert head.startswith(
        f"The whole of `nox -s release -- --dry-run` for 2 targets, 2026-11-21, {machine.cpu_name()}"
    )
    assert rows == [
        "",
        "|  | seconds | CPU seconds |",
        "| --- | --: | --: |",
        "| empty cache | 2,000 | 3,000 |",
        "| full cache | 200 | 150 |",
        "",
        "| compiling | objects | CPU seconds, once | for 10 Pythons |",
        "| --- | --: | --: | --: |",
        f"| `{CPU.name}` | 3 | 118 | 1,182 |",
        f"| `{MUSL.name}` | 3 | 118 | 1,182 |",
        "| **together** |  | 236 | 2,364 |",
    ]


ORPHAN = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        started = time.process_time()
        while time.process_time() - started < 0.5:
            pass
        os.write(1, b"done")
    os._exit(0)
os.wait()
"""


def test_a_process_whose_parent_has_ended_counts() -> None:
    script = (
        "import ctypes, subprocess, sys\n"
        "from bench import release\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"
        f"told = subprocess.run([sys.executable, '-c', {ORPHAN!r}], stdout=subprocess.PIPE)\n"
        "assert told.stdout == b'done'\n"
        "before = release._children_seconds()\n"
        # it has closed the pipe, and ends
        "import os\n"
        "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\n"
        "release._reap()\n"
        "print(release._children_seconds() - before > 0.4)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
