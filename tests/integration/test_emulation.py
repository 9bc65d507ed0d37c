"""The finished wheel on CPUs without AVX and with AVX2, under qemu's user mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ci.emulation import EmulatedCpu, emulate, executes_avx, require_emulator
from ci.errors import ToolMissingError, UsageError
from ci.progress import Progress

pytestmark = pytest.mark.emulation


@pytest.fixture(scope="module", autouse=True)
def emulator() -> Path:
    """qemu's user mode; without it these tests fail and say what to install."""
    try:
        return require_emulator()
    except ToolMissingError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def cpus(emulator: Path, wheel: Path) -> dict[str, EmulatedCpu]:
    """What the wheel did on each CPU."""
    report = emulate(wheel, ("Nehalem", "Haswell"), Progress())
    return {result.cpu: result for result in report.cpus}


@pytest.mark.parametrize(
    ("cpu", "avx", "variant"),
    [
        pytest.param("Nehalem", False, "libggml-cpu-sse42.so", id="no-avx"),
        pytest.param("Haswell", True, "libggml-cpu-haswell.so", id="avx2"),
    ],
)
def test_known_tokens_come_from_the_cpu_s_own_variant(
    cpus: dict[str, EmulatedCpu], cpu: str, avx: bool, variant: str
) -> None:
    result = cpus[cpu]
    assert result.failures == ()
    assert "greedy tokens" in result.checks
    assert (result.passed, result.avx, result.variant) == (True, avx, variant)


@pytest.mark.parametrize(
    ("cpu", "avx"),
    [("qemu64", False), ("Nehalem", False), ("SandyBridge", True), ("Haswell", True)],
)
def test_emulator_refuses_what_the_cpu_does_not_have(emulator: Path, cpu: str, avx: bool) -> None:
    assert executes_avx((str(emulator), "-cpu", cpu), Path(sys.executable)) is avx


def test_unknown_cpu_names_the_cure(emulator: Path, wheel: Path) -> None:
    with pytest.raises(UsageError) as caught:
        emulate(wheel, ("Nehalem", "Z80"), Progress())
    assert str(caught.value) == (
        f"{emulator.name} does not emulate 'Z80': "
        f"{emulator.name}: unable to find CPU model 'Z80'\n"
        f"  -> choose a CPU that `{emulator.name} -cpu help` lists"
    )
