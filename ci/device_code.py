"""Device code: a GPU module, its label, build info and requirements agree with each other.

An installer goes by label and METADATA, the driver by what is embedded, the loader by the sonames;
nothing but this compares them, and where they differ the wheel fails on somebody's GPU alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ci.fatbin import FatbinError, architecture_order, read_device_code
from ci.library import Library
from ci.table import Target
from ci.wheel import Wheel

_OWN = re.compile(r"sm(?P<cuda>\d+[af]?)|(?P<hip>gfx[0-9a-f]+)")
# both systems' names: libcudart.so.13 and cudart64_13.dll
_RUNTIME = re.compile(r"(?:lib)?(?P<library>cudart|cublas)(?:\.so\.|64_)(?P<major>\d+)(?:\.dll)?")
_MINORS = 40


def own_architectures(label: str) -> frozenset[str]:
    """Return what a label names beside the backend: 86 and 120a of ``cu130.sm86.sm120a``.

    It is empty for a wheel with all architectures of the table.
    """
    found = (_OWN.fullmatch(part) for part in label.split(".")[1:])
    return frozenset(match["cuda"] or match["hip"] for match in found if match)


def origin_problems(wheel: Wheel, target: Target, info: Mapping[str, object]) -> Iterator[str]:
    """Compare the toolkit and the architectures of the build info with label and table."""
    backend = target.backend
    if backend.toolkit_version is not None:
        wanted = f"{target.family.toolkit} {backend.toolkit_version}"
        toolkit = str(info.get("toolkit"))
        if toolkit != wanted and not toolkit.startswith(f"{wanted}."):
            yield f"its build info says the toolkit {toolkit}, the table {wanted} for {backend.name}"
    if backend.gpu_architectures is None:
        return
    told = _told(info)
    own = own_architectures(wheel.label or "")
    if own:
        real = {name for name in told if not name.endswith("-virtual")}
        if real != own:
            yield f"its label says code for {_list(own)}, its build info for {_list(told)}"
    elif told != set(backend.gpu_architectures):
        yield (
            f"its build info says code for {_list(told)}, the table for"
            f" {_list(backend.gpu_architectures)}"
        )


def module_problems(
    name: str, data: bytes, library: Library, target: Target, info: Mapping[str, object]
) -> Iterator[str]:
    """Compare a backend's module with the build info and with the toolkit of its label.

    Args:
        name: path in the wheel, for the messages.
        data: the module.
        library: what was read of it.
        target: what the wheel claims to be.
        info: the wheel's build info.
    """
    if target.family.toolkit == "CUDA":
        yield from _runtime_problems(name, library, _major(target))
    if target.backend.gpu_architectures is None:
        return
    told = _told(info)
    view = memoryview(data)
    try:
        code = read_device_code([view[start : start + size] for start, size in library.device_code])
    except FatbinError as error:
        yield f"{name}: {error}"
        return
    if code.unread:
        # what was not unpacked is not known: the rest may hold less than all
        for architecture in sorted(code.sizes.keys() - told, key=architecture_order):
            yield f"{name} has code for {architecture}, its build info says {_list(told)}"
        return
    if code.sizes.keys() != told:
        yield f"{name} has code for {_list(code.architectures)}, its build info says {_list(told)}"
    for architecture in code.architectures:
        if count := code.lacking.get(architecture):
            yield f"{name} has no code for {architecture} in {count} of its {code.containers} parts"


def requirement_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    """Compare the requirements in METADATA with what a module of that toolkit loads."""
    cuda = target.family.toolkit == "CUDA"
    major = _major(target) if cuda else 0
    suffix = "-cu12" if major == 12 else ""
    wanted = {f"nvidia-{name}{suffix}" for name in ("cublas", "cuda-runtime")} if cuda else set()
    found: dict[str, Requirement] = {}
    for text in wheel.metadata.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield f"METADATA has the requirement {text}, which is not well formed"
            continue
        if requirement.name.startswith("nvidia"):
            found[canonicalize_name(requirement.name)] = requirement
    for name in sorted(wanted - found.keys()):
        yield f"METADATA does not require {name}, which the module of {target.backend.name} loads"
    for name in sorted(found.keys() - wanted):
        yield f"METADATA requires {name}, which no module of {target.backend.name} loads"
    for name in sorted(wanted & found.keys()):
        if _majors(found[name]) != {major}:
            yield f"METADATA requires {found[name]}, which is not CUDA {major} alone"


def _runtime_problems(name: str, library: Library, major: int) -> Iterator[str]:
    needed = {
        match["library"]: match
        for match in map(_RUNTIME.fullmatch, library.needed)
        if match is not None
    }
    for soname in ("cudart", "cublas"):
        match = needed.get(soname)
        if match is None:
            yield f"{name} does not need {soname} of CUDA {major}"
        elif int(match["major"]) != major:
            yield f"{name} needs {match[0]}, its label says CUDA {major}"


def _major(target: Target) -> int:
    return int((target.backend.toolkit_version or "0").split(".")[0])


def _majors(requirement: Requirement) -> set[int]:
    """Return the major versions of CUDA that a requirement lets in."""
    return {
        major
        for major in range(10, 30)
        if any(requirement.specifier.contains(f"{major}.{minor}") for minor in range(_MINORS))
    }


def _told(info: Mapping[str, object]) -> set[str]:
    names = info.get("gpu_architectures")
    return set(map(str, names)) if isinstance(names, list) else set()


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names, key=architecture_order)) or "none"
