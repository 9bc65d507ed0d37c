"""Machine instructions: which levels above its machine's baseline a library uses.

The baselines: of x86-64 the psABI's x86-64-v1 (SSE and SSE2), on a Mac Intel's Penryn, for which clang
compiles where nothing else is said (`getX86TargetCPU`); of Linux and Windows on ARM Armv8.0-A with NEON,
of Apple silicon the M1. Detection is by mnemonic, and on ARM by the kinds of its operands,
from the Intel Software Developer's Manual, volume 2, and the Arm Architecture Reference Manual.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import capstone

if TYPE_CHECKING:
    from ci.table import Machine, System

# instructions that a CPU without them does not refuse but runs as another: `tzcnt` as `bsf`
# (only emitted where the result is the same), and those that programs guard with cpuid
_HARMLESS = frozenset({"tzcnt", "xgetbv", "rdtscp"})

_LEVELS = {
    "AVX or newer": re.compile(r"v(?!err|erw|mcall|mread|mwrite|mx)\w+|k(?:mov|or|and|shift|test)\w+|tile\w+|tdp\w+|ldtilecfg"),
    "BMI": re.compile(r"andn|bextr|blsi|blsr|blsmsk|bzhi|pdep|pext|mulx|rorx|sarx|shlx|shrx|lzcnt"),
    "SSE4.2": re.compile(r"pcmpgtq|pcmp[ei]str\w|crc32|popcnt"),
    "SSE4.1": re.compile(
        r"blend(?:v)?p[sd]|pblend(?:vb|w)|dpp[sd]|ptest|pmov[sz]x\w+|pmulld|pmuldq|p(?:min|max)(?:sb|sd|ud|uw)"
        r"|round[ps][sd]|pextr[bdq]|pinsr[bdq]|insertps|extractps|movntdqa|mpsadbw|phminposuw"
        r"|packusdw|pcmpeqq"
    ),
    "SSSE3": re.compile(r"pshufb|ph(?:add|sub)\w+|pabs[bwd]|palignr|pmulhrsw|psign[bwd]|pmaddubsw"),
    "SSE3": re.compile(r"lddqu|(?:addsub|hadd|hsub)p[sd]|movddup|movs[hl]dup|fisttp"),
    "crypto or other": re.compile(r"aes\w+|pclmul\w+|sha(?:1|256)\w+|movbe|adcx|adox|gf2p8\w+"),
}  # fmt: skip
_PENRYN = frozenset({"SSE3", "SSSE3", "SSE4.1"})
_INTEL_MAC_LEVELS = {name: found for name, found in _LEVELS.items() if name not in _PENRYN}

# hints are no operations where the CPU does not know them (paciasp, autiasp, bti, xpaclri): not here
_ARM_LEVELS = {
    "SVE or SME": re.compile(
        r"(?:rdvl|rdsvl|addvl|addpl|addsvl|smstart|smstop|setffr|ptrue|pfalse|pfirst|while\w+"
        r"|(?:cnt|inc|dec|sqinc|sqdec|uqinc|uqdec)[bhwdp]) .*"
        r"|\S+ (?:.*, )?\{?(?:za|[zp][.,/]).*"
    ),
    "matrix multiplication or bfloat16": re.compile(r"(?:(?:[su]|us|bf)mmla|usdot|sudot|bf(?:cvtn?2?|ml\w+|dot|ml[as]l\w?)) .*"),
    "copying in one instruction": re.compile(r"(?:cpyf?[pme]\w*|setg?[pme][tn]*) .*"),
    "dot products": re.compile(r"[su]dot .*"),
    "half-precision arithmetic": re.compile(r"(?!fcvt[ln]?2? )(?:f\w+|[su]cvtf) (?:.*, )?(?:h\b|v\.h).*"),
    "atomics": re.compile(r"(?:casp?|swp|(?:ld|st)(?:add|clr|eor|set|[su]max|[su]min))(?:al?|l)?[bh]? .*"),
    "ordered loads": re.compile(r"(?:ldapu?r\w*|stlur\w*) .*"),
    "rounding multiplication": re.compile(r"sqrdml[as]h .*"),
    "complex numbers": re.compile(r"(?:fcmla|fcadd|fjcvtzs) .*"),
    "cryptography": re.compile(r"(?:aes\w+|sha\d\w+|eor3|bcax|rax1|xar|sm[34]\w+) .*|pmull2? v\.q.*"),
    "checksums": re.compile(r"crc32\w+ .*"),
    "pointer authentication": re.compile(r"(?:(?:pac|aut)[id]z?[ab] |pacga |xpac[id] |(?:br|blr|ldr)a[ab]z? |(?:ret|eret)a[ab] ).*"),
    "flags": re.compile(r"(?:cfinv|setf\d+|rmif|axflag|xaflag|frint(?:32|64)[xz]) .*"),
    "memory tags": re.compile(r"(?:irg|addg|subg|gmi|stg|st2g|stzg|ldg|stgp|subps?) .*"),
}  # fmt: skip
# what the M1 has not
_APPLE_LEVELS = {name: _ARM_LEVELS[name] for name in list(_ARM_LEVELS)[:3]}
_WITHOUT_DIGITS = str.maketrans("", "", string.digits)


def levels_above_baseline(
    code: Iterable[tuple[int, bytes]],
    machine: Machine = "x86_64",
    guarded: frozenset[str] = frozenset(),
    *,
    system: System = "linux",
) -> dict[str, str]:
    """Return what code uses above the baseline of its machine.

    Args:
        code: executable sections as (address, bytes).
        machine: of the table: ``aarch64`` is ARM, ``arm64`` Apple silicon.
        guarded: instructions that it runs only where the CPU says that it has them: on x86-64 by
            their mnemonics, on ARM with the kinds of operands (``cntd x``).
        system: of the table.

    Returns:
        Level by the first instruction found of it (``{"AVX or newer": "vmovaps at 0x1f30"}``);
        empty where everything runs on the first CPU of that kind.
    """
    kinds = _x86_kinds if machine == "x86_64" else _arm_kinds
    levels = {"x86_64": _LEVELS, "aarch64": _ARM_LEVELS, "arm64": _APPLE_LEVELS}[machine]
    if system == "macos" and machine == "x86_64":
        levels = _INTEL_MAC_LEVELS
    found: dict[str, str] = {}
    for address, section in code:
        for where, name, kind in kinds(section, address):
            if name in _HARMLESS or kind in guarded:
                continue
            for level, pattern in levels.items():
                if pattern.fullmatch(kind):
                    found.setdefault(level, f"{name} at {where:#x}")
    return found


def _x86_kinds(section: bytes, address: int) -> Iterator[tuple[int, str, str]]:
    """Yield the first instruction of each mnemonic: its address, mnemonic, and that again."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.skipdata = True
    seen: set[str] = set()
    for where, _, mnemonic, _ in disassembler.disasm_lite(section, address):
        if mnemonic not in seen:
            seen.add(mnemonic)
            name = mnemonic.rsplit(" ", 1)[-1]
            yield where, name, name


def _arm_kinds(section: bytes, address: int) -> Iterator[tuple[int, str, str]]:
    """Yield the first instruction of each kind: ``fadd v.h, v.h, v.h`` is one of ``fadd``."""
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    disassembler.skipdata = True
    seen: set[str] = set()
    for where, _, mnemonic, operands in disassembler.disasm_lite(section, address):
        # what follows # is a number
        kind = f"{mnemonic} {operands.partition('#')[0].translate(_WITHOUT_DIGITS)}"
        if kind not in seen:
            seen.add(kind)
            yield where, mnemonic, kind
