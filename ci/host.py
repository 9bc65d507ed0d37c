"""This machine: which platform it builds for, and which targets it cannot build and why."""

from __future__ import annotations

import platform as python_platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.table import Machine, Platform, System, Table, Target

_SYSTEMS: Mapping[str, System] = {"linux": "linux", "darwin": "macos", "win32": "windows"}
_MACHINES: Mapping[str, Machine] = {
    "amd64": "x86_64",
    "x86_64": "x86_64",
    "arm64": "arm64",
    "aarch64": "aarch64",
}


def host_platform(table: Table) -> Platform:
    """Return the platform whose wheels install on this machine.

    Raises:
        UsageError: the table has none for it.
    """
    for platform in table.platforms.values():
        if installs_here(platform):
            return platform
    system, machine, _ = here()
    raise UsageError(
        f"the table has no platform for {system} on {machine}",
        cure="install from the sdist: pip install llama-cpp-python --no-binary llama-cpp-python",
    )


def installs_here(platform: Platform) -> bool:
    """Say whether a platform's wheels install on this machine."""
    return (platform.system, platform.machine, platform.libc) == here()


def here() -> tuple[System, Machine, str | None]:
    """Return this machine's system, processor and C library as the table calls them.

    What the table has no name for is called as Python calls it.
    """
    system = _SYSTEMS.get(sys.platform, cast("System", sys.platform))
    own = python_platform.machine()
    machine = _MACHINES.get(own.lower(), cast("Machine", own))
    if system == "windows" and machine == "arm64":
        machine = "aarch64"
    libc = None
    if system == "linux":
        libc = "glibc" if python_platform.libc_ver()[0] == "glibc" else "musl"
    return system, machine, libc


def zig_target_here() -> str:
    """Return zig's name of this machine, with an old C library: what is linked for it runs on it.

    Raises:
        ToolMissingError: it has none.
    """
    system, machine, libc = here()
    if system == "linux":
        return f"{machine}-linux-{'gnu.2.17' if libc == 'glibc' else 'musl'}"
    if system == "macos":
        return f"{'aarch64' if machine == 'arm64' else machine}-macos"
    raise ToolMissingError(
        f"nothing but Windows' own compiler compiles for {system} on {machine}",
        cure="run the command on a Linux",
    )


def crosses(target: Target) -> bool:
    """Say whether a target is compiled on any machine: by ziglang, and with what runs anywhere."""
    return target.family.crosses and target.platform.zig_target is not None


def compiling_machine(target: Target) -> tuple[System, Machine]:
    """Return system and processor of the machine that compiles a target.

    What crosses is compiled on this one, everything else on a machine that its wheel installs on.
    """
    platform = target.platform
    if crosses(target) and not installs_here(platform):
        return here()[:2]
    return platform.system, platform.machine


def require_platform(target: Target, table: Table) -> None:
    """Check that ``target`` can be built here; its toolkit is ``ci.toolkit``'s matter.

    What crosses (`crosses`) is compiled wherever it is asked for.

    Raises:
        ToolMissingError: it cannot; the message says which machine builds it.
    """
    platform = target.platform
    if crosses(target) or installs_here(platform):
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
