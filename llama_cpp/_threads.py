"""How many threads this process may use, which is often fewer than the machine has CPUs.

More threads than that make ggml's workers wait for each other: a decode that takes a tenth of a
millisecond then takes hundreds.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path("/")


class ThreadCounts(NamedTuple):
    """Threads to use by default."""

    generation: int
    """For one token at a time, which memory bounds: the physical cores allowed."""
    batch: int
    """For prompts, which arithmetic bounds: the logical CPUs allowed."""


def default_threads() -> ThreadCounts:
    """Return the thread counts for this process, from its affinity mask and its cgroup's quota."""
    cpus = _allowed_cpus()
    if isinstance(cpus, int):
        return ThreadCounts(cpus, cpus)
    limit = math.inf
    cores = len(cpus)
    if sys.platform == "linux":
        limit = cgroup_cpus(_ROOT)
        cores = physical_cores(cpus, _ROOT)
    return ThreadCounts(_at_least_one(min(cores, limit)), _at_least_one(min(len(cpus), limit)))


def _at_least_one(cpus: float) -> int:
    return max(1, math.floor(cpus))


def _allowed_cpus() -> frozenset[int] | int:
    """Return the CPUs of the affinity mask, or their number where the system names none."""
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    elif sys.platform == "win32":  # noqa: RET505 - a chain is what the type checker follows
        return _windows_affinity()
    else:
        # macOS has no affinity mask: every CPU is allowed.
        return os.cpu_count() or 1


def _windows_affinity() -> int:
    import ctypes  # noqa: PLC0415 - only needed here

    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel32.GetCurrentProcess())
    allowed, system = ctypes.c_size_t(), ctypes.c_size_t()
    if not kernel32.GetProcessAffinityMask(process, ctypes.byref(allowed), ctypes.byref(system)):
        return 1
    # a process over several processor groups (more than 64 CPUs) has a mask of zero
    return allowed.value.bit_count() if sys.version_info >= (3, 10) and allowed.value else 1


def physical_cores(cpus: frozenset[int], root: Path) -> int:
    """Return how many physical cores ``cpus`` lie on; each CPU its own where sysfs says nothing.

    Args:
        cpus: logical CPU numbers.
        root: "/" or a stand-in for tests.
    """
    cores = set()
    for cpu in cpus:
        siblings = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            cores.add(siblings.read_text("ascii").strip())
        except OSError:
            cores.add(f"cpu{cpu}")
    return len(cores)


def cgroup_cpus(root: Path) -> float:
    """Return the CPU quota of this process's cgroup in CPUs, infinity where there is none.

    A quota may be set on any ancestor, so the smallest on the way up counts; cgroup v2
    (``cpu.max``) and v1 (``cpu.cfs_quota_us``) are read.

    Args:
        root: "/" or a stand-in for tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    limit = math.inf
    for line in lines:
        # proc(5)/cgroups(7): hierarchy-ID:controller-list:cgroup-path; the list is empty for v2
        _, controllers, group = line.split(":", 2)
        if not controllers:
            limit = min(limit, _smallest(root / "sys/fs/cgroup", group, _v2_quota))
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct", "cpuacct,cpu"):
                limit = min(limit, _smallest(root / "sys/fs/cgroup" / mount, group, _v1_quota))
    return limit


def _smallest(mount: Path, group: str, quota: Callable[[Path], float]) -> float:
    path = PurePosixPath(group.lstrip("/"))
    return min(quota(mount / part) for part in (path, *path.parents))


def _v2_quota(folder: Path) -> float:
    words = _words(folder / "cpu.max")
    # cgroup-v2.rst, cpu.max: "$MAX $PERIOD", where "max" means no limit
    if len(words) != 2 or words[0] == "max":
        return math.inf
    return int(words[0]) / int(words[1])


def _v1_quota(folder: Path) -> float:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    # sched-bwc.rst: a quota of -1 means no limit
    if not quota or not period or int(quota[0]) <= 0:
        return math.inf
    return int(quota[0]) / int(period[0])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
