"""The smoke report beside a wheel: what was proven about exactly these bytes, and where."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import SmokeError
from index.problems import told

if TYPE_CHECKING:
    from pathlib import Path

    from index.wheel import Wheel

# A report may say more than the index keeps; `schema` is what changes when a meaning changes.
_REPORT = ConfigDict(extra="ignore", strict=True)
_KEPT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=_KEPT)
class Interpreter:
    """One Python (or C program) on which every check passed, and what it ran under, if anything."""

    version: str
    tag: str
    implementation: str
    free_threaded: bool
    device: str | None
    cpu_variant: str | None
    checks: tuple[str, ...]
    emulator: str | None = None


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class Host:
    """The machine of a smoke test."""

    system: str
    machine: str
    libc: str | None
    cpu: str | None


@dataclass(frozen=True, kw_only=True, config=_KEPT)
class Proof:
    """The summary of a smoke report that the catalogue keeps.

    ``sha256`` is the hash of the report file itself, so that the full report can be told from
    any other. ``source`` is the SHA-256 of the wheel that the smoke test ran on, where this one
    is a relabelled copy with the same payload.
    """

    sha256: str
    source: str | None
    date: str
    host: Host
    interpreters: tuple[Interpreter, ...]


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class _Check:
    name: str
    passed: bool


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class _Run:
    version: str
    tag: str
    implementation: str
    free_threaded: bool
    passed: bool
    device: str | None
    cpu_variant: str | None
    checks: tuple[_Check, ...]
    emulator: str | None = None


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class _Source:
    wheel: str
    sha256: str


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class _Gpu:
    device: str


@dataclass(frozen=True, kw_only=True, config=_REPORT)
class _Report:
    schema: Literal[1]
    wheel: str
    sha256: str
    size: int
    backend: str
    platform: str
    date: str
    host: Host
    passed: bool
    interpreters: tuple[_Run, ...]
    source: _Source | None = None
    gpu: _Gpu | None = None


_PARSER = TypeAdapter(_Report)


def report_path(wheel: Path) -> Path:
    """Return where the smoke report of a wheel lies: beside it, ``<wheel>.smoke.json``."""
    return wheel.with_name(f"{wheel.name}.smoke.json")


def read_proof(wheel: Wheel, *, backend: str, gpu: bool = False) -> Proof:
    """Read the smoke report of a wheel; that of a ``gpu`` wheel must name the GPU it computed on.

    Raises:
        SmokeError: It is missing or not readable, something in it failed, it proves nothing, or
            it is about another wheel.
    """
    path = report_path(wheel.path)
    cure = f"prove the wheel with `nox -s smoke -- {wheel.path}`"
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        what = f"{wheel.path}: no smoke report {path.name} beside it"
        raise SmokeError(what, cure=cure) from error
    try:
        report = _PARSER.validate_json(text)
    except ValidationError as error:
        raise SmokeError(
            f"{path}: not a smoke report ({told(error, whole='report')})", cure=cure
        ) from error
    expected = {
        "wheel": (wheel.name.file, report.wheel),
        "sha256": (wheel.sha256, report.sha256),
        "size": (wheel.size, report.size),
        "backend": (backend, report.backend),
        "platform": (wheel.name.platform, report.platform),
    }
    for key, (ours, theirs) in expected.items():
        if ours != theirs:
            what = f"{path}: the report is about another wheel: {key} {theirs}, this one has {ours}"
            raise SmokeError(what, cure=cure)
    if failed := _failures(report):
        raise SmokeError(f"{path}: failed on {failed}", cure=f"mend it, then {cure}")
    if not report.interpreters or not all(run.checks for run in report.interpreters):
        raise SmokeError(f"{path}: it proves nothing on some or any interpreter", cure=cure)
    device = report.gpu.device if report.gpu else "none" if gpu else None
    if device == "none":
        raise SmokeError(f"{path}: the wheel was not proven on a GPU", cure=f"{cure} where one is")
    return Proof(
        sha256=hashlib.sha256(text).hexdigest(),
        source=None if report.source is None else report.source.sha256,
        date=report.date,
        host=report.host,
        interpreters=tuple(
            Interpreter(
                version=run.version,
                tag=run.tag,
                implementation=run.implementation,
                free_threaded=run.free_threaded,
                device=run.device,
                cpu_variant=run.cpu_variant,
                checks=tuple(check.name for check in run.checks),
                emulator=run.emulator,
            )
            for run in report.interpreters
        ),
    )


def _failures(report: _Report) -> str:
    """Name what failed: ``3.9.18 (import, decode); 3.13.1``; empty when nothing did."""
    found = []
    for run in report.interpreters:
        checks = ", ".join(check.name for check in run.checks if not check.passed)
        if checks or not run.passed:
            found.append(f"{run.version} ({checks})" if checks else run.version)
    return "; ".join(found) or ("" if report.passed else "no interpreter named: passed is false")
