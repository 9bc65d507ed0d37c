"""House rules of the workflows: permissions, pins, limits, lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflows import ACTION, EXPRESSION, FILES, FOLDER, ROOT, Job, Step, jobs, load, steps

JOBS = list(jobs())
STEPS = list(steps())
# what each job may do that is more than reading the repository
MAY = {
    ("ci.yml", "wheels"): {"id-token"},
    ("wheels.yml", "cpu"): {"id-token"},
    ("wheels.yml", "modules"): {"id-token"},
    ("monthly.yml", "wheels"): {"id-token"},
    ("release.yml", "wheels"): {"id-token"},
    ("release.yml", "attest"): {"id-token", "attestations"},
    ("release.yml", "github-release"): {"contents"},
    ("release.yml", "index"): {"contents", "pages", "id-token"},
    ("release.yml", "pypi"): {"id-token"},
    ("index.yml", "branch"): {"contents"},
    ("index.yml", "pages"): {"pages", "id-token"},
    ("update.yml", "pull-request"): {"contents", "pull-requests", "actions"},
}
# these push; their checkouts are of a branch, and nothing else is kept of them
PUSHING = {("index.yml", "branch"), ("update.yml", "pull-request")}
ENVIRONMENTS = {
    ("release.yml", "github-release"): "release",
    ("release.yml", "pypi"): "pypi",
    ("index.yml", "branch"): "index",
    ("index.yml", "pages"): "github-pages",
}


def key(job: Job) -> tuple[str, str]:
    return (job.file, job.name)


def ids(each: object) -> str:
    return getattr(each, "where", getattr(each, "name", ""))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_nobody_may_anything_unless_a_job_says_so(path: Path) -> None:
    assert load(path)["permissions"] == {}


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_a_job_may_what_it_must(job: Job) -> None:
    permissions = job.content["permissions"]
    assert {name for name, may in permissions.items() if may == "write"} == MAY.get(key(job), set())
    others = {name: may for name, may in permissions.items() if may != "write"}
    assert others in ({}, {"contents": "read"})


def test_who_may_more_is_there() -> None:
    assert set(MAY) | PUSHING | set(ENVIRONMENTS) <= {key(job) for job in JOBS}


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_a_job_ends(job: Job) -> None:
    if "uses" in job.content:
        return
    minutes = job.content["timeout-minutes"]
    # "Each job in a workflow can run for up to 6 hours" on GitHub's runners
    assert minutes == "${{ matrix.minutes }}" or 0 < minutes <= 360
    assert all(0 < int(str(row.get("minutes", 1))) <= 360 for row in job.matrix)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_one_at_a_time(path: Path) -> None:
    """Whatever publishes is never stopped half-way; only a pull request's run makes room."""
    concurrency = load(path)["concurrency"]
    assert concurrency["group"]
    assert concurrency["cancel-in-progress"] in (
        False,
        "${{ github.event_name == 'pull_request' }}",
    )


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_pull_request_gets_no_rights_of_ours(path: Path) -> None:
    content = load(path)
    assert "pull_request_target" not in content["on"]
    assert "workflow_run" not in content["on"]
    assert content["defaults"] == {"run": {"shell": "bash"}}


@pytest.mark.parametrize("step", [step for step in STEPS if step.run is not None], ids=ids)
def test_a_line_works_on_a_laptop(step: Step) -> None:
    assert step.run is not None
    assert "\n" not in step.run.strip()
    assert not EXPRESSION.search(step.run), "values go through env"
    assert "secrets." not in step.run


def test_there_are_no_secrets() -> None:
    texts = {path.name: path.read_text("utf-8") for path in [*FILES, ACTION]}
    assert [name for name, text in texts.items() if "secrets" in text] == []


@pytest.mark.parametrize(
    "step", [step for step in STEPS if step.uses and step.uses[0] != "$"], ids=ids
)
def test_an_action_is_a_commit(step: Step) -> None:
    assert step.uses is not None
    assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.uses)


def test_a_commit_is_called_by_its_version_and_there_is_one_of_each() -> None:
    found: dict[str, set[str]] = {}
    for path in [*FILES, ACTION]:
        for line in path.read_text("utf-8").splitlines():
            if match := re.search(r"uses: ([\w-]+/[\w-]+)@(.*)", line):
                assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", match[2]), line
                found.setdefault(match[1], set()).add(match[2])
    assert {name: len(pins) for name, pins in found.items()} == dict.fromkeys(found, 1)
    assert len(found) == 8


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_credentials_are_left_where_they_are_needed_alone(job: Job) -> None:
    checkouts = [step for step in job.steps if (step.uses or "").startswith("actions/checkout@")]
    kept = [step.content["with"]["persist-credentials"] for step in checkouts]
    assert kept.count(True) == (1 if key(job) in PUSHING else 0)
    assert all(value in {True, False} for value in kept)


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_what_publishes_is_in_an_environment(job: Job) -> None:
    assert job.content.get("environment") == ENVIRONMENTS.get(key(job))
    writes = {name for name, may in job.content["permissions"].items() if may == "write"}
    if writes & {"contents", "pages"} and "uses" not in job.content and job.file != "update.yml":
        assert key(job) in ENVIRONMENTS


def test_what_uses_is_there() -> None:
    for job in JOBS:
        if uses := job.content.get("uses"):
            assert uses.startswith("$/")
            assert (ROOT / uses.removeprefix("$/")).is_file(), job.where
    for step in STEPS:
        if (step.uses or "").startswith("$/"):
            assert step.uses == f"$/{ACTION.parent.relative_to(ROOT).as_posix()}"


def test_all_workflows_are_here() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        "ci.yml", "gpu-smoke.yml", "index.yml", "monthly.yml", "release.yml", "update.yml", "wheels.yml",
    }  # fmt: skip
