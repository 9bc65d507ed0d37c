"""What can keep a GPU wheel from computing on a GPU: what is wrong, and the next step. Pure.

The warning of a program that asked for a GPU and the findings of ``python -m llama_cpp doctor`` are
made of these words, so that the one can be looked up in the other. The ids are the doctor's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._gpu_code import OLDEST_DRIVERS

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN_LIBRARY = "install the library that it names"
REINSTALL = "install the package again"
SELECT = "`python -m llama_cpp select` names the backend to switch to"

_CUDA_LIBRARY = re.compile(
    r"(?:lib)?(?P<name>cudart|cublasLt|cublas)(?:64)?(?:\.so\.|_)(?P<major>[0-9]+)"
)
_CUDA_PARTS = {"cudart": "cuda-runtime", "cublas": "cublas", "cublasLt": "cublas"}
_RUNTIME = re.compile(r"nvidia-(cuda-runtime|cublas)(?:-cu(?P<major>[0-9]+))?")
_ROCM_LIBRARY = re.compile(r"amdhip64|rocblas|hipblas|rocsolver|hsa-runtime64|amd_comgr")


class Obstacle(NamedTuple):
    """One thing that keeps the GPU from computing."""

    id: str
    message: str
    cure: str
    """What to do, in words."""
    packages: tuple[str, ...] = ()
    """What an installer is to add, as requirements."""


class RuntimePackage(NamedTuple):
    """A part of CUDA that came as a Python package."""

    name: str
    version: str


def driver_cure(major: int | None, *, windows: bool) -> str:
    """Return how to get an NVIDIA driver.

    Args:
        major: CUDA's major version that it must speak; None where that is not known.
        windows: whether this is Windows.
    """
    oldest = OLDEST_DRIVERS.get(major or 0)
    version = f" {oldest[1 if windows else 0]} or newer" if oldest else ""
    if windows:
        return f"install NVIDIA's driver{version} (nvidia.com/drivers), then restart"
    return (
        f"install NVIDIA's driver{version} on the host (Debian: `sudo apt install nvidia-driver`; "
        "Ubuntu: `sudo ubuntu-drivers install`), then restart; "
        "a container needs the NVIDIA Container Toolkit and `--gpus all`"
    )


def vulkan_cure(*, windows: bool) -> str:
    """Return how to get a Vulkan loader and driver."""
    if windows:
        return "install the GPU vendor's driver: it brings Vulkan"
    return (
        "install the loader and a driver (Debian, Ubuntu: `sudo apt install libvulkan1 "
        "mesa-vulkan-drivers`; NVIDIA's driver brings its own)"
    )


def driver_missing(backend: str, major: int, *, windows: bool) -> Obstacle:
    """There is no NVIDIA driver."""
    return Obstacle(
        "driver-missing",
        f"the {backend} wheel needs NVIDIA's driver, and there is none; it computes on the CPU",
        driver_cure(major, windows=windows),
    )


def driver_without_cuda(words: str, major: int, *, windows: bool) -> Obstacle:
    """There is a driver, and its CUDA library does not load."""
    return Obstacle(
        "driver-without-cuda",
        f"the driver is there, its CUDA library is not: {words}",
        "a container must ask for it: NVIDIA_DRIVER_CAPABILITIES=compute,utility; else "
        + driver_cure(major, windows=windows),
    )


def driver_too_old(
    backend: str, toolkit: tuple[int, int], speaks: tuple[int, int], *, windows: bool
) -> Obstacle:
    """The driver is of an older CUDA major version than the wheel."""
    return Obstacle(
        "driver-too-old",
        f"the {backend} wheel is built with CUDA {dotted(toolkit)}; the driver speaks CUDA "
        f"{dotted(speaks)} at most",
        driver_cure(toolkit[0], windows=windows),
    )


def driver_broken(words: str) -> Obstacle:
    """There is a driver, and it does not answer."""
    return Obstacle(
        "driver-broken",
        f"NVIDIA's driver is there but does not answer: {words}",
        "restart the machine: after an update the old module is still loaded; "
        "if that does not help, install the driver again",
    )


def gpus_hidden(variable: str) -> Obstacle:
    """A variable hides every NVIDIA GPU, such as ``CUDA_VISIBLE_DEVICES=-1``."""
    return Obstacle("gpu-hidden", f"{variable} hides every NVIDIA GPU", "unset it")


def gpu_missing(backend: str, vendor: str) -> Obstacle:
    """The driver is there and shows no GPU; ``vendor`` is ``NVIDIA`` or ``AMD``."""
    cure = {
        "NVIDIA": "a container needs `--gpus all`",
        "AMD": "load the amdgpu kernel driver, join the groups render and video",
    }[vendor]
    return Obstacle(
        "gpu-missing", f"the {backend} wheel is for {vendor} GPUs, and none answers", cure
    )


def gpu_without_code(
    backend: str, gpu: str, compute: tuple[int, int], architectures: tuple[str, ...]
) -> Obstacle:
    """The wheel has neither machine code nor PTX that runs on a GPU."""
    digits = (re.match(r"[0-9]+", each) for each in architectures)
    oldest = min((int(each[0]) for each in digits if each), default=0)
    return Obstacle(
        "gpu-too-old" if compute[0] * 10 + compute[1] < oldest else "gpu-too-new",
        f"no kernel runs on {gpu} (compute {dotted(compute)}): "
        f"the {backend} wheel has {', '.join(architectures)}",
        SELECT,
    )


def amd_gpu_without_code(
    backend: str, gpu: str, architecture: str, architectures: tuple[str, ...]
) -> Obstacle:
    """The wheel has no machine code for an AMD GPU; there is no PTX to fall back on."""
    return Obstacle(
        "gpu-too-old",
        f"no kernel runs on {gpu} ({architecture}): the {backend} wheel has "
        f"{', '.join(architectures)}",
        SELECT,
    )


def gpu_needs_newer_driver(
    gpu: str, compute: tuple[int, int], toolkit: tuple[int, int], speaks: tuple[int, int]
) -> Obstacle:
    """The wheel has PTX alone for a GPU, and the driver is too old to compile it."""
    return Obstacle(
        "gpu-needs-newer-driver",
        f"{gpu} (compute {dotted(compute)}) needs the wheel's PTX, and a driver that speaks CUDA "
        f"{dotted(speaks)} cannot compile PTX of CUDA {dotted(toolkit)}",
        f"update NVIDIA's driver to one that speaks CUDA {dotted(toolkit)}",
    )


def rocm_missing(backend: str) -> Obstacle:
    """ROCm's runtime is not installed."""
    return Obstacle(
        "rocm-missing",
        f"the {backend} wheel needs ROCm's runtime, and it is not in /opt/rocm nor ROCM_PATH",
        "install ROCm's runtime (rocm-hip-libraries)",
    )


