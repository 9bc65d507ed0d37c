"""A dry run of a release with an empty compiler cache and with a full one; and one build per Python.

Linux only: what a cache's server has computed for others is counted when it ends, as a child of this
process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bench import machine
from ci import paths
from ci.errors import BuildError
from ci.process import run
from ci.progress import Progress
from ci.record import BuildRecord, read_record
from ci.release import work_folder

# what compiling leaves behind; all else in the cache folder is downloads, which a network costs
_COMPILED = frozenset({"bench", "modules", "sccache", "zig"})
# linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, kw_only=True)
class Run:
    """One dry run from start to end: seconds on the wall, and of the processors."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both runs, and the build records of the first, which compiled every object."""

    cold: Run
    warm: Run
    records: tuple[BuildRecord, ...]


def measure(scratch: Path, patterns: Sequence[str], progress: Progress) -> Measured:
    """Make the release twice into fresh folders, first with nothing compiled.

    Args:
        scratch: an empty folder.
        patterns: of targets; none are all that a dry run makes here.
        progress: where steps are told.

    Raises:
        BuildError: the first run did not compile everything, so it says nothing.
    """
    cache = scratch / "cache"
    cache.mkdir()
    for entry in paths.cache_folder().iterdir():
        if entry.name not in _COMPILED:
            (cache / entry.name).symlink_to(entry)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    env = {"LLAMA_CPP_PYTHON_CACHE": str(cache), "SCCACHE_DIR": ""}
    progress.step("a dry run with nothing compiled")
    cold = _timed(scratch / "cold", patterns, env, progress)
    found = sorted((work_folder(scratch / "cold") / "wheels").glob("*.whl.build.json"))
    records = tuple(read_record(path) for path in found)
    for record in records:
        if record.compilation is None or record.compilation.cache_hits:
            raise BuildError(
                f"{record.target} came from a compiler cache in the run that was to fill it",
                cure="look for a SCCACHE_… variable in the environment",
            )
    progress.step("a dry run with everything compiled")
    return Measured(
        cold=cold, warm=_timed(scratch / "warm", patterns, env, progress), records=records
    )


def _timed(
    folder: Path, patterns: Sequence[str], env: Mapping[str, str], progress: Progress
) -> Run:
    command = [sys.executable, "-m", "ci", "release", "--dry-run", "--folder", str(folder)]
    for pattern in patterns:
        command += ["--target", pattern]

    def show(line: str) -> None:
        progress.console.print(line, markup=False)

    _reap()
    before, start = _children_seconds(), time.monotonic()
    run(command, cwd=paths.ROOT, env=env, on_line=show)
    seconds = time.monotonic() - start
    _reap()
    return Run(seconds=seconds, cpu_seconds=_children_seconds() - before)


def _reap() -> None:
    """Wait for those that have ended whose parents did before them: their time counts then."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(
    measured: Measured,
    *,
    pythons: int,
    reference: str,
    date: datetime,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return the result for ``bench/results/release.json``.

    Args:
        measured: the runs.
        pythons: how many the table proves a wheel on.
        reference: the target whose build is multiplied by them.
        date: when.
        circumstances: the machine.
    """
    targets = {
        record.target: {
            "seconds": record.compilation.seconds,
            "cpu_seconds": record.compilation.cpu_seconds,
            "objects": record.units,
        }
        for record in measured.records
        if record.compilation is not None
    }
    every = [each["cpu_seconds"] for each in targets.values() if each["cpu_seconds"] is not None]
    one = targets[reference]["cpu_seconds"]
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "cpus": machine.cpu_count(),
        **circumstances,
        "cold": _rounded(measured.cold),
        "warm": _rounded(measured.warm),
        "targets": targets,
        "pythons": pythons,
        "reference": reference,
        "each_python": {
            "reference_cpu_seconds": None if one is None else round(one * pythons, 1),
            "all_cpu_seconds": round(sum(every) * pythons, 1),
            "compiled_once_cpu_seconds": round(sum(every), 1),
        },
    }


def _rounded(run_: Run) -> dict[str, float]:
    return {name: round(value, 1) for name, value in asdict(run_).items()}
