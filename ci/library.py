"""A native library as data: what it needs, calls itself, promises to run on (ELF, PE, Mach-O)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import lief

from ci.fatbin import SECTIONS

# what it passes over it would say hundreds of times
lief.logging.set_level(lief.logging.LEVEL.ERROR)


@dataclass(frozen=True, kw_only=True)
class Library:
    """What a check wants to know of one shared library.

    Attributes:
        needed: libraries that the loader must find (DT_NEEDED, imports, LC_LOAD_DYLIB).
        run_paths: DT_RUNPATH and DT_RPATH, LC_RPATH; None of PE.
        soname: DT_SONAME, LC_ID_DYLIB; None of PE, and of a bundle.
        glibc: the highest version of a symbol of glibc that it needs, as (2, 17).
        symbol_sections: sections that stripping takes away (``.symtab``, ``.debug_info``).
        code: executable sections as (address, bytes).
        cxx_exports: C++ names among the symbols that it shows to others; of ELF alone.
        undefined: symbols that other libraries must have; of ELF alone.
        device_code: where in the file code for GPUs lies, as (offset, bytes).
    """

    needed: tuple[str, ...]
    code: tuple[tuple[int, bytes], ...]
    device_code: tuple[tuple[int, int], ...] = ()
    run_paths: tuple[str, ...] | None = None
    soname: str | None = None
    glibc: tuple[int, int] | None = None
    symbol_sections: tuple[str, ...] = ()
    cxx_exports: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()


def read_library(data: bytes) -> Library | None:
    """Read a shared library; None where it is none."""
    binary = lief.parse(data)
    if isinstance(binary, lief.ELF.Binary):
        return _elf(binary)
    if isinstance(binary, lief.PE.Binary):
        return Library(
            needed=tuple(map(str, binary.libraries)),
            code=tuple(
                (section.virtual_address, bytes(section.content))
                for section in binary.sections
                if section.has_characteristic(lief.PE.Section.CHARACTERISTICS.MEM_EXECUTE)
            ),
            device_code=_device_code(binary),
        )
    if isinstance(binary, lief.MachO.Binary):
        return Library(
            needed=tuple(
                str(library.name)
                for library in binary.libraries
                if library.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB
            ),
            code=tuple(
                (section.virtual_address, bytes(section.content))
                for section in binary.sections
                if (section.segment_name, section.name) == ("__TEXT", "__text")
            ),
            run_paths=tuple(str(command.path) for command in binary.rpaths),
            soname=next(
                (
                    str(library.name)
                    for library in binary.libraries
                    if library.command == lief.MachO.LoadCommand.TYPE.ID_DYLIB
                ),
                None,
            ),
        )
    return None


def musl_name(machine: str) -> str:
    """Return what musl is called by everything that needs it (PEP 656 has no word on it)."""
    return f"libc.musl-{machine}.so.1"


def _elf(binary: lief.ELF.Binary) -> Library:
    run_paths: list[str] = []
    soname = None
    for entry in binary.dynamic_entries:
        if isinstance(entry, lief.ELF.DynamicEntryRunPath):
            run_paths.append(_text(entry.runpath))
        elif isinstance(entry, lief.ELF.DynamicEntryRpath):
            run_paths.append(_text(entry.rpath))
        elif isinstance(entry, lief.ELF.DynamicSharedObject):
            soname = _text(entry.name)
    return Library(
        needed=tuple(map(str, binary.libraries)),
        code=tuple(
            (section.virtual_address, bytes(section.content))
            for section in binary.sections
            if section.has(lief.ELF.Section.FLAGS.EXECINSTR)
        ),
        device_code=_device_code(binary),
        run_paths=tuple(run_paths),
        soname=soname,
        glibc=max(_glibc_versions(binary), default=None),
        symbol_sections=tuple(
            name
            for name in (_text(section.name) for section in binary.sections)
            if name in {".symtab", ".debug_info"}
        ),
        cxx_exports=tuple(
            name
            for name in (_text(symbol.name) for symbol in binary.exported_symbols)
            if name.startswith("_Z")
        ),
        # not lief's imported_symbols: it passes over those whose type the linker could not know
        undefined=tuple(
            _text(symbol.name) for symbol in binary.dynamic_symbols if symbol.shndx == 0
        ),
    )


def _device_code(binary: lief.ELF.Binary | lief.PE.Binary) -> tuple[tuple[int, int], ...]:
    return tuple(
        (section.offset, section.size)
        for section in binary.sections
        if _text(section.name) in SECTIONS
    )


def _glibc_versions(binary: lief.ELF.Binary) -> list[tuple[int, int]]:
    names = [
        _text(needed.name)
        for requirement in binary.symbols_version_requirement
        for needed in requirement.get_auxiliary_symbols()
    ]
    versions = (re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", name) for name in names)
    return [(int(match[1]), int(match[2])) for match in versions if match]


def _text(name: str | bytes) -> str:
    # lief gives bytes where a name is not UTF-8
    return name if isinstance(name, str) else name.decode("utf-8", "replace")
