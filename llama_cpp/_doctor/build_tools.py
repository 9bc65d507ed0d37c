"""What a compile of this package would find here: build backend, compilers, CUDA, and traps."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._doctor.nvidia import toolkit_header
from llama_cpp._doctor.programs import ask, find_program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_cpp._doctor.nvidia import Toolkit

_VERSION = re.compile(r"([0-9]+(?:\.[0-9]+)+)")
_VSWHERE = "Microsoft Visual Studio/Installer/vswhere.exe"
_VC = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"


class Tool(NamedTuple):
    """A program that a build runs."""

    path: str
    version: str | None


class Compiler(NamedTuple):
    """A C++ compiler."""

    kind: str
    """``gcc``, ``clang``, ``apple-clang``, ``msvc``, or ``unknown``."""
    path: str
    version: str | None
    target: str | None
    """What MSVC's prompt compiles for (``x64``, ``x86``); None for others."""


class HostLimits(NamedTuple):
    """The newest host compilers that a CUDA toolkit accepts, from its own host_config.h."""

    gcc: int | None
    """The newest major version."""
    clang: int | None
    """The newest major version."""
    msvc: int | None
    """The first _MSC_VER that it refuses: 1950 for 19.50."""


class BuildTools(NamedTuple):
    """Everything together; None where something is not there."""

    scikit_build_core: str | None
    cmake: Tool | None
    ninja: Tool | None
    compiler: Compiler | None
    nvcc: Tool | None
    host_limits: HostLimits
    git: Tool | None
    visual_studio: str | None
    """The newest Visual Studio with C++ tools, which need not be on PATH (Windows)."""
    command_line_tools: str | None
    """Xcode's (macOS)."""
    long_paths: bool | None
    """Whether Windows allows paths over 260 characters; None elsewhere."""
    temporary_folder: str | None
    """None where no folder can be written to."""


def build_tools(environment: Mapping[str, str], toolkits: tuple[Toolkit, ...]) -> BuildTools:
    """Return what is here.

    Args:
        environment: the process's; CC's and CXX's choices are respected.
        toolkits: CUDA's, the one that a build takes first.
    """
    first = next((toolkit for toolkit in toolkits if toolkit.has_compiler), None)
    return BuildTools(
        scikit_build_core=_distribution_version("scikit-build-core"),
        cmake=_tool("cmake"),
        ninja=_tool("ninja"),
        compiler=_compiler(environment),
        nvcc=_nvcc(Path(first.folder) if first else None),
        host_limits=host_limits(
            toolkit_header(Path(first.folder), "crt/host_config.h") if first else ""
        ),
        git=_tool("git"),
        visual_studio=_visual_studio(environment),
        command_line_tools=_command_line_tools(),
        long_paths=_long_paths(),
        temporary_folder=_temporary_folder(),
    )


def host_limits(header: str) -> HostLimits:
    """Read what crt/host_config.h of a CUDA toolkit refuses.

    Args:
        header: its text; empty where there is none.
    """
    gcc = re.search(r"^\s*#if __GNUC__ > ([0-9]+)", header, re.MULTILINE)
    clang = re.search(r"__clang_major__ >= ([0-9]+)", header)
    msvc = re.search(r"^\s*#if _MSC_VER < [0-9]+ \|\| _MSC_VER >= ([0-9]+)", header, re.MULTILINE)
    return HostLimits(
        gcc=int(gcc[1]) if gcc else None,
        clang=int(clang[1]) - 1 if clang else None,
        msvc=int(msvc[1]) if msvc else None,
    )


