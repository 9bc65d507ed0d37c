"""Build: from the tree to a wheel that is repaired, checked and proven, in ``dist/``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ci import paths
from ci.check import check
from ci.engine import Built, Options, build
from ci.errors import WheelError
from ci.gpu_wheel import build_module
from ci.host import require_platform
from ci.module import find_cpu_wheel
from ci.progress import Progress
from ci.proving import not_provable, prove
from ci.record import recording
from ci.repair import repair
from ci.smoke_report import proven_on, report_path, require_passed, write_report
from ci.table import Table, Target
from ci.vendor import Pin
from ci.wheel import Wheel, read_wheel


def build_and_prove(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> Path:
    """Build, repair, check and smoke-test one target; return the finished wheel in ``options.out``.

    Raises:
        ToolchainError: the step that failed, with its cure. A wheel that does not pass its check
            never gets into ``options.out``; one that fails its smoke test keeps its report there.
    """
    require_platform(target, table)
    now = datetime.now(UTC)
    with _only_build_of(target, progress), recording(target, options.out, now=now) as record:
        wheel, built = _build_checked(target, options, table, progress, pin=pin)
        record(wheel, built.compilation)
    report = prove(
        wheel,
        target,
        options.interpreters,
        progress,
        now=datetime.now(UTC),
        runtime=options.runtime,
    )
    if report is None:
        progress.step(not_provable(wheel, target))
        progress.summary(f"{target.name} is built, not proven", _summary(wheel, built, progress))
        return wheel
    write_report(wheel, report)
    require_passed(report)
    rows = [*_summary(wheel, built, progress), *proven_on(report)]
    progress.summary(f"{target.name} is built and proven", rows)
    return wheel


@contextmanager
def _only_build_of(target: Target, progress: Progress) -> Iterator[None]:
    """Hold the target's build folder, waiting for another build in this checkout to end."""
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.BUILD / f"{target.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress.step(f"another build of {target.name} runs in this checkout; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build_checked(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> tuple[Path, Built]:
    if target.family.toolkit == "none":
        built = build(target, options, progress, pin=pin)
    else:
        built = build_module(
            target,
            options,
            progress,
            pin=pin,
            cpu_wheel=lambda: _cpu_wheel(target, options, table, progress, pin=pin),
        )
    progress.step(f"repairing {built.wheel.name} for {target.wheel_tag}")
    staging = paths.BUILD / target.name / "repaired"
    shutil.rmtree(staging, ignore_errors=True)
    repaired = repair(built.wheel, target, staging)
    progress.step(f"checking {repaired.name}")
    check(repaired, table, own_paths=(paths.ROOT, options.tree.path, Path(sys.prefix)))
    options.out.mkdir(parents=True, exist_ok=True)
    # a report of older bytes must not lie beside these
    report_path(options.out / repaired.name).unlink(missing_ok=True)
    # the folder may be on another file system: a copy beside its place, then one rename
    partial = options.out / f".{repaired.name}.part"
    shutil.copyfile(repaired, partial)
    return partial.replace(options.out / repaired.name), built


def _cpu_wheel(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> Wheel:
    """Return the finished CPU wheel of a target's platform, built first if need be."""
    plain = next(
        other
        for other in table.targets
        if other.platform == target.platform and other.family.toolkit == "none"
    )
    commit = options.tree.commit or pin.commit
    if options.out != paths.DIST:
        with suppress(WheelError):
            return find_cpu_wheel(plain, options.out, commit=commit)
    try:
        return find_cpu_wheel(plain, paths.DIST, commit=commit)
    except WheelError as error:
        progress.step(f"building {plain.name} first: {error.what}")
    plainly = replace(
        options, defines={}, toolkit=None, toolkit_image=None, architectures=None, out=paths.DIST
    )
    path = build_and_prove(plain, plainly, table, progress, pin=pin)
    return read_wheel(path)


def _summary(wheel: Path, built: Built, progress: Progress) -> list[tuple[str, str]]:
    rows = [
        ("wheel", str(wheel)),
        ("size", f"{wheel.stat().st_size:,} bytes"),
        ("sha256", read_wheel(wheel).sha256),
        ("tag", wheel.stem.split("-", 2)[2]),
        ("engine", built.engine),
    ]
    if built.cache is not None:
        compiled = built.cache.hits + built.cache.misses
        rows.append(("compiler cache", f"{built.cache.hits} of {compiled} objects came from it"))
    rows.append(("elapsed", f"{progress.elapsed:.0f} s (build {built.seconds:.0f} s)"))
    return rows
