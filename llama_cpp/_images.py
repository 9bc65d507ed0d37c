"""Which shared libraries are mapped into this process, asked from the dynamic loader itself."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import PurePath


def mapped_images() -> list[str]:
    """Return the paths of all mapped shared libraries, in load order.

    Linux: dl_iterate_phdr(3), which glibc and musl share. macOS: dyld(3). Windows: EnumProcessModules.
    """
    if sys.platform == "win32":
        return _windows_images()
    elif sys.platform == "darwin":  # noqa: RET505 - a chain is what the type checker follows
        return _macos_images()
    else:
        return _elf_images()


class _PhdrInfo(ctypes.Structure):
    # link.h, struct dl_phdr_info: only its first two members are read
    _fields_ = (("addr", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _elf_images() -> list[str]:
    found: list[str] = []

    def visit(info: ctypes._Pointer[_PhdrInfo], _size: int, _data: object) -> int:
        name = info.contents.name
        if name:
            found.append(name.decode("utf-8", "surrogateescape"))
        return 0

    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(_PhdrInfo), ctypes.c_size_t, ctypes.c_void_p
    )
    ctypes.CDLL(None).dl_iterate_phdr(callback(visit), None)
    return found


class _DlInfo(ctypes.Structure):
    # dlfcn.h, Dl_info: only its first member is read
    _fields_ = (
        ("fname", ctypes.c_char_p),
        ("fbase", ctypes.c_void_p),
        ("sname", ctypes.c_char_p),
        ("saddr", ctypes.c_void_p),
    )


def image_of(address: int) -> str | None:
    """Return the path of the mapped library that an address lies in.

    None where there is none, and on Windows, whose loader is not asked.
    """
    if sys.platform == "win32":
        return None
    info = _DlInfo()
    dladdr = ctypes.CDLL(None)["dladdr"]
    dladdr.argtypes = (ctypes.c_void_p, ctypes.POINTER(_DlInfo))
    if not dladdr(address, ctypes.byref(info)) or info.fname is None:
        return None
    return os.fsdecode(info.fname)


def _macos_images() -> list[str]:
    process = ctypes.CDLL(None)
    count, name_of = process["_dyld_image_count"], process["_dyld_get_image_name"]
    count.restype = ctypes.c_uint32
    name_of.restype = ctypes.c_char_p
    name_of.argtypes = (ctypes.c_uint32,)
    names = (name_of(index) for index in range(count()))
    return [name.decode("utf-8", "surrogateescape") for name in names if name]


def _windows_images() -> list[str]:
    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined, unused-ignore]
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    kernel32.GetModuleFileNameW.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32)
    process = ctypes.c_void_p(kernel32.GetCurrentProcess())
    needed = ctypes.c_uint32()
    modules = (ctypes.c_void_p * 4096)()
    if not kernel32.K32EnumProcessModules(
        process, modules, ctypes.c_uint32(ctypes.sizeof(modules)), ctypes.byref(needed)
    ):
        return []
    count = min(len(modules), needed.value // ctypes.sizeof(ctypes.c_void_p))
    name = ctypes.create_unicode_buffer(32768)
    return [
        name.value
        for module in modules[:count]
        if kernel32.GetModuleFileNameW(module, name, len(name))
    ]


def stem(path: str) -> str:
    """Return a library's name without folder, prefix, version and suffix: ``ggml-base``."""
    name = PurePath(path).name.lower().removeprefix("lib")
    for suffix in (".so", ".dylib", ".dll"):
        name = name.partition(suffix)[0]
    return name.partition(".")[0]
