"""Which tool the user installs with, read off the files of the project and of the environment."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

# Our own checkout is a uv project, but nobody installs llama-cpp-python into it with uv.
_OURS = re.compile(r'^name\s*=\s*"llama-cpp-python"', re.MULTILINE)
_LOCKS = (("uv.lock", "uv"), ("poetry.lock", "poetry"), ("pdm.lock", "pdm"))
_TABLE = re.compile(r"^\s*\[\[?tool\.(uv|poetry|pdm)\b", re.MULTILINE)


class Project(NamedTuple):
    """The tool, and how we know."""

    tool: str
    """``uv``, ``uv-pip``, ``pip``, ``poetry`` or ``pdm``."""
    reason: str
    conda: bool
    """Whether Python is conda's; its own packages do not come from an index."""


def project(folder: Path, installer: str | None, prefix: Path) -> Project:
    """Return the tool that manages ``folder`` or a folder above it, else the environment's.

    Args:
        folder: where the user stands.
        installer: who installed this package (the INSTALLER file), if anybody.
        prefix: the environment, ``sys.prefix``.
    """
    conda = (prefix / "conda-meta").is_dir()
    for place in (folder, *folder.parents):
        settings = _read(place / "pyproject.toml")
        if _OURS.search(settings):
            break
        for lock, tool in _LOCKS:
            if (place / lock).is_file():
                return Project(tool, f"found {place / lock}", conda)
        table = _TABLE.search(settings)
        if table:
            return Project(table[1], f"[tool.{table[1]}] in {place / 'pyproject.toml'}", conda)
    if installer == "uv":
        return Project("uv-pip", "uv installed this package", conda)
    if installer == "pip":
        return Project("pip", "pip installed this package", conda)
    if re.search(r"^uv\s*=", _read(prefix / "pyvenv.cfg"), re.MULTILINE):
        return Project("uv-pip", f"uv made {prefix}", conda)
    return Project("pip", "no other tool was found", conda)


def current_project(installer: str | None) -> Project:
    """Return :func:`project` for the current folder and this Python."""
    try:
        folder = Path.cwd()
    except OSError:  # the folder was deleted
        folder = Path(sys.prefix)
    return project(folder, installer, Path(sys.prefix))


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
