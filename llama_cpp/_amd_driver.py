"""AMD's driver, asked through what Linux's kernel shows of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/")


class RocmGpu(NamedTuple):
    """One AMD GPU that the kernel's compute driver knows."""

    name: str
    architecture: str
    """``gfx1100`` …"""


def kernel_gpus(root: Path = _ROOT) -> tuple[RocmGpu, ...]:
    """Return the GPUs of Linux's amdkfd driver, which needs no program of ROCm's.

    Args:
        root: "/" or a stand-in for tests.
    """
    found = []
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        try:
            text = node.read_text("utf-8", "replace")
        except OSError:
            continue
        target = re.search(r"^gfx_target_version ([0-9]+)$", text, re.MULTILINE)
        number = int(target[1]) if target else 0
        if number:  # 110001 is gfx1101, 90010 is gfx90a: steps are hexadecimal
            major, minor, step = number // 10000, number // 100 % 100, number % 100
            found.append(RocmGpu("AMD GPU", f"gfx{major}{minor:x}{step:x}"))
    return tuple(found)
