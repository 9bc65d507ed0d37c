"""The deployment target of a macOS library: the oldest macOS, and the machine, that it runs on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lief

if TYPE_CHECKING:
    from ci.table import Platform

_PLATFORM = lief.MachO.BuildVersion.PLATFORMS
_NAMES = {
    _PLATFORM.MACOS: "macOS",
    _PLATFORM.IOS: "iOS",
    _PLATFORM.TVOS: "tvOS",
    _PLATFORM.WATCHOS: "watchOS",
    _PLATFORM.VISIONOS: "visionOS",
    _PLATFORM.MAC_CATALYST: "Mac Catalyst",
    _PLATFORM.IOS_SIMULATOR: "the simulator of iOS",
    _PLATFORM.TVOS_SIMULATOR: "the simulator of tvOS",
    _PLATFORM.WATCHOS_SIMULATOR: "the simulator of watchOS",
    _PLATFORM.VISIONOS_SIMULATOR: "the simulator of visionOS",
    _PLATFORM.DRIVERKIT: "DriverKit",
}
_MACHINES = {
    lief.MachO.Header.CPU_TYPE.ARM64: "arm64",
    lief.MachO.Header.CPU_TYPE.X86_64: "x86_64",
}
# the section that GGML_METAL_EMBED_LIBRARY puts the shaders' source into, and what each begins with
_SHADERS = ("__DATA", "__ggml_metallib")
_SHADER = b"#include <metal_stdlib>"
_FRAMEWORK = re.compile(r"/System/Library/Frameworks/(\w+)\.framework/")
_FRAMEWORKS = ("Foundation", "Metal")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What one machine's part of a Mach-O file says.

    Attributes:
        machine: ``arm64``, ``x86_64``, or lief's word for another.
        system: ``macOS``, ``iOS``, ``the simulator of iOS`` …; None where it does not say.
        oldest: the oldest version of it, as (12, 0).
        shaders: what is embedded for Metal to compile at run time.
        frameworks: those of the system that it needs, by name.
    """

    machine: str
    system: str | None
    oldest: tuple[int, int]
    shaders: bytes
    frameworks: frozenset[str]


def deployment_target(platform: Platform) -> str:
    """Return the oldest macOS that a platform's wheel tag promises: ``12.0``."""
    _, major, minor, *_ = platform.wheel_tag.split("_")
    return f"{major}.{minor}"


def read_slices(data: bytes) -> tuple[Slice, ...]:
    """Read every slice of a Mach-O file, of one machine or of several; none where it is none."""
    # held by name: its parts do not keep it alive
    file = lief.MachO.parse(data)
    return () if file is None else tuple(_slice(binary) for binary in file)


def _slice(binary: lief.MachO.Binary) -> Slice:
    system, oldest = None, [0, 0, 0]
    if (build := binary.build_version) is not None:
        system, oldest = _NAMES.get(build.platform, str(build.platform)), build.minos
    elif (before := binary.version_min) is not None:
        # LC_VERSION_MIN_MACOSX and its kin, from before there was LC_BUILD_VERSION (macOS 10.14)
        _, _, name = str(before.command).partition("VERSION_MIN_")
        system = {"MACOSX": "macOS", "IPHONEOS": "iOS"}.get(name, name)
        oldest = before.version
    shaders = b"".join(
        bytes(section.content)
        for section in binary.sections
        if (section.segment_name, section.name) == _SHADERS
    )
    cpu = binary.header.cpu_type
    return Slice(
        machine=_MACHINES.get(cpu, str(cpu).rpartition(".")[2]),
        system=system,
        oldest=(oldest[0], oldest[1]),
        shaders=shaders,
        frameworks=frozenset(
            match[1]
            for library in binary.libraries
            if (match := _FRAMEWORK.match(str(library.name)))
        ),
    )


def deployment_problems(name: str, data: bytes, platform: Platform) -> Iterator[str]:
    """Say where a library is not for the macOS and the machine that the wheel tag promises.

    Args:
        name: how the library is called in the messages.
        data: its bytes.
        platform: of macOS.
    """
    slices = read_slices(data)
    if not slices:
        yield f"{name} is no library of macOS"
    promised = deployment_target(platform)
    for each in slices:
        if each.machine != platform.machine:
            yield f"{name} has code for {each.machine}, the tag promises {platform.machine} alone"
        if each.system is None:
            yield f"{name} says neither for which system it is nor from which version on"
        elif each.system != "macOS":
            yield f"{name} is for {each.system}: nothing of it loads on macOS"
        elif each.oldest > tuple(int(part) for part in promised.split(".")):
            needs = ".".join(map(str, each.oldest))
            yield f"{name} needs macOS {needs}, the tag promises {promised}"


def metal_problems(name: str, data: bytes) -> Iterator[str]:
    """Say where a library is no module of Metal that can stand alone.

    Without embedded shaders it would look for files beside it; Metal compiles them at run time.
    """
    for each in read_slices(data):
        if _SHADER not in each.shaders:
            yield (
                f"{name} ({each.machine}) has no shaders embedded in {','.join(_SHADERS)}: it was"
                " built without GGML_METAL_EMBED_LIBRARY"
            )
        for framework in _FRAMEWORKS:
            if framework not in each.frameworks:
                yield f"{name} ({each.machine}) does not need {framework}: it is no module of Metal"
