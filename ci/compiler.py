"""The compiler: ziglang's clang for a portable Linux wheel, the system's own elsewhere; its cache."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ci import paths, zig
from ci.deployment_target import deployment_target
from ci.errors import ToolMissingError
from ci.host import installs_here
from ci.msvc import choose_windows_compiler
from ci.process import ProcessError, run
from ci.table import Platform, System

Choice: TypeAlias = Literal["auto", "zig", "system"]

_KEPT_SECONDS = 30 * 24 * 3600
_CMAKE_SYSTEMS: Mapping[System, str] = {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A C and C++ compiler as CMake definitions and environment."""

    name: str
    defines: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """What the compiler cache answered in one build.

    ``seconds`` is the processor time of the compilers that it ran; None where that cannot be read.
    """

    hits: int
    misses: int
    seconds: float | None = None


def choose_compiler(
    choice: Choice,
    platform: Platform,
    folder: Path,
    prefixes: Mapping[Path, str],
    *,
    cuda: Path | None = None,
    unsupported: bool = False,
) -> Compiler:
    """Return the compiler for a host build of ``platform``.

    Args:
        choice: which one is asked for.
        platform: what is built for.
        folder: where the scripts go that make a compiler of ziglang.
        prefixes: names to put in place of folders in what the compiler writes.
        cuda: the CUDA toolkit whose host compiler it is to be, on Windows.
        unsupported: take the newest one there, even if that CUDA refuses it.

    For Linux that is ``ziglang`` unless ``system`` is asked for: it needs no compiler on the
    machine and links against the glibc of the platform's wheel tag, whatever the machine has. For
    every other platform than this machine's it is the only one.

    Raises:
        ToolMissingError: there is none.
    """
    native = installs_here(platform)
    if choice == "zig" or (choice == "auto" and (platform.system == "linux" or not native)):
        return _zig(platform, folder, prefixes)
    if not native:
        raise ToolMissingError(
            f"this machine's own compiler does not build {platform.name} wheels",
            cure="leave --compiler away: ziglang does, where it knows the platform",
        )
    if platform.system == "windows":
        own = choose_windows_compiler(platform, prefixes, cuda=cuda, unsupported=unsupported)
        return Compiler(name=own.name, defines=own.defines, env=own.env)
    found = next((cxx for cxx in ("c++", "g++", "clang++") if shutil.which(cxx)), None)
    if found is None:
        raise ToolMissingError(
            "there is no C++ compiler on this machine",
            cure="leave --compiler away (ziglang from the package index is used), or install one"
            " (Debian: apt install g++; macOS: xcode-select --install)",
        )
    version = run([found, "--version"]).splitlines()[0]
    if platform.system == "macos":
        return _for_macos(version, platform)
    return Compiler(name=version, defines={})


def _for_macos(name: str, platform: Platform) -> Compiler:
    """Return the system's compiler, told which macOS and which processor the wheel tag promises."""
    oldest, machine = deployment_target(platform), platform.machine
    return Compiler(
        name=name,
        defines={"CMAKE_OSX_DEPLOYMENT_TARGET": oldest, "CMAKE_OSX_ARCHITECTURES": machine},
        # where the build backend reads the tag from; a universal Python would make a wheel for both
        env={"MACOSX_DEPLOYMENT_TARGET": oldest, "ARCHFLAGS": f"-arch {machine}"},
    )


def _zig(platform: Platform, folder: Path, prefixes: Mapping[Path, str]) -> Compiler:
    if platform.zig_target is None:
        raise ToolMissingError(
            f"ziglang does not build {platform.name} wheels", cure="use --compiler system"
        )
    try:
        version = zig.write_scripts(platform.zig_target, folder, prefixes)
    except ModuleNotFoundError as error:
        raise ToolMissingError(str(error), cure="run it through nox, which installs it") from error
    defines = zig.cmake_defines(platform.zig_target, folder, version)
    # zig keeps libc and libc++ there, compiled once per target
    env = {"ZIG_GLOBAL_CACHE_DIR": str(_zig_cache(paths.cache_folder() / "zig"))}
    if not installs_here(platform):
        defines |= _cross_defines(platform, folder)
        # where the build backend reads the tag from
        env["_PYTHON_HOST_PLATFORM"] = (
            f"linux-{platform.machine}" if platform.system == "linux" else platform.wheel_tag
        )
    return Compiler(name=f"zig {version}", defines=defines, env=env)


