"""Why there is no GPU to compute on: what stands in the way in this process, and the one warning."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from llama_cpp import _cuda_driver, _gpu_code, _library, _obstacles, _runtime
from llama_cpp._build_info import BuildInfo, build_info, version_pair
from llama_cpp._errors import LlamaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp._obstacles import Obstacle

_WINDOWS = sys.platform == "win32"
_GPU_KINDS = ("GPU", "IGPU")
_MODULES = {"ggml-cuda": "cuda", "ggml-hip": "hip", "ggml-vulkan": "vulkan", "ggml-metal": "metal"}

_lock = threading.Lock()
_warned = False


def warn_without_gpu(n_gpu_layers: int) -> None:
    """Warn, once per process, that layers were asked onto a GPU and there is none to take them.

    A GPU that is left out while another computes is told as well.

    Args:
        n_gpu_layers: how many; not 0.
    """
    global _warned  # noqa: PLW0603 - once per process
    if _warned:
        return
    with _lock:
        none = not any(device.kind in _GPU_KINDS for device in _library.devices())
        if _warned or not (none or _library.left_out()):
            return
        found = obstacles()
        _warned = True
    what = "but there is no GPU to compute on" if none else "and not every GPU computes"
    why = "; ".join(each.message for each in found) or "this package holds the CPU backend alone"
    cures = "; ".join(map(cure_text, found)) or _obstacles.SELECT
    where = " The model runs on the CPU." if none else ""
    warnings.warn(
        f"n_gpu_layers={n_gpu_layers}, {what}: {why}.{where} To change that: {cures}. "
        "`python -m llama_cpp doctor` says more",
        RuntimeWarning,
        stacklevel=_who_asked(),
    )


def _who_asked() -> int:
    """Return the ``stacklevel`` of the first caller outside of this package."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - what warnings itself counts with
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("llama_cpp."):
        level, frame = level + 1, frame.f_back
    return level


def cure_text(obstacle: Obstacle) -> str:
    """Return what to do about an obstacle, with the command."""
    if not obstacle.packages:
        return obstacle.cure
    packages = " ".join(f'"{package}"' for package in obstacle.packages)
    return f"{obstacle.cure}: `pip install {packages}`"


def obstacles() -> tuple[Obstacle, ...]:
    """Return what keeps this process from a GPU; empty where nothing does, or no module needs one."""
    left_out = tuple(dict.fromkeys(_library.left_out().values()))
    if left_out or any(device.kind in _GPU_KINDS for device in _library.devices()):
        return left_out
    failures = _library.module_failures()
    if any(device.kind in _GPU_KINDS for device in _library.devices()):
        return ()  # the driver appeared since
    build = _build()
    found: list[Obstacle] = []
    for module, path in _library.modules().items():
        family = _MODULES.get(module)
        if family is not None:
            backend = build.backend if build else family
            words = failures.get(path.name)
            found += _judge(family, backend, build, path.name, words)
    return tuple(found)


def _judge(
    family: str, backend: str, build: BuildInfo | None, file: str, words: str | None
) -> Iterator[Obstacle]:
    if family == "cuda":
        toolkit = version_pair(build.toolkit) if build else None
        obstacle = _cuda(backend, toolkit, words)
        if obstacle is not None:
            yield obstacle
            return
    if family == "hip" and not _library.has_driver("ggml-hip"):
        yield _no_device(family, backend)
        if words is not None and not _runtime.has_rocm():
            yield _obstacles.rocm_missing(backend)
    elif words is None:
        yield _no_device(family, backend)
    elif family == "hip" and _obstacles.misses_rocm(words) and not _runtime.has_rocm():
        yield _obstacles.rocm_missing(backend)
    elif family == "vulkan" and ("libvulkan" in words or "vulkan-1" in words):
        yield _obstacles.vulkan_missing(backend, words, windows=_WINDOWS)
    elif _obstacles.shows_no_gpu(file, words):
        yield _obstacles.vulkan_without_gpu(windows=_WINDOWS)
    else:
        packages = _runtime.packages()
        yield _obstacles.module_not_loaded(file, words, backend, packages, windows=_WINDOWS)


def _no_device(family: str, backend: str) -> Obstacle:
    if family == "vulkan":
        return _obstacles.vulkan_without_gpu(windows=_WINDOWS)
    if family == "metal":
        return _obstacles.metal_without_gpu()
    return _obstacles.gpu_missing(backend, {"cuda": "NVIDIA", "hip": "AMD"}[family])


def _cuda(backend: str, toolkit: tuple[int, int] | None, words: str | None) -> Obstacle | None:
    """Return what is wrong with the driver; None where it is not the driver."""
    needs = toolkit or (12, 0)
    try:
        driver = _cuda_driver.load()
    except OSError as error:
        if _cuda_driver.has_kernel_driver():
            return _obstacles.driver_without_cuda(str(error), needs[0], windows=_WINDOWS)
        return _obstacles.driver_missing(backend, needs[0], windows=_WINDOWS)
    speaks = _cuda_driver.cuda_version(driver)
    if speaks is not None and speaks[0] < needs[0]:
        return _obstacles.driver_too_old(backend, needs, speaks, windows=_WINDOWS)
    if words is not None:
        return None
    hidden = _gpu_code.hides_gpus(os.environ)
    if hidden is not None:
        return _obstacles.gpus_hidden(hidden)
    try:
        shown = _cuda_driver.gpus(driver)
    except _cuda_driver.CudaDriverError as error:
        return _obstacles.driver_broken(str(error))
    return _obstacles.gpu_not_listed() if shown else None


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver speaks; None without a driver or a module for it."""
    if "ggml-cuda" not in _library.modules():
        return None
    try:
        return _cuda_driver.cuda_version(_cuda_driver.load())
    except OSError:
        return None


def _build() -> BuildInfo | None:
    try:
        return build_info(_library.library_folder().with_name("_build_info.json"))
    except LlamaError:  # the doctor says so
        return None
