"""A CUDA toolkit whose compiler is clang, for a version of which no registry has nvcc's front end.

The package index has all of CUDA 12.8 but nvcc, cudafe++, cicc and fatbinary: headers, runtime,
cuBLAS, libdevice and ptxas. clang is a front end of its own and calls that very ptxas; fatbinary, which
only packs what ptxas wrote, is that of CUDA 13.

Source: LLVM, "Compiling CUDA with clang"; NVIDIA, "NVIDIA CUDA Compiler Driver NVCC".
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ci import cuda
from ci.compiler import Compiler
from ci.errors import ToolMissingError
from ci.pins import write_script
from ci.process import ProcessError, run
from ci.table import Target
from ci.toolkit import Toolkit

HOST_VARIABLE = "LLAMA_CPP_PYTHON_CUDA_HOST"
"""Environment of clang: folder of the gcc whose headers and libraries the host code is for."""

# nvcc: "-use_fast_math implies --ftz=true --prec-div=false --prec-sqrt=false --fmad=true" and takes the
# quick function for each of these names. clang's own switch does so for the logarithms, sine and cosine;
# its headers call the others in libdevice under the names that are given another meaning here.
_QUICK_FUNCTIONS = ("expf", "exp10f", "log10f", "powf", "tanf")
_FAST_MATH = " ".join(
    (
        "-fgpu-flush-denormals-to-zero -fgpu-approx-transcendentals -ffp-contract=fast",
        "-mllvm -nvptx-prec-divf32=0 -mllvm -nvptx-prec-sqrtf32=0",
        *(f"-D__nv_{name}=__nv_fast_{name}" for name in _QUICK_FUNCTIONS),
    )
)

# clang starts itself again as `-cc1 …` under the name it was started with. Its loader, C library and
# LLVM are the unpacked ones, so that it runs on older systems than the one it is made for.
_CLANG = """\
bin=$(dirname "$(readlink -f "$0")")
lib=$bin/../../usr/lib
llvm=$(echo "$lib"/llvm-*)
system=$(echo "$lib"/*-linux-gnu)
start() {{
    set -- --library-path "$system:$llvm/lib" --argv0 "$bin/clang++" "$llvm/bin/clang" "$@"
    exec "$system"/ld-linux-*.so.* "$@"
}}
case $1 in
-cc1) start "$@" ;;
--list-gpu-arch) for name in {architectures}; do echo "compute_$name"; done; exit ;;
esac
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case $word in
    -use_fast_math) set -- "$@" {fast_math} ;;
    -extended-lambda) ;; # clang takes them anyway
    -compress-mode=*) set -- "$@" -Xcuda-fatbinary "-$word" ;;
    -Xcompiler)
        word=$1
        shift
        left=$((left - 1))
        case $word in
        -W*) ;; # gcc's names of warnings
        *) set -- "$@" "$word" ;;
        esac
        ;;
    *) set -- "$@" "$word" ;;
    esac
done
host=${host_variable}
if [ -n "$host" ]; then
    set -- --sysroot="$host" --gcc-install-dir="$(echo "$host"/usr/lib/gcc/*/*)" "$@"
    set -- --ld-path="$host/bin/ld" "$@"
fi
# the newer way of offloading wants LLVM's own linker wrapper, for nothing that is needed here
set -- --driver-mode=g++ -no-canonical-prefixes --no-offload-new-driver "$@"
start "$@" -resource-dir "$(echo "$llvm"/lib/clang/*)" -Wno-unused-command-line-argument
"""

# CMake asks an nvcc for the version where clang compiles
_NVCC = """\
case " $* " in
*" --version "*) echo 'Cuda compilation tools, release {release}, V{version}' ;;
*) echo "nvcc: this toolkit's compiler is clang++" >&2; exit 1 ;;
esac"""

# what both clang 22 and the ptxas of CUDA 12.8 know
_ARCHITECTURES = (
    "50",
    "52",
    "53",
    "60",
    "61",
    "62",
    "70",
    "72",
    "75",
    "80",
    "86",
    "87",
    "89",
    "90",
)
_NEWER_ARCHITECTURES = ("100", "101", "120")


def is_in(folder: Path) -> bool:
    """Say whether the toolkit in a folder is one whose compiler is clang."""
    return (folder / "bin" / "clang++").is_file()


def arrange(folder: Path, compiler: Compiler | None, version: str) -> None:
    """Make one toolkit, ``cuda/``, of what the pieces unpacked.

    Args:
        folder: where the pieces lie: clang's packages, the wheels of CUDA, and that of CUDA 13's nvcc.
        compiler: makes the driver's stub.
        version: of the toolkit, ``12.8.93``.
    """
    newer = folder / "nvidia" / "cu13"
    own = folder / "nvidia" / "cuda_nvcc"
    (own / "nvvm" / "bin").mkdir(parents=True, exist_ok=True)
    (newer / "bin" / "fatbinary").rename(own / "bin" / "fatbinary")
    shutil.rmtree(newer)
    # clang's wrapper of the runtime's headers includes it for two declarations that it then undoes;
    # the one of cuRAND is in a wheel of 64 MB, of which ggml uses nothing
    (own / "include" / "curand_mtgp32_kernel.h").write_text("", encoding="utf-8")
    cuda.arrange(folder, compiler)
    programs = folder / cuda.ROOT / "bin"
    architectures = " ".join(_ARCHITECTURES + _NEWER_ARCHITECTURES)
    write_script(
        programs / "clang++",
        _CLANG.format(
            architectures=architectures, fast_math=_FAST_MATH, host_variable=HOST_VARIABLE
        ),
    )
    release = ".".join(version.split(".")[:2])
    write_script(programs / "nvcc", _NVCC.format(release=release, version=version))


def look_over(
    folder: Path, target: Target, where: str, *, compiler: Compiler | None, compatible: bool
) -> Toolkit:
    """Look a toolkit over that ``arrange`` made, and return it.

    Args:
        folder: its root, with ``bin/clang++``.
        target: what is to be compiled.
        where: what named the folder, for the messages.
        compiler: the pinned host compiler; None takes the system's.
        compatible: take another version of the same major one as well.

    Raises:
        ToolMissingError: its clang does not run.
        UsageError: it is of another version than the target's.
    """
    clang = folder / "bin" / "clang++"
    version = cuda.version_of(folder / "bin" / "nvcc", where)
    cuda.check_version(folder, target, where, version, compatible=compatible)
    try:
        text = run([clang, "--version"], timeout=60)
    except (ProcessError, OSError) as error:
        raise ToolMissingError(
            f"{where}: {clang} does not run: {str(error).splitlines()[0]}",
            cure="delete toolkits/ in the cache folder and run the command again",
        ) from error
    match = re.search(r"clang version (\d+\.\d+\.\d+)", text)
    env = {}
    if compiler is not None:
        env[HOST_VARIABLE] = str(Path(compiler.defines["CMAKE_CXX_COMPILER"]).parent.parent)
    return Toolkit(
        name="CUDA",
        version=version,
        folder=folder,
        source=where,
        defines={
            "CMAKE_CUDA_COMPILER": str(clang),
            "CUDAToolkit_ROOT": str(folder),
            # ggml links the runtime itself
            "CMAKE_CUDA_RUNTIME_LIBRARY": "None",
        },
        env=env,
        compiler=compiler,
        front_end=f"clang {match[1]}" if match else "clang",
    )
