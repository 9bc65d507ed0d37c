"""Vulkan for another machine than this one: a loader to link with, a compiler for the build's own program.

Of an SDK a cross build takes what is the same everywhere, or runs here: headers and the shader compiler.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ci import paths, zig
from ci.errors import ToolMissingError, UsageError
from ci.host import zig_target_here
from ci.process import run
from ci.table import Machine, Platform
from ci.toolkit import Toolkit

TOOLCHAIN = "GGML_VULKAN_SHADERS_GEN_TOOLCHAIN"
"""The CMake definition by which a build compiles its own program with another compiler."""

_SONAME = "libvulkan.so.1"
_DLL = "vulkan-1.dll"
# A loader has the functions of Vulkan itself by their names; those of extensions, which come after them in
# the header, it is asked for at run time.
_EXTENSIONS = "// VK_KHR_surface is a preprocessor guard"
_FUNCTION = re.compile(r"\bVKAPI_CALL (vk\w+)\(")
_DLLTOOL_MACHINES: dict[Machine, str] = {"x86_64": "i386:x86-64", "aarch64": "arm64"}


def complete(toolkit: Toolkit, platform: Platform, folder: Path) -> Toolkit:
    """Return this machine's Vulkan SDK as one that compiles for ``platform``.

    Args:
        toolkit: of this machine.
        platform: what is compiled for, a Linux or Windows.
        folder: made if missing; what is linked with and the toolchain file go there.

    Raises:
        UsageError: the SDK's header declares no functions.
        ToolMissingError: ziglang is not installed, or has no name for this machine.
        ProcessError: ziglang makes no loader of it.
    """
    header = Path(toolkit.defines["Vulkan_INCLUDE_DIR"]) / "vulkan" / "vulkan_core.h"
    try:
        loader = write_loader(platform, folder, functions(header))
        toolchain = write_toolchain(folder)
    except ModuleNotFoundError as error:
        raise ToolMissingError(str(error), cure="run it through nox, which installs it") from error
    own = {"Vulkan_LIBRARY": str(loader), TOOLCHAIN: str(toolchain)}
    return replace(toolkit, defines={**toolkit.defines, **own})


def functions(header: Path) -> list[str]:
    """Return the names of the functions that a loader has, by ``vulkan_core.h``, sorted.

    Raises:
        UsageError: the header declares none.
    """
    text = header.read_text(encoding="utf-8", errors="replace")
    names = sorted(set(_FUNCTION.findall(text.partition(_EXTENSIONS)[0])))
    if not names:
        raise UsageError(f"{header} declares no functions", cure="give a complete Vulkan SDK")
    return names


def write_loader(platform: Platform, folder: Path, names: Sequence[str]) -> Path:
    """Write what a library for ``platform`` is linked with to ask for Vulkan's loader; return it.

    It has the loader's own name and functions of these ``names``, and nothing in it is ever run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [sys.executable, "-m", "ziglang"]
    if platform.system == "windows":
        definition = folder / "vulkan-1.def"
        listed = "".join(f"{name}\n" for name in names)
        definition.write_text(f"LIBRARY {_DLL}\nEXPORTS\n{listed}", encoding="ascii")
        loader = folder / "libvulkan-1.a"
        command += ["dlltool", "-m", _DLLTOOL_MACHINES[platform.machine]]
        command += ["-d", definition, "-l", loader]
    else:
        source = folder / "loader.c"
        lines = [f"void {name}(void) {{}}\n" for name in names]
        source.write_text("".join(lines), encoding="ascii")
        loader = folder / _SONAME
        command += ["cc", "-target", str(platform.zig_target), "-shared", "-nostdlib", "-g0"]
        command += [f"-Wl,-soname,{_SONAME}", source, "-o", loader]
    cache = zig.cache_folder(paths.cache_folder() / "zig")
    env = {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    run(command, env=env)
    return loader


def write_toolchain(folder: Path) -> Path:
    """Write a CMake toolchain file by which ziglang compiles for this machine; return it.

    The build compiles a program that writes the shaders into C++, and runs it.
    """
    target, scripts = zig_target_here(), folder / "here"
    version = zig.write_scripts(target, scripts, {})
    defines = zig.cmake_defines(target, scripts, version)
    place = folder / "here.cmake"
    lines = [
        f'set({name} "{Path(value).as_posix()}")\n'
        for name, value in defines.items()
        if name.startswith("CMAKE_")
    ]
    place.write_text("".join(lines), encoding="utf-8")
    return place
