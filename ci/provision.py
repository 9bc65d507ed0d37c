"""Provision: the toolkit of a target, installed where one is named, else the pinned one, brought."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ci import clang_cuda, cuda, metal, paths, rocm, vulkan, vulkan_cross
from ci.errors import ToolMissingError, UsageError
from ci.host import compiling_machine, installs_here
from ci.host_compiler import bring_host_compiler
from ci.image import Part, bring_image, resolve
from ci.pins import ImagePin, Pins, ToolkitPin, compiling_host, load_pins, unpacked
from ci.progress import Progress
from ci.redistributable import bring_redistributable, find_redistributable
from ci.registry import Reference
from ci.table import Target
from ci.toolkit import Toolkit, fits

PINNED = "the pinned toolkit"

# variables that installers of toolkits set, or that people know
_VARIABLES = {
    "Vulkan SDK": ("VULKAN_SDK",),
    "CUDA": ("CUDA_HOME", "CUDA_PATH"),
    "Xcode": (metal.VARIABLE,),
    "ROCm": ("ROCM_PATH",),
}

# where images have them that do not say so in their environment; the root of a system for Vulkan's,
# which distributions have in packages
_IN_IMAGES = {
    "Vulkan SDK": (Part(root="/", folders=["/usr"]),),
    "CUDA": (Part(root="/usr/local/cuda-{version}"), Part(root="/usr/local/cuda")),
    "ROCm": (Part(root="/opt/rocm"),),
}


def bring_toolkit(
    progress: Progress,
    target: Target,
    *,
    installed: Path | None = None,
    image: Reference | None = None,
    compatible: bool = False,
    clang: bool = False,
    pins: Pins | None = None,
) -> Toolkit:
    """Return the toolkit of a target: one that is installed or in an image where named, else the pinned.

    Args:
        progress: told what is fetched.
        target: what is to be compiled.
        installed: folder of an installed toolkit; by default what ``VULKAN_SDK``, ``CUDA_HOME``,
            ``CUDA_PATH``, ``ROCM_PATH`` or ``DEVELOPER_DIR`` names. With ``image`` its folder there.
        image: take it out of this container image.
        compatible: where the target's own cannot be had, take one of the same major version.
        clang: take the pinned one whose compiler is clang.
        pins: what can be brought; by default ``ci/toolkits.toml``.

    Raises:
        UsageError: the named folder or image is no such toolkit, or one of another version.
        ToolMissingError: none is named, and none can be brought.
        NetworkError: the image or the pinned pieces cannot be downloaded.
    """
    pins = load_pins() if pins is None else pins
    name = target.family.toolkit
    if image is not None:
        exact, folder = _out_of_image(progress, image, target, installed)
        where = f"the image {exact}"
        return _look_over(progress, folder, target, where, pins, compatible=compatible)
    named, where = _named(installed, name)
    if named is not None:
        return _look_over(progress, named, target, where, pins, compatible=compatible)
    if name == "Xcode":
        # part of the system: there is no other to bring
        return metal.look_over(metal.selected_folder(), target, "xcode-select")
    pin = find_pin(target, pins, compatible=compatible, clang=clang)
    if clang and pin is None:
        version = target.backend.toolkit_version or ""
        raise ToolMissingError(
            f"{target.name}: ci/toolkits.toml has no {f'{name} {version}'.strip()} that clang"
            f" compiles with for {target.platform.title}",
            cure="leave --clang away: it is for what NVIDIA's own compiler cannot be had for",
        )
    archives = find_redistributable(target, pins.redistributable)
    if pin is not None:
        folder = _brought(progress, pin, target, pins)
    elif archives is not None:
        platform, cache = target.platform, paths.cache_folder() / "toolkits"
        folder = bring_redistributable(progress, archives, platform.system, platform.machine, cache)
    elif (picture := find_image(target, pins)) is not None:
        folder = _pinned_image(progress, picture, target)
    else:
        raise ToolMissingError(
            f"{target.name} needs the toolkit {name} {target.backend.toolkit_version or ''}".strip()
            + f", and ci/toolkits.toml has none for {_compiled_on(target)}",
            cure=_cure_without_pin(target, pins),
        )
    return _look_over(progress, folder, target, PINNED, pins, compatible=compatible)


def _named(installed: Path | None, name: str) -> tuple[Path | None, str]:
    if installed is not None:
        return installed.absolute(), "--toolkit"
    for variable in _VARIABLES[name]:
        if os.environ.get(variable):
            return Path(os.environ[variable]).absolute(), variable
    return None, ""


def _compiled_on(target: Target) -> str:
    """Return what people call the machine that compiles a target."""
    platform, (system, machine) = target.platform, compiling_machine(target)
    if (system, machine) == (platform.system, platform.machine):
        return platform.title
    return f"a build on {system} ({machine})"


def _cure_without_pin(target: Target, pins: Pins) -> str:
    if target.family.toolkit == "Vulkan SDK":
        return "install the Vulkan SDK and name its folder with --toolkit PATH or VULKAN_SDK"
    name = f"{target.family.toolkit} {target.backend.toolkit_version}"
    cure = f"install {name} and name its folder with --toolkit PATH"
    if compiling_machine(target)[0] == "linux":
        cure += ", or an image that holds it with --toolkit-image REFERENCE"
    if target.family.toolkit == "CUDA":
        release = f"{target.backend.toolkit_version}.0"
        cure = f"pin a release of it (python -m ci pin cuda {release}), or {cure}"
    other = find_pin(target, pins, compatible=True)
    if other is not None:
        cure += (
            f", or give --compatible-toolkit: CUDA {other.version} compiles it, for drivers of"
            f" CUDA {target.backend.toolkit_version} as well (machine code alone, no PTX)"
        )
    return cure


def find_pin(
    target: Target, pins: Pins, *, compatible: bool = False, clang: bool = False
) -> ToolkitPin | None:
    """Return the pinned toolkit that can be brought for a target, or None.

    With ``compatible``, the newest one of the same major version where there is none of its own. With
    ``clang``, one whose compiler that is, and none else.
    """
    host = compiling_host(target)
    name = target.family.toolkit
    front_end = "clang" if clang else None
    there = [
        pin
        for pin in pins.toolkit
        if pin.name == name and host in pin.host and pin.front_end == front_end
    ]
    own = [pin for pin in there if fits(pin.version, target.backend.toolkit_version)]
    if own or not compatible:
        return own[0] if own else None
    major = (target.backend.toolkit_version or "").partition(".")[0]
    same = [pin for pin in there if pin.version.partition(".")[0] == major]
    return max(same, key=lambda pin: tuple(map(int, pin.version.split("."))), default=None)


def _brought(progress: Progress, pin: ToolkitPin, target: Target, pins: Pins) -> Path:
    host = compiling_host(target)
    assert host is not None  # a pin was found for it
    if pin.name == "CUDA":
        compiler = bring_host_compiler(progress, pins, host)
        if pin.front_end:
            folder = unpacked(
                progress,
                pin,
                host,
                lambda root: clang_cuda.arrange(root, compiler, pin.version),
                revision=1,
            )
        else:
            folder = unpacked(
                progress, pin, host, lambda root: cuda.arrange(root, compiler), revision=1
            )
        return folder / cuda.ROOT
    if pin.name == "ROCm":
        folder = unpacked(progress, pin, host, rocm.arrange, revision=1)
        rocm.make_runnable(folder)
        return folder
    _, machine = compiling_machine(target)
    return unpacked(progress, pin, host, lambda root: vulkan.wrap_glslc(root, machine), revision=4)


def find_image(target: Target, pins: Pins) -> ImagePin | None:
    """Return the pinned image that holds the toolkit of a target, or None."""
    host, name = compiling_host(target), target.family.toolkit
    wanted = target.backend.toolkit_version
    for pin in pins.image:
        if pin.name == name and host in pin.host and fits(pin.version, wanted):
            return pin
    return None


def _pinned_image(progress: Progress, pin: ImagePin, target: Target) -> Path:
    host, (_, machine) = compiling_host(target), compiling_machine(target)
    assert host is not None  # a pin was found for it
    reference, cache = pin.reference(host), paths.cache_folder() / "toolkits"
    arrange = _arrange_of(target)
    return bring_image(progress, reference, machine, [pin.part], cache, arrange=arrange)


def _out_of_image(
    progress: Progress, image: Reference, target: Target, folder: Path | None
) -> tuple[Reference, Path]:
    """Return the exact name of an image, and the folder with what was taken out of it."""
    name, (system, machine) = target.family.toolkit, compiling_machine(target)
    if system != "linux":
        raise UsageError(
            f"{target.name}: toolkits in images are for Linux",
            cure="leave --toolkit-image away, or name an installed toolkit with --toolkit PATH",
        )
    exact = resolve(progress, image)
    left_out = list(cuda.UNUSED) if name == "CUDA" else []
    if folder is not None:
        parts = [Part(root=folder.as_posix(), left_out=left_out)]
    else:
        places = _IN_IMAGES[name]
        version = target.backend.toolkit_version or ""
        parts = [
            replace(part, root=part.root.format(version=version), left_out=left_out)
            for part in places
        ]
    cache = paths.cache_folder() / "toolkits"
    arrange = _arrange_of(target)
    return exact, bring_image(
        progress,
        exact,
        machine,
        parts,
        cache,
        variables=() if folder else _VARIABLES[name],
        arrange=arrange,
    )


def _arrange_of(target: Target) -> Callable[[Path], None]:
    """Return what makes a toolkit that was taken out of an image run outside of it."""
    _, machine = compiling_machine(target)

    def arrange(folder: Path) -> None:
        if target.family.toolkit == "Vulkan SDK" and vulkan.is_a_distributions(folder, machine):
            vulkan.wrap_glslc(folder, machine)

    return arrange


def _look_over(
    progress: Progress, folder: Path, target: Target, where: str, pins: Pins, *, compatible: bool
) -> Toolkit:
    if target.family.toolkit != "CUDA" and compatible:
        raise UsageError(
            f"{target.name}: --compatible-toolkit is for CUDA",
            cure="leave it away: the pinned toolkit is brought, or name another with --toolkit",
        )
    if target.family.toolkit == "Vulkan SDK":
        toolkit = vulkan.look_over(folder, target, where)
        if installs_here(target.platform):
            return toolkit
        return vulkan_cross.complete(toolkit, target.platform, paths.BUILD / target.name / "loader")
    if target.family.toolkit == "Xcode":
        return metal.look_over(folder, target, where)
    host = compiling_host(target)
    compiler = bring_host_compiler(progress, pins, host) if host is not None else None
    if target.family.toolkit == "ROCm":
        return rocm.look_over(folder, target, where, compiler=compiler)
    look_over = clang_cuda.look_over if clang_cuda.is_in(folder) else cuda.look_over
    return look_over(folder, target, where, compiler=compiler, compatible=compatible)
