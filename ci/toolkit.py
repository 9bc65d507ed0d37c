"""Toolkits: what a backend's module is compiled with, brought as data or found installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.debian import bring_package, require_mirror, unpack_package
from ci.errors import TableError, ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.table import Machine, Target
from ci.table import Toolkit as ToolkitName

PINS_PATH = Path(__file__).with_name("toolkits.toml")

_STRICT = ConfigDict(extra="forbid", strict=True)
_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}

# VK_HEADER_VERSION that this llama.cpp's ggml-vulkan compiles with; older headers lack extensions
_OLDEST_VULKAN = (1, 4, 309)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ToolkitPin:
    """One toolkit as packages of a Debian suite: path below the mirror → sha256, per machine."""

    name: ToolkitName
    version: str
    suite: str
    packages: dict[Machine, dict[str, str]]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class _File:
    schema: Literal[1]
    toolkit: list[ToolkitPin]


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """A toolkit on this machine.

    Attributes:
        name: its name in the table.
        version: its own, exact one.
        folder: where it lies; its name must not get into what is compiled.
        defines: CMake definitions that make a build use it.
    """

    name: str
    version: str
    folder: Path
    defines: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and version, for the build info."""
        return f"{self.name} {self.version}"


def load_pins(path: Path = PINS_PATH) -> list[ToolkitPin]:
    """Read and check the pinned toolkits.

    Raises:
        TableError: not TOML, an unknown or missing key, a path or a sha256 that is none.
    """
    cure = f"mend {path.name}; the keys are the fields of the classes in ci/toolkit.py"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        pins = TypeAdapter(_File).validate_json(json.dumps(raw, default=str)).toolkit
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: {error}", cure=cure) from error
    except ValidationError as error:
        problems = "\n".join(
            f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise TableError(f"{path.name}:\n{problems}", cure=cure) from error
    wrong = [
        f"  {pin.name} {pin.version}, {machine}: {name}"
        for pin in pins
        for machine, packages in pin.packages.items()
        for name, sha256 in packages.items()
        if not (
            re.fullmatch(r"pool/[\w.+~/-]+\.deb", name)
            and ".." not in name
            and re.fullmatch(r"[0-9a-f]{64}", sha256)
        )
    ]
    if wrong:
        raise TableError(
            f"{path.name}: not a path below a mirror with a sha256:\n" + "\n".join(wrong), cure=cure
        )
    return pins


def find_pin(target: Target, pins: Sequence[ToolkitPin]) -> ToolkitPin | None:
    """Return the pinned toolkit that can be brought for a target, or None."""
    for pin in pins:
        if (
            pin.name == target.family.toolkit
            and _fits(pin.version, target.backend.toolkit_version)
            and target.platform.system == "linux"
            and target.platform.machine in pin.packages
        ):
            return pin
    return None


def _fits(version: str, wanted: str | None) -> bool:
    return wanted is None or version == wanted or version.startswith(f"{wanted}.")


def bring_toolkit(
    progress: Progress,
    target: Target,
    *,
    installed: Path | None = None,
    pins: Sequence[ToolkitPin] | None = None,
) -> Toolkit:
    """Return the toolkit of a target: an installed one where named, else the pinned packages.

    Args:
        progress: told what is fetched.
        target: what is to be compiled.
        installed: folder of an installed toolkit; by default ``VULKAN_SDK``.
        pins: what can be brought; by default ``ci/toolkits.toml``.

    Raises:
        UsageError: the named folder is no such toolkit, or one of another version.
        ToolMissingError: none is named, and none can be brought.
        NetworkError: the pinned packages cannot be downloaded.
    """
    name = target.family.toolkit
    if name != "Vulkan SDK":
        defines = " ".join(
            f"-C cmake.define.{define}={value}" for define, value in target.family.defines.items()
        )
        raise ToolMissingError(
            f"{target.name} needs the toolkit {name} {target.backend.toolkit_version or ''}".strip()
            + ", and this toolchain cannot bring it yet",
            cure="build cpu (`nox -s build -- --backend cpu`), or compile for this machine alone"
            f" with the toolkit installed: pip install . {defines}",
        )
    where = "--toolkit"
    if installed is None and os.environ.get("VULKAN_SDK"):
        installed, where = Path(os.environ["VULKAN_SDK"]), "VULKAN_SDK"
    if installed is not None:
        return _vulkan(installed.absolute(), target, where)
    pin = find_pin(target, load_pins() if pins is None else pins)
    if pin is None:
        raise ToolMissingError(
            f"{target.name} needs the toolkit {name} {target.backend.toolkit_version or ''}".strip()
            + f", and ci/toolkits.toml has none for {target.platform.title}",
            cure="install the Vulkan SDK and name its folder with --toolkit PATH or VULKAN_SDK",
        )
    return _vulkan(_unpacked(progress, pin, target.platform.machine), target, "the pinned toolkit")


def _unpacked(progress: Progress, pin: ToolkitPin, machine: Machine) -> Path:
    """Return the folder with a pin's packages, which the pin's content names."""
    packages = pin.packages[machine]
    state = hashlib.sha256(json.dumps([3, sorted(packages.items())]).encode()).hexdigest()[:12]
    cache = paths.cache_folder() / "toolkits"
    name = f"{pin.name.lower().replace(' ', '-')}-{pin.version}-{machine}-{state}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{name}.lock"):
        folder = cache / name
        if folder.is_dir():
            return folder
        mirror = require_mirror()
        progress.step(f"bringing {pin.name} {pin.version}: {len(packages)} packages of {pin.suite}")
        partial = cache / f".{name}.part"
        shutil.rmtree(partial, ignore_errors=True)
        for path, sha256 in packages.items():
            unpack_package(
                bring_package(progress, mirror, path, sha256, cache / "packages"), partial
            )
        _wrap_glslc(partial, machine)
        partial.replace(folder)
        return folder


