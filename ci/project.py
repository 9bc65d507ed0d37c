"""The package as pyproject.toml declares it."""

from __future__ import annotations

import tomllib

from packaging.requirements import Requirement

from ci import paths


def requirements() -> tuple[str, ...]:
    """Return what every wheel of the package requires, whatever its backend, sorted."""
    text = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared: list[str] = tomllib.loads(text)["project"]["dependencies"]
    return tuple(sorted(str(Requirement(one)) for one in declared))
