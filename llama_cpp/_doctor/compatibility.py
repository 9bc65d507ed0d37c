"""Which wheel tag fits which system. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llama_cpp._doctor.system import System

_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


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


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
