"""Machine instructions: which levels above the x86-64 baseline a library uses.

The baseline is the psABI's x86-64-v1 (SSE and SSE2). Detection is by mnemonic, from the Intel
Software Developer's Manual, volume 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import capstone

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


def levels_above_baseline(
    code: Iterable[tuple[int, bytes]], guarded: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return what x86-64 code uses above the baseline.

    Args:
        code: executable sections as (address, bytes).
        guarded: instructions that it runs only where cpuid has them.

    Returns:
        Level by the first instruction found of it (``{"AVX or newer": "vmovaps at 0x1f30"}``);
        empty where everything runs on the first 64-bit CPU.
    """
    found: dict[str, str] = {}
    for address, section in code:
        disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        disassembler.skipdata = True
        seen: set[str] = set()
        for where, _, mnemonic, _ in disassembler.disasm_lite(section, address):
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