def vulkan_missing(backend: str, words: str, *, windows: bool) -> Obstacle:
    """There is no Vulkan loader."""
    return Obstacle(
        "vulkan-missing",
        f"the {backend} wheel needs the Vulkan loader: {words}",
        vulkan_cure(windows=windows),
    )


def vulkan_without_gpu(*, windows: bool) -> Obstacle:
    """Vulkan is there and shows no GPU."""
    return Obstacle("vulkan-no-gpu", "Vulkan shows no GPU", vulkan_cure(windows=windows))


def metal_without_gpu() -> Obstacle:
    """Metal shows no GPU."""
    return Obstacle(
        "metal-missing",
        "Metal shows no GPU: the wheel needs Apple silicon with Metal 3, which a virtual machine, a "
        "simulator and an Intel Mac do not have; it computes on the CPU",
        "run it on macOS itself, on Apple silicon",
    )


def gpu_not_listed() -> Obstacle:
    """There is a GPU, and ggml does not list it."""
    return Obstacle(
        "gpu-not-listed",
        "everything seems to be there, but ggml lists no GPU",
        "run `python -m llama_cpp doctor --json` and report what it prints",
    )


def rpc_not_loaded(file: str, words: str) -> Obstacle:
    """The module for devices of other machines does not load."""
    return Obstacle(
        "rpc-not-loaded",
        f"{file} does not load, so rpc_servers cannot be used: {words}",
        REINSTALL,
    )


