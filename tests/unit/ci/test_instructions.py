"""Machine instructions: each level is seen, and what every CPU runs is not taken for one."""

from __future__ import annotations

import pytest

from ci.instructions import levels_above_baseline

# the assembler's words for them, as ids; the code is what zig's assembler makes of them
ARM = {
    "casal x0, x1, [x2]": (0xC8E0FC41, "atomics"),
    "ldadd w0, w1, [x2]": (0xB8200041, "atomics"),
    "stadd w0, [x1]": (0xB820003F, "atomics"),
    "sdot v0.4s, v1.16b, v2.16b": (0x4E829420, "dot products"),
    "udot v0.2s, v1.8b, v2.8b": (0x2E829420, "dot products"),
    "fadd v0.8h, v1.8h, v2.8h": (0x4E421420, "half-precision arithmetic"),
    "fadd h0, h1, h2": (0x1EE22820, "half-precision arithmetic"),
    "fcvtzs w0, h0": (0x1EF80000, "half-precision arithmetic"),
    "scvtf h0, w0": (0x1EE20000, "half-precision arithmetic"),
    "fmlal v0.4s, v1.4h, v2.4h": (0x4E22EC20, "half-precision arithmetic"),
    "smmla v0.4s, v1.16b, v2.16b": (0x4E82A420, "matrix multiplication or bfloat16"),
    "usdot v0.4s, v1.16b, v2.16b": (0x4E829C20, "matrix multiplication or bfloat16"),
    "bfdot v0.4s, v1.8h, v2.8h": (0x6E42FC20, "matrix multiplication or bfloat16"),
    "bfcvt h0, s0": (0x1E634000, "matrix multiplication or bfloat16"),
    "add z0.s, z1.s, z2.s": (0x04A20020, "SVE or SME"),
    "ld1w {z0.s}, p0/z, [x0]": (0xA540A000, "SVE or SME"),
    "faddv s0, p0, z0.s": (0x65802000, "SVE or SME"),
    "ptrue p0.s": (0x2598E3E0, "SVE or SME"),
    "cntw x0": (0x04A0E3E0, "SVE or SME"),
    "rdvl x0, #1": (0x04BF5020, "SVE or SME"),
    "smstart": (0xD503477F, "SVE or SME"),
    "smopa za0.s, p0/m, p1/m, z0.b, z1.b": (0xA0812000, "SVE or SME"),
    "cpyfp [x0]!, [x1]!, x2!": (0x19010440, "copying in one instruction"),
    "fcmla v0.4s, v1.4s, v2.4s, #90": (0x6E82CC20, "complex numbers"),
    "fjcvtzs w0, d0": (0x1E7E0000, "complex numbers"),
    "ldapr x0, [x1]": (0xF8BFC020, "ordered loads"),
    "sqrdmlah v0.4s, v1.4s, v2.4s": (0x6E828420, "rounding multiplication"),
    "crc32x w0, w1, x2": (0x9AC24C20, "checksums"),
    "aese v0.16b, v1.16b": (0x4E284820, "cryptography"),
    "pmull v0.1q, v1.1d, v2.1d": (0x0EE2E020, "cryptography"),
    "eor3 v0.16b, v1.16b, v2.16b, v3.16b": (0xCE020C20, "cryptography"),
    "retaa": (0xD65F0BFF, "pointer authentication"),
    "pacia x0, x1": (0xDAC10020, "pointer authentication"),
    "frint32x s0, s1": (0x1E28C020, "flags"),
    "setf8 w0": (0x3A00080D, "flags"),
    "addg x0, x0, #0, #0": (0x91800000, "memory tags"),
}
# what the M1 has none of
NOT_APPLE = {"matrix multiplication or bfloat16", "SVE or SME", "copying in one instruction"}

