"""ziglang's clang as cc, c++, ar and ranlib: scripts that a CMake build takes for a compiler.

Standard library alone, so that a build container can run it: ``python ci/zig.py TARGET FOLDER``.
"""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

TOOLS = ("cc", "c++", "ar", "ranlib")


def write_scripts(target: str, folder: Path) -> str:
    """Write one script per tool for ``target`` (``x86_64-linux-gnu.2.17``); return zig's version.

    Scripts, because CMake takes no compiler of two words for assembler files.

    Raises:
        ModuleNotFoundError: the package ziglang is not installed in this Python.
    """
    home = _home()
    version = installed_version()
    folder.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        # zig always adds debug information; the prefix map keeps zig's own folder out of __FILE__
        flags = f' -target {target} -g0 "-ffile-prefix-map={home}=zig"' if tool[0] == "c" else ""
        script = folder / tool
        script.write_text(
            f'#!/bin/sh\n# zig {version}\nexec "{home / "zig"}" {tool}{flags} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
    return version


def _home() -> Path:
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package ziglang is not installed")
    return Path(spec.origin).parent


def libcxx_licence() -> str:
    """Return the licence of the C++ runtime that zig links into every library."""
    return (_home() / "lib" / "libcxx" / "LICENSE.TXT").read_text(encoding="utf-8")


def installed_version() -> str:
    """Return the version of the installed package ziglang."""
    return metadata.version("ziglang")


def cmake_defines(target: str, folder: Path, version: str) -> dict[str, str]:
    """Return the CMake definitions that make a build use the scripts in ``folder``."""
    return {
        "CMAKE_C_COMPILER": str(folder / "cc"),
        "CMAKE_CXX_COMPILER": str(folder / "c++"),
        "CMAKE_AR": str(folder / "ar"),
        "CMAKE_RANLIB": str(folder / "ranlib"),
        "LLAMA_CPP_COMPILER": f"zig {version} ({target})",
    }


if __name__ == "__main__":
    write_scripts(sys.argv[1], Path(sys.argv[2]))
