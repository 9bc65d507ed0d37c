"""NVIDIA's toolkit: put together from wheels or from Debian's package, looked over, its errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ci import cuda, paths
from ci.compiler import Compiler
from ci.errors import ToolMissingError, UsageError
from ci.process import run
from ci.table import load_table
from ci.toolkit import Toolkit

CU130 = load_table().target("cu130", "manylinux_x86_64")
CU124 = load_table().target("cu124", "manylinux_x86_64")
CU121 = load_table().target("cu121", "manylinux_x86_64")
NVCC = "#!/bin/sh\necho 'Cuda compilation tools, release {0}, V{0}.{1}'\n"
CUDA_H = """
#define cuMemAlloc cuMemAlloc_v2
CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
CUresult CUDAAPI cuInit(unsigned int Flags);
typedef CUresult (CUDAAPI *PFN_cuSomething)(int);
"""
HEADERS = {
    "cuda.h": CUDA_H,
    "cuda_runtime.h": "",
    "cublas_v2.h": "",
    "crt/host_config.h": "",
    "cub/cub.cuh": "",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def wheels_of_13(folder: Path) -> Path:
    """What the wheels of CUDA 13 unpack to: one root, no links, programs without the right to run."""
    programs = ("cudafe++", "fatbinary", "ptxas", "nvlink")
    return write(
        folder,
        {
            "nvidia/cu13/bin/nvcc": NVCC.format("13.0", "88"),
            "nvidia/cu13/bin/nvcc.profile": "TOP = $(_HERE_)/..\n",
            **{f"nvidia/cu13/bin/{name}": "#!/bin/sh\n" for name in programs},
            "nvidia/cu13/nvvm/bin/cicc": "#!/bin/sh\n",
            **{f"nvidia/cu13/include/{name}": text for name, text in HEADERS.items()},
            "nvidia/cu13/lib/libcudart.so.13": "",
            "nvidia/cu13/lib/libcudart_static.a": "archive",
            "nvidia/cu13/lib/libcublas.so.13": "",
            "nvidia_cuda_nvcc-13.0.88.dist-info/METADATA": "",
        },
    )


def pieces_of_12(folder: Path) -> Path:
    """What Debian's package and the wheels of CUDA 12.4 unpack to: the system's paths, many roots."""
    own = "usr/lib/nvidia-cuda-toolkit/bin"
    return write(
        folder,
        {
            "usr/bin/nvcc": "#!/bin/sh\nexec /usr/lib/nvidia-cuda-toolkit/bin/nvcc\n",
            **{
                f"usr/bin/{name}": "#!/bin/sh\n"
                for name in ("cudafe++", "fatbinary", "ptxas", "nvlink", "bin2c")
            },
            "usr/bin/__nvcc_device_query": "#!/bin/sh\n",
            f"{own}/nvcc": NVCC.format("12.4", "131"),
            f"{own}/cicc": "#!/bin/sh\n",
            f"{own}/crt/link.stub": "",
            "nvidia/__init__.py": "",
            "nvidia/cuda_nvcc/bin/ptxas": "#!/bin/sh\necho of the wheel\n",
            "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc": "",
            "nvidia/cuda_nvcc/include/crt/host_config.h": "",
            "nvidia/cuda_cccl/include/cub/cub.cuh": "",
            "nvidia/cuda_runtime/include/cuda.h": CUDA_H,
            "nvidia/cuda_runtime/include/cuda_runtime.h": "",
            "nvidia/cuda_runtime/include/__init__.py": "",
            "nvidia/cuda_runtime/lib/libcudart.so.12": "",
            "nvidia/cublas/include/cublas_v2.h": "",
            "nvidia/cublas/lib/libcublas.so.12": "",
        },
    )


def host_compiler() -> Compiler:
    return Compiler(
        name="gcc", defines={"CMAKE_C_COMPILER": "gcc", "CMAKE_CXX_COMPILER": "/pinned/bin/g++"}
    )


def looked_over(folder: Path, *, compatible: bool = False) -> Toolkit:
    return cuda.look_over(folder, CU124, "--toolkit", compiler=None, compatible=compatible)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_one_toolkit_of_the_wheels_of_13(tmp_path: Path) -> None:
    cuda.arrange(wheels_of_13(tmp_path), host_compiler())
    root = tmp_path / "cuda"
    assert (root / "lib64").resolve() == root / "lib"
    assert (root / "lib64/libcublas.so").resolve() == root / "lib/libcublas.so.13"
    assert (root / "lib64/libcudart_static.a").read_text() == "archive"
    toolkit = cuda.look_over(
        root, CU130, "the pinned toolkit", compiler=host_compiler(), compatible=False
    )
    assert toolkit.label(CU130) == "CUDA 13.0.88"
    assert toolkit.defines == {
        "CMAKE_CUDA_COMPILER": f"{root}/bin/nvcc",
        "CUDAToolkit_ROOT": str(root),
        "CMAKE_CUDA_HOST_COMPILER": "/pinned/bin/g++",
    }


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_one_toolkit_of_a_package_and_wheels_of_12(tmp_path: Path) -> None:
    cuda.arrange(pieces_of_12(tmp_path / "with spaces"), host_compiler())
    root = tmp_path / "with spaces" / "cuda"
    toolkit = looked_over(root)
    assert toolkit.label(CU124) == "CUDA 12.4.131"
    # older ones do not compress by themselves
    assert toolkit.defines["CMAKE_CUDA_FLAGS"] == "-Xfatbin=-compress-all"
    # what every link asks for, and the wheels lack
    assert (root / "lib64/libcudart_static.a").read_text() == "INPUT(-lcudart)\n"
    assert (root / "lib64/libcudadevrt.a").read_bytes() == b"!<arch>\n"
    assert "NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice" in (root / "bin/nvcc.profile").read_text()
    # the one that belongs to libdevice and the headers, not Debian's
    assert subprocess.check_output([root / "bin/ptxas"], text=True) == "of the wheel\n"
    assert not list(root.rglob("__init__.py"))


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs binutils")
def test_the_stub_of_the_driver_has_every_function_of_its_header(tmp_path: Path) -> None:
    cuda.arrange(wheels_of_13(tmp_path), host_compiler())
    stub = tmp_path / "cuda/lib64/stubs/libcuda.so"
    symbols = subprocess.check_output(["nm", "-D", "--defined-only", stub], text=True)
    assert {line.split()[-1] for line in symbols.splitlines()} == {
        "cuMemAlloc",
        "cuMemAlloc_v2",
        "cuInit",
    }
    dynamic = subprocess.check_output(["readelf", "-d", stub], text=True)
    assert "[libcuda.so.1]" in dynamic


@pytest.fixture
def toolkit(tmp_path: Path) -> Path:
    cuda.arrange(pieces_of_12(tmp_path), None)
    return tmp_path / "cuda"


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("bin/nvcc", "bin/nvcc"),
        ("bin/cudafe++", "bin/cudafe++"),
        ("nvvm/bin/cicc", "nvvm/bin/cicc"),
        ("include/cublas_v2.h", "cuBLAS's headers (include/cublas_v2.h)"),
        ("include/cub", "CCCL's headers (include/cub)"),
        ("lib/libcublas.so", "libcublas.so (lib64)"),
    ],
)
def test_an_incomplete_toolkit_is_named(toolkit: Path, missing: str, part: str) -> None:
    path = toolkit / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UsageError) as caught:
        looked_over(toolkit)
    assert str(caught.value) == (
        f"--toolkit: {toolkit} is not a whole CUDA toolkit, it lacks {part}\n"
        "  -> give the folder of a complete toolkit (that with bin/, include/ and lib64/), or leave"
        " --toolkit, CUDA_HOME and CUDA_PATH away: the pinned one is brought"
    )


def test_a_toolkit_of_another_version(toolkit: Path) -> None:
    with pytest.raises(UsageError) as caught:
        cuda.look_over(toolkit, CU121, "CUDA_HOME", compiler=None, compatible=False)
    assert str(caught.value) == (
        f"CUDA_HOME: {toolkit} is CUDA 12.4.131; cu121 is built with CUDA 12.1\n"
        "  -> name a toolkit of CUDA 12.1, or leave --toolkit, CUDA_HOME and CUDA_PATH away: the"
        " pinned one is brought; --compatible-toolkit takes this one (same major version, machine"
        " code alone)"
    )
    found = cuda.look_over(toolkit, CU121, "CUDA_HOME", compiler=None, compatible=True)
    assert found.label(CU121) == "CUDA 12.4.131, compatible with 12.1"


def test_a_toolkit_of_another_major_version_is_never_compatible(toolkit: Path) -> None:
    with pytest.raises(UsageError) as caught:
        cuda.look_over(toolkit, CU130, "--toolkit", compiler=None, compatible=True)
    assert (
        caught.value.what == f"--toolkit: {toolkit} is CUDA 12.4.131; cu130 is built with CUDA 13.0"
    )
    assert "--compatible-toolkit" not in caught.value.cure


def test_a_compiler_that_does_not_run(toolkit: Path) -> None:
    (toolkit / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    with pytest.raises(
        ToolMissingError, match=r"bin/nvcc does not run: .*\n  -> give a toolkit for"
    ):
        looked_over(toolkit)


def test_a_compiler_that_is_not_nvidias(toolkit: Path) -> None:
    (toolkit / "bin/nvcc").write_text("#!/bin/sh\necho something else\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"nvcc --version says no version: something else\n"):
        looked_over(toolkit)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        looked_over(tmp_path / "no")
    assert str(caught.value) == (
        f"--toolkit: there is no folder {tmp_path / 'no'}\n  -> check the path"
    )


REAL = paths.cache_folder() / "toolkits"


@pytest.mark.build
@pytest.mark.parametrize("version", ["13.0.88", "12.4.131"])
def test_the_real_one_in_a_folder_with_spaces(tmp_path: Path, version: str) -> None:
    """Compile with the brought toolkit and host compiler, all of it under a path with spaces."""
    found = next(iter(REAL.glob(f"cuda-{version}-*/cuda")), None)
    gcc = next(iter(REAL.glob("gcc-*/bin/g++")), None)
    if found is None or gcc is None:
        pytest.skip(f"CUDA {version} was not brought to this machine: nox -s build brings it")
    spaces = tmp_path / "with spaces"
    spaces.mkdir()
    (spaces / "cuda").symlink_to(found)
    (spaces / "gcc").symlink_to(gcc.parent.parent)
    source = spaces / "a kernel.cu"
    source.write_text(
        "#include <cuda_fp16.h>\n"
        "__global__ void k(__half * a) { a[threadIdx.x] += __float2half(1); }\n"
        "void run(__half * a) { k<<<1, 32>>>(a); }\n",
        encoding="utf-8",
    )
    run(
        [
            *(spaces / "cuda/bin/nvcc", "-ccbin", spaces / "gcc/bin/g++"),
            *("-gencode", "arch=compute_86,code=sm_86", "-Xcompiler=-fPIC", "-c", source),
            *("-o", spaces / "a kernel.o"),
        ]
    )
    assert b"_Z1kP6__half" in (spaces / "a kernel.o").read_bytes()
