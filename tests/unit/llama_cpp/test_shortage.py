"""What llama.cpp says where memory ends."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from llama_cpp._library import Device
from llama_cpp._shortage import Shortage, shortage, shortage_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

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
                "CUDA0 did not give 13.0 GiB of memory in one piece (2.0 GiB of 80.0 GiB are free "
                "without it); lower it"
            ),
        ),
        (
            "CPU",
            64 * GIB,
            (
                "CPU did not give 64.0 GiB of memory in one piece (8.0 GiB of 16.0 GiB are free "
                "without it); close others"
            ),
        ),
        (
            "CUDA_Host",
            300 << 20,
            "CUDA_Host did not give 300.0 MiB of memory in one piece; close others",
        ),
    ],
)
def test_text(device: str, wanted: int, text: str) -> None:
    found = Shortage(device, wanted)
    assert shortage_text(found, DEVICES, on_gpu="lower it", on_cpu="close others") == text


# less than the cache of such a context, more than everything before it
LIMITED = """
import resource, sys, llama_cpp
llama_cpp.devices()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (800 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
llama_cpp.Llama(sys.argv[1], n_ctx=4_000_000, n_threads=1, verbose=False)
"""


@pytest.mark.build
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
def test_a_context_that_does_not_fit(model_file: Path, run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(LIMITED, str(model_file))
    assert outcome.code == 1
    assert re.sub(r"[0-9.]+ GiB", "N GiB", outcome.last_line) == (
        "llama_cpp._errors.LlamaError: a context of 4000000 tokens does not fit: CPU did not give 976.6 "
        "MiB of memory in one piece (N GiB of N GiB are free without it); choose "
        "a smaller n_ctx or n_ubatch, or smaller types for type_k and type_v. llama.cpp's own words "
        "follow"
    )
