"""Reports: what build records, smoke reports and second builds show, taken into the evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import project
from ci.check import target_of
from ci.errors import SmokeError, ToolchainError, UsageError, WheelError
from ci.evidence import (
    FOLDER,
    LEVELS,
    Level,
    Proof,
    age,
    kept,
    load_evidence,
    write_evidence,
)
from ci.problems import told
from ci.record import CheckoutCommit, Commit, Date, File, Sha256, read_record, record_path
from ci.reproduction import SUFFIX as REPRODUCED_SUFFIX
from ci.reproduction import read_reproduction
from ci.table import Table, Target
from ci.vendor import Pin
from ci.wheel import Wheel, read_wheel

SMOKE_SUFFIX = ".smoke.json"
BUILD_SUFFIX = ".build.json"

# checks of tests/smoke without which a report does not show that level, whatever else passed
_NEEDED = {"cpu": {"greedy tokens"}, "gpu": {"gpu offload", "gpu tokens"}, "no gpu": {"no gpu"}}

# what a smoke report says besides is its own matter
_OPEN = ConfigDict(extra="ignore", strict=True)


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Check:
    name: str
    passed: bool


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Run:
    tag: str
    passed: bool
    checks: list[_Check]
    emulator: str | None = None


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Host:
    cpu: str


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Module:
    runtime: list[str]


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Gpu:
    device: str
    module: _Module | None = None


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Dependencies:
    declared: list[str]
    installed: bool


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Report:
    schema: Literal[1]
    wheel: str
    sha256: Sha256
    size: int
    backend: str
    platform: str
    date: Date
    commit: CheckoutCommit | None = None
    host: _Host
    passed: bool
    interpreters: list[_Run]
    gpu: _Gpu | None = None
    dependencies: _Dependencies | None = None


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _BuildInfo:
    backend: str
    llama_cpp_commit: Commit
    llama_cpp_version: str
    compiler: str
    toolkit: str | None
    gpu_architectures: list[str]


def read_proofs(path: Path, table: Table, pin: Pin) -> tuple[Target, list[Proof]]:
    """Return what a build record, a smoke report or one of a second build shows, of which target.

    Raises:
        UsageError: there is no such file, or it is none of these by its name.
        SmokeError: the report is not whole, about other bytes than those of the wheel beside it,
            or something failed.
        WheelError: the same of the others; or it is of another llama.cpp than the pin.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", cure="check the path")
    if path.name.endswith(SMOKE_SUFFIX):
        target, proofs = _smoke_proofs(path, table, pin)
    elif path.name.endswith(BUILD_SUFFIX):
        target, proofs = _build_proofs(path, table, pin)
    elif path.name.endswith(REPRODUCED_SUFFIX):
        target, proofs = _reproduced_proofs(path, table, pin)
    else:
        raise UsageError(
            f"{path.name} is no smoke report, build record or report of a second build",
            cure=f"name files that end with {SMOKE_SUFFIX}, {BUILD_SUFFIX} or {REPRODUCED_SUFFIX}",
        )
    return target, proofs


def _build_proofs(path: Path, table: Table, pin: Pin) -> tuple[Target, list[Proof]]:
    record = read_record(path)
    cure = "build the wheel again in a checkout: nox -s build"
    target = next((each for each in table.targets if each.name == record.target), None)
    if target is None:
        raise WheelError(f"{path.name}: the table has no target {record.target}", cure=cure)
    if record.commit is None:
        raise WheelError(f"{path.name} does not say which commit was built", cure=cure)
    if (record.wheel is None) == (record.level == "repaired"):
        raise WheelError(f"{path.name}: a {record.level} target and its wheel disagree", cure=cure)
    if record.wheel is not None:
        wheel = _wheel_beside(path, BUILD_SUFFIX, record.wheel, WheelError)
        _require_target(path, wheel, target, table, WheelError)
    _require_pin(path, record.llama_cpp_commit, target, pin)
    source = record.compilation.toolkit_source if record.compilation else None
    reached = LEVELS[: LEVELS.index(record.level) + 1]
    return target, [
        Proof(
            level=level,
            date=record.date,
            device=record.cpu,
            commit=record.commit,
            llama_cpp_commit=record.llama_cpp_commit,
            llama_cpp_version=record.llama_cpp_version,
            compiler=record.compiler,
            toolkit=record.toolkit,
            toolkit_source=source,
            gpu_architectures=record.gpu_architectures,
            wheel=record.wheel,
        )
        for level in reached
    ]


