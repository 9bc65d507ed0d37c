"""Installers as a person runs them: what each is told, where it is run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tests.installers.environments import (
    NEWEST_PIP,
    NEWEST_UV,
    PDM,
    POETRY,
    Installer,
    interpreter_of,
    program,
    provided,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Arrangement: TypeAlias = Literal["alone", "extra"]

INSTALLERS: Final = (
    *(Installer(name="pip", version=v) for v in ("20.3", "22.2", "23.1", "23.2", "24.0")),
    Installer(name="pip", version=NEWEST_PIP),
    *(Installer(name="uv", version=v) for v in ("0.4.30", "0.7.22", "0.9.30")),
    Installer(name="uv", version=NEWEST_UV),
    Installer(name="poetry", version=POETRY),
    Installer(name="pdm", version=PDM),
)

WANTED: Final = "llama-cpp-python>=0.3,<0.4"
_TIMEOUT_S: Final = 180
_ASK: Final = """
import importlib.metadata, importlib.util
print(importlib.metadata.version("llama-cpp-python"))
if importlib.util.find_spec("llama_cpp"):
    print(__import__("llama_cpp").__version__)
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that ended: its exit code and all that it printed."""

    status: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Project:
    """A folder with a fresh environment in ``.venv``, where every installer looks for one.

    ``env`` are the variables of its commands, ``programs`` the installers by the word that a
    command begins with, as the arguments that really run them.
    """

    folder: Path
    env: Mapping[str, str]
    programs: Mapping[str, list[str]]

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return program(self.folder / ".venv", "python")

    def run(self, *arguments: str) -> Done:
        """Run a command whose first word names an installer."""
        command = [*self.programs[arguments[0]], *arguments[1:]]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
        return Done(status=done.returncode, text=f"$ {' '.join(arguments)}\n{done.stdout}")

    def installed(self) -> str | None:
        """Return the version that is installed; None without one.

        Where the files are not those of that version it is followed by what they are.
        """
        if not list((self.folder / ".venv").rglob("llama_cpp_python-*.dist-info")):
            return None
        answer = subprocess.check_output(
            [self.python, "-I", "-c", _ASK], env=dict(self.env), text=True
        )
        said, *carried = answer.split()
        return said if carried == [said] else f"{said} with the files of {carried}"


def project(folder: Path, installer: Installer, env: Mapping[str, str]) -> Project:
    """Make a folder with a fresh environment for one installer.

    Raises:
        NetworkError: The installer is not in the cache and cannot be downloaded.
    """
    home = provided(installer)
    folder.mkdir(parents=True)
    python = interpreter_of(installer)
    assert python is not None
    subprocess.run(
        [python, "-m", "venv", "--without-pip", folder / ".venv"], check=True, env=dict(env)
    )
    inside = program(folder / ".venv", "python")
    if installer.name == "pip":
        # pip as a user has it: run by the environment's own Python, whose packages it changes
        variables = {"PYTHONPATH": str(home)}
        programs = {"pip": [str(inside), "-m", "pip"]}
    else:
        variables = {"UV_PYTHON": str(inside)} if installer.name == "uv" else {}
        programs = {installer.name: [str(program(home, installer.name))]}
    return Project(folder=folder, env={**env, **variables}, programs=programs)


def install(at: Project, name: str, *, ours: str, registry: str | None) -> Done:
    """Install our project with an installer: from our index alone, or beside another registry.

    Beside another registry a project of that registry is wanted which needs ours.
    """
    wanted = WANTED if registry is None else "downstream"
    match name:
        case "pip":
            # beside another index means that both are searched, and the newest version wins
            options = (
                ["--index-url", ours]
                if registry is None
                else ["--index-url", registry, "--extra-index-url", ours]
            )
            return at.run("pip", "install", *options, wanted)
        case "uv":
            # the first index that has the project wins
            options = (
                ["--index-url", ours]
                if registry is None
                else ["--index", ours, "--default-index", registry]
            )
            return at.run("uv", "pip", "install", *options, wanted)
        case "poetry":
            write_pyproject(at.folder, _poetry(ours, registry))
            return at.run("poetry", "install")
        case "pdm":
            write_pyproject(at.folder, _pdm(ours, registry))
            return at.run("pdm", "install")
        case _:
            raise AssertionError(name)


def sync(at: Project, *, ours: str) -> Done:
    """Lock and install a project with uv, from one index alone."""
    write_pyproject(at.folder, _uv(ours))
    return at.run("uv", "sync")


def lock(at: Project, name: str, *, ours: str) -> Done:
    """Lock, from one index alone; pip has nothing to lock, so it resolves only."""
    match name:
        case "pip":
            return at.run("pip", "install", "--dry-run", "--index-url", ours, WANTED)
        case "uv":
            write_pyproject(at.folder, _uv(ours))
        case "poetry":
            write_pyproject(at.folder, _poetry(ours, None))
        case "pdm":
            write_pyproject(at.folder, _pdm(ours, None))
        case _:
            raise AssertionError(name)
    return at.run(name, "lock")


def write_pyproject(folder: Path, tables: str, *, dependencies: str | None = None) -> None:
    """Write the pyproject.toml of an application that needs our project."""
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = dependencies if dependencies is not None else f'"{WANTED}"'
    text = (
        '[project]\nname = "application"\nversion = "1"\n'
        f'requires-python = "=={series}.*"\ndependencies = [{wanted}]\n{tables}'
    )
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")


def _uv(ours: str) -> str:
    return f'[[tool.uv.index]]\nname = "ours"\nurl = "{ours}"\ndefault = true\n'


def _poetry(ours: str, registry: str | None) -> str:
    if registry is None:
        tables = f'[[tool.poetry.source]]\nname = "ours"\nurl = "{ours}"\npriority = "primary"\n'
    else:
        tables = (
            '[tool.poetry.dependencies]\nllama-cpp-python = { source = "ours" }\n'
            'downstream = "1.0"\n'
            f'[[tool.poetry.source]]\nname = "registry"\nurl = "{registry}"\npriority = "primary"\n'
            f'[[tool.poetry.source]]\nname = "ours"\nurl = "{ours}"\npriority = "explicit"\n'
        )
    return f"[tool.poetry]\npackage-mode = false\n{tables}"


def _pdm(ours: str, registry: str | None) -> str:
    if registry is None:
        tables = f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{ours}"\n'
    else:
        tables = (
            f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{registry}"\n'
            f'[[tool.pdm.source]]\nname = "ours"\nurl = "{ours}"\n'
            'include_packages = ["llama-cpp-python"]\n'
        )
    return f"[tool.pdm]\ndistribution = false\n{tables}"
