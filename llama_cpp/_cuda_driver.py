"""NVIDIA's driver, asked in this process through its CUDA library."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llama_cpp import _gpu_code

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# cuda.h: CUresult, CUdevice_attribute
_NO_DEVICE = 100
_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
_NAME_BYTES = 256
# the kernel's half of the driver; a container sees it where it was not given the other half
_KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


class Gpu(NamedTuple):
    """One NVIDIA GPU, in CUDA's order."""

    name: str
    compute: tuple[int, int]
    """Compute capability: (9, 0) for an H100."""


class CudaDriverError(Exception):
    """The driver did not answer, in its own words."""

    status: int

    def __init__(self, words: str, status: int) -> None:
        """Keep the words and cuda.h's number."""
        super().__init__(words)
        self.status = status


def load() -> ctypes.CDLL:
    """Return the driver's CUDA library.

    Raises:
        OSError: it is not there, or does not load.
    """
    # stdcall and cdecl are one on 64 bits
    return ctypes.CDLL(LIBRARY)


def is_there() -> bool:
    """Return whether the driver's CUDA library loads; the driver is not started for that."""
    try:
        load()
    except OSError:
        return False
    return True


def has_kernel_driver() -> bool:
    """Return whether the driver's half in the kernel is loaded (Linux)."""
    return _KERNEL_DRIVER.exists()


def cuda_version(driver: ctypes.CDLL) -> tuple[int, int] | None:
    """Return the newest CUDA that the driver speaks: (12, 8); None where it does not say.

    The driver is not started for that.
    """
    version = ctypes.c_int()
    try:
        status = driver["cuDriverGetVersion"](ctypes.byref(version))
    except AttributeError:
        return None
    return None if status else _gpu_code.cuda_version(version.value)


def gpus(driver: ctypes.CDLL) -> tuple[Gpu, ...]:
    """Start the driver and return the GPUs that it shows to this process.

    Raises:
        CudaDriverError: it does not start.
    """
    try:
        _call(driver, "cuInit", ctypes.c_uint(0))
    except CudaDriverError as error:
        if error.status == _NO_DEVICE:
            return ()
        raise
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return tuple(_gpu(driver, ordinal) for ordinal in range(count.value))


def _gpu(driver: ctypes.CDLL, ordinal: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
    for number, value in ((_COMPUTE_MAJOR, major), (_COMPUTE_MINOR, minor)):
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), device)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), device)
    return Gpu(name.value.decode("utf-8", "replace"), (major.value, minor.value))


def _call(driver: ctypes.CDLL, name: str, *arguments: object) -> None:
    try:
        status = driver[name](*arguments)
    except AttributeError:
        raise CudaDriverError(f"{LIBRARY} has no {name}", -1) from None
    if status == 0:
        return
    words = ctypes.c_char_p()
    with suppress(AttributeError):
        driver["cuGetErrorString"](ctypes.c_int(status), ctypes.byref(words))
    said = (words.value or b"").decode("utf-8", "replace")
    raise CudaDriverError(said or f"{name} gave {status}", status)
