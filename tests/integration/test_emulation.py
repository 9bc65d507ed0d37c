"""The finished wheel on CPUs without AVX and with AVX2, under qemu's user mode."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ci.emulation import EmulatedCpu, emulate, executes
from ci.errors import ToolMissingError, UsageError
from ci.guest import require_emulator, write_program
from ci.host import host_platform
from ci.interpreters import probe
from ci.progress import Progress
from ci.table import Target, load_table

pytestmark = pytest.mark.emulation


@pytest.fixture(scope="module", autouse=True)
def emulator() -> Path:
    """qemu's user mode; without it these tests fail and say what to install."""
    try:
        return require_emulator(platform.machine())
    except ToolMissingError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="module")
def target() -> Target:
    table = load_table()
    return table.target("cpu", host_platform(table).name)


@pytest.fixture(scope="module")
def cpus(emulator: Path, wheel: Path, target: Target) -> dict[str, EmulatedCpu]:
    """What the wheel did on each CPU."""
    report = emulate(wheel, target, ("Nehalem", "Haswell"), Progress())
    return {result.cpu: result for result in report.cpus}


@pytest.mark.parametrize(
    ("cpu", "executed", "variant"),
    [
        pytest.param("Nehalem", False, "libggml-cpu-sse42.so", id="no-avx"),
        pytest.param("Haswell", True, "libggml-cpu-haswell.so", id="avx2"),
    ],
)
def test_known_tokens_come_from_the_cpu_s_own_variant(
    cpus: dict[str, EmulatedCpu], cpu: str, executed: bool, variant: str
) -> None:
    result = cpus[cpu]
    assert result.failures == ()
    assert "greedy tokens" in result.checks
    assert (result.passed, result.executes, result.variant) == (True, executed, variant)


@pytest.mark.parametrize(
    ("cpu", "avx"),
    [("qemu64", False), ("Nehalem", False), ("SandyBridge", True), ("Haswell", True)],
)
def test_emulator_refuses_what_the_cpu_does_not_have(
    emulator: Path, tmp_path: Path, cpu: str, avx: bool
) -> None:
    here = probe(Path(sys.executable))
    assert here is not None
    emulated = tmp_path / "python"
    write_program(emulated, [str(emulator), str(here.path.resolve())])
    assert executes(replace(here, path=emulated), "x86_64", cpu) is avx


def test_unknown_cpu_names_the_cure(emulator: Path, wheel: Path, target: Target) -> None:
    with pytest.raises(UsageError) as caught:
        emulate(wheel, target, ("Nehalem", "Z80"), Progress())
    assert str(caught.value) == (
        f"{emulator.name} does not emulate 'Z80': "
        f"{emulator.name}: unable to find CPU model 'Z80'\n"
        f"  -> choose a CPU that `{emulator.name} -cpu help` lists"
    )
