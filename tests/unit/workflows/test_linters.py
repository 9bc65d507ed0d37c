"""What others' programs find in the workflows: nothing; and what they would find, they find."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows import ACTION, FILES, ROOT, TABLE

GITHUB = ROOT / ".github"


def run(name: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(name)
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def copied(folder: Path, old: str, new: str, *, file: str) -> Path:
    shutil.copytree(GITHUB, folder / ".github")
    place = folder / ".github" / "workflows" / file
    text = place.read_text("utf-8")
    assert old in text
    place.write_text(text.replace(old, new, 1), encoding="utf-8")
    # actionlint looks for the root of a repository
    (folder / ".git").mkdir()
    return folder


def test_actionlint() -> None:
    done = run("actionlint")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_actionlint_sees_an_output_that_is_not_there(tmp_path: Path) -> None:
    folder = copied(tmp_path, "outputs.modules) }}", "outputs.module) }}", file="wheels.yml")
    done = run("actionlint", cwd=folder)
    assert done.returncode == 1
    assert 'property "module" is not defined in object type' in done.stdout


def test_actionlint_knows_every_runner_of_the_table(tmp_path: Path) -> None:
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    runners = dict.fromkeys(platform.runner for platform in TABLE.platforms.values())
    lines = ["on: push", "permissions: {}", "jobs:"]
    for runner in runners:
        job = runner.replace(".", "-")
        lines += [f"  {job}:", f"    runs-on: {runner}", "    steps:", "      - run: exit 0"]
    place = tmp_path / ".github" / "workflows" / "runners.yml"
    place.write_text("\n".join(lines) + "\n")
    done = run("actionlint", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    place.write_text("\n".join(lines).replace("macos-15-intel", "macos-9") + "\n")
    assert 'label "macos-9" is unknown' in run("actionlint", cwd=tmp_path).stdout


def test_zizmor_finds_nothing_above_informational() -> None:
    done = run("zizmor", "--offline", "--no-progress", "--format", "json", ".github")
    found = json.loads(done.stdout)
    severities = {each["determinations"]["severity"] for each in found if not each["ignored"]}
    assert severities <= {"Informational"}
    assert done.returncode == 0


def test_what_zizmor_is_told_to_pass_over_is_one_image() -> None:
    """It is the table's, whose reader wants a digest."""
    texts = {path.name: path.read_text("utf-8") for path in [*FILES, ACTION]}
    assert {name: text.count("zizmor:") for name, text in texts.items() if "zizmor:" in text} == {
        "gpu-smoke.yml": 1
    }
    assert "${{ matrix.container }} # zizmor: ignore[unpinned-images]" in texts["gpu-smoke.yml"]
    assert list(GITHUB.rglob("zizmor.y*ml")) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6", "unpinned-uses"),
        ('--tag "$TAG"', '--tag "${{ github.ref_name }}"', "template-injection"),
    ],
    ids=["a tag", "an expression in a line"],
)
def test_zizmor_sees_what_it_is_there_for(tmp_path: Path, old: str, new: str, finding: str) -> None:
    folder = copied(tmp_path, old, new, file="release.yml")
    done = run(
        "zizmor", "--offline", "--no-progress", "--min-severity", "low", "--format", "json", ".github",
        cwd=folder,
    )  # fmt: skip
    assert finding in {each["ident"] for each in json.loads(done.stdout)}
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", FILES),
        ("vendor.github-actions", [ACTION]),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", [GITHUB / "ISSUE_TEMPLATE" / "problem.yml"]),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_the_schemas(schema: str, paths: list[Path]) -> None:
    done = run("check-jsonschema", "--builtin-schema", schema, *paths)
    assert done.returncode == 0, done.stdout


def test_the_schema_sees_a_key_that_is_none(tmp_path: Path) -> None:
    folder = copied(tmp_path, "timeout-minutes:", "timeout:", file="index.yml")
    place = folder / ".github" / "workflows" / "index.yml"
    done = run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", place)
    assert done.returncode == 1
    assert "'timeout' was unexpected" in done.stdout
