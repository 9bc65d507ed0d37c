"""What fits what: wheel tags and systems, CUDA drivers, toolkits and GPU architectures. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama_cpp._doctor.system import System

_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_ARCHITECTURE = re.compile(r"([0-9]+)([af]?)(-real|-virtual)?")

# CUDA Compatibility guide, "Minor Version Compatibility": the oldest Linux and Windows drivers
OLDEST_DRIVERS = {11: ("450", "452"), 12: ("525", "528"), 13: ("580", "580")}


class WheelTag(NamedTuple):
    """The platform half of a wheel's tag."""

    text: str
    system: str
    """``linux``, ``macos``, ``windows`` or ``any``."""
    libc: str | None
    version: tuple[int, ...]
    """Of the libc, or of macOS: the oldest that it runs on."""
    machine: str


def parse_tag(text: str) -> WheelTag | None:
    """Read ``manylinux_2_17_x86_64`` and its like; None for what this package never has."""
    text = text.rpartition("-")[2]
    if text == "any":
        return WheelTag(text, "any", None, (), "any")
    found = re.fullmatch(r"(manylinux|musllinux)_([0-9]+)_([0-9]+)_(\w+)", text)
    if found:
        libc = "glibc" if found[1] == "manylinux" else "musl"
        return WheelTag(text, "linux", libc, (int(found[2]), int(found[3])), found[4])
    found = re.fullmatch(r"(manylinux1|manylinux2010|manylinux2014)_(\w+)", text)
    if found:
        return WheelTag(text, "linux", "glibc", _LEGACY[found[1]], found[2])
    found = re.fullmatch(r"macosx_([0-9]+)_([0-9]+)_(\w+)", text)
    if found:
        return WheelTag(text, "macos", None, (int(found[1]), int(found[2])), found[3])
    found = re.fullmatch(r"linux_(\w+)", text)
    if found:  # built here and never repaired: fits here, says nothing about elsewhere
        return WheelTag(text, "linux", None, (), found[1])
    machines = {"win_amd64": "x86_64", "win_arm64": "aarch64", "win32": "x86"}
    return WheelTag(text, "windows", None, (), machines[text]) if text in machines else None


def tag_problem(tag: WheelTag, system: System) -> tuple[str, str] | None:
    """Return why a wheel with this tag does not run on a system: a finding's id, and words."""
    if tag.system == "any":
        return None
    if tag.system != system.name:
        return "wrong-platform", f"it is for {tag.system}, this is {system.name}"
    machines = {system.machine} | ({"universal2"} if system.name == "macos" else set())
    if tag.machine not in machines:
        return "wrong-platform", f"it is for {tag.machine}, this Python is for {system.machine}"
    if tag.libc is not None and system.libc is not None and tag.libc != system.libc:
        return "wrong-libc", f"it is for {tag.libc}, this system has {system.libc}"
    here = system.libc_version if tag.system == "linux" else system.version
    if tag.version and here and here[: len(tag.version)] < tag.version:
        what = tag.libc or "macOS"
        return "libc-too-old" if tag.libc else "system-too-old", (
            f"it needs {what} {_dotted(tag.version)}, this is {what} {_dotted(here)}"
        )
    return None


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


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
