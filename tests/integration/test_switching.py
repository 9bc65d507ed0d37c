"""Switching the backend with the documented steps, from cpu to cu128 and back, for real."""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Final

import pytest

from index.commands import load_commands, values_of
from tests.installers.clients import Project, project, write_pyproject
from tests.installers.documented import Step, follow, put, steps_of
from tests.installers.environments import NEWEST_PIP, NEWEST_UV, PDM, POETRY, Installer
from tests.installers.registry import NAME, write_registry
from tests.installers.served import Served, isolated, running_platform, update
from tests.wheels import write_proven_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.network

VERSION: Final = "0.3.100"
BACKENDS: Final = ("cpu", "cu128")
ROUND: Final = ("cpu", "cu128", "cpu")
INSTALLERS: Final = {
    "uv": Installer(name="uv", version=NEWEST_UV),
    "uv-pip": Installer(name="uv", version=NEWEST_UV),
    "uv-extras": Installer(name="uv", version=NEWEST_UV),
    "pip": Installer(name="pip", version=NEWEST_PIP),
    "poetry": Installer(name="poetry", version=POETRY),
    "pdm": Installer(name="pdm", version=PDM),
}
LOCKS: Final = {"uv": "uv.lock", "uv-extras": "uv.lock", "poetry": "poetry.lock", "pdm": "pdm.lock"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Serve an index with an older and the newest version of two backends, beside a registry."""
    env = isolated(tmp_path)
    for backend in BACKENDS:
        for version in ("0.3.99", VERSION):
            write_proven_wheel(
                tmp_path / "dist",
                backend=backend,
                version=f"{version}+{backend}",
                platform=running_platform(),
            )
    site = update(tmp_path / "dist", tmp_path, env)
    write_registry(site)
    with Served(site, tmp_path / "requests.log", env) as process:
        yield process


def application(tool: str, served: Served, tmp_path: Path) -> Project:
    """Make a project whose default index is the registry of the test and no other."""
    at = project(tmp_path / "application", INSTALLERS[tool], isolated(tmp_path / "home"))
    registry = served.index(NAME)
    tables = {
        "poetry": "[tool.poetry]\npackage-mode = false\n[[tool.poetry.source]]\n"
        f'name = "registry"\nurl = "{registry}"\npriority = "primary"\n',
        "pdm": "[tool.pdm]\ndistribution = false\n[[tool.pdm.source]]\n"
        f'name = "pypi"\nurl = "{registry}"\n',
    }
    uv = f'[[tool.uv.index]]\nname = "registry"\nurl = "{registry}"\ndefault = true\n'
    write_pyproject(at.folder, tables.get(tool, uv), dependencies="")
    return at


def steps(tool: str, backend: str, served: Served) -> tuple[Step, ...]:
    return steps_of(tool, values_of(f"{VERSION}+{backend}", backend=backend, root=served.url))


def sha256_of(served: Served, backend: str) -> str:
    page = served.site / "whl" / backend / "llama-cpp-python"
    (wheel,) = page.glob(f"*-{VERSION}+{backend}-*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def locked_hashes(file: Path) -> set[str]:
    """Return the hashes that a lock file has for our project."""
    lock = tomllib.loads(file.read_text(encoding="utf-8"))
    packages = [each for each in lock["package"] if each["name"] == "llama-cpp-python"]
    assert packages, lock
    files = [each for package in packages for each in package.get("wheels", package.get("files"))]
    return {each["hash"] for each in files}


def test_every_documented_tool_is_tried_here() -> None:
    assert {tool.id for tool in load_commands().tools} == INSTALLERS.keys()


@pytest.mark.parametrize("tool", ["uv", "uv-pip", "pip", "poetry", "pdm"])
def test_the_documented_steps_switch_the_backend(tool: str, served: Served, tmp_path: Path) -> None:
    at = application(tool, served, tmp_path)
    for backend in ROUND:
        follow(steps(tool, backend, served), at)

        assert at.installed() == f"{VERSION}+{backend}"
        if tool in LOCKS:
            assert locked_hashes(at.folder / LOCKS[tool]) == {
                f"sha256:{sha256_of(served, backend)}"
            }
    asked = [request.path for request in served.requests()]
    assert f"/whl/{NAME}/llama-cpp-python/" not in asked


def test_pdm_switches_with_the_blocks_of_both_backends_left_in(
    served: Served, tmp_path: Path
) -> None:
    at = application("pdm", served, tmp_path)
    pyproject = at.folder / "pyproject.toml"
    for backend in ("cpu", "cu128"):
        block, add = steps("pdm", backend, served)
        pyproject.write_text(f"{pyproject.read_text('utf-8')}\n{block.text}", encoding="utf-8")
        follow((add,), at)
        assert at.installed() == f"{VERSION}+{backend}"
    follow((steps("pdm", "cpu", served)[1],), at)

    assert at.installed() == f"{VERSION}+cpu"


@pytest.mark.parametrize("tool", ["uv-pip", "pip"])
def test_without_the_exact_label_the_old_backend_stays(
    tool: str, served: Served, tmp_path: Path
) -> None:
    at = application(tool, served, tmp_path)
    follow(steps(tool, "cpu", served), at)
    words = {
        "uv-pip": ["uv", "pip", "install", "--index"],
        "pip": ["pip", "install", "--index-url"],
    }

    done = at.run(*words[tool], served.index("cu128"), f"llama-cpp-python=={VERSION}")

    assert done.status == 0, done.text
    assert at.installed() == f"{VERSION}+cpu"


def test_an_extra_per_backend_switches(served: Served, tmp_path: Path) -> None:
    at = application("uv-extras", served, tmp_path)
    follow(steps("uv-extras", "cu128", served), at)
    seen = [at.installed()]
    for backend in ("cpu", "cu128"):
        done = at.run("uv", "sync", "--extra", backend)
        assert done.status == 0, done.text
        seen.append(at.installed())

    assert seen == [f"{VERSION}+cu128", f"{VERSION}+cpu", f"{VERSION}+cu128"]
    hashes = {f"sha256:{sha256_of(served, backend)}" for backend in BACKENDS}
    assert locked_hashes(at.folder / "uv.lock") == hashes


def test_two_extras_at_once_are_refused(served: Served, tmp_path: Path) -> None:
    at = application("uv-extras", served, tmp_path)
    follow(steps("uv-extras", "cu128", served), at)

    done = at.run("uv", "sync", "--extra", "cpu", "--extra", "cu128")

    assert done.status != 0
    assert "conflict" in done.text
    assert at.installed() == f"{VERSION}+cu128"


def compiled(at: Project, served: Served, backend: str) -> str:
    """Compile requirements with hashes, as a person who pins does it."""
    (at.folder / "requirements.in").write_text("llama-cpp-python>=0.3,<0.4\n", encoding="utf-8")
    index = ["--index", served.index(backend), "--default-index", served.index(NAME)]
    options = ["--generate-hashes", "--emit-index-url", "--output-file", "requirements.txt"]
    done = at.run("uv", "pip", "compile", *index, *options, "requirements.in")
    assert done.status == 0, done.text
    text = (at.folder / "requirements.txt").read_text(encoding="utf-8")
    assert re.findall(r"sha256:([0-9a-f]{64})", text) == [sha256_of(served, backend)]
    assert f"llama-cpp-python=={VERSION}+{backend} " in text
    return text


def test_uv_pip_sync_switches_with_hashes(served: Served, tmp_path: Path) -> None:
    at = application("uv-pip", served, tmp_path)
    for backend in ROUND:
        compiled(at, served, backend)
        done = at.run("uv", "pip", "sync", "--require-hashes", "requirements.txt")

        assert done.status == 0, done.text
        assert at.installed() == f"{VERSION}+{backend}"


def test_pip_switches_with_hashes(served: Served, tmp_path: Path) -> None:
    uv = project(tmp_path / "uv", INSTALLERS["uv-pip"], isolated(tmp_path / "uv-home"))
    at = application("pip", served, tmp_path)
    for backend in ROUND:
        text = compiled(uv, served, backend)
        (at.folder / "requirements.txt").write_text(text, encoding="utf-8")
        done = at.run("pip", "install", "--require-hashes", "-r", "requirements.txt")

        assert done.status == 0, done.text
        assert at.installed() == f"{VERSION}+{backend}"


def test_a_block_replaces_what_was_ours_and_keeps_the_rest() -> None:
    before = (
        '[project]\nname = "mine"\ndependencies = ["llama-cpp-python==1"]\n'
        '[[tool.uv.index]]\nname = "registry"\ndefault = true\n'
        '[[tool.uv.index]]\nname = "llama-cpp-python-cpu"\n'
    )
    block = (
        '[project]\ndependencies = ["llama-cpp-python==2"]\n'
        '[tool.uv.sources]\nllama-cpp-python = { index = "llama-cpp-python-cu128" }\n'
        '[[tool.uv.index]]\nname = "llama-cpp-python-cu128"\n'
    )

    assert tomllib.loads(put(before, block)) == {
        "project": {"name": "mine", "dependencies": ["llama-cpp-python==2"]},
        "tool": {
            "uv": {
                "index": [
                    {"name": "registry", "default": True},
                    {"name": "llama-cpp-python-cu128"},
                ],
                "sources": {"llama-cpp-python": {"index": "llama-cpp-python-cu128"}},
            }
        },
    }