def module_not_loaded(
    file: str,
    words: str,
    backend: str,
    packages: Iterable[RuntimePackage],
    *,
    windows: bool,
) -> Obstacle:
    """A backend's module does not load.

    Args:
        file: the module's name.
        words: the loader's own, such as ``libcublas.so.12: cannot open shared object file``.
        backend: the wheel's.
        packages: the parts of CUDA that are installed as Python packages.
        windows: whether this is Windows.
    """
    if "ggml-rpc" in file:
        return rpc_not_loaded(file, words)
    message = f"{file} does not load, so the {backend} wheel computes on the CPU: {words}"
    cuda = _CUDA_LIBRARY.search(words)
    if cuda is None:
        damaged = "file too short" in words or "invalid ELF header" in words
        cure = _library_cure(words, windows=windows)
        cure = cure or (REINSTALL if damaged else UNKNOWN_LIBRARY)
        return Obstacle("module-not-loaded", message, cure)
    major, here = int(cuda["major"]), tuple(packages)
    there = {part for part, installed in map(_part, here) if installed == major}
    named = _CUDA_PARTS[cuda["name"]]
    # whoever lacks one of them often lacks the other: one command for both
    lacking = [part for part in ("cuda-runtime", "cublas") if part == named or part not in there]
    others = [f"{each.name} {each.version}" for each in here if _part(each)[1] != major]
    if others:
        message += (
            f"; {', '.join(others)} cannot take its place: it must be of the same major version"
        )
    return Obstacle(
        "module-not-loaded",
        message,
        f"install CUDA {major}'s {cuda['name'] if lacking == [named] else 'runtime and cuBLAS'}",
        tuple(requirement(part, major) for part in lacking),
    )


def _part(package: RuntimePackage) -> tuple[str, int]:
    found = _RUNTIME.fullmatch(package.name)
    # from CUDA 13 on the packages carry the major version in their version alone
    major = (found["major"] if found else None) or package.version.partition(".")[0]
    return (found[1] if found else ""), (int(major) if major.isdigit() else 0)


def requirement(part: str, major: int) -> str:
    """Return the Python package of a part of CUDA (``cuda-runtime``, ``cublas``)."""
    name = f"nvidia-{part}"
    return f"{name}-cu{major}" if major < 13 else f"{name}>={major},<{major + 1}"


def _library_cure(words: str, *, windows: bool) -> str | None:
    if "libcuda.so" in words or "nvcuda" in words:
        return driver_cure(None, windows=windows)
    if "libvulkan" in words or "vulkan-1" in words:
        return vulkan_cure(windows=windows)
    if misses_rocm(words):
        return rocm_missing("").cure
    glibc = re.search(r"version [`'](GLIBC|GLIBCXX)_([0-9.]+)'", words)
    if glibc:
        return f"this system's {glibc[1]} is older than {glibc[2]}: take a newer system"
    return None


def misses_rocm(words: str) -> bool:
    """Return whether a loader's words are about a library of ROCm's."""
    return _ROCM_LIBRARY.search(words) is not None


def shows_no_gpu(file: str, words: str) -> bool:
    """Return whether a module loads and then says itself that there is no GPU, as Vulkan's does."""
    return "ggml-vulkan" in file and "ggml_backend_init returned NULL" in words


def is_runtime_package(name: str) -> bool:
    """Return whether a Python package is a part of CUDA that a wheel of ours loads."""
    return _RUNTIME.fullmatch(name) is not None


def dotted(version: tuple[int, int]) -> str:
    """Return ``12.8`` for (12, 8)."""
    return f"{version[0]}.{version[1]}"
