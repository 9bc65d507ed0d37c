"""Machine instructions: which levels above the x86-64 baseline a library uses.

The baseline is the psABI's x86-64-v1 (SSE and SSE2). Detection is by mnemonic, from the Intel
Software Developer's Manual, volume 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import capstone
import lief

# instructions that a CPU without them does not refuse but runs as another: `tzcnt` as `bsf`
# (only emitted where the result is the same), and those that programs guard with cpuid
_HARMLESS = frozenset({"tzcnt", "xgetbv", "rdtscp"})

_LEVELS = {
    "AVX or newer": re.compile(r"v(?!err|erw|mcall|mread|mwrite|mx)\w+|k(?:mov|or|and|shift|test)\w+|tile\w+|tdp\w+|ldtilecfg"),
    "BMI": re.compile(r"andn|bextr|blsi|blsr|blsmsk|bzhi|pdep|pext|mulx|rorx|sarx|shlx|shrx|lzcnt"),
    "SSE4": re.compile(
        r"blend(?:v)?p[sd]|pblend(?:vb|w)|dpp[sd]|ptest|pmov[sz]x\w+|pmulld|pmuldq|p(?:min|max)(?:sb|sd|ud|uw)"
        r"|round[ps][sd]|pextr[bdq]|pinsr[bdq]|insertps|extractps|movntdqa|mpsadbw|phminposuw"
        r"|packusdw|pcmpeqq|pcmpgtq|pcmp[ei]str\w|crc32|popcnt"
    ),
    "SSSE3": re.compile(r"pshufb|ph(?:add|sub)\w+|pabs[bwd]|palignr|pmulhrsw|psign[bwd]|pmaddubsw"),
    "SSE3": re.compile(r"lddqu|(?:addsub|hadd|hsub)p[sd]|movddup|movs[hl]dup|fisttp"),
    "crypto or other": re.compile(r"aes\w+|pclmul\w+|sha(?:1|256)\w+|movbe|adcx|adox|gf2p8\w+"),
}  # fmt: skip


def levels_above_baseline(library: bytes, guarded: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return what an x86-64 ELF, PE or Mach-O library uses above the baseline.

    Args:
        library: the file.
        guarded: instructions that this library runs only where cpuid has them.

    Returns:
        Level by the first instruction found of it (``{"AVX or newer": "vmovaps at 0x1f30"}``);
        empty where everything runs on the first 64-bit CPU.
    """
    found: dict[str, str] = {}
    for address, code in _executable_sections(library):
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        disassembler.skipdata = True
        seen: set[str] = set()
        for where, _, mnemonic, _ in disassembler.disasm_lite(code, address):
            if mnemonic in seen:
                continue
            seen.add(mnemonic)
            name = mnemonic.rsplit(" ", 1)[-1]
            if name in _HARMLESS or name in guarded:
                continue
            for level, pattern in _LEVELS.items():
                if pattern.fullmatch(name):
                    found.setdefault(level, f"{name} at {where:#x}")
    return found


def _executable_sections(library: bytes) -> Iterator[tuple[int, bytes]]:
    binary = lief.parse(library)
    if isinstance(binary, lief.ELF.Binary):
        for section in binary.sections:
            if section.has(lief.ELF.Section.FLAGS.EXECINSTR):
                yield section.virtual_address, bytes(section.content)
    elif isinstance(binary, lief.PE.Binary):
        for pe_section in binary.sections:
            if pe_section.has_characteristic(lief.PE.Section.CHARACTERISTICS.MEM_EXECUTE):
                yield pe_section.virtual_address, bytes(pe_section.content)
    elif isinstance(binary, lief.MachO.Binary):
        for macho_section in binary.sections:
            if macho_section.segment_name == "__TEXT" and macho_section.name == "__text":
                yield macho_section.virtual_address, bytes(macho_section.content)
