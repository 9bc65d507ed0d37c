"""What the doctor can find: each finding's stable id, and what a finding is."""

from __future__ import annotations

from typing import NamedTuple

from llama_cpp._doctor.backends import Step

LEVELS = ("ok", "note", "warning", "error")

# Ids are for scripts and documents: never renamed, never used for anything else.
# Of a source build these are notes alone: nobody has to build.
BUILD_FINDINGS = {
    "build-backend-missing": "scikit-build-core is not in this environment",
    "build-no-cmake": "there is no CMake, or too old a one",
    "build-no-ninja": "there is no Ninja",
    "build-no-compiler": "there is no C++ compiler",
    "build-wrong-prompt": "the compiler's prompt is for another CPU",
    "build-no-git": "there is no git",
    "build-no-command-line-tools": "Xcode's command line tools are not installed",
    "build-no-cuda": "there is an NVIDIA GPU, but no CUDA compiler",
    "build-cuda-older-than-gpu": "this CUDA toolkit cannot make code for the GPU",
    "build-cuda-newer-than-driver": "this CUDA toolkit is newer than the driver",
    "build-host-compiler": "this CUDA toolkit refuses the C++ compiler",
    "build-cuda-spaces": "CUDA lies in a path with spaces",
    "build-cmake-args": "CMAKE_ARGS is not what CMake will see",
    "build-architectures": "CMAKE_CUDA_ARCHITECTURES names others than this machine's GPU",
    "build-temporary-folder": "the folder for temporary files has a name that breaks compilers",
    "build-long-paths": "Windows refuses paths over 260 characters",
    "build-ready": "a compile for this machine finds what it needs",
}
FINDINGS = {
    # the system
    "python-too-old": "Python is older than 3.9",
    "python-32-bit": "Python is a 32-bit one",
    "python-free-threaded": "Python runs without the GIL",
    "python-emulated": "Python is for another CPU than the machine's",
    "cpu-without-avx": "the CPU is an x86-64-v1: ggml's slowest code",
    "no-wheel": "no wheel is made for this machine",
    # the package
    "not-installed": "the package runs from a checkout and was never built",
    "checkout-shadows": "a checkout in the current folder hides the installed package",
    "several-copies": "the package is installed more than once",
    "foreign-files": "another distribution has files in the same folder",
    "version-mismatch": "the files and their metadata are of different versions",
    "label-mismatch": "the version label names another backend than the build info",
    "label-auto": "the installer chose the backend",
    "label-unknown": "the version label names no published backend",
    "build-info-damaged": "the record of the build is damaged",
    "wrong-platform": "the wheel is for another system or CPU",
    "wrong-libc": "the wheel is for another C library",
    "libc-too-old": "the C library is older than the wheel needs",
    "system-too-old": "macOS is older than the wheel needs",
    "library-path-set": "LLAMA_CPP_LIB_PATH replaces the package's libraries",
    "wraps-prebuilt": "the package wraps finished libraries",
    "prebuilt-exists": "compiled here, although there is a wheel for this machine",
    "stale-build": "the build options are not those that CMAKE_ARGS asks for",
    "cmake-args-unused": "CMAKE_ARGS does nothing for a wheel from an index",
    "option-renamed": "CMAKE_ARGS uses an option's old name",
    "variable-unused": "an environment variable that nothing reads",
    "wheel-fits": "the wheel is for this system",
    # the libraries
    "libraries-missing": "llama.cpp's libraries are not there",
    "libraries-broken": "llama.cpp's libraries do not load",
    "libraries-crash": "llama.cpp's libraries crash or hang",
    "libraries-load": "llama.cpp's libraries load",
    "module-not-loaded": "a GPU module does not load",
    "rpc-not-loaded": "the RPC module does not load",
    # GPUs
    "cpu-fits": "the CPU wheel is the best one for this machine",
    "gpu-unused": "there is a GPU, but the wheel computes on the CPU",
    "gpu-out-of-reach": "there is a GPU that no wheel can use as things are",
    "gpu-hidden": "a variable hides the GPUs",
    "gpu-missing": "the wheel is for a GPU, and there is none",
    "gpu-too-old": "the wheel has no code for a GPU this old",
    "gpu-too-new": "the wheel has no code for a GPU this new",
    "gpu-compiles-at-start": "the driver compiles the kernels for a GPU newer than the wheel",
    "gpu-needs-newer-driver": "the GPU needs PTX, which the driver is too old to compile",
    "gpu-unknown": "it is not known which GPU this is",
    "gpu-fits": "the wheel has machine code for the GPU",
    "gpu-not-listed": "the module loads, but ggml lists no GPU",
    "gpu-used": "ggml computes on the GPU",
    "driver-missing": "there is no NVIDIA driver",
    "driver-broken": "the NVIDIA driver does not answer",
    "driver-without-cuda": "the driver's CUDA library is not there",
    "driver-too-old": "the driver is of an older CUDA major version than the wheel",
    "driver-minor-older": "the driver is older than the wheel's CUDA, but of the same major version",
    "better-backend": "another backend fits this machine better",
    "rocm-missing": "ROCm is not installed",
    "rocm-version": "ROCm is of another major version than the wheel",
    "vulkan-missing": "there is no Vulkan loader",
    "vulkan-no-gpu": "Vulkan shows no GPU",
    "metal-missing": "Metal shows no GPU",
    # a model
    "model-unreadable": "the model file cannot be read",
    "model-too-new": "the libraries do not know the model's architecture",
    "model-known": "the libraries know the model's architecture",
    **BUILD_FINDINGS,
}


class Finding(NamedTuple):
    """One thing that the doctor has to say."""

    id: str
    level: str
    """One of :data:`LEVELS`; ``warning`` and ``error`` are to be mended."""
    message: str
    cure: str = ""
    """What to do, in words; empty where nothing is to do or the steps say it."""
    steps: tuple[Step, ...] = ()


def finding(
    identifier: str, level: str, message: str, cure: str = "", steps: tuple[Step, ...] = ()
) -> Finding:
    """Make a finding.

    Raises:
        ValueError: the id or the level is not a known one.
    """
    if identifier not in FINDINGS or level not in LEVELS:
        raise ValueError(f"unknown finding {level} {identifier}")
    return Finding(identifier, level, message, cure, steps)
