"""Code for GPUs inside a library: which architectures it is for, read from the file itself.

Sources: for CUDA the structures ``fatBinaryHeader`` and what ``cuobjdump`` says of it (the flags of
an entry are seen there alone); for HIP "Clang Offload Bundler" in clang's documentation, the
chapters "Bundled Binary File Layout" and "Compression and Decompression".
"""

from __future__ import annotations

import importlib
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# what a linker leaves of the names: PE has room for eight characters
SECTIONS: Final = frozenset({".nv_fatbin", ".nv_fatb", "__nv_relfatbin", ".hip_fatbin", ".hip_fat"})

_NVIDIA = b"\x50\xed\x55\xba"
_NVIDIA_HEADER = struct.Struct("<4sHHQ")
# kind, size of the header, size of the payload, architecture, flags
_NVIDIA_ENTRY = struct.Struct("<H2xIQ12xI8xQ")
_NVIDIA_VERSION = 1
_PTX = 1
_CUBINS = frozenset({2, 16})
# sm_90a runs on that very GPU alone, sm_120f on those of its family
_ARCHITECTURE_SPECIFIC = 1 << 20
_FAMILY_SPECIFIC = 1 << 21

_BUNDLE = b"__CLANG_OFFLOAD_BUNDLE__"
_BUNDLE_COUNT = struct.Struct("<24sQ")
_BUNDLE_ENTRY = struct.Struct("<QQQ")
_COMPRESSED = b"CCOB"
_COMPRESSED_HEAD = struct.Struct("<4sHH")
# size of the whole, size unpacked, hash
_COMPRESSED_SIZES = {2: struct.Struct("<IIQ"), 3: struct.Struct("<QQQ")}
_ZLIB, _ZSTD = 0, 1


class FatbinError(ValueError):
    """The code for GPUs is not in a form that this module knows."""


@dataclass(frozen=True, kw_only=True)
class DeviceCode:
    """The code for GPUs in one library.

    Architectures are called as in the table: ``90`` is machine code, ``90-virtual`` is PTX,
    ``120a`` is for that GPU alone; HIP's are ``gfx1100``, ``gfx90a:xnack+``.

    Attributes:
        sizes: bytes by architecture; as they lie in the library, compressed ones of HIP unpacked.
        containers: how many there are; the linker puts one in for each file with kernels.
        lacking: how many containers lack an architecture that others have.
        unread: how many of them are compressed with zstd, which this Python cannot unpack: their
            architectures are not known. Python 3.14 can, or ``backports.zstd`` beside an older one.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    containers: int = 0
    lacking: dict[str, int] = field(default_factory=dict)
    unread: int = 0

    @property
    def architectures(self) -> tuple[str, ...]:
        """All of them, sorted as people count: 75, 90, 90-virtual, 120a."""
        return tuple(sorted(self.sizes, key=architecture_order))


def architecture_order(name: str) -> tuple[int, str]:
    """Return what to sort architectures by: the number first."""
    number = re.search(r"\d+", name)
    return (int(number[0]) if number else 0, name)


def read_device_code(sections: Sequence[memoryview]) -> DeviceCode:
    """Read the sections of a library that hold code for GPUs.

    Args:
        sections: contents of those called as in ``SECTIONS``.

    Raises:
        FatbinError: there is something else in them, or they are cut off.
    """
    sizes: Counter[str] = Counter()
    having: Counter[str] = Counter()
    containers = unread = 0
    for section in sections:
        for entries in _containers(section):
            containers += 1
            if entries is None:
                unread += 1
                continue
            having.update({architecture for architecture, _ in entries})
            for architecture, size in entries:
                sizes[architecture] += size
    return DeviceCode(
        sizes=dict(sizes),
        containers=containers,
        lacking={
            architecture: containers - unread - count
            for architecture, count in having.items()
            if count < containers - unread
        },
        unread=unread,
    )


def _containers(section: memoryview) -> Iterator[list[tuple[str, int]] | None]:
    """Yield the entries of each container as (architecture, bytes); None where unreadable."""
    offset = 0
    while offset < len(section):
        # the linker's, between containers and at the end
        if padding := _PADDING.match(section, offset):
            offset = padding.end()
            continue
        rest = section[offset:]
        read = next((read for magic, read in _FORMATS.items() if rest[: len(magic)] == magic), None)
        if read is None:
            raise FatbinError(f"there is no container of code for GPUs at {offset:#x}")
        try:
            entries, size = read(rest)
        except struct.error:
            size = len(rest) + 1
        if size > len(rest):
            raise FatbinError(f"the container of code for GPUs at {offset:#x} is cut off")
        yield entries
        offset += size


def _nvidia(data: memoryview) -> tuple[list[tuple[str, int]], int]:
    """Read a container of nvcc's; return its entries and its size."""
    _, version, start, size = _NVIDIA_HEADER.unpack_from(data)
    if version != _NVIDIA_VERSION:
        raise FatbinError(f"containers of version {version} are not known")
    end = start + size
    entries: list[tuple[str, int]] = []
    while start < end:
        kind, header, payload, number, flags = _NVIDIA_ENTRY.unpack_from(data, start)
        if kind != _PTX and kind not in _CUBINS:
            raise FatbinError(f"entries of kind {kind} are not known")
        if header < _NVIDIA_ENTRY.size:
            raise FatbinError(f"an entry has a header of {header} bytes")
        suffix = "a" if flags & _ARCHITECTURE_SPECIFIC else "f" if flags & _FAMILY_SPECIFIC else ""
        virtual = "-virtual" if kind == _PTX else ""
        entries.append((f"{number}{suffix}{virtual}", payload))
        start += header + payload
    return entries, start


