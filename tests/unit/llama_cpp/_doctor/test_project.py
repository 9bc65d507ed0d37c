"""Which tool the user installs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llama_cpp._doctor.project import project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("files", "tool"),
    [
        ({"uv.lock": ""}, "uv"),
        ({"poetry.lock": ""}, "poetry"),
        ({"pdm.lock": ""}, "pdm"),
        ({"pyproject.toml": "[project]\nname = 'x'\n[tool.uv.sources]\n"}, "uv"),
        ({"pyproject.toml": "[tool.poetry]\n"}, "poetry"),
        ({"pyproject.toml": "[[tool.pdm.source]]\n"}, "pdm"),
        ({"pyproject.toml": "[tool.ruff]\n"}, "pip"),
        ({}, "pip"),
    ],
)
def test_the_projects_files(tmp_path: Path, files: dict[str, str], tool: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    below = tmp_path / "src" / "package"
    below.mkdir(parents=True)
    assert project(tmp_path, None, tmp_path / "venv").tool == tool
    assert project(below, None, tmp_path / "venv").tool == tool


@pytest.mark.parametrize(
    ("installer", "tool", "reason"),
    [
        ("uv", "uv-pip", "uv installed this package"),
        ("pip", "pip", "pip installed this package"),
        ("poetry 2.1", "pip", "no other tool was found"),
        (None, "pip", "no other tool was found"),
    ],
)
def test_the_installer(tmp_path: Path, installer: str | None, tool: str, reason: str) -> None:
    assert project(tmp_path, installer, tmp_path)[:2] == (tool, reason)


def test_uv_made_the_environment(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.13.8\n")
    assert project(tmp_path, None, tmp_path).tool == "uv-pip"


def test_our_own_checkout_is_nobodys_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "llama-cpp-python"\n[tool.uv]\n')
    assert project(tmp_path, "pip", tmp_path).tool == "pip"


def test_conda(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    assert project(tmp_path, None, tmp_path).conda
