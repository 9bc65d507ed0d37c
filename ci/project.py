"""The package as pyproject.toml declares it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from ci import paths
from ci.errors import TableError


def requirements() -> tuple[str, ...]:
    """Return what every wheel of the package requires, whatever its backend, sorted."""
    text = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared: list[str] = tomllib.loads(text)["project"]["dependencies"]
    return tuple(sorted(str(Requirement(one)) for one in declared))


def version(root: Path = paths.ROOT) -> str:
    """Return the version of this checkout, without a label.

    Raises:
        TableError: ``llama_cpp/_version.py`` does not say one.
    """
    text = (root / "llama_cpp" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"+]+)"$', text, re.MULTILINE)
    if found is None:
        raise TableError(
            "llama_cpp/_version.py has no __version__", cure="restore the file from git"
        )
    return found[1]
