from __future__ import annotations

import pytest

from ci.emulation import EmulatedCpu, EmulationReport, require_emulator, require_passed, rows
from ci.errors import SmokeError, ToolMissingError


def cpu(name: str, *failures: str, avx: bool = True) -> EmulatedCpu:
    return EmulatedCpu(
        cpu=name,
        avx=avx,
        variant="libggml-cpu-x64.so",
        passed=not failures,
        checks=("import", "devices"),
        failures=failures,
        seconds=61.25,
    )


def report(*cpus: EmulatedCpu) -> EmulationReport:
    return EmulationReport(
        wheel="name.whl",
        sha256="0" * 64,
        emulator="qemu-x86_64 version 7.2.17",
        python="3.11.7",
        passed=bool(cpus) and all(each.passed for each in cpus),
        cpus=cpus,
    )


def test_passed_report_raises_nothing() -> None:
    require_passed(report(cpu("Nehalem")))


@pytest.mark.parametrize(
    ("cpus", "what"),
    [
        pytest.param(
            (cpu("Nehalem", "lora: off", "gil: on"), cpu("Haswell")),
            "name.whl fails on emulated CPUs\n"
            "  Nehalem (libggml-cpu-x64.so): lora: off\n"
            "  Nehalem (libggml-cpu-x64.so): gil: on",
            id="failures",
        ),
        pytest.param((), "name.whl fails on emulated CPUs: there was none", id="no-cpu"),
    ],
)
def test_failures_are_named_by_cpu(cpus: tuple[EmulatedCpu, ...], what: str) -> None:
    with pytest.raises(SmokeError) as caught:
        require_passed(report(*cpus))
    assert caught.value.what == what
    assert caught.value.cure == (
        "run it again on one of them: python -m ci emulate --cpu NAME WHEEL"
    )


def test_summary_has_one_line_per_cpu() -> None:
    assert rows(report(cpu("Nehalem", avx=False), cpu("Haswell", "lora: off"))) == [
        ("Nehalem", "refuses AVX; libggml-cpu-x64.so: 2 checks passed in 61 s"),
        (
            "Haswell",
            "executes AVX; libggml-cpu-x64.so: 2 checks passed, FAILED: lora: off in 61 s",
        ),
    ]


def test_missing_emulator_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissingError) as caught:
        require_emulator()
    assert caught.value.cure == "on Linux install qemu's user mode (Debian: apt install qemu-user)"
