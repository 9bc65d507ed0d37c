"""A wheel is proven in the way that this machine has for it, or it is said that there is none."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from ci.host import host_platform
from ci.progress import Progress
from ci.proving import can_prove, not_provable, prove
from ci.table import load_table
from tests.wheels import write_wheel

TABLE = load_table()
NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def progress() -> Progress:
    return Progress(Console(width=2000, file=io.StringIO()))


def test_what_installs_here_can_be_proven_here() -> None:
    assert can_prove(host_platform(TABLE))


@pytest.mark.skipif(
    host_platform(TABLE).system != "linux", reason="elsewhere nothing is run under an emulator"
)
@pytest.mark.parametrize("platform", ["macosx_arm64", "macosx_x86_64"])
def test_nothing_but_a_mac_runs_a_mac_s_wheel(tmp_path: Path, platform: str) -> None:
    target = TABLE.target("cpu", platform)
    assert not can_prove(target.platform)
    wheel = write_wheel(tmp_path, platform=target.wheel_tag)
    assert prove(wheel, target, [], progress(), now=NOW) is None
    assert not_provable(wheel, target) == (
        f"{wheel.name} is not proven: nothing here runs programs of {target.platform.title}"
        f" (in the pipeline: runner {target.platform.runner})"
    )


def test_a_wheel_of_this_machine_is_proven_on_the_interpreters_that_are_given(
    tmp_path: Path,
) -> None:
    target = TABLE.target("cpu", host_platform(TABLE).name)
    wheel = write_wheel(tmp_path, platform=target.wheel_tag)
    report = prove(wheel, target, [], progress(), now=NOW)
    assert report is not None
    assert (report["passed"], report["interpreters"]) == (False, [])
    assert report["wheel"] == wheel.name
