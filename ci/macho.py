"""Mach-O libraries as zig's linker leaves them, and what repair does about it."""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import lief

from ci.errors import WheelError

# <mach-o/loader.h>: S_NON_LAZY_SYMBOL_POINTERS, S_LAZY_SYMBOL_POINTERS, S_SYMBOL_STUBS
_LAZY = lief.MachO.Section.TYPE.LAZY_SYMBOL_POINTERS
_POINTERS = (lief.MachO.Section.TYPE.NON_LAZY_SYMBOL_POINTERS, _LAZY)
_STUBS = lief.MachO.Section.TYPE.SYMBOL_STUBS
_LOCAL = 0x80000000  # INDIRECT_SYMBOL_LOCAL
_EXTERNAL = 0x01  # N_EXT of <mach-o/nlist.h>
_POINTER_SIZE = 8

# <kern/cs_blobs.h>, in the order of bytes of a network
_SUPER_BLOB, _CODE_DIRECTORY = 0xFADE0CC0, 0xFADE0C02
_HASHES = {1: ("sha1", 20), 2: ("sha256", 32), 3: ("sha256", 20), 4: ("sha384", 48)}


@dataclass(frozen=True)
class _Page:
    """One page that a code directory vouches for: where its hash lies, and what it is to be."""

    place: slice
    hash: bytes


def read_binary(data: bytes) -> lief.MachO.Binary | None:
    """Read a library for one machine; None where it is none."""
    # it says of each entry beyond the last symbol that it is
    with lief.logging.level_scope(lief.logging.LEVEL.CRITICAL):
        binary = lief.parse(data)
    return binary if isinstance(binary, lief.MachO.Binary) and not binary.fat_offset else None


def with_indirect_symbols(data: bytes) -> bytes:
    """Return a library for one machine with its table of indirect symbols as its bindings have it.

    The table (``LC_DYSYMTAB``) has one entry for each stub and each pointer to a symbol: which symbol
    it is, or `_LOCAL` where the library needs none for it. zig 0.17 passes over the local ones, so that
    all that follow stand too early, and leaves as many entries at the end as they were in the memory
    that it was given. dyld binds by ``LC_DYLD_INFO``; debuggers and disassemblers name stubs by this.

    ``LC_UUID`` and the pages' hashes of an ad-hoc signature, which both come of the bytes, are made anew.

    Raises:
        WheelError: it has not as many stubs as lazy pointers.
    """
    binary = read_binary(data)
    if binary is None or binary.dynamic_symbol_command is None:
        return data
    place, entries = binary.dynamic_symbol_command.indirect_symbol_offset, _entries(binary)
    made = bytearray(data)
    struct.pack_into(f"<{len(entries)}I", made, place, *entries)
    if bytes(made) == data:
        return data
    signature = binary.code_signature
    end = len(made) if signature is None else signature.data_offset
    if binary.uuid is not None:
        # as linkers do: MD5 of what comes before the signature, in the form of a name-based UUID
        start = binary.uuid.command_offset + 8
        made[start : start + 16] = bytes(16)
        digest = hashlib.md5(made[:end], usedforsecurity=False).digest()
        made[start : start + 16] = uuid.UUID(bytes=digest, version=3).bytes
    for page in _pages(bytes(made), binary):
        made[page.place] = page.hash
    return bytes(made)


def signature_problems(name: str, data: bytes) -> Iterator[str]:
    """Say where a library's signature is not of its bytes, or is missing on Apple's own processors.

    Their kernel ends a process that runs a page whose hash is another one.
    """
    file = lief.MachO.parse(data)
    for binary in file or ():
        if binary.code_signature is None:
            if binary.header.cpu_type == lief.MachO.Header.CPU_TYPE.ARM64:
                yield f"{name} is not signed: Apple silicon loads no library without a signature"
            continue
        part = data[binary.fat_offset :]
        try:
            pages = list(_pages(part, binary))
        except struct.error:
            pages = []
        wrong = [page for page in pages if part[page.place] != page.hash]
        if not pages:
            yield f"{name} has a signature that vouches for none of its bytes"
        elif wrong:
            yield (
                f"{name} was changed after it was signed, in {len(wrong)} of {len(pages)} pages: macOS"
                " ends a process that runs it"
            )


def _entries(binary: lief.MachO.Binary) -> list[int]:
    command = binary.dynamic_symbol_command
    assert command is not None
    entries = [_LOCAL] * command.nb_indirect_symbols
    in_table = [each for each in binary.symbols if each.origin == lief.MachO.Symbol.ORIGIN.SYMTAB]
    numbers = {
        each.name: number for number, each in enumerate(in_table) if each.raw_type & _EXTERNAL
    }
    bound = {each.address: each.symbol.name for each in binary.bindings if each.symbol is not None}
    stubs, lazy = list[range](), list[int]()
    for section in binary.sections:
        first = section.reserved1
        if section.type in _POINTERS:
            for number in range(section.size // _POINTER_SIZE):
                name = bound.get(section.virtual_address + number * _POINTER_SIZE)
                # zig binds weakly what is hidden as well, and has no symbol for it once stripped
                entries[first + number] = _LOCAL if name is None else numbers.get(name, _LOCAL)
            if section.type == _LAZY:
                lazy += entries[first : first + section.size // _POINTER_SIZE]
        elif section.type == _STUBS:
            stubs.append(range(first, first + section.size // section.reserved2))
    # zig's stubs and lazy pointers are of the same symbols in the same order
    places = [place for each in stubs for place in each]
    if len(places) != len(lazy):
        raise WheelError(
            f"a library of macOS has {len(places)} stubs for {len(lazy)} lazy pointers",
            cure="this version of ziglang may link in another way: see ci/macho.py",
        )
    for place, entry in zip(places, lazy, strict=True):
        entries[place] = entry
    return entries


def _pages(data: bytes, binary: lief.MachO.Binary) -> Iterator[_Page]:
    """Yield every page of a signature's code directories; none where there is no signature."""
    if binary.code_signature is None:
        return
    start = binary.code_signature.data_offset
    magic, _, count = struct.unpack_from(">3I", data, start)
    if magic != _SUPER_BLOB:
        return
    for number in range(count):
        _, offset = struct.unpack_from(">2I", data, start + 12 + 8 * number)
        directory = start + offset
        if struct.unpack_from(">I", data, directory) != (_CODE_DIRECTORY,):
            continue
        hashes, _, _, slots, limit = struct.unpack_from(">5I", data, directory + 16)
        size, kind, _, page_bits = struct.unpack_from(">4B", data, directory + 36)
        if kind not in _HASHES or size != _HASHES[kind][1]:
            continue
        name = _HASHES[kind][0]
        # 0: the whole file is one
        length = 1 << page_bits if page_bits else limit
        if not 0 < limit <= len(data) or slots != -(-limit // length):
            continue
        for slot in range(slots):
            page = data[slot * length : min((slot + 1) * length, limit)]
            at = directory + hashes + slot * size
            yield _Page(slice(at, at + size), hashlib.new(name, page).digest()[:size])
