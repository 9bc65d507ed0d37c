"""``python -m ci release``: one part, or everything; the tag and the package say one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ci.__main__ import main
from ci.project import version

if TYPE_CHECKING:
    from pathlib import Path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_without_a_part_it_publishes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release"]) == 2
    assert "a release is published by the pipeline, part by part" in said(capsys)


def test_a_part_and_everything_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "--dry-run", "verify", str(tmp_path)]) == 2
    assert "--dry-run does everything, verify one part of it" in said(capsys)


def test_a_folder_that_is_no_release_does_not_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["release", "verify", str(tmp_path)]) == 13
    assert f"{tmp_path} has no release.json" in said(capsys)


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    package = tmp_path / "llama_cpp"
    package.mkdir()
    (package / "_version.py").write_text('"""A version."""\n\n__version__ = "1.2.3"\n')
    assert version(tmp_path) == "1.2.3"
