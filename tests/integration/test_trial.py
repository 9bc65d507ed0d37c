"""The wheel in dist/ comes out of a served index by pip and by uv, and computes; another does not pass."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ci.host import host_platform
from ci.interpreters import probe
from ci.progress import Progress
from ci.record import record_path
from ci.release_set import ReleaseSet, examine
from ci.smoke_report import report_path
from ci.staging import serving
from ci.table import load_table
from ci.trial import try_index
from ci.vendor import load_pin
from tests.installers.served import isolated, update
from tests.releases import VERSION, write_member

pytestmark = [pytest.mark.build, pytest.mark.network]

TABLE, PIN = load_table(), load_pin()
HOME = TABLE.target("cpu", host_platform(TABLE).name)
FOREIGN = TABLE.target("cpu", "win_arm64")


@pytest.fixture(scope="module")
def staged(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ReleaseSet, Path]:
    """The set of two wheels, and the site with them."""
    folder = tmp_path_factory.mktemp("staged")
    dist = folder / "dist"
    dist.mkdir()
    for path in (wheel, record_path(wheel), report_path(wheel)):
        shutil.copy2(path, dist)
    write_member(dist, FOREIGN)
    found = examine(dist, [HOME, FOREIGN], TABLE, PIN, version=VERSION, commit=None)
    assert len(found.members) == 2
    return found, update(dist, folder, isolated(folder / "home"))


def test_pip_and_uv_install_what_was_staged_and_it_computes(
    staged: tuple[ReleaseSet, Path],
) -> None:
    found, site = staged
    here = probe(Path(sys.executable))
    assert here is not None
    with serving(site) as address:
        installed = try_index(found, address, [here], TABLE, Progress())
    home, foreign = installed.wheels
    told = json.dumps([run.detail for each in installed.wheels for run in each.runs])
    assert installed.passed, told
    assert [(run.installer, run.computed) for run in home.runs] == [("pip", True), ("uv", True)]
    for run in home.runs:
        assert "greedy tokens" in run.detail.split(", ")
    assert [(run.installer, run.computed, run.detail) for run in foreign.runs] == [
        ("pip", False, "the very wheel")
    ]


def test_another_wheel_than_was_staged_does_not_pass(
    staged: tuple[ReleaseSet, Path],
) -> None:
    found, site = staged
    here = probe(Path(sys.executable))
    assert here is not None
    _, foreign = found.members
    file = replace(foreign.file, sha256="0" * 64)
    other = replace(found, members=(replace(foreign, file=file),))
    with serving(site) as address:
        installed = try_index(other, address, [here], TABLE, Progress())
    assert not installed.passed
    (run,) = installed.wheels[0].runs
    assert run.detail == f"it has sha256 {foreign.file.sha256}"
