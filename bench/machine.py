"""The machine that figures were taken on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path


def cpu_name(root: Path = Path("/")) -> str:
    """Return the CPU's own name with family, model and stepping where Linux says them.

    A virtual machine may hide the name; the numbers and the instruction sets stay.

    Args:
        root: "/" or a stand-in for tests.
    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    name = facts.get("model name") or platform.machine()
    numbers = [f"{key.split()[-1]} {facts[key]}" for key in _NUMBERS if key in facts]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def instruction_sets(root: Path = Path("/")) -> tuple[str, ...]:
    """Return those of the CPU's instruction sets that ggml has code for; empty where unknown.

    Args:
        root: "/" or a stand-in for tests.
    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return ()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return tuple(flag for flag in _FLAGS if flag in value.split())
    return ()


def has_avx512() -> bool:
    """Whether this is what the goals call an AVX-512 machine."""
    return "avx512f" in instruction_sets()


def cpu_count() -> int:
    """Return how many CPUs the machine has."""
    return os.cpu_count() or 1


def put_first(pid: int) -> int:
    """Put a process before all others where the system permits it; return its nice value.

    On a shared machine a preempted thread keeps all others of its model waiting, and the figures
    would say more about the neighbours than about the libraries.

    Args:
        pid: a process that leads a session of its own and has started no threads yet.
    """
    if not hasattr(os, "setpriority"):
        return 0
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, _FIRST)
        # sched(7), "The autogroup feature": nice values then count only within a session, and this
        # file holds the session's own
        group = Path(f"/proc/{pid}/autogroup")
        if group.is_file():
            group.write_text(str(_FIRST), "ascii")
    return os.getpriority(os.PRIO_PROCESS, pid)


def load_average() -> float | None:
    """Return the load average of the last minute; None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


_FIRST = -20
_NUMBERS = ("cpu family", "model", "stepping")
_FLAGS = (
    "avx",
    "f16c",
    "fma",
    "avx2",
    "bmi2",
    "avx_vnni",
    "avx512f",
    "avx512cd",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512vbmi",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
