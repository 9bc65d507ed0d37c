"""CUDA's and ROCm's runtime libraries: where they lie, and mapping them for a module that needs them.

The module's own RUNPATH finds the runtime's wheels beside this package. Where they are in another
folder of the import path (user site, ``--target``, PYTHONPATH, an editable install), or in a CUDA
toolkit alone, they are mapped here by full path: the loader then takes them by their name.
Needs no environment variable. For who has a driver: where there is none, nothing is to be mapped.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _cuda_driver
from llama_cpp._build_info import build_info, version_pair
from llama_cpp._errors import LlamaError
from llama_cpp._images import mapped_images, stem
from llama_cpp._obstacles import RuntimePackage, is_runtime_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WINDOWS = sys.platform == "win32"
_OPT = Path("/opt")
# what the toolkit's installer sets on Windows for each version, beside CUDA_PATH for the last one
_CUDA_PATH_OF_VERSION = re.compile(r"CUDA_PATH_V(\d+)_(\d+)")
_RUNTIMES = ("cudart", "cublas", "amdhip64", "rocblas", "hipblas")
# with the folder of their wheel up to CUDA 12
_CUDA = (("cudart", "cuda_runtime"), ("cublasLt", "cublas"), ("cublas", "cublas"))


class Library(NamedTuple):
    """One library of a runtime."""

    name: str
    """As the loader knows it: ``libcudart.so.13``."""
    folders: tuple[str, ...]
    """Where its wheel puts it, in site-packages."""


# the driver brings amdhip64
_ROCM_DLLS = (Library("rocblas.dll", ()), Library("hipblas.dll", ()))


def prepare(folder: Path, module: str) -> list[object]:
    """Map the runtime of a module, where the loader would not find it by itself.

    Args:
        folder: where the module lies, with the record of the build one above.
        module: ``ggml-cuda`` or ``ggml-hip``.

    Returns:
        What has to be kept as long as the libraries are in use.
    """
    major = _major(folder)
    if major is None:
        return []
    if module == "ggml-cuda":
        libraries, folders = cuda_libraries(major), cuda_folders(os.environ)
    else:
        libraries, folders = _ROCM_DLLS if _WINDOWS else (), rocm_folders(os.environ)
    kept: list[object] = []
    for library in libraries:
        if _is_mapped(library.name) or any(_beside(folder, library)):
            continue
        for place in places(library, sys.path, folders):
            try:
                kept.append(ctypes.CDLL(str(place)))
            except OSError:
                # damaged, or of another CPU: the next one may be whole
                continue
            if sys.platform == "win32":
                with suppress(OSError):
                    kept.append(os.add_dll_directory(str(place.parent)))
            break
    return kept


def supply(words: str) -> bool:
    """Map the library of ROCm's that the loader misses; return whether it was found.

    Its libraries have versions of their own, which only the module knows.

    Args:
        words: the loader's, such as ``libamdhip64.so.6: cannot open shared object file``.
    """
    name = words.partition(":")[0].strip()
    if not name.startswith("lib") or "/" in name:
        return False
    for place in places(Library(name, ()), (), rocm_folders(os.environ)):
        with suppress(OSError):
            ctypes.CDLL(str(place))
            return True
    return False


def cuda_libraries(major: int, *, windows: bool = _WINDOWS) -> tuple[Library, ...]:
    """Return CUDA's libraries of a major version, each before those that need it."""
    if windows:
        # CUDA 13 has a folder per CPU
        together = ("nvidia/cu13/bin/x86_64", "nvidia/cu13/bin") if major >= 13 else ()
        return tuple(
            Library(f"{name}64_{major}.dll", (*together, f"nvidia/{part}/bin"))
            for name, part in _CUDA
        )
    return tuple(
        Library(
            f"lib{name}.so.{major}",
            (f"nvidia/cu{major}/lib",) if major >= 13 else (f"nvidia/{part}/lib",),
        )
        for name, part in _CUDA
    )