def compiler_from(path: str, said: str) -> Compiler:
    """Return what a compiler is, from what it says about its version."""
    lower = said.lower()
    first = said.strip().splitlines()[0] if said.strip() else ""
    msvc = re.search(r"([0-9]+\.[0-9]+\.[0-9]+)\S* \S+ (x64|x86|arm64)", said)
    if "microsoft" in lower and msvc:
        return Compiler("msvc", path, msvc[1], msvc[2])
    kind = "unknown"
    if "apple clang" in lower:
        kind = "apple-clang"
    elif "clang" in lower:
        kind = "clang"
    elif "free software foundation" in lower or "gcc" in first.lower() or "g++" in first.lower():
        kind = "gcc"
    # "g++ (Debian 12.2.0-14) 12.2.0": the distribution's own version is in the parentheses
    version = _VERSION.search(re.sub(r"\(.*?\)", "", first))
    return Compiler(kind, path, version[1] if version else None, None)


def _compiler(environment: Mapping[str, str]) -> Compiler | None:
    chosen = environment.get("CXX", "").split()
    names = [chosen[0]] if chosen else []
    names += ["cl"] if sys.platform == "win32" else ["c++", "g++", "clang++"]
    for name in names:
        path = find_program(name)
        if path is not None:
            is_msvc = Path(path).stem.lower() == "cl"
            answer = ask([path] if is_msvc else [path, "--version"])
            return compiler_from(path, answer.error if is_msvc else answer.output)
    return None


def _temporary_folder() -> str | None:
    try:
        return tempfile.gettempdir()
    except OSError:
        return None


def _tool(name: str) -> Tool | None:
    path = find_program(name)
    return None if path is None else Tool(path, _version(ask([path, "--version"]).output))


def _nvcc(folder: Path | None) -> Tool | None:
    within = [] if folder is None else [folder / "bin" / name for name in ("nvcc", "nvcc.exe")]
    on_path = find_program("nvcc")
    paths = [str(path) for path in within if path.exists()] + ([on_path] if on_path else [])
    if not paths:
        return None
    release = re.search(r"release ([0-9.]+)", ask([paths[0], "--version"]).output)
    return Tool(paths[0], release[1] if release else None)


def _version(said: str) -> str | None:
    found = _VERSION.search(said)
    return found[1] if found else None


def _distribution_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _visual_studio(environment: Mapping[str, str]) -> str | None:
    said = ""
    if sys.platform == "win32":
        program = Path(environment.get("ProgramFiles(x86)", "C:/Program Files (x86)"), _VSWHERE)
        wanted = ["-latest", "-products", "*", "-requires", _VC, "-property", "installationPath"]
        said = ask([str(program), *wanted]).output.strip()
    return said or None


def _command_line_tools() -> str | None:
    folder = ""
    if sys.platform == "darwin":
        answer = ask(["xcode-select", "-p"])
        folder = answer.output.strip() if answer.failure is None else ""
    return folder or None


def _long_paths() -> bool | None:
    allowed = None
    if sys.platform == "win32":
        import winreg  # noqa: PLC0415 - Windows alone has it

        try:
            # learn.microsoft.com, "Maximum Path Length Limitation"
            with winreg.OpenKey(
                winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem"
            ) as key:
                allowed = bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            allowed = False
    return allowed


class CMakeArguments(NamedTuple):
    """What ``CMAKE_ARGS`` says."""

    definitions: dict[str, str]
    """``-DNAME=VALUE``, without types."""
    stray: tuple[str, ...]
    """Words that are neither an option nor the value of one: what an unquoted space tears off."""
    problem: str | None
    """Why it cannot be split."""


def cmake_arguments(text: str) -> CMakeArguments:
    """Split a ``CMAKE_ARGS`` as scikit-build-core does: at spaces, with a POSIX shell's quotes."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return CMakeArguments({}, (), str(error))
    definitions: dict[str, str] = {}
    stray = []
    rest = iter(words)
    for word in rest:
        if word in {"-D", "-G", "-T", "-A", "-C", "-U"}:
            value = next(rest, "")
            word = f"-D{value}" if word == "-D" else "-"  # noqa: PLW2901 - one word made of two
        match = re.fullmatch(r"-D([^=:]+)(?::[A-Z]+)?=(.*)", word, re.DOTALL)
        if match:
            definitions[match[1]] = match[2]
        elif not word.startswith("-"):
            stray.append(word)
    return CMakeArguments(definitions, tuple(stray), None)
