"""A CUDA toolkit whose compiler is clang: put together, its two programs, looked over, its errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ci import architectures, clang_cuda, cuda
from ci.compiler import Compiler
from ci.errors import ToolMissingError, UsageError
from ci.process import run
from ci.table import load_table

CU128 = load_table().target("cu128", "manylinux_x86_64")
CU124 = load_table().target("cu124", "manylinux_x86_64")
# stands in for the loader of the unpacked system, which is what runs clang
LOADER = """#!/bin/sh
case $* in
*--version*) echo 'Debian clang version 22.1.8 (1~deb13u4)' ;;
*) printf '%s\\n' "$@" ;;
esac
"""


@pytest.fixture
def compiler(tmp_path: Path) -> Compiler:
    gcc = tmp_path / "old gcc"
    (gcc / "usr" / "lib" / "gcc" / "x86_64-linux-gnu" / "10").mkdir(parents=True)
    found = {name: shutil.which(name) for name in ("gcc", "g++")}
    assert all(found.values())
    (gcc / "bin").mkdir()
    for name, path in found.items():
        (gcc / "bin" / name).symlink_to(path or "")
    return Compiler(
        name="gcc 10.2.1, glibc 2.31",
        defines={
            "CMAKE_C_COMPILER": str(gcc / "bin" / "gcc"),
            "CMAKE_CXX_COMPILER": str(gcc / "bin" / "g++"),
        },
    )


@pytest.fixture
def toolkit(tmp_path: Path, compiler: Compiler) -> Path:
    """The arranged toolkit, of what the packages and wheels unpack to."""
    folder = tmp_path / "the toolkit"
    files = {
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": LOADER,
        "usr/lib/llvm-22/bin/clang": "",
        "usr/lib/llvm-22/lib/clang/22/include/cuda_wrappers/new": "",
        "nvidia/cu13/bin/fatbinary": "of 13",
        "nvidia/cu13/bin/ptxas": "of 13",
        "nvidia/cu13/include/cuda_runtime.h": "of 13",
        "nvidia/cuda_nvcc/bin/ptxas": "of 12.8",
        "nvidia/cuda_nvcc/include/crt/host_config.h": "",
        "nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc": "",
        "nvidia/cuda_runtime/include/cuda.h": "CUresult CUDAAPI cuInit(unsigned int Flags);\n",
        "nvidia/cuda_runtime/include/cuda_runtime.h": "of 12.8",
        "nvidia/cuda_runtime/lib/libcudart.so.12": "",
        "nvidia/cublas/lib/libcublas.so.12": "",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").chmod(0o755)
    clang_cuda.arrange(folder, compiler, "12.8.93")
    return folder / cuda.ROOT


def words(toolkit: Path, *given: str, host: str = "") -> list[str]:
    """What clang is given when CMake gives ``given``."""
    env = {"PATH": "/usr/bin:/bin", clang_cuda.HOST_VARIABLE: host}
    command = [str(toolkit / "bin" / "clang++"), *given]
    text = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    lines = text.splitlines()
    # the loader's own: where the libraries are, the name, the program
    assert lines[0] == "--library-path"
    assert lines[2:4] == ["--argv0", str(toolkit / "bin" / "clang++")]
    assert lines[4].endswith("/usr/lib/llvm-22/bin/clang")
    return lines[5:]


def test_everything_is_of_its_own_version_but_fatbinary(toolkit: Path) -> None:
    assert (toolkit / "bin" / "fatbinary").read_text() == "of 13"
    assert (toolkit / "bin" / "ptxas").read_text() == "of 12.8"
    assert (toolkit / "include" / "cuda_runtime.h").read_text() == "of 12.8"
    assert (toolkit / "include" / "curand_mtgp32_kernel.h").read_text() == ""
    assert (toolkit / "lib64" / "libcudart.so").resolve().name == "libcudart.so.12"
    assert (toolkit / "lib64" / "stubs" / "libcuda.so").is_file()


def test_what_is_for_clang_reaches_it(toolkit: Path) -> None:
    given = ["-O3", "-DX=a b", "--cuda-gpu-arch=sm_120a", "-c", "a b.cu", "-o", "a b.o"]
    assert words(toolkit, *given) == [
        "--driver-mode=g++",
        "-no-canonical-prefixes",
        "--no-offload-new-driver",
        *given,
        "-resource-dir",
        str(toolkit / "bin" / ".." / ".." / "usr" / "lib" / "llvm-22" / "lib" / "clang" / "22"),
        "-Wno-unused-command-line-argument",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["-extended-lambda"], [], id="lambda"),
        pytest.param(
            ["-compress-mode=size"], ["-Xcuda-fatbinary", "--compress-mode=size"], id="compression"
        ),
        pytest.param(["-Xcompiler", "-Wall -Wextra", "-c"], ["-c"], id="warnings"),
        pytest.param([".c", "-Xcompiler", "--help"], [".c", "--help"], id="host compiler"),
        pytest.param(
            ["-use_fast_math"],
            [
                "-fgpu-flush-denormals-to-zero",
                "-fgpu-approx-transcendentals",
                "-ffp-contract=fast",
                *("-mllvm", "-nvptx-prec-divf32=0", "-mllvm", "-nvptx-prec-sqrtf32=0"),
                "-D__nv_expf=__nv_fast_expf",
                "-D__nv_exp10f=__nv_fast_exp10f",
                "-D__nv_log10f=__nv_fast_log10f",
                "-D__nv_powf=__nv_fast_powf",
                "-D__nv_tanf=__nv_fast_tanf",
            ],
            id="fast math",
        ),
    ],
)
def test_words_of_nvcc_become_clangs(toolkit: Path, given: list[str], expected: list[str]) -> None:
    assert words(toolkit, *given)[3:-3] == expected


def test_clang_starts_itself_again_as_it_is(toolkit: Path) -> None:
    assert words(toolkit, "-cc1", "-extended-lambda") == ["-cc1", "-extended-lambda"]


def test_host_code_is_for_the_old_gcc(toolkit: Path) -> None:
    host = str(toolkit.parent.parent / "old gcc")
    assert words(toolkit, "-c", host=host)[3:7] == [
        f"--ld-path={host}/bin/ld",
        f"--sysroot={host}",
        f"--gcc-install-dir={host}/usr/lib/gcc/x86_64-linux-gnu/10",
        "-c",
    ]


def test_looked_over(toolkit: Path, compiler: Compiler) -> None:
    assert clang_cuda.is_in(toolkit)
    found = clang_cuda.look_over(toolkit, CU128, "--toolkit", compiler=compiler, compatible=False)
    assert found.title == "CUDA 12.8.93 with clang 22.1.8"
    assert found.label(CU128) == "CUDA 12.8.93 with clang 22.1.8"
    assert found.defines == {
        "CMAKE_CUDA_COMPILER": str(toolkit / "bin" / "clang++"),
        "CUDAToolkit_ROOT": str(toolkit),
        "CMAKE_CUDA_RUNTIME_LIBRARY": "None",
    }
    assert found.env == {clang_cuda.HOST_VARIABLE: str(toolkit.parent.parent / "old gcc")}
    alone = clang_cuda.look_over(toolkit, CU128, "--toolkit", compiler=None, compatible=False)
    assert alone.env == {}


@pytest.mark.parametrize(
    ("names", "given"),
    [
        pytest.param(["86", "120a"], "86-real;120a-real", id="machine code"),
        pytest.param(["90", "90-virtual", "120a"], "90;120a-real", id="PTX beside machine code"),
        pytest.param(["89", "90-virtual"], "89-real;90-virtual", id="PTX of another"),
    ],
)
def test_architectures(toolkit: Path, names: list[str], given: str) -> None:
    found = clang_cuda.look_over(toolkit, CU128, "--toolkit", compiler=None, compatible=False)
    assert architectures.choose_architectures(CU128, found, names) == tuple(names)
    assert architectures.cmake_architectures(names, found) == {"CMAKE_CUDA_ARCHITECTURES": given}


def test_nvcc_says_its_version_and_compiles_nothing(toolkit: Path) -> None:
    nvcc = toolkit / "bin" / "nvcc"
    assert run([nvcc, "--version"]) == "Cuda compilation tools, release 12.8, V12.8.93"
    result = subprocess.run([nvcc, "-c", "a.cu"], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "nvcc: this toolkit's compiler is clang++\n")


def test_another_version(toolkit: Path) -> None:
    with pytest.raises(UsageError) as error:
        clang_cuda.look_over(toolkit, CU124, "--toolkit", compiler=None, compatible=False)
    assert error.value.what == (
        f"--toolkit: {toolkit} is CUDA 12.8.93; cu124 is built with CUDA 12.4"
    )


def test_clang_does_not_run(toolkit: Path) -> None:
    (toolkit.parent / "usr" / "lib" / "x86_64-linux-gnu" / "ld-linux-x86-64.so.2").unlink()
    with pytest.raises(ToolMissingError) as error:
        clang_cuda.look_over(toolkit, CU128, "the pinned toolkit", compiler=None, compatible=False)
    assert error.value.what.startswith(f"the pinned toolkit: {toolkit}/bin/clang++ does not run: ")
    assert error.value.cure == "delete toolkits/ in the cache folder and run the command again"
