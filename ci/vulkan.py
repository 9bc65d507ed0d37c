"""Vulkan's SDK: headers, loader, shader compiler and SPIR-V's headers, pinned or installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ci.errors import ToolMissingError, UsageError
from ci.host import compiling_machine
from ci.pins import write_script
from ci.process import ProcessError, run
from ci.table import Machine, Target
from ci.toolkit import Toolkit, fits

_TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}

# VK_HEADER_VERSION that this llama.cpp's ggml-vulkan compiles with; older headers lack extensions
_OLDEST = (1, 4, 309)


def wrap_glslc(folder: Path, machine: Machine) -> None:
    """Write ``bin/glslc``: the unpacked one, run by its own loader with its own libraries."""
    libraries = f"usr/lib/{_TRIPLETS[machine]}"
    write_script(
        folder / "bin" / "glslc",
        'root=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
        f'exec "$root/{libraries}/{_LOADERS[machine]}" --library-path "$root/{libraries}"'
        ' "$root/usr/bin/glslc" "$@"',
    )


def is_a_distributions(folder: Path, machine: Machine) -> bool:
    """Say whether a folder is the root of a system whose packages have a glslc, and the loader for it."""
    loader = folder / "usr" / "lib" / _TRIPLETS[machine] / _LOADERS[machine]
    return (folder / "usr" / "bin" / "glslc").exists() and loader.exists()


def look_over(folder: Path, target: Target, where: str) -> Toolkit:
    """Look a Vulkan toolkit over and return it: headers, loader, glslc and SPIR-V's headers.

    It is one of the machine that compiles; for another one than that, its loader is none to link with.
    """
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no folder {folder}", cure="check the path")
    system, machine = compiling_machine(target)
    windows = system == "windows"
    triplet = _TRIPLETS.get(machine, "")
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
    if (system, machine) != (target.platform.system, target.platform.machine):
        del found["Vulkan_LIBRARY"]
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
    version = _version(Path(defines["Vulkan_INCLUDE_DIR"]))
    numbers = tuple(int(part) for part in version.split("."))
    if numbers < _OLDEST or not fits(version, target.backend.toolkit_version):
        raise UsageError(
            f"{where}: {folder} is Vulkan {version}; {target.backend.name} is built with"
            f" {target.backend.toolkit_version} from {'.'.join(map(str, _OLDEST))} on",
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
    return Toolkit(name="Vulkan SDK", version=version, folder=folder, source=where, defines=defines)


def _first(
    folder: Path, names: tuple[str, ...], proof: Callable[[Path], Path] = lambda path: path
) -> Path | None:
    return next((folder / name for name in names if proof(folder / name).exists()), None)


def _version(include: Path) -> str:
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
