"""Toolkits: what a backend's module is compiled with, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ci.compiler import Compiler
from ci.table import Target


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A toolkit on this machine.

    Attributes:
        name: its name in the table.
        version: its own, exact one.
        front_end: what compiles with it, where that is not its own compiler: ``clang 22.1.8``.
        folder: where it lies; its name must not get into what is compiled.
        source: where it comes from: ``pinned``, or what named the folder.
        defines: CMake definitions that make a build use it.
        env: environment of the build.
        compiler: the C++ compiler that it insists on; None takes any.
    """

    name: str
    version: str
    front_end: str | None = None
    folder: Path
    source: str
    defines: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    compiler: Compiler | None = None

    def is_compatible(self, target: Target) -> bool:
        """Say whether it is not the target's own, but another minor version of the same major one."""
        return not fits(self.version, target.backend.toolkit_version)

    @property
    def title(self) -> str:
        """Name and version: ``CUDA 13.0.88``, ``CUDA 12.8.93 with clang 22.1.8``."""
        text = f"{self.name} {self.version}"
        return f"{text} with {self.front_end}" if self.front_end else text

    def label(self, target: Target) -> str:
        """Return name and version for the build info: ``CUDA 12.4.131, compatible with 12.1``."""
        text = self.title
        if self.is_compatible(target):
            text += f", compatible with {target.backend.toolkit_version}"
        return text


def fits(version: str, wanted: str | None) -> bool:
    """Say whether a toolkit's exact version is the one that the table wants, as far as it says."""
    return wanted is None or version == wanted or version.startswith(f"{wanted}.")
