"""Whether a build has code for a GPU."""

from __future__ import annotations

import pytest

from llama_cpp._amd_driver import RocmGpu
from llama_cpp._build_info import BuildInfo
from llama_cpp._cuda_driver import Gpu
from llama_cpp._gpu_fit import architectures_of, judge, judge_amd

BUILD = BuildInfo(
    backend="cu130",
    version="0.3.100+cu130",
    llama_cpp_commit=None,
    llama_cpp_version=None,
    compiler="nvcc",
    defines={},
    toolkit="CUDA 13.0.88",
    gpu_architectures=("75", "90", "120a", "120-virtual"),
    prebuilt=False,
)


@pytest.mark.parametrize(
    ("compute", "speaks", "identifier"),
    [
        ((9, 0), (13, 0), None),
        ((8, 9), (13, 0), "gpu-too-new"),
        ((6, 1), (13, 0), "gpu-too-old"),
        ((12, 1), (13, 0), None),
        ((10, 0), (13, 0), "gpu-too-new"),
        # the driver is told first, by its own obstacle; its compatibility package may compute
        ((6, 1), (12, 8), None),
    ],
)
def test_judge(compute: tuple[int, int], speaks: tuple[int, int], identifier: str | None) -> None:
    found = judge(BUILD, speaks, Gpu("a GPU", compute))
    assert (found.id if found else None) == identifier


def test_an_unknown_build_is_not_judged() -> None:
    old = Gpu("a GPU", (3, 5))
    assert judge(BUILD._replace(toolkit=None), (13, 0), old) is None
    assert judge(BUILD._replace(gpu_architectures=()), (13, 0), old) is None
    assert judge(BUILD._replace(gpu_architectures=("native",)), (13, 0), old) is None


def test_a_plain_architecture_has_ptx_in_a_build_of_ones_own() -> None:
    assert architectures_of(BUILD) == BUILD.gpu_architectures
    own = BUILD._replace(backend="source", gpu_architectures=("86",))
    assert architectures_of(own) == ("86", "86-virtual")


ROCM = BUILD._replace(
    backend="rocm7x", toolkit="ROCm 7.0.2", gpu_architectures=("gfx1100", "gfx90a")
)
OLD, NEW = RocmGpu("RX 580", "gfx803"), RocmGpu("RX 7900 XTX", "gfx1100")


@pytest.mark.parametrize(
    ("build", "gpus", "found"),
    [
        (ROCM, [OLD], "gfx803"),
        (ROCM, [OLD, OLD, RocmGpu("APU", "gfx90c")], "gfx803, gfx90c"),
        (ROCM, [OLD, NEW], None),
        (ROCM, [], None),
        (ROCM._replace(gpu_architectures=()), [OLD], None),
        (ROCM._replace(gpu_architectures=("gfx9-4-generic",)), [OLD], None),
    ],
    ids=["too-old", "all-of-three", "one-of-two", "no-kernel-driver", "unrecorded", "generic"],
)
def test_judge_amd(build: BuildInfo, gpus: list[RocmGpu], found: str | None) -> None:
    assert judge_amd(build, gpus) == found
