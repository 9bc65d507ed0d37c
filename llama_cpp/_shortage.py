"""Memory that a device did not have: read from llama.cpp's own lines. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llama_cpp._library import Device

_MIB = 1 << 20
_GIB = 1 << 30
# ggml-alloc.c
_ALLOCATION = re.compile(r"failed to allocate (?P<buffer>\S+) buffer of size (?P<size>[0-9]+)")
# ggml-cuda.cu, which HIP shares
_MALLOC = re.compile(
    r"allocating (?P<size>[0-9.]+) MiB on device (?P<number>[0-9]+): (?P<kind>cuda|hip)Malloc failed"
)


class Shortage(NamedTuple):
    """A buffer that did not fit."""

    device: str
    """ggml's name for the device, or for the buffer where that is not one device's."""
    wanted: int
    """Bytes."""


def shortage(lines: Iterable[str]) -> Shortage | None:
    """Return the first buffer that llama.cpp did not get; None where that is not what failed."""
    for line in lines:
        found = _MALLOC.search(line)
        if found:
            name = ("CUDA" if found["kind"] == "cuda" else "ROCm") + found["number"]
            return Shortage(name, int(float(found["size"]) * _MIB))
        found = _ALLOCATION.search(line)
        if found:
            return Shortage(found["buffer"], int(found["size"]))
    return None


def shortage_text(found: Shortage, devices: Sequence[Device], *, on_gpu: str, on_cpu: str) -> str:
    """Return how much was wanted of which device, how much it has, and what to do.

    Args:
        found: what did not fit.
        devices: what there is to compute on, asked after the failure.
        on_gpu: what to do about a GPU's memory.
        on_cpu: what to do about the machine's own.
    """
    device = next((each for each in devices if each.name == found.device), None)
    cure = on_cpu if device is None or device.kind == "CPU" else on_gpu
    text = f"{found.device} did not give {_size(found.wanted)} of memory in one piece"
    if device is not None and device.memory_total:
        free, total = _size(device.memory_free), _size(device.memory_total)
        text += f" ({free} of {total} are free without it)"
    return f"{text}; {cure}"


def _size(number: int) -> str:
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number / _MIB:.1f} MiB"
