"""What this copy of the package was built from, as recorded by the build."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from llama_cpp._errors import LlamaError
from llama_cpp._package import package_path

_FILE = package_path("_build_info.json")


class BuildInfo(NamedTuple):
    """How the libraries in this package were built."""

    backend: str
    """The backend's name: ``cpu``, ``cu128``, ``metal`` …"""
    version: str
    """The package's version with its label: ``0.3.100+cpu``."""
    llama_cpp_commit: str | None
    """llama.cpp's commit and version; None where finished libraries were wrapped."""
    llama_cpp_version: str | None
    compiler: str
    defines: dict[str, str]
    """The CMake defines the libraries were configured with."""
    toolkit: str | None
    """The GPU toolkit and its version; None for a CPU build."""
    gpu_architectures: tuple[str, ...]
    prebuilt: bool
    """Whether finished libraries were wrapped (``LLAMA_CPP_PREBUILT``) in place of a compile."""


def build_info(file: Path | None = None) -> BuildInfo | None:
    """Return what the build recorded; None in a source tree, where nothing was built.

    Args:
        file: the record, where it is another than the package's own.

    Raises:
        LlamaError: the record is there but unreadable; reinstall the package.
    """
    file = file or _FILE
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return None
    try:
        record = json.loads(text)
        return BuildInfo(
            backend=str(record["backend"]),
            version=str(record["version"]),
            llama_cpp_commit=_text_or_none(record["llama_cpp_commit"]),
            llama_cpp_version=_text_or_none(record["llama_cpp_version"]),
            compiler=str(record["compiler"]),
            defines={str(name): str(value) for name, value in record["defines"].items()},
            toolkit=_text_or_none(record["toolkit"]),
            gpu_architectures=tuple(map(str, record["gpu_architectures"])),
            prebuilt=bool(record["prebuilt"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LlamaError(
            f"{file} is damaged ({type(error).__name__}: {error}); "
            "reinstall with `pip install --force-reinstall llama-cpp-python`"
        ) from error


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


def version_pair(version: str | None) -> tuple[int, int] | None:
    """Return (12, 8) for "12.8.1" or "CUDA 12.8"; None where there is no such number."""
    found = re.search(r"([0-9]+)\.([0-9]+)", version or "")
    return (int(found[1]), int(found[2])) if found else None