def _reproduced_proofs(path: Path, table: Table, pin: Pin) -> tuple[Target, list[Proof]]:
    report = read_reproduction(path)
    wheel = _wheel_beside(path, REPRODUCED_SUFFIX, report.wheel, WheelError)
    record = record_path(wheel.path)
    if not record.is_file():
        raise WheelError(
            f"{path.name}: the wheel has no build record", cure=f"put {record.name} beside it"
        )
    target, proofs = _build_proofs(record, table, pin)
    if proofs[-1].wheel != report.wheel:
        raise WheelError(f"{record.name} is of no finished wheel", cure="build it again, and twice")
    return target, [replace(proofs[-1], reproduced=report.date)]


def _smoke_proofs(path: Path, table: Table, pin: Pin) -> tuple[Target, list[Proof]]:
    cure = f"prove the wheel again: nox -s smoke -- {path.name.removesuffix(SMOKE_SUFFIX)}"
    try:
        report = TypeAdapter(_Report).validate_json(path.read_bytes())
    except ValidationError as error:
        raise SmokeError(f"{path.name} is no smoke report:\n{told(error)}", cure=cure) from error
    file = File(name=report.wheel, sha256=report.sha256, size=report.size)
    wheel = _wheel_beside(path, SMOKE_SUFFIX, file, SmokeError)
    try:
        target = table.target(report.backend, report.platform)
    except UsageError as error:
        raise SmokeError(f"{path.name}: {error.what}", cure=cure) from error
    _require_target(path, wheel, target, table, SmokeError)
    failed = [
        f"{run.tag} {check.name}"
        for run in report.interpreters
        for check in run.checks
        if not check.passed
    ]
    whole = report.interpreters and all(run.passed and run.checks for run in report.interpreters)
    if failed or not (report.passed and whole):
        detail = f": {', '.join(failed)}" if failed else ""
        raise SmokeError(f"{path.name} does not say that the wheel passed{detail}", cure=cure)
    device, without_device = report.host.cpu, False
    if target.family.smoke == "gpu":
        if report.gpu is None:
            raise SmokeError(f"{path.name} does not say which GPU it was", cure=cure)
        without_device = report.gpu.device == "none"
        device = device if without_device else _devices(report.gpu.device)
    shown = "no gpu" if without_device else target.family.smoke
    for run in report.interpreters:
        if lacking := _NEEDED[shown] - {check.name for check in run.checks}:
            raise SmokeError(
                f"{path.name} has no check {', '.join(sorted(lacking))} on {run.tag}", cure=cure
            )
    info = _build_info(wheel, cure)
    _require_pin(path, info.llama_cpp_commit, target, pin)
    needs = report.dependencies
    module = report.gpu.module if report.gpu else None
    runtime = module.runtime if module else []
    shown_by: dict[str | None, set[str]] = {}
    for run in report.interpreters:
        shown_by.setdefault(run.emulator, set()).add(run.tag)
    commit = report.commit or _commit_of_build(path, wheel, cure)
    proofs: list[Proof] = []
    for emulator, tags in shown_by.items():
        loaded = Proof(
            level="loaded",
            date=report.date,
            device=device,
            commit=commit,
            llama_cpp_commit=info.llama_cpp_commit,
            llama_cpp_version=info.llama_cpp_version,
            compiler=info.compiler,
            toolkit=info.toolkit,
            gpu_architectures=info.gpu_architectures,
            wheel=file,
            interpreters=sorted(tags, key=age),
            emulator=emulator,
            without_device=without_device,
            without_runtime=not runtime
            and needs is not None
            and bool(set(needs.declared) - set(project.requirements()))
            and not needs.installed,
            runtime=runtime,
        )
        # on the CPU alone, a GPU wheel has shown that it does no harm, not that its module computes
        proofs += [loaded] if without_device else [loaded, replace(loaded, level="computed")]
    return target, proofs


