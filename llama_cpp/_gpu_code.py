"""Which GPU code runs on which GPU, with which driver. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ARCHITECTURE = re.compile(r"([0-9]+)([af]?)(-real|-virtual)?")

# CUDA Compatibility guide, "Minor Version Compatibility": the oldest Linux and Windows drivers
OLDEST_DRIVERS = {11: ("450", "452"), 12: ("525", "528"), 13: ("580", "580")}


def cuda_fit(
    architectures: Iterable[str],
    toolkit: tuple[int, int],
    driver: tuple[int, int],
    compute: tuple[int, int] | None,
) -> str:
    """Return how a CUDA build runs on a GPU with a driver.

    Args:
        architectures: as in the table: ``90`` and ``120a`` are machine code (cubins), ``90-virtual``
            is PTX. Empty where nobody recorded them.
        toolkit: the CUDA that it was built with.
        driver: the newest CUDA that the driver speaks.
        compute: the GPU's compute capability; None where it is not known.

    Returns:
        ``native`` (machine code for this GPU), ``jit`` (the driver compiles PTX at the first start),
        ``unknown`` (the GPU or the architectures are not known, the driver is new enough),
        ``driver-too-old`` (of an older major version), ``driver-cannot-jit`` (of the same major
        version, but older: it runs machine code, not this toolkit's PTX), or ``no-kernel``.
    """
    if driver[0] < toolkit[0]:
        return "driver-too-old"
    known = tuple(architectures)
    # CMake also has words for "those of the machine that built it"
    if compute is None or not known or not all(map(_ARCHITECTURE.fullmatch, known)):
        return "unknown"
    if any(_runs_cubin(each, compute) for each in known):
        return "native"
    if not any(_runs_ptx(each, compute) for each in known):
        return "no-kernel"
    # CUDA Compatibility guide: PTX of a newer toolkit needs a driver of at least that toolkit
    return "jit" if driver >= toolkit else "driver-cannot-jit"


def rocm_fit(architectures: Iterable[str], gpu: str) -> bool:
    """Return whether a ROCm build has code for a GPU; there is no PTX to fall back on."""
    return gpu in tuple(architectures)


def _runs_cubin(architecture: str, compute: tuple[int, int]) -> bool:
    found = _ARCHITECTURE.fullmatch(architecture)
    if found is None or found[3] == "-virtual":
        return False
    built = _capability(found[1])
    if found[2] == "a":  # architecture-specific: on exactly that GPU
        return built == compute
    # machine code runs on the same major version, and the same or a later minor one
    return built[0] == compute[0] and built[1] <= compute[1]


def _runs_ptx(architecture: str, compute: tuple[int, int]) -> bool:
    found = _ARCHITECTURE.fullmatch(architecture)
    if found is None or found[3] != "-virtual":
        return False
    built = _capability(found[1])
    if found[2] == "a":
        return built == compute
    if found[2] == "f":
        return built[0] == compute[0] and built[1] <= compute[1]
    return built <= compute


def _capability(digits: str) -> tuple[int, int]:
    return int(digits[:-1]), int(digits[-1])


def architecture_name(compute: tuple[int, int]) -> str:
    """Return what CMAKE_CUDA_ARCHITECTURES calls a GPU: ``89``; ``120a`` for Blackwell's own code."""
    return f"{compute[0]}{compute[1]}{'a' if compute[0] >= 12 else ''}"


def with_ptx(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """Return what CMake makes of architectures: one without a suffix is machine code and PTX.

    Our table means machine code alone by it, and names its PTX.
    """
    plain = [each for each in architectures if each[:1].isdigit() and "-" not in each]
    return (*architectures, *(f"{each}-virtual" for each in plain))


def cuda_version(number: object) -> tuple[int, int] | None:
    """Return (12, 8) for cuda.h's 12080; None for anything that is no such number."""
    if not isinstance(number, int) or number < 1000:
        return None
    return number // 1000, number % 1000 // 10


def hides_gpus(environment: Mapping[str, str]) -> str | None:
    """Return the variable that hides all NVIDIA GPUs, as ``CUDA_VISIBLE_DEVICES=-1``."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    # CUDA C++ Programming Guide: devices after an invalid index are not seen
    if value is not None and value.strip() in {"", "-1", "NoDevFiles"}:
        return f"CUDA_VISIBLE_DEVICES={value}"
    return None