def _cross_defines(platform: Platform, folder: Path) -> dict[str, str]:
    """Return what tells CMake that it builds for another machine than this one."""
    processor: str = platform.machine
    if platform.system == "windows":
        processor = {"x86_64": "AMD64", "aarch64": "ARM64"}[platform.machine]
    return {
        "CMAKE_SYSTEM_NAME": _CMAKE_SYSTEMS[platform.system],
        "CMAKE_SYSTEM_PROCESSOR": processor,
        # nothing of this machine's is to be found but programs: a folder without libraries
        "CMAKE_FIND_ROOT_PATH": str(folder),
        "CMAKE_FIND_ROOT_PATH_MODE_PROGRAM": "NEVER",
        "CMAKE_FIND_ROOT_PATH_MODE_LIBRARY": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_INCLUDE": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_PACKAGE": "ONLY",
    }


def _zig_cache(parent: Path) -> Path:
    """Return this installation's cache; one that no build has used for a month is removed."""
    folder = zig.cache_folder(parent)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    oldest = time.time() - _KEPT_SECONDS
    for other in parent.iterdir():
        if other.is_dir() and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)
    return folder


class CompilerCache:
    """sccache with a server of its own, in the user's cache folder; stopped when done."""

    def __init__(self, *, basedirs: tuple[Path, ...], compiler: Compiler) -> None:
        program = Path(sys.executable).with_name("sccache.exe" if os.name == "nt" else "sccache")
        self._program = str(program) if program.exists() else (shutil.which("sccache") or "")
        self._socket = Path(tempfile.mkdtemp(prefix="llama-sccache-")) / "socket"
        folder = paths.cache_folder() / "sccache"
        self._env = {
            "SCCACHE_DIR": os.environ.get("SCCACHE_DIR", str(folder)),
            "SCCACHE_CACHE_SIZE": os.environ.get("SCCACHE_CACHE_SIZE", "5G"),
            "SCCACHE_SERVER_UDS": str(self._socket),
            # should nobody be left to stop it
            "SCCACHE_IDLE_TIMEOUT": "600",
            # the same objects from any checkout
            "SCCACHE_BASEDIRS": os.pathsep.join(str(folder) for folder in basedirs),
            # sccache sees the wrapper script, which is the same for every zig
            "SCCACHE_C_CUSTOM_CACHE_BUSTER": compiler.name,
            **compiler.env,
        }

    @property
    def defines(self) -> Mapping[str, str]:
        """CMake definitions that put the cache before each compiler."""
        if not self._program:
            return {}
        return {
            "CMAKE_C_COMPILER_LAUNCHER": self._program,
            "CMAKE_CXX_COMPILER_LAUNCHER": self._program,
            "CMAKE_CUDA_COMPILER_LAUNCHER": self._program,
            "CMAKE_HIP_COMPILER_LAUNCHER": self._program,
        }

    @property
    def env(self) -> Mapping[str, str]:
        """Environment of the compilers that go through the cache."""
        return self._env if self._program else {}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run the cache's server; without sccache every object is compiled."""
        if not self._program:
            yield
            return
        run([self._program, "--start-server"], env=self._env)
        try:
            yield
        finally:
            # unless it has ended by itself
            with suppress(ProcessError):
                run([self._program, "--stop-server"], env=self._env)
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def stats(self) -> CacheStats:
        """Return hits and misses since the server was started."""
        if not self._program:
            return CacheStats(hits=0, misses=0)
        printed = run([self._program, "--show-stats", "--stats-format=json"], env=self._env)
        stats = json.loads(printed)["stats"]
        return CacheStats(
            hits=sum(stats["cache_hits"]["counts"].values()),
            misses=sum(stats["cache_misses"]["counts"].values()),
            seconds=_processor_seconds(self._socket),
        )


def _processor_seconds(socket: Path) -> float | None:
    """Return the processor time of the server with this socket and of all that it has waited for."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if str(socket).encode() in (process / "environ").read_bytes():
                # "man 5 proc": utime, stime, cutime and cstime are fields 14 to 17
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return None
