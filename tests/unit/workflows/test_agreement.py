"""Table and workflows agree: matrices, choices, artifacts, and what a release waits for."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from ci.matrix import write_outputs
from ci.schedule import SUBSETS
from tests.workflows import ACTION, EXPRESSION, FOLDER, RUNNERS, TABLE, TARGETS, Job, jobs, load

JOBS = list(jobs())
WHEELS = load(FOLDER / "wheels.yml")


def ids(each: object) -> str:
    return getattr(each, "where", "")


def test_the_plan_hands_on_what_the_matrix_says(tmp_path: Path) -> None:
    place = tmp_path / "outputs"
    write_outputs(place, TABLE, TARGETS, RUNNERS)
    there = {line.partition("=")[0] for line in place.read_text().splitlines()}
    plan = WHEELS["jobs"]["plan"]["outputs"]
    assert plan == {name: f"${{{{ steps.matrix.outputs.{name} }}}}" for name in plan}
    assert there == {*plan, "index"}
    handed_on = WHEELS["on"]["workflow_call"]["outputs"]
    assert {name: each["value"] for name, each in handed_on.items()} == {
        name: f"${{{{ jobs.plan.outputs.{name} }}}}" for name in ("platforms", "gpu")
    }


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_a_job_asks_its_matrix_for_what_is_there(job: Job) -> None:
    asked = set(re.findall(r"(?<!steps\.)matrix\.([\w-]+)", str(job.content)))
    for row in job.matrix:
        assert asked <= set(row), job.where


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_a_job_asks_others_for_what_they_hand_on(job: Job) -> None:
    others = {other.name: other for other in JOBS if other.file == job.file}
    for name, output in re.findall(r"needs\.([\w-]+)\.outputs\.([\w-]+)", str(job.content)):
        assert name in job.needs
        assert output in outputs_of(others[name])
    for name in re.findall(r"needs\.([\w-]+)\.result", str(job.content)):
        assert name in job.needs


def outputs_of(job: Job) -> set[str]:
    uses = job.content.get("uses")
    if uses is None:
        return set(job.content.get("outputs", {}))
    called = load(FOLDER / Path(uses).name)["on"]["workflow_call"]
    return set(called.get("outputs", {}))


@pytest.mark.parametrize("job", [job for job in JOBS if "uses" in job.content], ids=ids)
def test_a_called_workflow_gets_what_it_takes(job: Job) -> None:
    taken = load(FOLDER / Path(job.content["uses"]).name)["on"]["workflow_call"].get("inputs", {})
    given = job.content.get("with", {})
    assert set(given) <= set(taken)
    assert {name for name, each in taken.items() if each.get("required")} <= set(given)


def test_subsets_are_the_tables() -> None:
    offered = WHEELS["on"]["workflow_dispatch"]["inputs"]["subset"]["options"]
    assert sorted(offered) == sorted(SUBSETS)
    asked = {
        job.file: job.content["with"]["subset"]
        for job in JOBS
        if str(job.content.get("uses", "")).endswith("/wheels.yml")
    }
    assert asked == {"ci.yml": "pr", "monthly.yml": "monthly", "release.yml": "release"}


def test_pythons_that_are_named_are_the_tables() -> None:
    texts = [path.read_text("utf-8") for path in [*sorted(FOLDER.glob("*.yml")), ACTION]]
    named = {
        version
        for text in texts
        for words in re.findall(r'(?:--python |pythons: |python-version: ")([\d. t]+)', text)
        for version in words.split()
    }
    assert "3.13" in named
    assert named <= set(TABLE.interpreters.all)


def test_identifiers_that_are_named_are_the_tables() -> None:
    named = load(FOLDER / "monthly.yml")["jobs"]["container"]["strategy"]["matrix"]["identifier"]
    assert set(named) <= {platform.cibuildwheel for platform in TABLE.platforms.values()}


def test_every_wheel_that_a_linux_builds_is_built_twice() -> None:
    named = load(FOLDER / "monthly.yml")["jobs"]["reproduce"]["strategy"]["matrix"]["platform"]
    assert sorted(named) == sorted(
        name for name, platform in TABLE.platforms.items() if platform.zig_target is not None
    )


def artifacts(job: Job, action: str) -> list[str]:
    """Names of artifacts, `*` in place of what comes from elsewhere."""
    found: list[str] = []
    for step in job.steps:
        if (step.uses or "").startswith(f"actions/{action}-artifact@"):
            given = step.content["with"]
            # a choice between two names is both of them
            for name in ("wheel", "unproven") if "|| 'wheel'" in str(given) else ("",):
                text = str(given.get("name", given.get("pattern")))
                found.append(EXPRESSION.sub("*", text) if not name else f"{name}-*")
    return found


def test_what_is_downloaded_was_uploaded() -> None:
    uploaded = {name for job in JOBS for name in artifacts(job, "upload")}
    for job in JOBS:
        for name in artifacts(job, "download"):
            assert any(
                fnmatchcase(name.replace("*", "x"), other)
                or fnmatchcase(other.replace("*", "x"), name)
                for other in uploaded
            ), (job.where, name)
    assert {"wheel-*", "unproven-*", "site", "release"} <= uploaded


def test_a_wheel_that_has_to_be_proven_on_a_gpu_is_not_called_a_wheel_before() -> None:
    (upload,) = artifacts_named(next(job for job in JOBS if job.name == "modules"))
    assert upload == "${{ matrix.gpu == 'own' && 'unproven' || 'wheel' }}-${{ matrix.target }}"
    prove = next(job for job in JOBS if job.where == "gpu-smoke.yml: prove")
    steps = [str(step.content) for step in prove.steps]
    proven = next(number for number, text in enumerate(steps) if "nox -s smoke -- --gpu" in text)
    called = next(number for number, text in enumerate(steps) if "'name': 'wheel-" in text)
    assert proven < called


def artifacts_named(job: Job) -> list[str]:
    return [
        step.content["with"]["name"]
        for step in job.steps
        if (step.uses or "").startswith("actions/upload-artifact@")
    ]


def before(name: str, there: dict[str, Job]) -> set[str]:
    found: set[str] = set()
    for other in there[name].needs:
        found |= {other, *before(other, there)}
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("set", {"wheels"}),
        ("attest", {"wheels", "set"}),
        ("smoke", {"wheels", "set", "attest"}),
        ("gpu-smoke", {"wheels", "set", "attest"}),
        ("github-release", {"wheels", "set", "attest", "smoke", "gpu-smoke"}),
        ("index", {"wheels", "set", "attest", "smoke", "gpu-smoke", "github-release"}),
        ("pypi", {"wheels", "set", "attest", "smoke", "gpu-smoke", "github-release", "index"}),
    ],
)
def test_a_release_waits_for_all_before(name: str, wanted: set[str]) -> None:
    there = {job.name: job for job in JOBS if job.file == "release.yml"}
    assert before(name, there) == wanted
    # a job with a condition of its own runs although one before it failed, unless it asks
    condition = str(there[name].content.get("if", ""))
    if "cancelled()" in condition:
        asked = set(re.findall(r"needs\.([\w-]+)\.result", condition))
        assert asked == {"github-release": {"smoke", "gpu-smoke"}}.get(name, set(there[name].needs))


@pytest.mark.parametrize("file", ["ci.yml", "wheels.yml"])
def test_all_green_is_all(file: str) -> None:
    there = {job.name: job for job in JOBS if job.file == file}
    assert set(there["all-green"].needs) == set(there) - {"all-green"}
    assert there["all-green"].content["if"] == "${{ always() }}"
