"""The words about GPUs that the warning and the doctor share."""

from __future__ import annotations

import pytest

from llama_cpp import _obstacles
from llama_cpp._doctor.findings import FINDINGS
from llama_cpp._obstacles import RuntimePackage

ALL = [
    _obstacles.driver_missing("cu130", 13, windows=False),
    _obstacles.driver_without_cuda("libcuda.so.1: no", 13, windows=False),
    _obstacles.driver_too_old("cu130", (13, 0), (12, 8), windows=True),
    _obstacles.driver_broken("unknown error"),
    _obstacles.gpus_hidden("CUDA_VISIBLE_DEVICES="),
    _obstacles.gpu_missing("cu130", "NVIDIA"),
    _obstacles.gpu_missing("rocm7x", "AMD"),
    _obstacles.gpu_without_code("cu130", "GTX 1080", (6, 1), ("75", "80")),
    _obstacles.amd_gpu_without_code("rocm7x", "RX 580", "gfx803", ("gfx1100",)),
    _obstacles.gpu_needs_newer_driver("GB10", (12, 1), (13, 2), (13, 0)),
    _obstacles.rocm_missing("rocm7x"),
    _obstacles.vulkan_missing("vulkan", "libvulkan.so.1: no", windows=False),
    _obstacles.vulkan_without_gpu(windows=True),
    _obstacles.metal_without_gpu(),
    _obstacles.gpu_not_listed(),
    _obstacles.rpc_not_loaded("libggml-rpc.so", "file too short"),
    _obstacles.module_not_loaded("libggml-cuda.so", "why", "cu130", (), windows=False),
]


@pytest.mark.parametrize("obstacle", ALL, ids=lambda each: each.id)
def test_each_is_a_finding_of_the_doctors_with_a_next_step(obstacle: _obstacles.Obstacle) -> None:
    assert obstacle.id in FINDINGS
    assert obstacle.message
    assert obstacle.cure


def test_drivers_by_system() -> None:
    assert _obstacles.driver_cure(12, windows=True) == (
        "install NVIDIA's driver 528 or newer (nvidia.com/drivers), then restart"
    )
    assert _obstacles.driver_cure(12, windows=False).startswith(
        "install NVIDIA's driver 525 or newer on the host (Debian: `sudo apt install nvidia-driver`;"
    )
    assert _obstacles.driver_cure(None, windows=True) == (
        "install NVIDIA's driver (nvidia.com/drivers), then restart"
    )
    assert _obstacles.vulkan_cure(windows=True) == (
        "install the GPU vendor's driver: it brings Vulkan"
    )


@pytest.mark.parametrize(
    ("compute", "identifier"), [((6, 1), "gpu-too-old"), ((10, 0), "gpu-too-new")]
)
def test_older_and_newer_than_the_code(compute: tuple[int, int], identifier: str) -> None:
    found = _obstacles.gpu_without_code("cu130", "a GPU", compute, ("75", "90"))
    assert (found.id, found.message) == (
        identifier,
        f"no kernel runs on a GPU (compute {compute[0]}.{compute[1]}): the cu130 wheel has 75, 90",
    )


@pytest.mark.parametrize(
    ("words", "there", "cure", "packages"),
    [
        (
            "libcudart.so.12: cannot open",
            [],
            "install CUDA 12's runtime and cuBLAS",
            ("nvidia-cuda-runtime-cu12", "nvidia-cublas-cu12"),
        ),
        (
            "cublasLt64_13.dll: not found",
            [("nvidia-cuda-runtime", "13.0.96")],
            "install CUDA 13's cublasLt",
            ("nvidia-cublas>=13,<14",),
        ),
        (
            "libcudart.so.13: cannot open",
            [("nvidia-cuda-runtime", "13.0.96"), ("nvidia-cublas", "13.1.0")],
            "install CUDA 13's cudart",
            ("nvidia-cuda-runtime>=13,<14",),
        ),
        (
            "version `GLIBC_2.34' not found",
            [],
            "this system's GLIBC is older than 2.34: take a newer system",
            (),
        ),
        ("invalid ELF header", [], "install the package again", ()),
        ("libfoo.so.1: cannot open", [], "install the library that it names", ()),
    ],
    ids=["both", "one", "damaged", "libc", "no-library", "unknown"],
)
def test_what_a_module_misses(
    words: str, there: list[tuple[str, str]], cure: str, packages: tuple[str, ...]
) -> None:
    here = [RuntimePackage(*each) for each in there]
    found = _obstacles.module_not_loaded("libggml-cuda.so", words, "cu130", here, windows=False)
    assert (found.cure, found.packages) == (cure, packages)
    assert found.message == (
        f"libggml-cuda.so does not load, so the cu130 wheel computes on the CPU: {words}"
    )
