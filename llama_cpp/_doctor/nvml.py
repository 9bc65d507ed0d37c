"""Asks NVIDIA's driver through its own library (NVML) and prints JSON; run as a program.

It runs in a process of its own (``python -I nvml.py``), because a broken driver can crash or hang
whoever asks it. So it imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import json
import sys

WINDOWS = sys.platform == "win32"
_NVML = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"
_CUDA = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
_TEXT = 96


class NvmlError(Exception):
    """A call of NVML failed, in its own words."""


class _Memory(ctypes.Structure):
    # nvml.h, nvmlMemory_t
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    try:
        status = library[name](*arguments)
    except AttributeError:
        raise NvmlError(f"{_NVML} has no {name}") from None
    if status:
        describe = library["nvmlErrorString"]
        describe.restype = ctypes.c_char_p
        words = describe(status) or b""
        raise NvmlError(words.decode("utf-8", "replace") or f"{name} gave {status}")


def _gpu(library: ctypes.CDLL, index: int) -> dict[str, object]:
    device = ctypes.c_void_p()
    _call(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
    name = ctypes.create_string_buffer(_TEXT)
    _call(library, "nvmlDeviceGetName", device, name, ctypes.c_uint(_TEXT))
    found: dict[str, object] = {"name": name.value.decode("utf-8", "replace")}
    memory, major, minor = _Memory(), ctypes.c_int(), ctypes.c_int()
    try:
        _call(library, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
        found.update(memory_total=memory.total, memory_free=memory.free)
    except NvmlError:  # a GPU that shares the host's memory has no answer
        found.update(memory_total=0, memory_free=0)
    try:
        _call(
            library,
            "nvmlDeviceGetCudaComputeCapability",
            device,
            ctypes.byref(major),
            ctypes.byref(minor),
        )
        found["compute"] = [major.value, minor.value]
    except NvmlError:
        found["compute"] = None
    return found


def _ask_nvml(found: dict[str, object]) -> None:
    library = ctypes.CDLL(_NVML)
    _call(library, "nvmlInit_v2")
    driver, cuda, count = ctypes.create_string_buffer(_TEXT), ctypes.c_int(), ctypes.c_uint()
    _call(library, "nvmlSystemGetDriverVersion", driver, ctypes.c_uint(_TEXT))
    found["driver"] = driver.value.decode("utf-8", "replace")
    _call(library, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
    found["cuda"] = cuda.value
    _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    found["gpus"] = [_gpu(library, index) for index in range(count.value)]


def _ask_cuda(found: dict[str, object]) -> None:
    """Load the driver's CUDA library: it can be missing where NVML is there (containers)."""
    version = ctypes.c_int()
    library = ctypes.CDLL(_CUDA)
    if library["cuDriverGetVersion"](ctypes.byref(version)) == 0 and not found["cuda"]:
        found["cuda"] = version.value


def main() -> None:
    """Print one JSON object; what could not be found out is null, with the reason beside it."""
    found: dict[str, object] = {
        "driver": None,
        "cuda": None,
        "gpus": [],
        "nvml_error": None,
        "libcuda_error": None,
    }
    try:
        _ask_nvml(found)
    except (OSError, NvmlError) as error:
        found["nvml_error"] = str(error)
    try:
        _ask_cuda(found)
    except (OSError, AttributeError) as error:
        found["libcuda_error"] = str(error)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
