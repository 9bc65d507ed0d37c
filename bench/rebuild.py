"""A second build with a warm compiler cache beside the first one with an empty cache."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ci import paths
from ci.process import run
from ci.progress import Progress

_WARM_BUILDS = 3


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """Seconds of whole builds: compile, repair, check and the smoke test on one Python."""

    cold_s: float
    warm_s: tuple[float, ...]


def measure(scratch: Path, progress: Progress) -> Rebuild:
    """Build the CPU wheel once into an empty cache in ``scratch``, then again from it.

    The sources are there before; what is measured is `python -m ci build` from start to end.
    """
    seconds: list[float] = []
    for number in range(1 + _WARM_BUILDS):
        progress.step("building with an empty cache" if number == 0 else "building again")
        start = time.monotonic()
        run(
            [
                *(sys.executable, "-m", "ci", "build", "--engine", "host"),
                *("--python", sys.executable, "--out", str(scratch / "dist")),
            ],
            cwd=paths.ROOT,
            env={"LLAMA_CPP_PYTHON_CACHE": str(scratch / "cache"), "SCCACHE_DIR": ""},
        )
        seconds.append(time.monotonic() - start)
    return Rebuild(cold_s=seconds[0], warm_s=tuple(seconds[1:]))
