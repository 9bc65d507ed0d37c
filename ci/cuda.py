"""NVIDIA's CUDA toolkit: put together from its pieces, or installed, and looked over.

Source of the layout: "Installation Guide for Linux", and nvcc's own ``nvcc.profile``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ci.compiler import Compiler
from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.table import System, Target
from ci.toolkit import Toolkit, fits

ROOT = "cuda"
"""Folder of a put together toolkit below that of its pieces."""

DRIVER: Mapping[System, str] = {"linux": "libcuda.so.1", "windows": "nvcuda.dll"}
"""The driver's library, which a GPU's system brings and neither toolkit nor runtime."""

UNUSED = tuple(
    f"lib{name}*"
    for name in (
        "cublas*_static",
        "cufft",
        "curand",
        "cusolver",
        "cusparse",
        "npp",
        "nvjpeg",
        "nvrtc",
    )
)
"""Libraries of a whole toolkit that nothing links here, which are most of it: patterns of names."""

_PROFILE = """\
TOP              = $(_HERE_)/..
CICC_PATH        = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
LD_LIBRARY_PATH += $(TOP)/lib64:
PATH            += $(CICC_PATH):$(_HERE_):
INCLUDES        +=  "-I$(TOP)/include" $(_SPACE_)
LIBRARIES        =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"
"""
_PROGRAMS = ("nvcc", "cudafe++", "fatbinary", "ptxas", "nvlink", "bin2c", "__nvcc_device_query")
_DRIVER_FUNCTION = re.compile(r"\bCUDAAPI\s+(cu[A-Z]\w+)|#define\s+(cu[A-Z]\w+)\s+(cu[A-Z]\w+)")


def arrange(folder: Path, compiler: Compiler | None) -> None:
    """Make one toolkit, ``cuda/``, of what the pieces unpacked: a wheel's or a package's layout.

    Args:
        folder: where the pieces lie.
        compiler: makes the driver's stub, which neither wheels nor packages hold.
    """
    root = folder / ROOT
    for source in _sources(folder):
        _merge(source, root)
    debian = folder / "usr"
    if (debian / "lib" / "nvidia-cuda-toolkit").is_dir():
        _arrange_debian(debian, root)
    libraries = root / "lib"
    shared = sorted(libraries.glob("*.so.*"))
    for path in shared:
        # what a linker looks for; a wheel holds no links
        (libraries / f"{path.name.partition('.so')[0]}.so").symlink_to(path.name)
    if shared:
        (root / "lib64").symlink_to("lib")
        _write_archives(libraries)
    for path in (*(root / "bin").iterdir(), *(root / "nvvm" / "bin").iterdir()):
        if path.is_file() and path.suffix not in {".profile", ".stub"}:
            path.chmod(0o755)
    if compiler is not None and not (libraries / "stubs" / "libcuda.so").exists():
        _write_driver_stub(root, compiler)


def _write_archives(libraries: Path) -> None:
    """Write what the wheels of CUDA 12 lack and every link that nvcc or CMake tries asks for.

    Nothing of a module comes from there: it links the shared runtime, and has no device linking.
    """
    texts = {"libcudadevrt.a": "!<arch>\n", "libcudart_static.a": "INPUT(-lcudart)\n"}
    for name, text in texts.items():
        if not (libraries / name).exists():
            (libraries / name).write_text(text, encoding="utf-8")


def _sources(folder: Path) -> Iterator[Path]:
    """Yield the folders of wheels that are roots of a toolkit: one for CUDA 13, many for 12."""
    for path in sorted((folder / "nvidia").glob("*")):
        if path.is_dir():
            yield path


def _merge(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        elif path.name != "__init__.py" and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    shutil.rmtree(source)


def _arrange_debian(debian: Path, root: Path) -> None:
    """Take the compilers out of Debian's ``nvidia-cuda-toolkit``, whose paths are the system's."""
    own = debian / "lib" / "nvidia-cuda-toolkit"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "nvvm" / "bin").mkdir(parents=True, exist_ok=True)
    for name in _PROGRAMS[1:]:
        if not (root / "bin" / name).exists():
            (debian / "bin" / name).rename(root / "bin" / name)
    (own / "bin" / "nvcc").rename(root / "bin" / "nvcc")
    (own / "bin" / "cicc").rename(root / "nvvm" / "bin" / "cicc")
    _merge(own / "bin" / "crt", root / "bin" / "crt")
    (root / "bin" / "nvcc.profile").write_text(_PROFILE, encoding="utf-8")


def _write_driver_stub(root: Path, compiler: Compiler) -> None:
    """Link ``lib/stubs/libcuda.so``: every function of cuda.h, to link against on any machine."""
    text = (root / "include" / "cuda.h").read_text(encoding="utf-8", errors="replace")
    names = sorted({name for match in _DRIVER_FUNCTION.findall(text) for name in match if name})
    stubs = root / "lib" / "stubs"
    stubs.mkdir()
    source = stubs / "libcuda.c"
    source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in names), "utf-8")
    command = [compiler.defines["CMAKE_C_COMPILER"], "-shared", "-fPIC", "-nostdlib", "-w"]
    command += [f"-Wl,-soname,{DRIVER['linux']}", "-o", str(stubs / "libcuda.so"), str(source)]
    run(command)


def find_root(folder: Path) -> Path:
    """Return the root of a toolkit in a folder that a user named: itself, or ``cuda`` below it."""
    below = folder / ROOT
    return below if (below / "bin").is_dir() else folder


def look_over(
    folder: Path, target: Target, where: str, *, compiler: Compiler | None, compatible: bool
) -> Toolkit:
    """Look a CUDA toolkit over and return it.

    Args:
        folder: its root, with ``bin/nvcc``.
        target: what is to be compiled.
        where: what named the folder, for the messages.
        compiler: the pinned host compiler; None takes the system's.
        compatible: take an older one of the same major version as well.

    Raises:
        UsageError: there is no such folder, the toolkit is incomplete, or of another version.
        ToolMissingError: its nvcc does not run.
    """
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no folder {folder}", cure="check the path")
    windows = target.platform.system == "windows"
    nvcc = folder / "bin" / ("nvcc.exe" if windows else "nvcc")
    missing = [part for part, there in _parts(folder, windows=windows) if not there]
    if missing:
        raise UsageError(
            f"{where}: {folder} is not a whole CUDA toolkit, it lacks {', '.join(missing)}",
            cure="give the folder of a complete toolkit (that with bin/, include/ and lib64/), or"
            " leave --toolkit, CUDA_HOME and CUDA_PATH away: the pinned one is brought",
        )
    version = version_of(nvcc, where)
    check_version(folder, target, where, version, compatible=compatible)
    defines = {"CMAKE_CUDA_COMPILER": str(nvcc), "CUDAToolkit_ROOT": str(folder)}
    if compiler is not None:
        defines["CMAKE_CUDA_HOST_COMPILER"] = compiler.defines["CMAKE_CXX_COMPILER"]
    if tuple(map(int, version.split(".")[:2])) < (12, 8):
        # from 12.8 on ggml asks for it itself, under another name
        defines["CMAKE_CUDA_FLAGS"] = "-Xfatbin=-compress-all"
    return Toolkit(
        name="CUDA",
        version=version,
        folder=folder,
        source=where,
        defines=defines,
        compiler=compiler,
    )


def check_version(
    folder: Path, target: Target, where: str, version: str, *, compatible: bool
) -> None:
    """Stop unless a toolkit's version is the target's, or may be another of the same major one.

    Raises:
        UsageError: it is not.
    """
    wanted = target.backend.toolkit_version
    same_major = version.partition(".")[0] == (wanted or version).partition(".")[0]
    if not fits(version, wanted) and not (compatible and same_major):
        raise UsageError(
            f"{where}: {folder} is CUDA {version}; {target.backend.name} is built with CUDA {wanted}",
            cure=f"name a toolkit of CUDA {wanted}, or leave --toolkit, CUDA_HOME and CUDA_PATH away:"
            " the pinned one is brought"
            + (
                "; --compatible-toolkit takes this one (same major version, machine code alone)"
                if same_major
                else ""
            ),
        )


def _parts(folder: Path, *, windows: bool) -> Iterator[tuple[str, bool]]:
    """Yield what a build needs, in words, and whether it is there."""
    suffix = ".exe" if windows else ""
    libraries = [folder / "lib" / "x64"] if windows else [folder / "lib64", folder / "lib"]
    library = "{}.lib" if windows else "lib{}.so"
    for program in ("nvcc", "cudafe++", "fatbinary", "ptxas"):
        yield f"bin/{program}{suffix}", (folder / "bin" / f"{program}{suffix}").exists()
    yield f"nvvm/bin/cicc{suffix}", (folder / "nvvm" / "bin" / f"cicc{suffix}").exists()
    headers = (folder / "include", *folder.glob("targets/*/include"))
    for header, what in (
        ("cuda_runtime.h", "the runtime's headers"),
        ("cublas_v2.h", "cuBLAS's headers"),
        ("crt/host_config.h", "the compiler's headers"),
    ):
        yield f"{what} (include/{header})", any((path / header).exists() for path in headers)
    cccl = [path / below for path in headers for below in ("cub", "cccl/cub")]
    yield "CCCL's headers (include/cub)", any(path.is_dir() for path in cccl)
    found = [*libraries, *folder.glob("targets/*/lib")]
    for name in ("cudart", "cublas"):
        file = library.format(name)
        yield f"{file} (lib64)", any((path / file).exists() for path in found)


def version_of(nvcc: Path, where: str) -> str:
    """Return what nvcc says of itself: ``12.4.131``.

    Raises:
        ToolMissingError: it does not run.
        UsageError: it says no version.
    """
    try:
        text = run([nvcc, "--version"], timeout=60)
    except (ProcessError, OSError) as error:
        raise ToolMissingError(
            f"{where}: {nvcc} does not run: {str(error).splitlines()[0]}",
            cure="give a toolkit for this machine's processor and system, or leave --toolkit away",
        ) from error
    match = re.search(r"\bV(\d+\.\d+\.\d+)", text)
    if match is None:
        raise UsageError(
            f"{where}: {nvcc} --version says no version: {text.strip()[:200]}",
            cure="give the folder of NVIDIA's CUDA toolkit",
        )
    return match[1]
