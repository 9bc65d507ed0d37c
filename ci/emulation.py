"""Emulation: the finished wheel on CPUs that this machine is not, under qemu's user mode."""

from __future__ import annotations

import json
import platform as python_platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ci import paths
from ci.errors import SmokeError, ToolMissingError, UsageError
from ci.interpreters import Interpreter, probe
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.smoke import prove_on, write_models
from ci.wheel import read_wheel, split_variant

# no AVX at all (twice), AVX2, and everything that this qemu can do
CPUS = ("qemu64", "Nehalem", "Haswell", "max")

# vxorps ymm0, ymm0, ymm0; vzeroupper; ret. Without this control a run on a CPU without AVX could
# pass because the emulator executes what that CPU does not have.
_AVX = (
    "import ctypes, mmap;"
    "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC);"
    "page.write(bytes.fromhex('c5fc57c0' 'c5f877' 'c3'));"
    "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()"
)


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """One CPU: ``avx`` is whether it executed an AVX instruction, ``failures`` which checks failed.

    ``variant`` is the file name of the CPU variant that was picked; None where none was.
    """

    cpu: str
    avx: bool | None
    variant: str | None
    passed: bool
    checks: tuple[str, ...]
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EmulationReport:
    """What a wheel did on each CPU; ``avx`` of a CPU is None on machines other than x86-64."""

    wheel: str
    sha256: str
    emulator: str
    python: str
    passed: bool
    cpus: tuple[EmulatedCpu, ...]


def emulate(wheel: Path, cpus: Sequence[str], progress: Progress) -> EmulationReport:
    """Run the smoke test of an installed wheel on each emulated CPU, by this Python.

    Only the test itself is emulated; the environments are made natively.

    Raises:
        ToolMissingError: qemu's user mode is not on this machine.
        UsageError: it knows no such CPU, or the wheel is for another machine.
        WheelError: the wheel is damaged.
    """
    qemu = require_emulator()
    for cpu in cpus:
        _require_cpu(qemu, cpu)
    found = read_wheel(wheel)
    machine = python_platform.machine()
    if not Path(split_variant(found.path.name)[0]).stem.endswith(machine):
        raise UsageError(
            f"{found.path.name} does not install on this machine ({machine})",
            cure="emulate it on a machine that it installs on: the emulated CPUs are of one kind",
        )
    interpreter = probe(Path(sys.executable))
    if interpreter is None:
        raise UsageError(
            f"{sys.executable} cannot make an environment",
            cure="install venv for it (Debian: apt install python3-venv)",
        )
    with tempfile.TemporaryDirectory(prefix="emulation-") as folder:
        models = Path(folder) / "models"
        write_models(models)

        def prove(cpu: str) -> EmulatedCpu:
            result = _prove(
                wheel, interpreter, Path(folder) / cpu, models, (str(qemu), "-cpu", cpu)
            )
            progress.step(f"{cpu}: {result.variant}, {'ok' if result.passed else 'FAILED'}")
            return result

        with ThreadPoolExecutor(max_workers=2) as pool:
            results = tuple(pool.map(prove, cpus))
    return EmulationReport(
        wheel=found.path.name,
        sha256=found.sha256,
        emulator=run([qemu, "--version"]).splitlines()[0],
        python=interpreter.version,
        passed=bool(results) and all(result.passed for result in results),
        cpus=results,
    )


def require_emulator() -> Path:
    """Return qemu's user mode emulator of this machine's own architecture.

    Raises:
        ToolMissingError: it is not on PATH, or this is not Linux.
    """
    name = f"qemu-{python_platform.machine()}"
    found = shutil.which(name) if sys.platform == "linux" else None
    if found is None:
        raise ToolMissingError(
            f"there is no {name} on this machine",
            cure="on Linux install qemu's user mode (Debian: apt install qemu-user)",
        )
    return Path(found)


def require_passed(report: EmulationReport) -> None:
    """Raise what failed, if anything did.

    Raises:
        SmokeError: a check failed on some CPU, or there was no CPU at all.
    """
    if report.passed:
        return
    lines = [
        f"\n  {result.cpu} ({result.variant}): {failure}"
        for result in report.cpus
        for failure in result.failures
    ]
    raise SmokeError(
        f"{report.wheel} fails on emulated CPUs{'' if report.cpus else ': there was none'}"
        + "".join(lines),
        cure="run it again on one of them: python -m ci emulate --cpu NAME WHEEL",
    )


def write_report(report: EmulationReport) -> Path:
    """Write the report to ``build/emulation/<wheel>.json`` and return where."""
    place = paths.BUILD / "emulation" / f"{report.wheel}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return place


def rows(report: EmulationReport) -> list[tuple[str, str]]:
    """Return the lines of the summary, one per CPU."""
    avx = {True: "executes AVX", False: "refuses AVX", None: "no x86-64"}
    return [
        (
            result.cpu,
            f"{avx[result.avx]}; {result.variant}: {len(result.checks)} checks passed"
            + (f", FAILED: {'; '.join(result.failures)}" if result.failures else "")
            + f" in {result.seconds:.0f} s",
        )
        for result in report.cpus
    ]


def _prove(
    wheel: Path, interpreter: Interpreter, folder: Path, models: Path, emulator: tuple[str, ...]
) -> EmulatedCpu:
    start = time.monotonic()
    result = prove_on(wheel, interpreter, folder, models, emulator=emulator)
    checks = result["checks"]
    assert isinstance(checks, list)  # the smoke report's
    variant = result["cpu_variant"]
    return EmulatedCpu(
        cpu=emulator[-1],
        avx=executes_avx(emulator, interpreter.path),
        variant=str(variant) if variant else None,
        passed=bool(result["passed"]),
        checks=tuple(check["name"] for check in checks if check["passed"]),
        failures=tuple(
            f"{check['name']}: {check['detail']}" for check in checks if not check["passed"]
        ),
        seconds=round(time.monotonic() - start, 1),
    )


def executes_avx(emulator: Sequence[str], python: Path) -> bool | None:
    """Execute one AVX instruction: True where it ran, False where it was illegal, None on ARM.

    Raises:
        ProcessError: something else went wrong.
    """
    if python_platform.machine() != "x86_64":
        return None
    try:
        run([*emulator, python, "-I", "-c", _AVX])
    except ProcessError as error:
        if error.returncode == -signal.SIGILL:
            return False
        raise
    return True


def _require_cpu(qemu: Path, cpu: str) -> None:
    try:
        run([qemu, "-cpu", cpu, sys.executable, "-I", "-c", "pass"])
    except ProcessError as error:
        raise UsageError(
            f"{qemu.name} does not emulate {cpu!r}: {error.tail[-1] if error.tail else error.what}",
            cure=f"choose a CPU that `{qemu.name} -cpu help` lists",
        ) from error