def _wheel_beside(path: Path, suffix: str, file: File, error: type[ToolchainError]) -> Wheel:
    """Return the wheel beside a report, which must be about these very bytes."""
    place = path.with_name(path.name.removesuffix(suffix))
    cure = "put the wheel that it is about beside it, as the build leaves them in dist/"
    if not place.is_file():
        raise error(f"{path.name}: {place.name} is not beside it", cure=cure)
    wheel = read_wheel(place)
    here = File(name=place.name, sha256=wheel.sha256, size=wheel.size)
    for name, ours in asdict(here).items():
        if asdict(file)[name] != ours:
            raise error(
                f"{path.name} is about another wheel than the one beside it:"
                f" {name} {asdict(file)[name]}, not {ours}",
                cure=cure,
            )
    return wheel


def _require_target(
    path: Path, wheel: Wheel, target: Target, table: Table, error: type[ToolchainError]
) -> None:
    claimed = target_of(wheel, table)
    if claimed != target or wheel.variant is not None:
        raise error(
            f"{path.name} says {target.name}, the wheel's name {claimed.name}",
            cure="give the report of the wheel itself, not of a relabelled copy",
        )


def _commit_of_build(path: Path, wheel: Wheel, cure: str) -> str:
    """Return the commit that a wheel was built at; a smoke test outside of git knows none."""
    place = record_path(wheel.path)
    record = read_record(place) if place.is_file() else None
    if record is None or record.wheel is None or record.wheel.sha256 != wheel.sha256:
        raise SmokeError(
            f"{path.name} names no commit, and there is no build record of the wheel", cure=cure
        )
    if record.commit is None:
        raise SmokeError(f"neither {path.name} nor the build record names a commit", cure=cure)
    return record.commit


def _require_pin(path: Path, commit: str, target: Target, pin: Pin) -> None:
    if commit != pin.commit:
        raise WheelError(
            f"{path.name} is of llama.cpp {commit[:12]}, the pin is {pin.commit[:12]}",
            cure=f"build it of the pin: nox -s build -- --backend {target.backend.name}",
        )


def _build_info(wheel: Wheel, cure: str) -> _BuildInfo:
    try:
        content = wheel.files.get("llama_cpp/_build_info.json", b"")
        return TypeAdapter(_BuildInfo).validate_json(content)
    except ValidationError as error:
        raise WheelError(
            f"{wheel.path.name} has no whole build info:\n{told(error)}", cure=cure
        ) from error


def _devices(text: str) -> str:
    """Return the descriptions of ggml's devices, without its names for them (``CUDA0: ``)."""
    descriptions = [each.partition(": ")[2] or each for each in text.split("; ")]
    counted = {each: descriptions.count(each) for each in descriptions}
    return ", ".join(each if count == 1 else f"{count} x {each}" for each, count in counted.items())


def add_reports(
    files: Sequence[Path], table: Table, pin: Pin, *, folder: Path = FOLDER
) -> Iterator[tuple[Target, list[Level]]]:
    """Take reports into the evidence; yield each target that changed, with the levels that did.

    Raises:
        ToolchainError: one of the reports shows nothing (see `read_proofs`); none is taken then.
    """
    evidence = load_evidence(table, folder)
    found = [read_proofs(path, table, pin) for path in files]
    targets = {target.name: target for target, _ in found}
    for name, target in sorted(targets.items()):
        known = evidence.get(name, [])
        new = [proof for other, proofs in found if other.name == name for proof in proofs]
        best = kept(known, new, target, pin)
        changed = [proof.level for proof in best if proof not in known]
        if changed:
            write_evidence(target, best, folder)
            yield target, changed
