"""Asks the Vulkan loader for its devices and prints JSON; run as a program.

It runs in a process of its own (``python -I vulkan.py``), because a broken driver can crash or hang
whoever asks it. So it imports nothing of this package.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys

_LOADERS = {"win32": ("vulkan-1.dll",), "darwin": ("libvulkan.1.dylib", "libMoltenVK.dylib")}
# in the order of vulkan_core.h's VkPhysicalDeviceType
_KINDS = ("other", "integrated", "discrete", "virtual", "cpu")
_NAME_BYTES = 256
# larger than VkPhysicalDeviceProperties (824 bytes) and VkPhysicalDeviceMemoryProperties (520)
_BUFFER = 4096
_HEAP_COUNT = 260
_HEAPS = 264
_HEAP = 16
_API_1_0 = 1 << 22
# PCI-SIG's number
_NVIDIA = 0x10DE


class _ApplicationInfo(ctypes.Structure):
    # vulkan_core.h, VkApplicationInfo
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api_version", ctypes.c_uint32),
    )


class _InstanceCreateInfo(ctypes.Structure):
    # vulkan_core.h, VkInstanceCreateInfo
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_ApplicationInfo)),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


def _device(library: ctypes.CDLL, handle: int) -> dict[str, object]:
    buffer = ctypes.create_string_buffer(_BUFFER)
    library["vkGetPhysicalDeviceProperties"](ctypes.c_void_p(handle), buffer)
    api, driver, vendor, _number, kind = struct.unpack_from("<5I", buffer)
    name = buffer.raw[20 : 20 + _NAME_BYTES].split(b"\0", 1)[0]
    buffer = ctypes.create_string_buffer(_BUFFER)
    library["vkGetPhysicalDeviceMemoryProperties"](ctypes.c_void_p(handle), buffer)
    (heaps,) = struct.unpack_from("<I", buffer, _HEAP_COUNT)
    memory = 0
    for index in range(min(heaps, 16)):
        size, flags = struct.unpack_from("<QI", buffer, _HEAPS + index * _HEAP)
        if flags & 1:  # VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
            memory = max(memory, size)
    return {
        "name": name.decode("utf-8", "replace"),
        "kind": _KINDS[kind] if kind < len(_KINDS) else "other",
        "api": f"{api >> 22}.{(api >> 12) & 0x3FF}",
        "driver": driver_version(driver, vendor),
        "memory_total": memory,
    }


def driver_version(driver: int, vendor: int) -> str:
    """Return a driver's version; NVIDIA packs its number in a way of its own (580.82.7)."""
    if vendor == _NVIDIA:
        return f"{driver >> 22}.{(driver >> 14) & 0xFF}.{(driver >> 6) & 0xFF}"
    return f"{driver >> 22}.{(driver >> 12) & 0x3FF}.{driver & 0xFFF}"


def _ask(found: dict[str, object]) -> None:
    errors = []
    library = None
    for name in _LOADERS.get(sys.platform, ("libvulkan.so.1",)):
        try:
            library = ctypes.CDLL(name)
            break
        except OSError as error:
            errors.append(str(error))
    if library is None:
        raise OSError("; ".join(errors))
    found["loader"] = library._name  # noqa: SLF001 - ctypes has no other word for it
    application = _ApplicationInfo(api_version=_API_1_0)
    create = _InstanceCreateInfo(type=1, application=ctypes.pointer(application))
    instance = ctypes.c_void_p()
    status = library["vkCreateInstance"](ctypes.byref(create), None, ctypes.byref(instance))
    if status:
        raise OSError(f"vkCreateInstance gave {status}: there is no Vulkan driver")
    count = ctypes.c_uint32()
    library["vkEnumeratePhysicalDevices"](instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * max(1, count.value))()
    library["vkEnumeratePhysicalDevices"](instance, ctypes.byref(count), handles)
    found["devices"] = [_device(library, handle) for handle in handles[: count.value] if handle]


def main() -> None:
    """Print one JSON object: the loader, its devices, and why there are none."""
    found: dict[str, object] = {"loader": None, "devices": [], "error": None}
    try:
        _ask(found)
    except (OSError, AttributeError) as error:
        found["error"] = str(error)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
