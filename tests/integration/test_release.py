"""A dry run of a release, killed and run again: the same bytes; what fails stops it before the index.

Wheels are stand-ins; set, relabelling, index, server, pip and folder are the real ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci.release_folder import verify
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import write_member

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
TABLE, PIN = load_table(), load_pin()

# a part of a step's line, and whether the run has to stand there when it is killed; else it has gone on
# into what the line says
KILLS = [
    ("a wheel without a record: cpu-manylinux_aarch64", True),
    ("a wheel without a report: cpu-musllinux_aarch64", True),
    ("building and proving cpu-macosx_x86_64", True),
    ("the set is whole", True),
    ("relabelling", False),
    ("staging the index", False),
    ("installing from the index", False),
    ("cpu-manylinux_aarch64 from the index", True),
    ("assembling", False),
    ("making the sdist", True),
]
BEFORE_THE_INDEX = 4


def start(folder: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.release_run", str(folder)],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, **env: str) -> tuple[int, str]:
    with start(folder, env) as process:
        assert process.stderr is not None
        printed = process.stderr.read()
    return process.returncode, printed


def killed(folder: Path, line: str, how: signal.Signals, *, halt: bool) -> int:
    """Start a run, send it a signal when it has said a line, and return how it ended."""
    with start(folder, {"HALT": line} if halt else {}) as process:
        assert process.stderr is not None
        said = next((each for each in process.stderr if line in each), "")
        assert line in said
        process.send_signal(how)
        # what it still says must not keep it from ending
        process.stderr.read()
    return process.returncode


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "release"
    code, printed = run(folder)
    assert code == 0, printed
    return folder


def site(folder: Path) -> Path:
    return folder.with_name("release.work") / "site"


def test_it_makes_a_release_that_verifies(undisturbed: Path) -> None:
    contents = verify(undisturbed, TABLE, PIN).contents
    assert sorted(contents.wheels) == [
        "cpu-macosx_x86_64",
        "cpu-manylinux_aarch64",
        "cpu-musllinux_aarch64",
    ]
    assert len(contents.left_out) == len(TABLE.targets) - 3
    pages = [path.parent.parent.name for path in site(undisturbed).glob("whl/*/*/index.html")]
    assert sorted(pages) == ["auto", "cpu"]


def test_killed_at_every_step_and_run_again_it_ends_in_the_same_bytes(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "release"
    for number, (line, halt) in enumerate(KILLS):
        assert killed(folder, line, signal.SIGKILL, halt=halt) == -signal.SIGKILL
        assert not folder.exists()
        assert site(folder).exists() <= (number >= BEFORE_THE_INDEX)
    code, printed = run(folder)
    assert code == 0, printed
    assert tree(folder) == tree(undisturbed)
    assert tree(site(folder)) == tree(site(undisturbed))


def test_stopped_politely_it_says_so_and_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    line = "a wheel without a record: cpu-musllinux_aarch64"
    assert killed(folder, line, signal.SIGTERM, halt=True) == 130
    assert killed(folder, "installing from the index", signal.SIGTERM, halt=False) == 130
    code, printed = run(folder)
    assert code == 0, printed
    assert "cpu-macosx_x86_64 is there" in printed
    assert tree(folder) == tree(undisturbed)


def test_a_target_that_fails_stops_it_before_anything_is_public(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(undisturbed, folder)
    shutil.copytree(undisturbed.with_name("release.work"), tmp_path / "release.work")
    (wheel,) = (tmp_path / "release.work" / "wheels").glob("*musllinux_1_2_aarch64.whl")
    wheel.unlink()
    code, printed = run(folder, FAIL="cpu-musllinux_aarch64")
    assert code == 13
    assert (
        "cpu-musllinux_aarch64 was not built and proven, so nothing is staged:\n"
        "  | error: no compiler likes this\n"
    ) in printed
    assert not folder.exists()
    assert not site(folder).exists()


def test_a_wheel_of_this_commit_is_taken_from_elsewhere(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    write_member(dist, TABLE.target("cpu", "musllinux_aarch64"))
    write_member(dist, TABLE.target("cpu", "macosx_x86_64"), commit="1" * 40)
    folder = tmp_path / "release"
    environment = {"TAKE": str(dist), "FAIL": "cpu-musllinux_aarch64", "HALT": "the set is whole"}
    with start(folder, environment) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line.rstrip("\n"))
            if "the set is whole" in line:
                process.kill()
    steps = [line.partition("] ")[2] for line in said]
    assert f"cpu-musllinux_aarch64 is taken from {dist}" in steps
    # of another commit
    assert "building and proving cpu-macosx_x86_64" in steps


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    line = "a wheel without a record: cpu-manylinux_aarch64"
    with start(folder, {"HALT": line}) as process:
        assert process.stderr is not None
        assert any(line in each for each in process.stderr)
        code, printed = run(folder)
        process.kill()
    assert code == 13
    assert f"another run works in {tmp_path / 'release.work'}" in printed
