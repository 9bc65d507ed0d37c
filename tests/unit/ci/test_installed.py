"""What was installed is kept for the same wheels on the same Pythons, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ci.errors import ReleaseError, SmokeError
from ci.installed import (
    Installed,
    Run,
    Wheel,
    is_about,
    read_installed,
    require_installed,
    write_installed,
)
from ci.interpreters import Interpreter
from ci.release_set import ReleaseSet, examine
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_member
from tests.reports import CHECKOUT

TABLE, PIN = load_table(), load_pin()
HOME = TABLE.target("cpu", "manylinux_x86_64")
FOREIGN = TABLE.target("cpu", "win_amd64")
PYTHONS = [
    Interpreter(
        path=Path(f"python{series}"), version=f"{series}.1", series=series, free_threaded=False
    )
    for series in ("3.9", "3.13")
]


def run(tag: str, installer: str = "pip", *, computed: bool = True, detail: str = "") -> Run:
    assert installer in {"pip", "uv"}
    return Run(
        installer="uv" if installer == "uv" else "pip",
        version="26.3",
        tag=tag,
        python="3.9.1",
        computed=computed,
        passed=not detail,
        detail=detail or "import",
    )


@pytest.fixture
def found(tmp_path: Path) -> ReleaseSet:
    for target in (HOME, FOREIGN):
        write_member(tmp_path, target)
    return examine(tmp_path, [HOME, FOREIGN], TABLE, PIN, version=VERSION, commit=CHECKOUT)


@pytest.fixture
def installed(found: ReleaseSet) -> Installed:
    home, foreign = (member.file for member in found.members)
    at_home = [run(tag, installer) for tag in ("cp39", "cp313") for installer in ("pip", "uv")]
    return Installed(
        passed=True,
        wheels=[
            Wheel(wheel=home.name, sha256=home.sha256, runs=at_home),
            Wheel(wheel=foreign.name, sha256=foreign.sha256, runs=[run("cp39", computed=False)]),
        ],
    )


def test_what_is_written_is_read(installed: Installed, tmp_path: Path) -> None:
    write_installed(tmp_path / "installed.json", installed)
    assert read_installed(tmp_path / "installed.json") == installed
    require_installed(installed)


def test_the_same_wheels_on_the_same_pythons_are_not_tried_again(
    installed: Installed, found: ReleaseSet
) -> None:
    assert is_about(installed, found, PYTHONS)


def test_another_python_has_not_been_tried(installed: Installed, found: ReleaseSet) -> None:
    more = replace(PYTHONS[0], series="3.15")
    assert not is_about(installed, found, [*PYTHONS, more])
    assert not is_about(installed, found, PYTHONS[:1])


def test_other_bytes_have_not_been_tried(
    installed: Installed, found: ReleaseSet, tmp_path: Path
) -> None:
    write_member(tmp_path, FOREIGN, marker="other")
    targets = [HOME, FOREIGN]
    other = examine(tmp_path, targets, TABLE, PIN, version=VERSION, commit=CHECKOUT)
    assert not is_about(installed, other, PYTHONS)


def test_what_failed_is_tried_again_and_named(installed: Installed, found: ReleaseSet) -> None:
    home = replace(installed.wheels[0], runs=[run("cp39", "uv", detail="greedy tokens: 3, not 4")])
    failed = replace(installed, passed=False, wheels=[home])
    assert not is_about(failed, found, PYTHONS)
    with pytest.raises(SmokeError) as caught:
        require_installed(failed)
    assert caught.value.what == (
        "what comes from the index is not what was staged\n"
        f"  {home.wheel}: uv 26.3 on Python 3.9.1: greedy tokens: 3, not 4"
    )


def test_another_file_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "installed.json"
    place.write_text('{"schema": 1, "passed": true, "wheels": [], "note": ""}')
    with pytest.raises(ReleaseError) as caught:
        read_installed(place)
    assert caught.value.what == (
        f"{place} does not say what was installed:\n  note: Unexpected keyword argument"
    )
