"""What llama.cpp says where memory ends."""

from __future__ import annotations

import pytest

from llama_cpp._library import Device
from llama_cpp._shortage import Shortage, shortage, shortage_text

GIB = 1 << 30


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (
            [
                (
                    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 13312.50 MiB on device 1: "
                    "cudaMalloc failed: out of memory"
                ),
                "alloc_tensor_range: failed to allocate CUDA1 buffer of size 13959168000",
                "llama_model_load: error loading model: unable to allocate CUDA1 buffer",
            ],
            Shortage("CUDA1", 13959168000),
        ),
        (
            [
                (
                    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1.00 MiB on device 0: "
                    "hipMalloc failed: out of memory"
                )
            ],
            Shortage("ROCm0", 1 << 20),
        ),
        (
            ["ggml_gallocr_reserve_n_impl: failed to allocate Vulkan0 buffer of size 4096"],
            Shortage("Vulkan0", 4096),
        ),
        (["llama_model_load: error loading model: unknown model architecture: 'x'"], None),
        ([], None),
    ],
    ids=["cuda", "rocm", "vulkan", "another-failure", "silence"],
)
def test_lines(lines: list[str], found: Shortage | None) -> None:
    assert shortage(lines) == found


DEVICES = (
    Device("CUDA0", "NVIDIA H100", "GPU", 2 * GIB, 80 * GIB),
    Device("CPU", "a CPU", "CPU", 8 * GIB, 16 * GIB),
)


@pytest.mark.parametrize(
    ("device", "wanted", "text"),
    [
        (
            "CUDA0",
            13 * GIB,
            (
                "CUDA0 did not give 13.0 GiB of memory in one piece (2.0 GiB of 80.0 GiB are free while "
                "nothing of this is loaded); lower it"
            ),
        ),
        (
            "CPU",
            64 * GIB,
            (
                "CPU did not give 64.0 GiB of memory in one piece (8.0 GiB of 16.0 GiB are free while "
                "nothing of this is loaded); close other programs, or take a smaller model or a stronger "
                "quantisation"
            ),
        ),
        (
            "CUDA_Host",
            300 << 20,
            (
                "CUDA_Host did not give 300.0 MiB of memory in one piece; close other programs, or take a "
                "smaller model or a stronger quantisation"
            ),
        ),
    ],
)
def test_text(device: str, wanted: int, text: str) -> None:
    assert shortage_text(Shortage(device, wanted), DEVICES, "lower it") == text
