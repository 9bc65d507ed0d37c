"""Installers in environments of their own, made once in the cache folder with the newest uv."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from filelock import FileLock

from ci.errors import NetworkError
from ci.interpreters import find_interpreters
from ci.paths import cache_folder
from ci.process import ProcessError, run

# The newest versions of pip and uv are those that pyproject.toml pins for the tests.
NEWEST_PIP: Final = version("pip")
NEWEST_UV: Final = version("uv")
# These two pin so much that they cannot be in one environment with the rest.
POETRY: Final = "2.5.1"
PDM: Final = "2.29.3"
# pip before 23.1.2 does not run on Python 3.12 and newer; this series runs all that we try.
OLD_PYTHON: Final = "3.9"

_REQUIREMENTS: Final = {
    # pdm's own pins: with the newest hishel it does not start
    "pdm": "pdm[locked]",
}
_READY: Final = "ready"


@dataclass(frozen=True, kw_only=True)
class Installer:
    """One version of one installer."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def series(self) -> str | None:
        """The series of Python that it needs; None where the running one will do."""
        return OLD_PYTHON if self.name == "pip" and self.version != NEWEST_PIP else None


@cache
def interpreter_of(installer: Installer) -> Path | None:
    """Return the Python that an installer runs on; None where this machine has none."""
    if installer.series is None:
        return Path(sys.executable)
    found = find_interpreters((installer.series,))
    return found[0].path if found else None


def provided(installer: Installer) -> Path:
    """Return the folder of an installer in the cache, filled where it is not there yet.

    pip and uv are plain folders of files; poetry and pdm are environments with scripts.

    Raises:
        NetworkError: The package registry that this machine is set up for does not give it.
    """
    folder = cache_folder() / "installers" / str(installer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    plain = installer.name in {"pip", "uv"}
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if _is_ready(folder, plain=plain):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        name = _REQUIREMENTS.get(installer.name, installer.name)
        uv = [sys.executable, "-m", "uv"]
        try:
            if plain:
                where: list[str | Path] = ["--target", folder]
            else:
                run([*uv, "venv", "--quiet", "--python", sys.executable, folder])
                where = ["--python", program(folder, "python")]
            run([*uv, "pip", "install", "--quiet", *where, f"{name}=={installer.version}"])
        except ProcessError as error:
            raise NetworkError(
                f"{installer} could not be installed: {error.what}",
                cure="look at the index that uv is set up for, then run this again",
            ) from error
        (folder / _READY).touch()
    return folder


def _is_ready(folder: Path, *, plain: bool) -> bool:
    # an environment's Python is a link to one that may have been removed
    return (folder / _READY).is_file() and (plain or program(folder, "python").exists())


def program(folder: Path, name: str) -> Path:
    """Return the path of a program in an environment (or in a folder that uv filled)."""
    if os.name == "nt":
        scripts = folder / "Scripts"
        return (scripts if scripts.is_dir() else folder / "bin") / f"{name}.exe"
    return folder / "bin" / name