def _wrap_glslc(folder: Path, machine: Machine) -> None:
    """Write ``bin/glslc``: the unpacked one, run by its own loader with its own libraries."""
    libraries = f"usr/lib/{_TRIPLETS[machine]}"
    script = folder / "bin" / "glslc"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(
        "#!/bin/sh\n"
        'root=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
        f'exec "$root/{libraries}/{_LOADERS[machine]}" --library-path "$root/{libraries}"'
        ' "$root/usr/bin/glslc" "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)


def _vulkan(folder: Path, target: Target, where: str) -> Toolkit:
    """Look a Vulkan toolkit over and return it: headers, loader, glslc and SPIR-V's headers."""
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no folder {folder}", cure="check the path")
    windows = target.platform.system == "windows"
    triplet = _TRIPLETS.get(target.platform.machine, "")
    found = {
        "Vulkan_INCLUDE_DIR": _first(
            folder, ("include", "Include", "usr/include"), lambda path: path / "vulkan/vulkan.hpp"
        ),
        "Vulkan_LIBRARY": _first(
            folder,
            ("Lib/vulkan-1.lib",)
            if windows
            else tuple(
                f"{libraries}/{name}"
                for libraries in ("lib", "lib64", f"lib/{triplet}", f"usr/lib/{triplet}", "usr/lib")
                for name in ("libvulkan.so.1", "libvulkan.so")
            ),
        ),
        "Vulkan_GLSLC_EXECUTABLE": _first(
            folder, ("Bin/glslc.exe",) if windows else ("bin/glslc", "usr/bin/glslc")
        ),
        "SPIRV-Headers_DIR": _first(
            folder,
            tuple(
                f"{prefix}{share}/cmake/SPIRV-Headers"
                for prefix in ("", "usr/")
                for share in ("share", "lib", "Lib")
            ),
            lambda path: path / "SPIRV-HeadersConfig.cmake",
        ),
    }
    missing = [name for name, path in found.items() if path is None]
    if missing:
        parts = {
            "Vulkan_INCLUDE_DIR": "the headers (include/vulkan/vulkan.hpp)",
            "Vulkan_LIBRARY": "the loader (libvulkan.so.1)",
            "Vulkan_GLSLC_EXECUTABLE": "the shader compiler (bin/glslc)",
            "SPIRV-Headers_DIR": "SPIR-V's headers (share/cmake/SPIRV-Headers)",
        }
        raise UsageError(
            f"{where}: {folder} is not a whole Vulkan SDK, it lacks "
            + ", ".join(parts[name] for name in missing),
            cure="give the folder of a complete SDK (that with include/, lib/ and bin/), or leave"
            " --toolkit and VULKAN_SDK away: the pinned one is brought",
        )
    defines = {name: str(path) for name, path in found.items() if path is not None}
    version = _vulkan_version(Path(defines["Vulkan_INCLUDE_DIR"]))
    numbers = tuple(int(part) for part in version.split("."))
    if numbers < _OLDEST_VULKAN or not _fits(version, target.backend.toolkit_version):
        raise UsageError(
            f"{where}: {folder} is Vulkan {version}; {target.backend.name} is built with"
            f" {target.backend.toolkit_version} from {'.'.join(map(str, _OLDEST_VULKAN))} on",
            cure="name a newer SDK, or leave --toolkit and VULKAN_SDK away: the pinned one is brought",
        )
    glslc = defines["Vulkan_GLSLC_EXECUTABLE"]
    try:
        run([glslc, "--version"], timeout=60)
    except (ProcessError, OSError) as error:
        raise ToolMissingError(
            f"{where}: {glslc} does not run: {str(error).splitlines()[0]}",
            cure="delete toolkits/ in the cache folder and run the command again, or install glslc",
        ) from error
    return Toolkit(name="Vulkan SDK", version=version, folder=folder, defines=defines)


def _first(
    folder: Path, names: tuple[str, ...], proof: Callable[[Path], Path] = lambda path: path
) -> Path | None:
    return next((folder / name for name in names if proof(folder / name).exists()), None)


def _vulkan_version(include: Path) -> str:
    text = (include / "vulkan" / "vulkan_core.h").read_text(encoding="utf-8", errors="replace")
    complete = re.search(
        r"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(\d+, (\d+), (\d+),", text
    )
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    if complete is None or patch is None:
        raise UsageError(
            f"{include}/vulkan/vulkan_core.h says no version", cure="give a complete Vulkan SDK"
        )
    return f"{complete[1]}.{complete[2]}.{patch[1]}"
