"""The machine below Python: system, C library, CPU and its level, and the Python itself."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llama_cpp._doctor.programs import ask
from llama_cpp._images import mapped_images

_NAMES = {"linux": "linux", "darwin": "macos", "win32": "windows"}

# The x86-64 psABI's micro-architecture levels, in the words of Linux's /proc/cpuinfo
_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
# what stands for a level where the system tells less
_LANDMARKS = (("x86-64-v2", "sse4_2"), ("x86-64-v3", "avx2"), ("x86-64-v4", "avx512f"))
# winnt.h: PF_SSE4_2_…, PF_AVX2_… and PF_AVX512F_INSTRUCTIONS_AVAILABLE
_WINDOWS_FEATURES = {38: "sse4_2", 40: "avx2", 41: "avx512f"}
# winnt.h: IMAGE_FILE_MACHINE_…
_WINDOWS_MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64", 0x014C: "x86"}


class System(NamedTuple):
    """Where Python runs."""

    name: str
    """``linux``, ``macos``, ``windows``, or Python's own word for another."""
    release: str
    """The system's version for people."""
    version: tuple[int, ...]
    """macOS's version; empty elsewhere."""
    machine: str
    """What this Python is built for: ``x86_64``, ``aarch64`` (``arm64`` on macOS) …"""
    native_machine: str
    """What the CPU is; another than ``machine`` under emulation."""
    libc: str | None
    """``glibc`` or ``musl`` on Linux."""
    libc_version: tuple[int, ...]
    cpu: str
    cpu_level: str | None
    """``x86-64-v1`` … ``x86-64-v4``; None on another CPU, or where nobody tells."""
    python: str
    python_version: tuple[int, ...]
    free_threaded: bool
    bits: int
    executable: str


def system(root: Path = Path("/")) -> System:
    """Return what this machine says of itself.

    Args:
        root: "/" or a stand-in for tests.
    """
    name = _NAMES.get(sys.platform, sys.platform)
    machine = machine_name(platform.machine(), name)
    cpuinfo = _read(root / "proc/cpuinfo") if name == "linux" else ""
    libc, libc_version = _libc(root) if name == "linux" else (None, ())
    flags = _cpu_flags(name, cpuinfo)
    return System(
        name=name,
        release=_release(name, root),
        version=_numbers(platform.mac_ver()[0]) if name == "macos" else (),
        machine=machine,
        native_machine=_native_machine(name, machine, cpuinfo),
        libc=libc,
        libc_version=libc_version,
        cpu=_cpu_name(name, cpuinfo),
        cpu_level=cpu_level(machine, flags),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        python_version=tuple(sys.version_info[:3]),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        bits=struct.calcsize("P") * 8,
        executable=sys.executable or "",
    )


def machine_name(machine: str, system_name: str) -> str:
    """Return one name for each kind of CPU, as wheel tags have it (``arm64`` on macOS alone)."""
    lower = machine.lower()
    if lower in {"amd64", "x64"}:
        return "x86_64"
    if lower in {"arm64", "aarch64"}:
        return "arm64" if system_name == "macos" else "aarch64"
    return lower


def cpu_level(machine: str, flags: frozenset[str]) -> str | None:
    """Return the x86-64 level that a CPU with these flags has (x86-64 psABI, 3.1.1).

    Args:
        machine: ``x86_64``, or another CPU, which has no such level.
        flags: in the words of Linux's /proc/cpuinfo; few of them where the system tells less.
    """
    if machine != "x86_64" or not flags:
        return None
    level = "x86-64-v1"
    if "fpu" not in flags:  # not Linux's full list
        for name, landmark in _LANDMARKS:
            level = name if landmark in flags else level
        return level
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        level = name
    return level


def _release(name: str, root: Path) -> str:
    if name == "macos":
        return f"macOS {platform.mac_ver()[0]}"
    if name == "windows":
        return f"Windows {platform.release()} {platform.version()}"
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(root / "etc/os-release"), re.MULTILINE)
    kernel = f"{platform.system()} {platform.release()}"
    return f"{pretty[1]}, {kernel}" if pretty else kernel


def _libc(root: Path) -> tuple[str | None, tuple[int, ...]]:
    said = ""
    if sys.platform != "win32":
        # confstr(3): "glibc 2.36"; musl does not know the name
        with suppress(ValueError, OSError, AttributeError):
            said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    if said.startswith("glibc "):
        return "glibc", _numbers(said[6:])
    # this process's own, where the Python came with its musl, or else the system's
    own = [Path(image) for image in mapped_images() if "/ld-musl-" in image]
    for loader in [*own, *sorted((root / "lib").glob("ld-musl-*.so.1"))]:
        # called without a program the loader says "musl libc (x86_64)\nVersion 1.2.4" and how
        version = re.search(r"Version ([0-9.]+)", ask([str(loader)]).error)
        return "musl", _numbers(version[1]) if version else ()
    return None, ()


def _native_machine(name: str, machine: str, cpuinfo: str) -> str:
    if name == "macos":
        # Apple, "About the Rosetta translation environment": 1 for a translated process
        translated = ask(["sysctl", "-n", "sysctl.proc_translated"]).output.strip() == "1"
        return "arm64" if translated else machine
    if name == "windows":
        return _windows_native_machine() or machine
    # qemu-user tells the emulated machine and shows the host's /proc/cpuinfo
    if machine == "x86_64" and "CPU implementer" in cpuinfo:
        return "aarch64"
    if machine == "aarch64" and re.search(r"^vendor_id\s*:", cpuinfo, re.MULTILINE):
        return "x86_64"
    return machine


def _windows_native_machine() -> str | None:
    if sys.platform == "win32":
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.GetCurrentProcess.restype = ctypes.c_void_p
        own = ctypes.c_void_p(kernel32.GetCurrentProcess())
        process, native = ctypes.c_ushort(), ctypes.c_ushort()
        # Windows 10, version 1511, and newer
        asked = getattr(kernel32, "IsWow64Process2", None)
        if asked is not None and asked(own, ctypes.byref(process), ctypes.byref(native)):
            return _WINDOWS_MACHINES.get(native.value)
    return None


def _cpu_name(name: str, cpuinfo: str) -> str:
    if name == "macos":
        return ask(["sysctl", "-n", "machdep.cpu.brand_string"]).output.strip()
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or "unknown"


def _cpu_flags(name: str, cpuinfo: str) -> frozenset[str]:
    if name == "linux":
        found = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        return frozenset(found[1].split()) if found else frozenset()
    if name == "macos":
        said = ask(["sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]).output
        return frozenset(said.lower().replace(".", "_").split())
    words: frozenset[str] = frozenset()
    if sys.platform == "win32":
        present = ctypes.WinDLL("kernel32").IsProcessorFeaturePresent
        words = frozenset(word for number, word in _WINDOWS_FEATURES.items() if present(number))
        words |= {"sse2"}  # every x86-64 has it
    return words


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
