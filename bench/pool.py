"""What a pool gains: requests at the same time, beside one after another, and beside as many objects.

All three answer the same requests with the same number of threads, each in a process of its own, in
turns. What counts is processor time: on a machine that others use, too, the clock would favour whoever
has the most threads. Weights are read, not mapped, so that memory is what a GPU would need, too.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bench import imports, machine
from bench.figures import Spread, ratios, spread
from bench.imports import Installed
from bench.models import Shape, write_model
from ci.errors import BuildError
from ci.progress import Progress

Kind: TypeAlias = Literal["one", "pool", "objects"]
KINDS: tuple[Kind, ...] = get_args(Kind)

REQUESTS = 8
TOKENS = 32
SHAPE = Shape(layers=12, width=768, feed_forward=2048, heads=12, kv_heads=3, vocabulary=16_000)

_SCRIPT = Path(__file__).with_name("pool_load.py")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One process: what all requests took, by the clock and of processors; its memory afterwards."""

    seconds: float
    cpu_s: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All rounds; each kind has as many."""

    turns: dict[Kind, tuple[Turn, ...]]

    def throughput(self, kind: Kind) -> Spread:
        """Return the tokens per processor second of all requests together."""
        return spread([REQUESTS * TOKENS / turn.cpu_s for turn in self.turns[kind]])

    def gain(self, other: Kind) -> Spread:
        """Return the pool's throughput over another's, round by round."""
        return spread(
            ratios(
                [turn.cpu_s for turn in self.turns[other]],
                [turn.cpu_s for turn in self.turns["pool"]],
            )
        )

    def memory(self, kind: Kind) -> float:
        """Return the median of a kind's memory in bytes."""
        return spread([turn.bytes for turn in self.turns[kind]]).median


def measure(
    package: Installed, scratch: Path, *, rounds: int, threads: int, progress: Progress
) -> Measured:
    """Run all kinds in turns.

    Args:
        package: the wheel.
        scratch: where the model is written.
        rounds: of one process per kind.
        threads: that each may compute with, all its objects together.
        progress: where to say what runs.

    Raises:
        BuildError: a process failed.
    """
    progress.step(f"writing a model of {SHAPE.parameters / 1e6:.0f} M weights")
    model = scratch / "pool.gguf"
    write_model(SHAPE, model, spelled=True)
    turns: dict[Kind, list[Turn]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        progress.step(f"a pool: round {number + 1} of {rounds}")
        shift = number % len(KINDS)
        for kind in (*KINDS[shift:], *KINDS[:shift]):
            turns[kind].append(_turn(package, model, kind, threads))
    return Measured(turns={kind: tuple(done) for kind, done in turns.items()})


def _turn(package: Installed, model: Path, kind: Kind, threads: int) -> Turn:
    command: list[str | Path] = [package.python, "-P", _SCRIPT, model, kind]
    result = subprocess.run(
        [*command, str(REQUESTS), str(threads), str(TOKENS)],
        env=imports.clean_environment(),
        cwd=package.python.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BuildError(f"{kind}: {result.stderr.strip()}", cure="run the command by hand")
    found = json.loads(result.stdout)
    return Turn(
        seconds=float(found["seconds"]), cpu_s=float(found["cpu_s"]), bytes=int(found["bytes"])
    )


def report(
    measured: Measured,
    *,
    threads: int,
    date: datetime,
    circumstances: dict[str, object],
) -> dict[str, object]:
    """Return the content of ``pool.json``."""
    others: Sequence[Kind] = [kind for kind in KINDS if kind != "pool"]
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        **circumstances,
        "requests": REQUESTS,
        "tokens": TOKENS,
        "threads": threads,
        "parameters": SHAPE.parameters,
        "rounds": len(measured.turns["pool"]),
        "tokens_per_cpu_second": {kind: measured.throughput(kind).rounded(1) for kind in KINDS},
        "clock_s": {
            kind: spread([turn.seconds for turn in measured.turns[kind]]).rounded(2)
            for kind in KINDS
        },
        "gain": {kind: measured.gain(kind).rounded(3) for kind in others},
        "bytes": {kind: round(measured.memory(kind)) for kind in KINDS},
    }
