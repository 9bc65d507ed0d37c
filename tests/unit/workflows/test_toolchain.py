"""The action that readies a machine: what it says of the compiler cache, in each case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflows import ACTION, load, steps

NODE = shutil.which("node")
# `core` of actions/github-script, and the script in the kind of function that it is run in
HARNESS = """
const said = {}
const core = {
  exportVariable: (name, value) => { said[name] = value },
  getIDToken: async (audience) => `token for ${audience}`,
}
const Script = Object.getPrototypeOf(async () => {}).constructor
new Script('core', 'require', process.env.SCRIPT)(core, require).then(() => console.log(JSON.stringify(said)))
"""
RUNNER = {
    "ACTIONS_RESULTS_URL": "https://results.example/",
    "ACTIONS_RUNTIME_TOKEN": "runtime token",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://tokens.example/",
}
NO_BUCKET = {"BUCKET": "", "REGION": "auto", "ENDPOINT": "", "ROLE": ""}
BUCKET = {"BUCKET": "objects", "REGION": "eu-1", "ENDPOINT": "https://s3.example", "ROLE": ""}


def exported(folder: Path, **env: str) -> dict[str, str]:
    if NODE is None:
        pytest.skip("there is no node (Debian: apt install nodejs)")
    (step,) = (step for step in steps() if "github-script" in str(step.uses))
    assert set(step.content["env"]) == {"CACHE", *NO_BUCKET}
    done = subprocess.run(
        [NODE, "-e", HARNESS],
        env={
            "PATH": os.environ["PATH"], "RUNNER_TEMP": str(folder),
            "SCRIPT": step.content["with"]["script"], **env,
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said: dict[str, str] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize(("cache", "mode"), [("read", "READ_ONLY"), ("write", "READ_WRITE")])
def test_the_runners_cache(tmp_path: Path, cache: str, mode: str) -> None:
    assert exported(tmp_path, CACHE=cache, **NO_BUCKET, **RUNNER) == {
        "SCCACHE_GHA_ENABLED": "on",
        "SCCACHE_GHA_RW_MODE": mode,
        "ACTIONS_RESULTS_URL": "https://results.example/",
        "ACTIONS_RUNTIME_TOKEN": "runtime token",
    }


def test_a_bucket_that_the_runner_may_use_by_itself(tmp_path: Path) -> None:
    assert exported(tmp_path, CACHE="write", **BUCKET) == {
        "SCCACHE_BUCKET": "objects",
        "SCCACHE_REGION": "eu-1",
        "SCCACHE_ENDPOINT": "https://s3.example",
        "SCCACHE_S3_RW_MODE": "READ_WRITE",
    }


def test_a_bucket_of_a_role_is_used_by_oidc(tmp_path: Path) -> None:
    given = {**BUCKET, "ENDPOINT": "", "ROLE": "arn:role"}
    assert exported(tmp_path, CACHE="read", **given, **RUNNER) == {
        "SCCACHE_BUCKET": "objects",
        "SCCACHE_REGION": "eu-1",
        "SCCACHE_S3_RW_MODE": "READ_ONLY",
        "AWS_ROLE_ARN": "arn:role",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "bucket-token"),
    }
    assert (tmp_path / "bucket-token").read_text() == "token for sts.amazonaws.com"
    assert (tmp_path / "bucket-token").stat().st_mode & 0o777 == 0o600


def test_a_pull_request_from_a_fork_has_the_runners_cache(tmp_path: Path) -> None:
    runner = {name: value for name, value in RUNNER.items() if "ID_TOKEN" not in name}
    said = exported(tmp_path, CACHE="read", **{**BUCKET, "ROLE": "arn:role"}, **runner)
    assert said["SCCACHE_GHA_ENABLED"] == "on"
    assert "SCCACHE_BUCKET" not in said


def test_a_machine_needs_one_command_of_its_own() -> None:
    """All else is a dependency group."""
    lines = [step.run for step in steps() if step.where.startswith("toolchain") and step.run]
    assert lines[0] == "python -m pip install --group nox"
    assert load(ACTION)["inputs"]["cache"]["default"] == "none"
