"""This machine: which platform it builds for, and which targets it cannot build and why."""

from __future__ import annotations

import platform as python_platform
import shutil
import sys
from pathlib import Path

from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.table import Platform, Table, Target

_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "aarch64"}


def host_platform(table: Table) -> Platform:
    """Return the platform whose wheels install on this machine.

    Raises:
        UsageError: the table has none for it.
    """
    for platform in table.platforms.values():
        if installs_here(platform):
            return platform
    system, machine, _ = _here()
    raise UsageError(
        f"the table has no platform for {system} on {machine}",
        cure="install from the sdist: pip install llama-cpp-python --no-binary llama-cpp-python",
    )


def installs_here(platform: Platform) -> bool:
    """Say whether a platform's wheels install on this machine."""
    return (platform.system, platform.machine, platform.libc) == _here()


def _here() -> tuple[str, str, str | None]:
    """Return system, machine and C library as the table calls them."""
    system = _SYSTEMS.get(sys.platform, sys.platform)
    machine = _MACHINES.get(python_platform.machine().lower(), python_platform.machine())
    if system == "windows" and machine == "arm64":
        machine = "aarch64"
    libc = None
    if system == "linux":
        libc = "glibc" if python_platform.libc_ver()[0] == "glibc" else "musl"
    return system, machine, libc


def require_platform(target: Target, table: Table) -> None:
    """Check that ``target`` can be built here; its toolkit is ``ci.toolkit``'s matter.

    What needs no toolkit is cross-compiled wherever ziglang knows the platform.

    Raises:
        ToolMissingError: it cannot; the message says which machine builds it.
    """
    platform = target.platform
    cross = target.family.toolkit == "none" and platform.zig_target is not None
    if cross or installs_here(platform):
        return
    here = host_platform(table)
    raise ToolMissingError(
        f"{target.name} is built on {platform.title}; this machine is {here.title}",
        cure=f"run the command on such a machine (in the pipeline: runner {platform.runner})",
    )


def container_engine() -> str | None:
    """Return ``docker`` or ``podman`` where one really runs, else None."""
    for engine in ("docker", "podman"):
        if shutil.which(engine):
            try:
                run([engine, "info"], timeout=30)
            except ProcessError:
                continue
            return engine
    return None


def cpu_name() -> str:
    """Return what this machine's CPU calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return python_platform.processor()
