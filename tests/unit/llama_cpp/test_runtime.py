"""Where a runtime's libraries are looked for."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _runtime
from tests.gpu_machine import compile_library

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

linux = pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are Linux's")


@pytest.mark.parametrize(
    ("major", "windows", "libraries"),
    [
        (
            13,
            False,
            [
                ("libcudart.so.13", ("nvidia/cu13/lib",)),
                ("libcublasLt.so.13", ("nvidia/cu13/lib",)),
                ("libcublas.so.13", ("nvidia/cu13/lib",)),
            ],
        ),
        (
            12,
            False,
            [
                ("libcudart.so.12", ("nvidia/cuda_runtime/lib",)),
                ("libcublasLt.so.12", ("nvidia/cublas/lib",)),
                ("libcublas.so.12", ("nvidia/cublas/lib",)),
            ],
        ),
        (
            13,
            True,
            [
                (
                    "cudart64_13.dll",
                    ("nvidia/cu13/bin/x86_64", "nvidia/cu13/bin", "nvidia/cuda_runtime/bin"),
                ),
                (
                    "cublasLt64_13.dll",
                    ("nvidia/cu13/bin/x86_64", "nvidia/cu13/bin", "nvidia/cublas/bin"),
                ),
                (
                    "cublas64_13.dll",
                    ("nvidia/cu13/bin/x86_64", "nvidia/cu13/bin", "nvidia/cublas/bin"),
                ),
            ],
        ),
        (
            12,
            True,
            [
                ("cudart64_12.dll", ("nvidia/cuda_runtime/bin",)),
                ("cublasLt64_12.dll", ("nvidia/cublas/bin",)),
                ("cublas64_12.dll", ("nvidia/cublas/bin",)),
            ],
        ),
    ],
    ids=["linux-13", "linux-12", "windows-13", "windows-12"],
)
def test_cuda_in_the_order_of_need(
    major: int, windows: bool, libraries: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert list(_runtime.cuda_libraries(major, windows=windows)) == libraries


def test_folders_of_a_toolkit(tmp_path: Path) -> None:
    arm = tmp_path / "targets/sbsa-linux/lib"
    arm.mkdir(parents=True)
    environment = {"CUDA_HOME": str(tmp_path), "CUDA_PATH": "/opt/cuda", "PATH": "/bin"}
    assert _runtime.cuda_folders(environment, windows=False) == (
        Path("/opt/cuda/lib64"),
        Path("/opt/cuda/lib"),
        tmp_path / "lib64",
        arm,
        tmp_path / "lib",
    )
    assert _runtime.cuda_folders({"CUDA_PATH": "/cuda"}, windows=True) == (
        Path("/cuda/bin/x64"),
        Path("/cuda/bin"),
    )
    assert _runtime.cuda_folders({"CUDA_PATH": ""}, windows=False) == ()


def test_windows_names_every_version_of_the_toolkit() -> None:
    # the installer of 13.0 has made CUDA_PATH its own: a wheel of CUDA 12 finds 12.8 all the same
    environment = {
        "CUDA_PATH_V9_2": "/cuda/9.2",
        "CUDA_PATH_V12_8": "/cuda/12.8",
        "CUDA_PATH_V13_0": "/cuda/13.0",
        "CUDA_PATH_V12_10": "",
        "CUDA_PATH_NOTE": "/cuda/none",
        "CUDA_PATH": "/cuda/13.0",
    }
    assert _runtime.cuda_folders(environment, windows=True) == tuple(
        Path(f"/cuda/{version}/{name}")
        for version in ("13.0", "12.8", "9.2")
        for name in ("bin/x64", "bin")
    )
    assert Path("/cuda/12.8/lib64") not in _runtime.cuda_folders(environment, windows=False)


def test_a_wheel_of_cuda_12_finds_its_runtime_beside_cuda_13(tmp_path: Path) -> None:
    for name in ("v13.0/bin/x64/cudart64_13.dll", "v12.8/bin/cudart64_12.dll"):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.touch()
    environment = {
        "CUDA_PATH": str(tmp_path / "v13.0"),
        "CUDA_PATH_V12_8": str(tmp_path / "v12.8"),
        "CUDA_PATH_V13_0": str(tmp_path / "v13.0"),
    }
    folders = _runtime.cuda_folders(environment, windows=True)
    found = {
        major: list(_runtime.places(_runtime.cuda_libraries(major, windows=True)[0], (), folders))
        for major in (12, 13)
    }
    assert found == {
        12: [tmp_path / "v12.8/bin/cudart64_12.dll"],
        13: [tmp_path / "v13.0/bin/x64/cudart64_13.dll"],
    }


def test_folders_of_rocm(tmp_path: Path) -> None:
    for name in ("rocm-6.4.3", "rocm-7.0.2"):
        (tmp_path / name).mkdir()
    environment = {"HIP_PATH": "/hip", "ROCM_PATH": "/rocm"}
    assert _runtime.rocm_folders(environment, tmp_path, windows=False) == (
        Path("/rocm/lib"),
        Path("/hip/lib"),
        tmp_path / "rocm/lib",
        tmp_path / "rocm-7.0.2/lib",
        tmp_path / "rocm-6.4.3/lib",
    )
    assert _runtime.rocm_folders(environment, tmp_path, windows=True) == (
        Path("/rocm/bin"),
        Path("/hip/bin"),
    )


def test_wheels_come_before_toolkits(tmp_path: Path) -> None:
    (library, *_) = _runtime.cuda_libraries(13, windows=False)
    files = [
        tmp_path / "second/nvidia/cu13/lib" / library.name,
        tmp_path / "toolkit/lib64" / library.name,
    ]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    path = [str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "none.zip")]
    found = _runtime.places(library, path, [tmp_path / "none", tmp_path / "toolkit/lib64"])
    assert list(found) == files


def test_the_current_folder_is_on_the_path_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library, *_) = _runtime.cuda_libraries(13, windows=False)
    place = tmp_path / "nvidia/cu13/lib"
    place.mkdir(parents=True)
    (place / library.name).touch()
    monkeypatch.chdir(tmp_path)
    assert list(_runtime.places(library, [""], [])) == [Path("nvidia/cu13/lib") / library.name]


@linux
def test_rocm_is_supplied_by_the_name_that_the_loader_misses(
    tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    compile_library(tmp_path / "rocm/lib/librocblas.so.4", "int f(void) { return 0; }")
    code = (
        "from llama_cpp import _runtime\n"
        "words = ': cannot open shared object file: No such file or directory'\n"
        "for name in ('librocblas.so.4', 'librocblas.so.5', 'libcudart.so.13'):\n"
        "    print(_runtime.supply(name + words))\n"
        "print(*_runtime.mapped())\n"
    )
    outcome = run_python(code, ROCM_PATH=str(tmp_path / "rocm"))
    assert (outcome.code, outcome.error) == (0, "")
    assert outcome.output.split() == [
        *("True", "False", "False"),
        str(tmp_path / "rocm/lib/librocblas.so.4"),
    ]


def test_nothing_is_mapped_without_a_record_of_the_build(tmp_path: Path) -> None:
    lib = tmp_path / "llama_cpp/lib"
    lib.mkdir(parents=True)
    assert _runtime.prepare(lib, "ggml-cuda") == []
    (tmp_path / "llama_cpp/_build_info.json").write_text("{}")
    assert _runtime.prepare(lib, "ggml-cuda") == []


def test_packages_of_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in (
        ("nvidia_cublas_cu12", "12.8.3.14"),
        ("nvidia-cuda-runtime", "13.0.96"),
        ("nvidia-cudnn-cu12", "9.1.0"),
    ):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert _runtime.packages() == (
        ("nvidia-cublas-cu12", "12.8.3.14"),
        ("nvidia-cuda-runtime", "13.0.96"),
    )


def test_what_windows_does_not_say(tmp_path: Path) -> None:
    # its libraries are on no other system
    assert _runtime.missing(tmp_path, "ggml-vulkan") == "vulkan-1.dll: not found"
    assert _runtime.missing(tmp_path, "ggml-rpc") is None


@linux
def test_a_loaded_library_is_not_loaded_again(
    tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    first = compile_library(tmp_path / "a/libcudart.so.99", "int f(void) { return 0; }")
    (tmp_path / "b/nvidia/cu99/lib").mkdir(parents=True)
    shutil.copy(first, tmp_path / "b/nvidia/cu99/lib")
    driver = compile_library(tmp_path / "driver/libcuda.so.1", "int cuInit(void) { return 0; }")
    lib = tmp_path / "llama_cpp/lib"
    lib.mkdir(parents=True)
    info = (
        '{"backend": "cu990", "version": "1", "llama_cpp_commit": null, "llama_cpp_version": null, '
    )
    info += '"compiler": "", "defines": {}, "toolkit": "CUDA 99.0", "gpu_architectures": [], "prebuilt": false}'
    (lib.parent / "_build_info.json").write_text(info)
    code = (
        "import ctypes, sys\nfrom pathlib import Path\nfrom llama_cpp import _runtime\n"
        "if len(sys.argv) > 2:\n    ctypes.CDLL(sys.argv[2])\n"
        "_runtime.prepare(Path(sys.argv[1]), 'ggml-cuda')\nprint(*_runtime.mapped())\n"
    )
    environment = {
        "LD_LIBRARY_PATH": str(driver.parent),
        "PYTHONPATH": str(tmp_path / "b"),
    }
    alone = run_python(code, str(lib), **environment)
    assert alone.output.split() == [str(tmp_path / "b/nvidia/cu99/lib/libcudart.so.99")]
    after = run_python(code, str(lib), str(first), **environment)
    assert after.output.split() == [str(first)]