def cuda_folders(environment: Mapping[str, str], *, windows: bool = _WINDOWS) -> tuple[Path, ...]:
    """Return the library folders of the toolkit that ``CUDA_PATH`` or ``CUDA_HOME`` names.

    On Windows those of ``CUDA_PATH_V12_8`` and its like come after them, the newest first.
    """
    names = ["CUDA_PATH", "CUDA_HOME"]
    if windows:
        versions = filter(None, map(_CUDA_PATH_OF_VERSION.fullmatch, environment))
        newest_first = sorted(versions, key=lambda match: (-int(match[1]), -int(match[2])))
        names += [match[0] for match in newest_first]
    named = (Path(environment[name]) for name in names if environment.get(name))
    roots = list(dict.fromkeys(named))
    if windows:
        return tuple(root / name for root in roots for name in ("bin/x64", "bin"))
    return tuple(
        folder
        for root in roots
        for folder in (root / "lib64", *sorted(root.glob("targets/*/lib")), root / "lib")
    )


def rocm_folders(
    environment: Mapping[str, str], opt: Path = _OPT, *, windows: bool = _WINDOWS
) -> tuple[Path, ...]:
    """Return the library folders of ROCm: ``ROCM_PATH``, ``HIP_PATH``, then /opt/rocm*."""
    named = [Path(environment[name]) for name in ("ROCM_PATH", "HIP_PATH") if environment.get(name)]
    if windows:
        return tuple(root / "bin" for root in named)
    newest_first = sorted(opt.glob("rocm-*"), reverse=True)
    return tuple(root / "lib" for root in (*named, opt / "rocm", *newest_first))


def has_rocm() -> bool:
    """Return whether ROCm's runtime is in a folder where it is looked for."""
    return any(any(folder.glob("*amdhip64*")) for folder in rocm_folders(os.environ))


def places(library: Library, path: Sequence[str], folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the files of a library: those of its wheel on the import path, then in folders."""
    for entry in path:
        for inside in library.folders:
            file = Path(entry or ".", inside, library.name)
            if file.is_file():
                yield file
    for folder in folders:
        file = folder / library.name
        if file.is_file():
            yield file


def missing(folder: Path, module: str) -> str | None:
    """Return which library a module misses, where the loader does not say (Windows)."""
    names = {"ggml-cuda": [_cuda_driver.LIBRARY], "ggml-vulkan": ["vulkan-1.dll"]}.get(module, [])
    major = _major(folder)
    if module == "ggml-cuda" and major is not None:
        names += [library.name for library in cuda_libraries(major)]
    return next((f"{name}: not found" for name in names if not _loads(name)), None)


def _loads(name: str) -> bool:
    # winmode 0: PATH is looked at as well, as it is when ggml loads the module
    with suppress(OSError):
        ctypes.CDLL(name, winmode=0)
        return True
    return False


def mapped() -> tuple[str, ...]:
    """Return the paths of the runtime's libraries that this process has mapped, sorted."""
    return tuple(sorted(path for path in mapped_images() if stem(path).startswith(_RUNTIMES)))


def packages() -> tuple[RuntimePackage, ...]:
    """Return the CUDA libraries that came as Python packages, sorted by name."""
    import importlib.metadata  # noqa: PLC0415 - slow, and only for who is told

    found = set()
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if is_runtime_package(name):
            found.add(RuntimePackage(name, distribution.version))
    return tuple(sorted(found))


def _major(folder: Path) -> int | None:
    try:
        build = build_info(folder.with_name("_build_info.json"))
    except LlamaError:  # the doctor says so; the libraries may load all the same
        return None
    toolkit = version_pair(build.toolkit) if build else None
    return toolkit[0] if toolkit else None


def _beside(folder: Path, library: Library) -> Iterator[Path]:
    """Yield where the module's RUNPATH finds a library: $ORIGIN, and the wheels beside."""
    if _WINDOWS:  # has no RUNPATH
        return
    site = folder.parent.parent
    for file in (folder / library.name, *(site / each / library.name for each in library.folders)):
        if file.is_file():
            yield file


def _is_mapped(name: str) -> bool:
    if sys.platform == "win32":
        return any(Path(path).name.lower() == name.lower() for path in mapped_images())
    # dlopen(3): "RTLD_NOLOAD … can be used to test if the object is already resident"
    with suppress(OSError):
        ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
        return True
    return False
