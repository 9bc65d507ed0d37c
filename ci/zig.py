"""ziglang's clang as cc, c++, ar and ranlib: scripts that a CMake build takes for a compiler.

Standard library alone, so that a build container can run it: ``python ci/zig.py TARGET FOLDER
[PATH=NAME ...]``.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

TOOLS = ("cc", "c++", "ar", "ranlib")

# What zig takes in other words than CMake and ggml write. ARM's processors: -march=armv8.2-a+fp16 is
# -mcpu=generic+v8_2a+fullfp16, for zig knows LLVM's names of features alone.
_ARM_WORDS = r"""-march=armv*)
        each=$(printf '%s\n' "$each" | sed \
            -e 's/^-march=armv\([0-9]*\)[.]\([0-9]*\)-a/-mcpu=generic+v\1_\2a/' \
            -e 's/^-march=armv\([0-9]*\)-a/-mcpu=generic+v\1a/' \
            -e 's/+fp16+/+fullfp16+/' -e 's/+fp16$/+fullfp16/' -e 's/+no\([a-z]\)/-\1/g')"""
# Apple's M4 has SME and no SVE. zig cannot leave out what a version brings, and says nothing; Armv8.7 is
# Armv9.2 without SVE.
_APPLE_WORDS = r"""-march=armv9.2-a*+nosve*)
        each=$(printf '%s\n' "$each" | sed \
            -e 's/^-march=armv9[.]2-a/-mcpu=generic+v8_7a/' -e 's/+nosve//' \
            -e 's/+fp16+/+fullfp16+/' -e 's/+fp16$/+fullfp16/')"""
# zig's linker makes no bundles; macOS loads a library at run time just as well
_MACOS_WORDS = """-bundle)
        each=-dynamiclib"""
_ARM_FEATURES = ("DOTPROD", "SVE", "MATMUL_INT8", "FMA", "FP16_VECTOR_ARITHMETIC", "SME")
_TRANSLATE = """for each do
    shift
    case $each in {}
    esac
    set -- "$@" "$each"
done
"""
# CMake asks for it and does not call it: each library is linked with the names that it keeps
_INSTALL_NAME_TOOL = """#!/bin/sh
echo "install_name_tool: there is none, and none should be needed" >&2
exit 1
"""


def write_scripts(target: str, folder: Path, prefixes: Mapping[Path, str]) -> str:
    """Write one script per tool for ``target`` (``x86_64-linux-gnu.2.17``); return zig's version.

    Scripts, because CMake takes no compiler of two words for assembler files. Their text is the
    same in every checkout and environment, since compiler caches take it for the compiler: what
    differs (zig itself, the folders whose names must not get into the objects) lies beside them.

    Args:
        target: zig's name of the target.
        folder: where the scripts go.
        prefixes: names by folder, for ``-ffile-prefix-map``; zig's own is added.

    Raises:
        ModuleNotFoundError: the package ziglang is not installed in this Python.
    """
    home = _home()
    version = installed_version()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zig").unlink(missing_ok=True)
    (folder / "zig").symlink_to(home / "zig")
    maps = {**prefixes, home: "zig"}
    (folder / "prefixes").write_text(
        "".join(f'"-ffile-prefix-map={path}={name}"\n' for path, name in maps.items()),
        encoding="utf-8",
    )
    for tool in TOOLS:
        # zig always adds debug information
        flags = f' -target {target} -g0 "@$here/prefixes"' if tool[0] == "c" else ""
        words = _translation(target) if tool[0] == "c" else ""
        script = folder / tool
        script.write_text(
            f'#!/bin/sh\n# zig {version}\nhere=$(dirname "$0")\n{words}'
            f'exec "$here/zig" {tool}{flags} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
    if "-macos" in target:
        script = folder / "install_name_tool"
        script.write_text(_INSTALL_NAME_TOOL, encoding="utf-8")
        script.chmod(0o755)
    return version


def _translation(target: str) -> str:
    """Return the lines of a script that put its arguments into zig's words."""
    words: list[str] = []
    if target.startswith("aarch64-"):
        words += [_APPLE_WORDS] if "-macos" in target else []
        words.append(_ARM_WORDS)
    if "-macos" in target:
        words.append(_MACOS_WORDS)
    return _TRANSLATE.format(" ;;\n    ".join(words)) if words else ""


def _home() -> Path:
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package ziglang is not installed")
    return Path(spec.origin).parent


def cache_folder(parent: Path, home: Path | None = None) -> Path:
    """Return the folder for an installation's global cache, below ``parent``.

    zig knows a file of its library by inode and time. Two installations that share a cache each
    find the other's entries stale and write them anew, and while both compile they can wait for
    each other's locks for ever. Installations whose files are hard links of one another (uv makes
    them so) are one.
    """
    library = ((home or _home()) / "lib" / "std" / "std.zig").stat()
    identity = f"{library.st_dev} {library.st_ino} {library.st_mtime_ns}"
    return parent / hashlib.sha256(identity.encode()).hexdigest()[:16]


def libcxx_licence() -> str:
    """Return the licence of the C++ runtime that zig links into every library."""
    return (_home() / "lib" / "libcxx" / "LICENSE.TXT").read_text(encoding="utf-8")


def installed_version() -> str:
    """Return the version of the installed package ziglang."""
    return metadata.version("ziglang")


def cmake_defines(target: str, folder: Path, version: str) -> dict[str, str]:
    """Return the CMake definitions that make a build use the scripts in ``folder``."""
    # ggml asks what the compiler defines for its oldest ARM only to print it; zig would first compile a C
    # and a C++ library for just that, 100 s of processor time
    of_arm = dict.fromkeys((f"HAVE_{feature}" for feature in _ARM_FEATURES), "OFF")
    of_macos = {"CMAKE_INSTALL_NAME_TOOL": str(folder / "install_name_tool")}
    return {
        **(of_arm if target.startswith("aarch64-") else {}),
        **(of_macos if "-macos" in target else {}),
        "CMAKE_C_COMPILER": str(folder / "cc"),
        "CMAKE_CXX_COMPILER": str(folder / "c++"),
        "CMAKE_AR": str(folder / "ar"),
        "CMAKE_RANLIB": str(folder / "ranlib"),
        "LLAMA_CPP_COMPILER": f"zig {version} ({target})",
        "LLAMA_CPP_MAP_PREFIXES": "OFF",
    }


if __name__ == "__main__":
    write_scripts(
        sys.argv[1],
        Path(sys.argv[2]),
        {Path(path): name for path, name in (each.split("=") for each in sys.argv[3:])},
    )