def _bundle(data: memoryview) -> tuple[list[tuple[str, int]], int]:
    """Read clang's bundle of code objects; return the GPUs' and its size."""
    _, count = _BUNDLE_COUNT.unpack_from(data)
    at = end = _BUNDLE_COUNT.size
    entries: list[tuple[str, int]] = []
    for _ in range(count):
        offset, size, length = _BUNDLE_ENTRY.unpack_from(data, at)
        at += _BUNDLE_ENTRY.size
        name = bytes(data[at : at + length]).decode("utf-8", "replace")
        at += length
        end = max(end, at, offset + size)
        # hipv4-amdgcn-amd-amdhsa--gfx90a:xnack+, or the host's, which is empty
        if target := re.search(r"-(gfx[^/]+)$", name):
            entries.append((target[1], size))
    return entries, end


def _compressed_bundle(data: memoryview) -> tuple[list[tuple[str, int]] | None, int]:
    """Read a compressed bundle; None instead of entries where it cannot be unpacked."""
    _, version, method = _COMPRESSED_HEAD.unpack_from(data)
    if version not in _COMPRESSED_SIZES:
        raise FatbinError(f"compressed bundles of version {version} are not known")
    sizes = _COMPRESSED_SIZES[version]
    size, unpacked, _ = sizes.unpack_from(data, _COMPRESSED_HEAD.size)
    start = _COMPRESSED_HEAD.size + sizes.size
    if not start < size <= len(data):
        return [], len(data) + 1
    unpack = {_ZLIB: zlib.decompress, _ZSTD: _zstd()}.get(method)
    if unpack is None:
        if method == _ZSTD:
            return None, size
        raise FatbinError(f"compressed bundles of method {method} are not known")
    try:
        bundle = unpack(bytes(data[start:size]))
    except Exception as error:  # each library has an error of its own
        raise FatbinError(f"a compressed bundle does not unpack: {error}") from error
    if len(bundle) != unpacked or not bundle.startswith(_BUNDLE):
        raise FatbinError("a compressed bundle holds something else than a bundle")
    return _bundle(memoryview(bundle))[0], size


def _zstd() -> Callable[[bytes], bytes] | None:
    """Return the function of Python 3.14's library, or of its backport; None where neither is."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        decompress: Callable[[bytes], bytes] = module.decompress
        return decompress
    return None


_PADDING = re.compile(rb"\0+")
_FORMATS = {_NVIDIA: _nvidia, _BUNDLE: _bundle, _COMPRESSED: _compressed_bundle}