ARM_BASELINE = {
    "paciasp, a hint": 0xD503233F,
    "autiasp, a hint": 0xD50323BF,
    "bti c, a hint": 0xD503245F,
    "xpaclri, a hint": 0xD50320FF,
    "ldaxr x0, [x1]": 0xC85FFC20,
    "stlxr w0, x1, [x2]": 0xC800FC41,
    "fcvt h0, s1": 0x1E23C020,
    "fcvtl v0.4s, v1.4h": 0x0E217820,
    "fcvtn2 v0.8h, v1.4s": 0x4E216820,
    "ldr h0, [x0]": 0x7D400000,
    "add v0.8h, v1.8h, v2.8h": 0x4E628420,
    "dup v0.8h, w0": 0x4E020C00,
    "fmla v0.4s, v1.4s, v2.s[0]": 0x4F821020,
    "smlal v0.4s, v1.4h, v2.4h": 0x0E628020,
    "csetm w0, eq": 0x5A9F13E0,
    "stp x0, x1, [sp]": 0xA90007E0,
}
NOP = (0xD503201F).to_bytes(4, "little")


def arm(word: int) -> list[tuple[int, bytes]]:
    return [(0x1000, NOP + word.to_bytes(4, "little"))]


@pytest.mark.parametrize("text", ARM)
def test_what_only_newer_arm_cpus_run_is_seen(text: str) -> None:
    word, level = ARM[text]
    mnemonic = text.split(maxsplit=1)[0]

    found = {level: f"{mnemonic} at 0x1004"}

    assert levels_above_baseline(arm(word), "aarch64") == found
    assert levels_above_baseline(arm(word), "arm64") == (found if level in NOT_APPLE else {})


def test_a_guarded_kind_is_that_of_its_operands_alone() -> None:
    kinds = frozenset({"cntd x", "str za[w, ], [x]"})
    # str za[w15, 0], [x16]; str z0, [x0]
    assert levels_above_baseline(arm(0xE1206200), "aarch64", kinds) == {}
    assert levels_above_baseline(arm(0xE5804000), "aarch64", kinds) == {
        "SVE or SME": "str at 0x1004"
    }


@pytest.mark.parametrize("text", ARM_BASELINE)
def test_what_every_arm_cpu_runs_is_no_level(text: str) -> None:
    assert levels_above_baseline(arm(ARM_BASELINE[text]), "aarch64") == {}


# Intel SDM, volume 2
X86 = {
    "vaddps ymm0, ymm1, ymm2": ("c5f458c2", "AVX or newer"),
    "popcnt eax, ecx": ("f30fb8c1", "SSE4.2"),
    "pmulld xmm0, xmm1": ("660f3840c1", "SSE4.1"),
    "pshufb xmm0, xmm1": ("660f3800c1", "SSSE3"),
    "haddps xmm0, xmm1": ("f20f7cc1", "SSE3"),
    "lzcnt eax, ecx": ("f30fbdc1", "BMI"),
    "aesenc xmm0, xmm1": ("660f38dcc1", "crypto or other"),
}


@pytest.mark.parametrize("text", X86)
def test_what_only_newer_x86_cpus_run_is_seen(text: str) -> None:
    code, level = X86[text]
    mnemonic = text.split(maxsplit=1)[0]
    section = [(0x1000, b"\x90" + bytes.fromhex(code))]

    assert levels_above_baseline(section, "x86_64") == {level: f"{mnemonic} at 0x1001"}
    assert levels_above_baseline(section, "x86_64", frozenset({mnemonic})) == {}
    # every Mac has had the Penryn's
    on_a_mac = levels_above_baseline(section, "x86_64", system="macos")
    assert bool(on_a_mac) == (level not in {"SSE3", "SSSE3", "SSE4.1"})


@pytest.mark.parametrize("code", ["0f58c1", "660ffec1", "f3a4", "f30fbcc1"])
def test_what_every_x86_cpu_runs_is_no_level(code: str) -> None:
    assert levels_above_baseline([(0, bytes.fromhex(code))], "x86_64") == {}
