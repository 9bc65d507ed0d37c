"""Visual Studio on a Windows machine: its C++ tools, their environment, the toolset that a CUDA takes.

cl compiles for x64. ggml's code for ARM is written for the intrinsics of gcc and clang, and ggml's own
CMake refuses cl there: Windows on ARM is compiled by clang-cl, which Visual Studio brings as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ci.errors import BuildError, ToolMissingError
from ci.process import ProcessError, run
from ci.table import Platform

Architecture: TypeAlias = Literal["x64", "arm64"]

_ARCHITECTURES: Mapping[str, Architecture] = {"x86_64": "x64", "aarch64": "arm64"}
_COMPONENTS: Mapping[Architecture, tuple[str, ...]] = {
    "x64": ("Microsoft.VisualStudio.Component.VC.Tools.x86.x64",),
    "arm64": (
        "Microsoft.VisualStudio.Component.VC.Tools.ARM64",
        "Microsoft.VisualStudio.Component.VC.Llvm.Clang",
    ),
}
_VSWHERE = Path("Microsoft Visual Studio", "Installer", "vswhere.exe")
_VCVARSALL = Path("VC", "Auxiliary", "Build", "vcvarsall.bat")
_TOOLSETS = Path("VC", "Tools", "MSVC")
_CLANG = Path("VC", "Tools", "Llvm", "ARM64", "bin", "clang-cl.exe")
# crt/host_config.h of the toolkit; 1944 is MSVC 19.44, which toolset 14.44 holds
_LIMITS = re.compile(r"^\s*#if _MSC_VER < (\d+) \|\| _MSC_VER >= (\d+)", re.MULTILINE)
# learn.microsoft.com, "Maximum Path Length Limitation": 260 characters with the zero at the end
_MAX_PATH = 259
# below CMake's folder, with what a compiler adds while it writes: llama.cpp/ggml/src/ggml-cuda/CMakeFiles
# /ggml-cuda.dir/template-instances/fattn-mma-f16-instance-ncols1_16-ncols2_8.cu.obj.d, and some room
_DEEPEST = 130
# One C runtime for all libraries, Windows' own, so that each may free what another one has allocated;
# the compiler's part of it goes into each: a user needs no "Visual C++ Redistributable".
_LINK = "/NODEFAULTLIB:libucrt.lib /DEFAULTLIB:ucrt.lib"


@dataclass(frozen=True, kw_only=True)
class VisualStudio:
    """One installation: its folder, its own name, and its MSVC toolsets, the newest first."""

    folder: Path
    name: str
    toolsets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WindowsCompiler:
    """A compiler of Visual Studio as CMake definitions and environment."""

    name: str
    defines: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)


def choose_windows_compiler(
    platform: Platform,
    prefixes: Mapping[Path, str],
    *,
    cuda: Path | None = None,
    unsupported: bool = False,
    shell: Sequence[str] = ("cmd", "/d", "/c"),
) -> WindowsCompiler:
    """Return the compiler of this machine's Visual Studio for a platform of Windows.

    Args:
        platform: what is built for; this machine is of its kind.
        prefixes: folders whose names are kept out of what the compiler writes.
        cuda: folder of the CUDA toolkit whose host compiler it is to be.
        unsupported: take the newest toolset, even if that CUDA refuses it: it was asked for with
            ``-allow-unsupported-compiler``.
        shell: what runs a batch file.

    Raises:
        ToolMissingError: there is no Visual Studio with the tools, or no toolset for that CUDA.
    """
    architecture = _ARCHITECTURES[platform.machine]
    studio = find_visual_studio(architecture)
    limits = None if cuda is None or unsupported else host_limits(cuda)
    toolset = choose_toolset(studio, limits)
    env = environment(studio, architecture, toolset, shell=shell)
    # the compiler's and the linker's own variables, which every call of theirs reads: with CMake's
    # flags, what CMake itself gives would have to be repeated
    flags = ["/Brepro", *(f'"/d1trimfile:{path}"' for path in prefixes)]
    compiler, name = "cl", f"MSVC {toolset}"
    if architecture == "arm64":
        compiler, name = (studio.folder / _CLANG).as_posix(), f"clang-cl of {studio.name}"
        maps = (f'"/clang:-ffile-prefix-map={path}={new}"' for path, new in prefixes.items())
        flags = ["/Brepro", *maps]
    return WindowsCompiler(
        name=name,
        defines={
            "CMAKE_C_COMPILER": compiler,
            "CMAKE_CXX_COMPILER": compiler,
            "CMAKE_MSVC_RUNTIME_LIBRARY": "MultiThreaded",
        },
        env={
            **env,
            "CL": " ".join(flags),
            "LINK": f"/Brepro {_LINK}",
            # Visual Studio's generator needs CUDA's integration, and starts compilers one by one
            "CMAKE_GENERATOR": "Ninja",
        },
    )


def find_visual_studio(architecture: Architecture) -> VisualStudio:
    """Return the newest Visual Studio with C++ tools for an architecture, as vswhere knows it.

    Raises:
        ToolMissingError: there is none, or no vswhere (which comes with every Visual Studio).
    """
    components = _COMPONENTS[architecture]
    cure = (
        f"in the Visual Studio installer add {' and '.join(components)}"
        ' (or: winget install Microsoft.VisualStudio.2022.BuildTools --override "--wait --quiet'
        f'{"".join(f" --add {each}" for each in components)}")'
    )
    program = _vswhere()
    if program is None:
        raise ToolMissingError("there is no Visual Studio on this machine", cure=cure)
    command = [str(program), "-latest", "-products", "*", "-format", "json", "-utf8"]
    found = json.loads(run([*command, "-requires", *components]) or "[]")
    if not found:
        raise ToolMissingError(
            f"no Visual Studio on this machine has C++ tools for {architecture}", cure=cure
        )
    folder = Path(found[0]["installationPath"])
    toolsets = folder / _TOOLSETS
    names = [entry.name for entry in toolsets.iterdir()] if toolsets.is_dir() else []
    newest_first = sorted(filter(_toolset, names), key=_toolset, reverse=True)
    if not newest_first:
        raise ToolMissingError(f"{toolsets} holds no MSVC", cure=cure)
    return VisualStudio(folder=folder, name=found[0]["displayName"], toolsets=tuple(newest_first))


def _vswhere() -> Path | None:
    programs = os.environ.get("PROGRAMFILES(X86)")
    # Microsoft keeps that place for every version since 2017
    installed = Path(programs) / _VSWHERE if programs else None
    if installed is not None and installed.is_file():
        return installed
    on_path = shutil.which("vswhere")
    return Path(on_path) if on_path else None


def _toolset(name: str) -> tuple[int, ...]:
    """Return the numbers of ``14.44.35207``; nothing for another name."""
    return tuple(map(int, name.split("."))) if re.fullmatch(r"\d+(\.\d+)+", name) else ()


def host_limits(cuda: Path) -> tuple[int, int] | None:
    """Return the ``_MSC_VER`` that a CUDA toolkit takes, from and below; None where it does not say.

    Read from its own header, so that no table here goes stale: 12.4, 12.8 and 13.0 take those below
    1950 (14.44 is the last toolset there is).
    """
    for header in sorted(cuda.rglob("crt/host_config.h")):
        found = _LIMITS.search(header.read_text(encoding="utf-8", errors="replace"))
        if found:
            return int(found[1]), int(found[2])
    return None


def choose_toolset(studio: VisualStudio, limits: tuple[int, int] | None) -> str:
    """Return the newest toolset within limits.

    Raises:
        ToolMissingError: every one is too new or too old for that CUDA.
    """
    for name in studio.toolsets:
        major, minor = _toolset(name)[:2]
        # 14.44 is the compiler 19.44
        if limits is None or limits[0] <= (major + 5) * 100 + minor < limits[1]:
            return name
    assert limits is not None
    least, most = (f"14.{limit % 100}" for limit in (limits[0], limits[1] - 1))
    raise ToolMissingError(
        f"this CUDA takes MSVC toolsets from {least} to {most}; {studio.name} has"
        f" {', '.join(studio.toolsets)}",
        cure=f"in the Visual Studio installer, under individual components, add MSVC build tools up to"
        f" {most}; or, at your own risk, --define CMAKE_CUDA_FLAGS=-allow-unsupported-compiler",
    )


def environment(
    studio: VisualStudio, architecture: Architecture, toolset: str, *, shell: Sequence[str]
) -> dict[str, str]:
    """Return the variables that ``vcvarsall.bat`` sets for a toolset, names in capitals.

    Raises:
        ToolMissingError: it fails, or sets nothing.
    """
    version = ".".join(toolset.split(".")[:2])
    batch = studio.folder / _VCVARSALL
    cure = "repair Visual Studio in its installer, or start this in its x64 Native Tools prompt"
    with tempfile.TemporaryDirectory(prefix="msvc-") as folder:
        script = Path(folder) / "environment.bat"
        # a batch file of our own, since cmd reads quotes on its command line as nobody else does
        lines = [
            "@echo off",
            # all output in UTF-8
            "chcp 65001 >nul",
            f'call "{batch}" {architecture} -vcvars_ver={version} >nul || exit /b 1',
            "set",
        ]
        script.write_text("\r\n".join([*lines, ""]), encoding="utf-8", newline="")
        try:
            printed = run([*shell, str(script)])
        except ProcessError as error:
            said = error.tail[-1] if error.tail else error.what
            raise ToolMissingError(f"{batch} fails: {said}", cure=cure) from error
    variables = parse_variables(printed)
    if "INCLUDE" not in variables or "LIB" not in variables:
        raise ToolMissingError(f"{batch} sets neither INCLUDE nor LIB", cure=cure)
    # Windows takes Path and PATH for one, Python's environment for two
    before = {name.upper(): value for name, value in os.environ.items()}
    return {name: value for name, value in variables.items() if before.get(name) != value}


def parse_variables(printed: str) -> dict[str, str]:
    """Return what the command ``set`` printed, names in capitals."""
    pairs = (line.rstrip("\r").partition("=") for line in printed.splitlines())
    # cmd's own (=C:, =ExitCode) have an empty name here
    return {name.upper(): value for name, sign, value in pairs if name and sign}


def require_short_paths(folder: Path, *, long_paths: bool | None = None) -> None:
    """Check that the compiler can write below CMake's folder, however deep that lies.

    Args:
        folder: CMake's, absolute.
        long_paths: whether Windows takes longer paths; None asks it (True on other systems).

    Raises:
        BuildError: it does not, and the deepest file's path is too long.
    """
    allowed = _long_paths() if long_paths is None else long_paths
    longest = len(str(folder)) + 1 + _DEEPEST
    if allowed or longest <= _MAX_PATH:
        return
    raise BuildError(
        f"{folder} is too deep: files in it would have paths of up to {longest} characters, and this"
        f" Windows takes {_MAX_PATH}",
        cure=f"move the checkout up, to a folder of at most {_MAX_PATH - longest + len(str(folder))}"
        " characters with build\\<target>\\cmake; or as administrator: reg add"
        " HKLM\\SYSTEM\\CurrentControlSet\\Control\\FileSystem /v LongPathsEnabled /t REG_DWORD /d 1 /f",
    )


def _long_paths() -> bool:
    allowed = True
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415 - Windows alone has it

        place = r"SYSTEM\CurrentControlSet\Control\FileSystem"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, place) as key:
                allowed = bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            allowed = False
    return allowed
