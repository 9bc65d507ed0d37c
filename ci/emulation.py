"""Emulation: the finished wheel on CPUs that this machine is not, under qemu's user mode."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from ci import paths
from ci.errors import SmokeError, UsageError
from ci.guest import (
    Guest,
    bring_guest,
    emulator_name,
    require_emulator,
    site_packages,
    write_program,
)
from ci.guest import make_environment as make_guest_environment
from ci.host import installs_here
from ci.installation import CLEAN, install, installable, make_environment, without_dependencies
from ci.interpreters import Interpreter, probe
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.smoke import examine, write_models
from ci.table import Target
from ci.wheel import Wheel, read_wheel

# the oldest and the newest that Debian has, and the one of its stable release
_PROVEN_ON = ("3.9", "3.13", "3.15")
_STABLE = "3.13"
# a GPU in software compiles its shaders in the emulator: half an hour of a processor
_TIMEOUT_S = 7200.0
# the CPU that has all that this qemu can do
_ALL = "max"
CPUS: Mapping[str, tuple[str, ...]] = {
    # no AVX at all (twice), AVX2, and everything that this qemu can do
    "x86_64": ("qemu64", "Nehalem", "Haswell", "max"),
    # plain armv8.0; dot products and half floats; SVE; and everything
    "aarch64": ("cortex-a53", "neoverse-n1", "a64fx", "max"),
}
"""CPUs of qemu, by machine."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction that some CPUs do not have, as a function of machine code.

    Without this control a run on a CPU without it could pass because the emulator executes what that
    CPU does not have.
    """

    name: str
    code: str


_INSTRUCTIONS = {
    # vxorps ymm0, ymm0, ymm0; vzeroupper; ret
    "x86_64": Instruction(name="AVX", code="c5fc57c0 c5f877 c3"),
    # sdot v0.4s, v0.16b, v0.16b; ret
    "aarch64": Instruction(name="SDOT", code="0094804e c0035fd6"),
}
_EXECUTE = (
    "import ctypes, mmap, sys;"
    "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC);"
    "page.write(bytes.fromhex(sys.argv[1]));"
    "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()"
)


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """One CPU: ``executes`` the control instruction or not; ``failures`` says which checks failed.

    ``variant`` is the file name of the CPU variant that was picked; None where none was.
    """

    cpu: str
    executes: bool
    variant: str | None
    passed: bool
    checks: tuple[str, ...]
    failures: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EmulationReport:
    """What a wheel did on each CPU; ``instruction`` is the control: ``AVX`` or ``SDOT``."""

    wheel: str
    sha256: str
    emulator: str
    instruction: str
    python: str
    passed: bool
    cpus: tuple[EmulatedCpu, ...]


def emulate(path: Path, target: Target, cpus: Sequence[str], progress: Progress) -> EmulationReport:
    """Run the smoke test of an installed wheel on each emulated CPU; all of `CPUS` if none is named.

    The wheel is installed natively; only what then runs is emulated. It is by this Python where the
    wheel installs here, else by Debian's stable one for its machine.

    Raises:
        ToolMissingError: qemu's user mode is not on this machine.
        UsageError: it knows no such CPU, or the wheel is for no Linux with glibc.
        WheelError: the wheel is damaged.
    """
    platform = target.platform
    if platform.libc != "glibc":
        raise UsageError(
            f"{path.name} is for {platform.title}: there is no Python for it to emulate",
            cure="name a manylinux wheel",
        )
    emulator = require_emulator(platform.machine)
    wheel = read_wheel(path)
    with tempfile.TemporaryDirectory(prefix="emulation-") as folder:
        models = Path(folder) / "models"
        write_models(models)
        subject = _install(wheel, target, Path(folder), emulator, progress)
        chosen = cpus or CPUS[platform.machine]
        for cpu in chosen:
            _require_cpu(emulator, cpu, subject)

        def prove_cpu(cpu: str) -> EmulatedCpu:
            result = _prove(subject, Path(folder) / cpu, models, cpu)
            progress.step(f"{cpu}: {result.variant}, {'ok' if result.passed else 'FAILED'}")
            return result

        with ThreadPoolExecutor(max_workers=2) as pool:
            results = tuple(pool.map(prove_cpu, chosen))
    return EmulationReport(
        wheel=path.name,
        sha256=wheel.sha256,
        emulator=run([emulator, "--version"]).splitlines()[0],
        instruction=_INSTRUCTIONS[platform.machine].name,
        python=subject.version,
        passed=bool(results) and all(result.passed for result in results),
        cpus=results,
    )


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
    return [
        (
            result.cpu,
            f"{'executes' if result.executes else 'refuses'} {report.instruction};"
            f" {result.variant}: {len(result.checks)} checks passed"
            + (f", FAILED: {'; '.join(result.failures)}" if result.failures else "")
            + f" in {result.seconds:.0f} s",
        )
        for result in report.cpus
    ]


def prove(
    path: Path,
    target: Target,
    progress: Progress,
    *,
    now: datetime,
    models: Path,
    scratch: Path,
) -> list[dict[str, object]]:
    """Prove a wheel of another machine on its oldest and newest Pythons, on a CPU that has all.

    A GPU wheel on Debian's stable one alone, with what brings a device in software: an older one's is
    too old for it, and its CPU part is that of the CPU wheel.

    Returns:
        The report's ``interpreters``, each with its ``emulator``.

    Raises:
        ToolMissingError: the emulator, or what brings its Pythons, is not on this machine.
        NetworkError: Debian does not give them.
    """
    del now
    machine = target.platform.machine
    emulator = require_emulator(machine)
    name = emulator_name(emulator, _ALL)
    wheel = read_wheel(path)
    gpu = target.family.smoke == "gpu"
    packages = target.family.proof_packages if gpu else []
    guests = [
        bring_guest(series, machine, progress, packages=packages)
        for series in ((_STABLE,) if gpu else _PROVEN_ON)
    ]

    def prove_guest(guest: Guest) -> dict[str, object]:
        folder = scratch / guest.series
        interpreter = install_guest(wheel, guest, folder, emulator)
        env = {**CLEAN, **software_device(guest), "QEMU_CPU": _ALL}
        result = examine(
            interpreter.path,
            interpreter,
            folder,
            models,
            target=target,
            brief=True,
            env=env,
            timeout=_TIMEOUT_S,
        )
        return {**result, "emulator": name}

    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(prove_guest, guests))


def software_device(guest: Guest) -> dict[str, str]:
    """Return the variables that make a guest's Vulkan device in software usable, if it has one.

    Vulkan's loader reads a folder of manifests, and does not find them there under the emulator, so its
    manifest is named. To optimise a shader takes the emulator longer than to run it.
    """
    manifests = (guest.root / "usr/share/vulkan/icd.d").glob("lvp_icd*.json")
    found = next(manifests, None)
    if found is None:
        return {}
    return {"VK_DRIVER_FILES": f"/{found.relative_to(guest.root)}", "GALLIVM_PERF": "nopt"}


def install_guest(wheel: Wheel, guest: Guest, folder: Path, emulator: Path) -> Interpreter:
    """Install a wheel into a fresh environment of a guest in ``folder``; return its interpreter.

    pip runs natively: it says whether the wheel is for that Python and machine, and unpacks it.

    Raises:
        ProcessError: pip does not take it.
    """
    interpreter = make_guest_environment(guest, folder / "env", emulator)
    pip = make_environment(require_probed(), folder / "pip")
    platforms = [tag.split("-", 2)[2] for tag in wheel.tags]
    command = [str(pip), "-I", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    command += ["--no-index", "--no-cache-dir", "--no-deps", "--only-binary", ":all:"]
    command += ["--implementation", "cp", "--python-version", guest.series]
    command += [f"--platform={platform}" for platform in platforms]
    command += ["--target", str(site_packages(guest, folder / "env"))]
    run([*command, installable(wheel.path, folder)], env=CLEAN)
    return interpreter


def require_probed() -> Interpreter:
    """Return this interpreter.

    Raises:
        UsageError: it cannot make an environment.
    """
    found = probe(Path(sys.executable))
    if found is None:
        raise UsageError(
            f"{sys.executable} cannot make an environment",
            cure="install venv for it (Debian: apt install python3-venv)",
        )
    return found


def executes(interpreter: Interpreter, machine: str, cpu: str) -> bool:
    """Execute the control instruction: True where it ran, False where it was illegal.

    Raises:
        ProcessError: something else went wrong.
    """
    code = _INSTRUCTIONS[machine].code
    try:
        run([interpreter.path, "-I", "-c", _EXECUTE, code], env={"QEMU_CPU": cpu})
    except ProcessError as error:
        # the emulator ends as its guest does
        if error.returncode in {-signal.SIGILL, 128 + signal.SIGILL}:
            return False
        raise
    return True


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """An installed wheel: ``interpreter`` runs under the emulator, on the CPU of ``QEMU_CPU``."""

    interpreter: Interpreter
    machine: str

    @property
    def version(self) -> str:
        return self.interpreter.version


def _install(
    wheel: Wheel, target: Target, folder: Path, emulator: Path, progress: Progress
) -> _Subject:
    machine = target.platform.machine
    if not installs_here(target.platform):
        guest = bring_guest(_STABLE, machine, progress)
        interpreter = install_guest(wheel, guest, folder, emulator)
        return _Subject(interpreter=interpreter, machine=machine)
    here = require_probed()
    python = make_environment(here, folder / "env")
    install(python, wheel.path, folder, without_dependencies(wheel))
    # beside the environment's own program, so that it is one of this environment, too
    emulated = python.with_name("emulated-python")
    write_program(emulated, [str(emulator), "-0", str(emulated), str(here.path.resolve())])
    return _Subject(interpreter=replace(here, path=emulated), machine=machine)


def _prove(subject: _Subject, folder: Path, models: Path, cpu: str) -> EmulatedCpu:
    start = time.monotonic()
    folder.mkdir()
    interpreter = subject.interpreter
    env = {**CLEAN, "QEMU_CPU": cpu}
    result = examine(interpreter.path, interpreter, folder, models, brief=True, env=env)
    checks = result["checks"]
    assert isinstance(checks, list)  # the smoke report's
    variant = result["cpu_variant"]
    return EmulatedCpu(
        cpu=cpu,
        executes=executes(interpreter, subject.machine, cpu),
        variant=str(variant) if variant else None,
        passed=bool(result["passed"]),
        checks=tuple(check["name"] for check in checks if check["passed"]),
        failures=tuple(
            f"{check['name']}: {check['detail']}" for check in checks if not check["passed"]
        ),
        seconds=round(time.monotonic() - start, 1),
    )


def _require_cpu(emulator: Path, cpu: str, subject: _Subject) -> None:
    try:
        run([subject.interpreter.path, "-I", "-c", "pass"], env={"QEMU_CPU": cpu})
    except ProcessError as error:
        raise UsageError(
            f"{emulator.name} does not emulate {cpu!r}:"
            f" {error.tail[-1] if error.tail else error.what}",
            cure=f"choose a CPU that `{emulator.name} -cpu help` lists",
        ) from error
