"""Which of the GPUs that ggml lists the module has code for.

ggml lists every GPU of CUDA's and ROCm's, and ends the process with "no kernel image is available" at the first
kernel on one that the module was not compiled for. So it is found out before a model goes there.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from llama_cpp import _amd_driver, _cuda_driver
from llama_cpp._build_info import BuildInfo, build_info, version_pair
from llama_cpp._errors import LlamaError
from llama_cpp._gpu_code import cuda_fit, rocm_fit, with_ptx
from llama_cpp._obstacles import (
    Obstacle,
    amd_gpu_without_code,
    gpu_needs_newer_driver,
    gpu_without_code,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llama_cpp._abi import Functions


def unfit_devices(lib: Functions, folder: Path) -> dict[int, Obstacle]:
    """Return ggml's handles of the devices that no kernel of the module runs on, and why.

    Empty where the record of the build does not say what the module was compiled for.

    Args:
        lib: llama.cpp, with its backends loaded.
        folder: where its libraries lie.
    """
    cuda, rocm = _devices(lib, rb"CUDA([0-9]+)"), _devices(lib, rb"ROCm([0-9]+)")
    if not cuda and not rocm:
        return {}
    try:
        build = build_info(folder.with_name("_build_info.json"))
    except LlamaError:  # the doctor says so
        return {}
    if build is None:
        return {}
    return {**_unfit_cuda(build, cuda), **_unfit_rocm(lib, build, rocm)}


def _unfit_cuda(build: BuildInfo, devices: dict[int, int]) -> dict[int, Obstacle]:
    if not devices:
        return {}
    try:
        driver = _cuda_driver.load()
        speaks, gpus = _cuda_driver.cuda_version(driver), _cuda_driver.gpus(driver)
    except (OSError, _cuda_driver.CudaDriverError):
        return {}
    if speaks is None or not gpus:
        return {}
    found = {}
    for pointer, number in devices.items():
        # ggml-cuda.cu: GGML_CUDA_DEVICES lists GPUs more than once, round-robin
        obstacle = judge(build, speaks, gpus[number % len(gpus)])
        if obstacle is not None:
            found[pointer] = obstacle
    return found


def judge(build: BuildInfo, speaks: tuple[int, int], gpu: _cuda_driver.Gpu) -> Obstacle | None:
    """Return why no kernel of a build runs on a GPU; None where one does, or nobody knows.

    Args:
        build: the record of the build.
        speaks: the newest CUDA that the driver speaks.
        gpu: the GPU.
    """
    toolkit = version_pair(build.toolkit)
    if toolkit is None:
        return None
    architectures = architectures_of(build)
    fit = cuda_fit(architectures, toolkit, speaks, gpu.compute)
    if fit == "no-kernel":
        return gpu_without_code(build.backend, gpu.name, gpu.compute, architectures)
    if fit == "driver-cannot-jit":
        return gpu_needs_newer_driver(gpu.name, gpu.compute, toolkit, speaks)
    return None


def _unfit_rocm(lib: Functions, build: BuildInfo, devices: dict[int, int]) -> dict[int, Obstacle]:
    # it makes a GPU pass for another, and its user knows
    if not devices or os.environ.get("HSA_OVERRIDE_GFX_VERSION"):
        return {}
    architecture = judge_amd(build, _amd_driver.kernel_gpus())
    if architecture is None:
        return {}
    return {
        pointer: amd_gpu_without_code(
            build.backend,
            (lib.ggml_backend_dev_description(pointer) or b"").decode("utf-8", "replace"),
            architecture,
            build.gpu_architectures,
        )
        for pointer in devices
    }


def judge_amd(build: BuildInfo, gpus: Sequence[_amd_driver.RocmGpu]) -> str | None:
    """Return what the GPUs here are, where a build has code for none of them.

    None where it has code for one: which of ROCm's devices that is, the kernel does not say.
    """
    known = build.gpu_architectures
    if not gpus or not known or not all(re.fullmatch(r"gfx[0-9a-f]+", each) for each in known):
        return None
    if any(rocm_fit(known, gpu.architecture) for gpu in gpus):
        return None
    return ", ".join(dict.fromkeys(gpu.architecture for gpu in gpus))


def architectures_of(build: BuildInfo) -> tuple[str, ...]:
    """Return a build's GPU architectures in the table's words, where ``90`` is no PTX."""
    published = re.fullmatch(r"cu[0-9]+", build.backend) is not None
    return build.gpu_architectures if published else with_ptx(build.gpu_architectures)


def _devices(lib: Functions, pattern: bytes) -> dict[int, int]:
    """Return ggml's handles of the devices of a name, and their numbers."""
    found = {}
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        if device is None:
            continue
        name = re.fullmatch(pattern, lib.ggml_backend_dev_name(device) or b"")
        if name:
            found[device] = int(name[1])
    return found
