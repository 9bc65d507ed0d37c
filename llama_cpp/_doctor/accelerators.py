"""What this machine can compute on besides its CPU: NVIDIA, ROCm, Vulkan, Metal, and bare hardware."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._amd_driver import RocmGpu, kernel_gpus
from llama_cpp._doctor.nvidia import Nvidia, Toolkit, nvidia, toolkits
from llama_cpp._doctor.programs import ask, ask_json, find_program
from llama_cpp._gpu_code import hides_gpus
from llama_cpp._runtime import packages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_cpp._doctor.system import System
    from llama_cpp._obstacles import RuntimePackage

# PCI-SIG's numbers
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_DISPLAY = "0x03"


class Rocm(NamedTuple):
    """AMD's compute stack."""

    version: str | None
    folder: str | None
    """Where its libraries are; None where the runtime is not installed."""
    gpus: tuple[RocmGpu, ...]


class VulkanDevice(NamedTuple):
    """One Vulkan device."""

    name: str
    kind: str
    """``discrete``, ``integrated``, ``virtual``, ``cpu`` or ``other``."""
    api: str
    memory_total: int
    """Bytes."""


class Vulkan(NamedTuple):
    """The Vulkan loader and what it finds."""

    loader: str | None
    devices: tuple[VulkanDevice, ...]
    problem: str | None


class Accelerators(NamedTuple):
    """Everything together."""

    nvidia: Nvidia
    toolkits: tuple[Toolkit, ...]
    runtime_packages: tuple[RuntimePackage, ...]
    rocm: Rocm
    vulkan: Vulkan
    metal: bool
    adapters: tuple[str, ...]
    """Vendors of the display adapters on the PCI bus, whether or not there is a driver (Linux)."""
    hidden: str | None
    """The variable that hides all NVIDIA GPUs, as ``CUDA_VISIBLE_DEVICES=-1``."""


def accelerators(
    system: System, environment: Mapping[str, str], root: Path = Path("/")
) -> Accelerators:
    """Return what answers on this machine; nothing here raises or hangs.

    Args:
        system: where Python runs.
        environment: the process's.
        root: "/" or a stand-in for tests.
    """
    return Accelerators(
        nvidia=nvidia(),
        toolkits=toolkits(environment, root),
        runtime_packages=packages(),
        rocm=rocm(environment, root),
        vulkan=vulkan(),
        # every Apple silicon GPU speaks Metal 3; Intel Macs get no Metal wheel
        metal=system.name == "macos" and system.native_machine == "arm64",
        adapters=adapters(root),
        hidden=hides_gpus(environment),
    )


def rocm(environment: Mapping[str, str], root: Path = Path("/")) -> Rocm:
    """Return ROCm's runtime and GPUs, from rocminfo, else from the kernel."""
    folder = Path(environment.get("ROCM_PATH") or root / "opt/rocm")
    version = re.match(r"[0-9.]+", _read(folder / ".info/version"))
    installed = any(folder.glob("lib*/libamdhip64.so*"))
    gpus: tuple[RocmGpu, ...] = ()
    program = find_program("rocminfo") or str(folder / "bin/rocminfo")
    if os.access(program, os.X_OK):
        gpus = rocminfo_gpus(ask([program]).output)
    return Rocm(
        version=version[0] if version else None,
        folder=str(folder) if installed else None,
        gpus=gpus or kernel_gpus(root),
    )


def rocminfo_gpus(output: str) -> tuple[RocmGpu, ...]:
    """Return the GPUs that ``rocminfo`` lists: agents, each a block of ``Key: value`` lines."""
    found = []
    for block in re.split(r"^Agent [0-9]+\s*$", output, flags=re.MULTILINE)[1:]:
        values = dict(re.findall(r"^  (\w[\w ]*):\s*(.*?)\s*$", block, re.MULTILINE))
        if values.get("Device Type") == "GPU":
            name = values.get("Marketing Name") or values.get("Name", "")
            found.append(RocmGpu(name, values.get("Name", "")))
    return tuple(found)


def vulkan() -> Vulkan:
    """Ask the Vulkan loader in a process of its own."""
    probe = Path(__file__).with_name("vulkan.py")
    said, failure = ask_json([sys.executable or "python3", "-I", str(probe)])
    if failure is not None:
        return Vulkan(None, (), failure)
    return Vulkan(
        loader=said["loader"],
        devices=tuple(
            VulkanDevice(each["name"], each["kind"], each["api"], each["memory_total"])
            for each in said["devices"]
        ),
        problem=said["error"],
    )


def adapters(root: Path) -> tuple[str, ...]:
    """Return the vendors of the display adapters on the PCI bus, sorted, each once (Linux)."""
    found = set()
    for device in (root / "sys/bus/pci/devices").glob("*"):
        if _read(device / "class").startswith(_DISPLAY):
            found.add(_VENDORS.get(_read(device / "vendor").strip(), ""))
    return tuple(sorted(found - {""}))


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
