"""What a dry run makes on this machine, of which commit; and what it leaves out, with the reason."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ci.errors import ReleaseError, ToolMissingError, UsageError
from ci.host import host_platform
from ci.interpreters import Interpreter
from ci.release import not_proven_on, plan, this_commit, work_folder
from ci.release_set import examine
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_member
from tests.reports import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
HERE = host_platform(TABLE).name


def test_every_target_is_made_or_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    # whatever is installed here
    monkeypatch.setattr("ci.release.require_provers", lambda _target: None)
    planned = plan(TABLE, [])
    made = {target.name for target in planned.targets}
    assert f"cpu-{HERE}" in made
    assert made | set(planned.left_out) == {target.name for target in TABLE.targets}
    assert made & set(planned.left_out) == set()
    assert (
        planned.left_out["cpu-macosx_arm64"]
        == "it would be built, but nothing here runs it: it is proven on macOS 12 and newer, Apple"
        " silicon (in the pipeline: runner macos-15)"
    )
    assert (
        planned.left_out["cu130-win_amd64"]
        == "it is built on Windows x64 (in the pipeline: runner windows-2025)"
    )
    assert ("vulkan-win_amd64" in made) == (HERE == "manylinux_x86_64")
    other = {"manylinux_x86_64": "manylinux_aarch64"}.get(HERE, "manylinux_x86_64")
    assert planned.left_out[f"vulkan-{other}"] == (
        "its GPU is emulated, which takes the better part of an hour: name it with --target"
    )
    assert (
        planned.left_out[f"cu130-{HERE}"]
        == "it takes hours of compiling and a GPU to prove it on: name it with --target"
    )


def test_what_is_named_is_made_whatever_it_takes() -> None:
    planned = plan(TABLE, [f"cu130-{HERE} cpu-{HERE}"])
    assert [target.name for target in planned.targets] == [f"cpu-{HERE}", f"cu130-{HERE}"]
    assert planned.left_out[f"vulkan-{HERE}"] == "not asked for"
    assert len(planned.left_out) == len(TABLE.targets) - 2


def test_an_empty_pattern_names_nothing() -> None:
    assert plan(TABLE, [""]) == plan(TABLE, [])


def test_what_is_named_and_cannot_be_built_here_is_an_error() -> None:
    with pytest.raises(ToolMissingError) as caught:
        plan(TABLE, ["metal-*"])
    assert caught.value.what.startswith("metal-macosx_arm64 is built on macOS 12 and newer")


def test_what_is_named_and_cannot_be_proven_here_is_an_error() -> None:
    with pytest.raises(ToolMissingError) as caught:
        plan(TABLE, ["cpu-macosx_arm64"])
    assert caught.value.what.startswith(
        "cpu-macosx_arm64: it would be built, but nothing here runs it"
    )


@pytest.mark.skipif(
    HERE != "manylinux_x86_64", reason="its wheels for ARM are proven under qemu on Linux alone"
)
def test_without_the_emulator_its_targets_are_left_out_or_if_named_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    planned = plan(TABLE, [])
    assert planned.left_out["cpu-manylinux_aarch64"] == (
        "there is no qemu-aarch64 on this machine: it is proven on"
        " Linux aarch64 (glibc 2.17 and newer) (in the pipeline: runner ubuntu-24.04-arm)"
    )
    assert (
        planned.left_out["cpu-musllinux_x86_64"]
        .startswith("there is no make on this machine, to build Python with: it is proven on")
    )  # fmt: skip
    with pytest.raises(ToolMissingError) as caught:
        plan(TABLE, ["cpu-manylinux_aarch64"])
    assert caught.value.cure.startswith("on Linux install qemu's user mode")


def test_a_pattern_without_a_target_is_an_error() -> None:
    with pytest.raises(UsageError):
        plan(TABLE, ["cu999-*"])


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_release_is_made_of_a_commit(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        this_commit(tmp_path)
    assert caught.value.what == "this folder is no checkout of git"
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--message", "one", "--date", "2020-01-01T00:00:00Z")
    head = subprocess.run(
        ["git", "log", "-1", "--format=%H %ct"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    commit = this_commit(tmp_path)
    assert f"{commit.name} {commit.epoch}" == head.stdout.strip()
    (tmp_path / "file").write_text("two")
    with pytest.raises(ReleaseError) as caught:
        this_commit(tmp_path)
    assert caught.value.what == ("the checkout has changes that are in no commit:\n M file")


def test_a_wheel_for_this_machine_is_proven_on_every_python_that_is_asked_for(
    tmp_path: Path,
) -> None:
    targets = [TABLE.target("cpu", HERE), TABLE.target("cpu", "macosx_arm64")]
    for target in targets:
        write_member(tmp_path, target)
    found = examine(tmp_path, targets, TABLE, load_pin(), version=VERSION, commit=CHECKOUT)
    pythons = [
        Interpreter(path=tmp_path, version=f"{series}.1", series=series, free_threaded=False)
        for series in ("3.9", "3.13")
    ]
    assert not_proven_on(found.members, pythons[1:]) == []
    assert not_proven_on(found.members, pythons) == [f"cpu-{HERE} is not proven on Python 3.9"]


def test_what_it_works_with_lies_beside_the_release(tmp_path: Path) -> None:
    assert work_folder(tmp_path / "release") == tmp_path / "release.work"
