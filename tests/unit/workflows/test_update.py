"""The weekly update: its lines of git, run in a repository, carry every change from one job to the other."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflows import jobs

JOBS = {job.name: job for job in jobs("update.yml")}


def git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True, env=environment()
    ).stdout


def environment() -> dict[str, str]:
    """As on a runner: nobody's configuration, and the names that the job says."""
    given = JOBS["pull-request"].content["env"]
    names = {name: str(value) for name, value in given.items() if name.startswith("GIT_")}
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **names}


def run(line: str, cwd: Path, **more: str) -> None:
    subprocess.run(
        ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        cwd=cwd, check=True, capture_output=True, env={**environment(), **more},
    )  # fmt: skip


def lines(job: str, program: str) -> list[str]:
    return [str(step.run) for step in JOBS[job].steps if str(step.run).startswith(program)]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    folder.mkdir()
    git("init", "-q", "-b", "main", cwd=folder)
    (folder / ".gitignore").write_text("/build/\n")
    (folder / "pins.toml").write_text("old\n")
    (folder / "gone.txt").write_text("gone\n")
    git("add", "--all", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    return folder


def cloned(origin: Path, name: str) -> Path:
    git("clone", "-q", str(origin), name, cwd=origin.parent)
    (origin.parent / name / "build").mkdir()
    return origin.parent / name


def test_every_change_gets_into_the_branch(origin: Path) -> None:
    first, second = cloned(origin, "first"), cloned(origin, "second")
    output = first / "build" / "output"
    (first / "pins.toml").write_text("new\n")
    (first / "new.bin").write_bytes(bytes(range(256)))
    (first / "gone.txt").unlink()
    for line in lines("bump", "git"):
        run(line, first, GITHUB_OUTPUT=str(output))
    assert output.read_text() == "changed=yes\n"
    shutil.copy(first / "build" / "bump.patch", second / "build")
    for line in lines("pull-request", "git"):
        run(line, second)
    assert git("log", "-1", "--format=%s|%an", "update", cwd=origin).strip() == (
        "What is new this week|github-actions[bot]"
    )
    assert git("show", "update:pins.toml", cwd=origin) == "new\n"
    assert git("ls-tree", "--name-only", "update", cwd=origin).split() == [
        ".gitignore", "new.bin", "pins.toml",
    ]  # fmt: skip
    assert git("show", "main:pins.toml", cwd=origin) == "old\n"


def test_nothing_new_is_no_pull_request(origin: Path) -> None:
    first = cloned(origin, "first")
    output = first / "build" / "output"
    for line in lines("bump", "git")[:2]:
        run(line, first, GITHUB_OUTPUT=str(output))
    assert not output.exists()
    conditions = [str(step.content.get("if")) for step in JOBS["bump"].steps[-2:]]
    assert conditions == ["${{ steps.changes.outputs.changed == 'yes' }}"] * 2
    assert JOBS["pull-request"].content["if"] == "${{ needs.bump.outputs.changed == 'yes' }}"


def test_what_runs_new_code_cannot_write() -> None:
    assert JOBS["bump"].content["permissions"] == {"contents": "read"}
    programs = {str(step.run).split()[0] for step in JOBS["pull-request"].steps if step.run}
    assert programs == {"git", "gh"}
