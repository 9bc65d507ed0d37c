"""Device code: a GPU module, its label and its build info agree with each other and the table.

An installer goes by the label, the driver by what is embedded, the loader by the sonames; nothing
but this compares them, and where they differ the wheel fails on somebody's GPU alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ci.fatbin import FatbinError, architecture_order, read_device_code
from ci.library import Library
from ci.table import Target
from ci.wheel import Wheel

_OWN = re.compile(r"(?:(?P<kind>sm|ptx)(?P<number>\d+[af]?)|(?P<hip>gfx\w+))")
_COMPATIBLE = re.compile(r"(?P<toolkit>.+), compatible with (?P<version>[\d.]+)")
# both systems' names: libcudart.so.13 and cudart64_13.dll
_RUNTIME = re.compile(r"(?:lib)?(?P<library>cudart|cublas)(?:\.so\.|64_)(?P<major>\d+)(?:\.dll)?")


def own_architectures(label: str) -> frozenset[str]:
    """Return what a label names beside the backend: 86, 90-virtual of ``cu130.sm86.ptx90``.

    It is empty for a wheel with all architectures of the table.
    """
    found = (_OWN.fullmatch(part) for part in label.split(".")[1:])
    return frozenset(
        match["hip"] or match["number"] + ("-virtual" if match["kind"] == "ptx" else "")
        for match in found
        if match
    )


def origin_problems(wheel: Wheel, target: Target, info: Mapping[str, object]) -> Iterator[str]:
    """Compare the toolkit and the architectures of the build info with label and table."""
    backend, told = target.backend, _told(info)
    if backend.toolkit_version is None:
        return
    wanted = f"{target.family.toolkit} {backend.toolkit_version}"
    toolkit = str(info.get("toolkit"))
    compatible = _is_compatible(toolkit, target)
    if not compatible and not f"{toolkit}.".startswith(f"{wanted}."):
        yield f"its build info says the toolkit {toolkit}, the table {wanted} for {backend.name}"
    if backend.gpu_architectures is None:
        return
    own = own_architectures(wheel.label or "")
    if own:
        if told != own:
            yield f"its label says code for {_list(own)}, its build info for {_list(told)}"
        return
    all_of_them = set(backend.gpu_architectures)
    if compatible:
        # an older driver compiles no newer PTX, and an older toolkit knows no newer GPU
        real = {name for name in all_of_them if not name.endswith("-virtual")}
        newest = max((architecture_order(name)[0] for name in told), default=0)
        all_of_them = {name for name in real if architecture_order(name)[0] <= newest} or real
    if told != all_of_them:
        yield (
            f"its build info says code for {_list(told)}, the table for {_list(all_of_them)}"
            + (" with such a toolkit" if compatible else "")
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
        yield from _runtime_problems(name, library, target)
    if target.backend.gpu_architectures is None:
        return
    told = _told(info)
    view = memoryview(data)
    try:
        code = read_device_code([view[start : start + size] for start, size in library.device_code])
    except FatbinError as error:
        yield f"{name}: {error}"
        return
    # where some were not unpacked, what is missing may be among those
    if not (code.sizes.keys() <= told if code.unread else code.sizes.keys() == told):
        yield f"{name} has code for {_list(code.architectures)}, its build info says {_list(told)}"
    for architecture in code.architectures:
        if count := code.lacking.get(architecture):
            yield f"{name} has no code for {architecture} in {count} of its {code.containers} parts"


def _runtime_problems(name: str, library: Library, target: Target) -> Iterator[str]:
    major = (target.backend.toolkit_version or "").partition(".")[0]
    needed = {match["library"]: match for match in map(_RUNTIME.fullmatch, library.needed) if match}
    for each in ("cudart", "cublas"):
        match = needed.get(each)
        if match is None:
            yield f"{name} does not need {each}, which CUDA {major} brings"
        elif match["major"] != major:
            yield f"{name} needs {match[0]}, its label says CUDA {major}"


def _is_compatible(toolkit: str, target: Target) -> bool:
    """Say whether a toolkit is another minor version of the target's, and the build info owns up."""
    match = _COMPATIBLE.fullmatch(toolkit)
    version = target.backend.toolkit_version or ""
    major = f"{target.family.toolkit} {version.partition('.')[0]}."
    return bool(match and match["version"] == version and match["toolkit"].startswith(major))


def _told(info: Mapping[str, object]) -> set[str]:
    names = info.get("gpu_architectures")
    return set(map(str, names)) if isinstance(names, list) else set()


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names, key=architecture_order)) or "none"
