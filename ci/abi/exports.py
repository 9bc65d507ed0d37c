"""What a shared library exports."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ci.errors import VendorError


def exported_names(library: Path) -> set[str]:
    """Return the names of the C functions that an ELF shared library exports.

    Mangled C++ names are left out.

    Raises:
        VendorError: it is no shared library.
    """
    with library.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym")
        if not isinstance(symbols, SymbolTableSection):
            raise VendorError(f"{library} exports no symbols", cure="build it as a shared library")
        return {
            symbol.name
            for symbol in symbols.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF"
            and symbol["st_info"]["type"] == "STT_FUNC"
            and not symbol.name.startswith("_")
        }
