from __future__ import annotations

from pathlib import Path

import pytest

from ci.emulation import EmulatedCpu, EmulationReport, emulate, require_passed, rows
from ci.errors import SmokeError, UsageError
from ci.progress import Progress
from ci.table import load_table
from tests.wheels import write_wheel


def cpu(name: str, *failures: str, executes: bool = True) -> EmulatedCpu:
    return EmulatedCpu(
        cpu=name,
        executes=executes,
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
        instruction="AVX",
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
    assert rows(report(cpu("Nehalem", executes=False), cpu("Haswell", "lora: off"))) == [
        ("Nehalem", "refuses AVX; libggml-cpu-x64.so: 2 checks passed in 61 s"),
        (
            "Haswell",
            "executes AVX; libggml-cpu-x64.so: 2 checks passed, FAILED: lora: off in 61 s",
        ),
    ]


def test_a_wheel_without_an_emulated_python_names_the_cure(tmp_path: Path) -> None:
    target = load_table().target("cpu", "musllinux_aarch64")
    wheel = write_wheel(tmp_path, platform=target.wheel_tag)
    with pytest.raises(UsageError) as caught:
        emulate(wheel, target, ["max"], Progress())
    assert str(caught.value) == (
        f"{wheel.name} is for Linux aarch64 (musl, Alpine): there is no Python for it to emulate"
        "\n  -> name a manylinux wheel"
    )
