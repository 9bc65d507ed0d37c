"""Every installer that people have against the served index: one test per cell of the matrix."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.installers.clients import Project, install, project
from tests.installers.environments import NEWEST_PIP, NEWEST_UV, PDM, POETRY, Installer
from tests.installers.matrix import BACKEND, NEWEST, Cell, cells, expected, make_site, run_cell
from tests.installers.registry import BUILT, NAME, NEWER_SDIST, write_registry
from tests.installers.served import Served, isolated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# set where a missing Python must not pass unnoticed
REQUIRE: Final = "LLAMA_CPP_PYTHON_REQUIRE_ALL_INSTALLERS"

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("index"))


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_index_serves(cell: Cell, site: Path, tmp_path: Path) -> None:
    if cell.missing is not None:
        if os.environ.get(REQUIRE):
            pytest.fail(f"{cell.missing}, and {REQUIRE} is set")
        pytest.skip(cell.missing)

    outcome = run_cell(cell, site, tmp_path)

    assert outcome.seen() == expected(cell), outcome.text


@pytest.fixture
def newer(site: Path, tmp_path: Path) -> Iterator[Served]:
    """Serve our index beside a registry that has a newer version of the project, as an sdist."""
    copy = tmp_path / "served"
    shutil.copytree(site, copy)
    write_registry(copy, sdist=NEWER_SDIST)
    with Served(copy, tmp_path / "requests.log", isolated(tmp_path)) as served:
        yield served


def place(tmp_path: Path, name: str, version: str) -> Project:
    installer = Installer(name=name, version=version)
    return project(tmp_path / "place", installer, isolated(tmp_path / "home"))


def test_pip_compiles_a_newer_sdist_of_the_main_index(newer: Served, tmp_path: Path) -> None:
    at = place(tmp_path, "pip", NEWEST_PIP)

    done = install(at, "pip", ours=newer.index(BACKEND), registry=newer.index(NAME))

    assert done.status != 0
    assert BUILT in done.text
    assert at.installed() is None


@pytest.mark.parametrize(
    "words",
    [
        ["--only-binary", "llama-cpp-python", "downstream"],
        ["downstream", f"llama-cpp-python=={NEWEST}"],
    ],
    ids=["only-binary", "exact"],
)
def test_pip_can_be_told_to_take_our_wheel(words: list[str], newer: Served, tmp_path: Path) -> None:
    at = place(tmp_path, "pip", NEWEST_PIP)
    indexes = ["--index-url", newer.index(NAME), "--extra-index-url", newer.index(BACKEND)]

    done = at.run("pip", "install", *indexes, *words)

    assert done.status == 0, done.text
    assert at.installed() == NEWEST


@pytest.mark.parametrize(
    ("name", "version"),
    [("uv", NEWEST_UV), ("poetry", POETRY), ("pdm", PDM)],
    ids=["uv", "poetry", "pdm"],
)
def test_others_take_our_wheel_whatever_the_main_index_has(
    name: str, version: str, newer: Served, tmp_path: Path
) -> None:
    at = place(tmp_path, name, version)

    done = install(at, name, ours=newer.index(BACKEND), registry=newer.index(NAME))

    assert done.status == 0, done.text
    assert at.installed() == NEWEST
    asked = [request.path for request in newer.requests()]
    assert f"/whl/{NAME}/llama-cpp-python/" not in asked


def test_an_unknown_project_is_asked_for_at_the_next_index(newer: Served, tmp_path: Path) -> None:
    at = place(tmp_path, "uv", NEWEST_UV)

    done = install(at, "uv", ours=newer.index(BACKEND), registry=newer.index(NAME))

    assert done.status == 0, done.text
    asked = [(request.path, request.status) for request in newer.requests()]
    assert (f"/whl/{BACKEND}/downstream/", 404) in asked
    assert (f"/whl/{NAME}/downstream/", 200) in asked
