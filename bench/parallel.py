"""What a second thread gains: two objects on two threads, with a GIL and without one.

Both objects answer with one thread of llama.cpp's each, on two CPUs that the processes are pinned to:
one after the other on one thread, then on a thread each, then in a process each. The last is what the
machine gives at most: two CPUs may be halves of one core, and share caches and memory in any case.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bench import imports, machine
from bench.child import Child
from bench.figures import Spread, ratios, spread
from bench.models import write_model
from bench.pool import SHAPE
from bench.text_models import text_model
from ci.errors import BuildError, UsageError
from ci.installation import Dependencies, install, make_environment
from ci.interpreters import Interpreter
from ci.process import ProcessError
from ci.progress import Progress

Way: TypeAlias = Literal["one thread", "two threads", "two processes"]
WAYS: tuple[Way, ...] = get_args(Way)
Work: TypeAlias = Literal["words", "arithmetic"]
WORKS: tuple[Work, ...] = get_args(Work)

# tokens of each object in a turn: of a model in which Python has the most to do, and of one in which
# it has the least
TOKENS: Mapping[Work, int] = {"words": 12_000, "arithmetic": 48}
_VOCABULARY = 1024
_AT_ONCE = 2
_FREE_THREADED = ("3.13t", "3.14t", "3.15t")
SERIES = (*_FREE_THREADED, *(series.removesuffix("t") for series in _FREE_THREADED))

_SCRIPT = Path(__file__).with_name("parallel_load.py")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds by the clock, round by round, of one Python, by what is computed and how."""

    python: Interpreter
    seconds: Mapping[Work, Mapping[Way, Sequence[float]]]

    def gain(self, work: Work, way: Way) -> Spread:
        """Return how many times faster than on one thread the same was done, round by round."""
        seconds = self.seconds[work]
        return spread(ratios(seconds["one thread"], seconds[way]))


def choose_pythons(there: Sequence[Interpreter]) -> tuple[Interpreter, Interpreter]:
    """Return a free-threaded Python, and one with a GIL, of its series if there is one.

    Args:
        there: what this machine has of :data:`SERIES`.

    Raises:
        UsageError: one of them is not there.
    """
    free = next((each for each in there if each.free_threaded), None)
    if free is None:
        raise UsageError(
            "there is no free-threaded Python on this machine",
            cure=f"install one of {', '.join(_FREE_THREADED)} (pyenv, `uv python install`)",
        )
    with_gil = [each for each in there if not each.free_threaded]
    same = [each for each in with_gil if f"{each.series}t" == free.series]
    if not with_gil:
        raise UsageError(
            f"there is no Python with a GIL beside {free.series}",
            cure=f"install Python {free.series.removesuffix('t')}",
        )
    return free, (same or with_gil)[0]


def measure(
    wheel: Path,
    pythons: Sequence[Interpreter],
    scratch: Path,
    *,
    rounds: int,
    progress: Progress,
) -> list[Measured]:
    """Let both objects answer in every way, in turns.

    Args:
        wheel: of this project; it is installed alone.
        pythons: to install it for.
        scratch: for environments and a model.
        rounds: how often.
        progress: where to say so.

    Raises:
        UsageError: this process may use one CPU only.
        BuildError: the wheel cannot be installed, or a process failed.
    """
    cpus = sorted(os.sched_getaffinity(0))[:_AT_ONCE]
    if len(cpus) < _AT_ONCE:
        raise UsageError("this process may use one CPU only", cure="let it have two (taskset -c)")
    heavy = scratch / "arithmetic.gguf"
    write_model(SHAPE, heavy, spelled=True)
    models: Mapping[Work, Path] = {"words": text_model(_VOCABULARY), "arithmetic": heavy}
    seconds: dict[str, dict[Work, dict[Way, list[float]]]] = {
        python.tag: {work: {way: [] for way in WAYS} for work in WORKS} for python in pythons
    }
    installed = {python.tag: _installed(wheel, python, scratch / python.tag) for python in pythons}
    for work, model in models.items():
        progress.step(f"{work} on two threads: {rounds} rounds")
        with ExitStack() as stack:
            at_work = {
                tag: [
                    stack.enter_context(_Worker(program, model, objects, cpus))
                    for objects in (_AT_ONCE, 1)
                ]
                for tag, program in installed.items()
            }
            for number in range(rounds + 1):
                for tag, workers in at_work.items():
                    for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                        took = _turn(workers, way, TOKENS[work])
                        if number:
                            seconds[tag][work][way].append(took)
    return [Measured(python=python, seconds=seconds[python.tag]) for python in pythons]


def _installed(wheel: Path, python: Interpreter, folder: Path) -> Path:
    folder.mkdir()
    try:
        program = make_environment(python, folder / "env")
        # words and arithmetic need nothing else
        alone = Dependencies(declared=(), installed=True, reason="")
        install(program, wheel, folder, alone)
    except ProcessError as error:
        raise BuildError(
            f"{wheel.name} was not installed for Python {python.version}: {error.what}",
            cure="run `nox -s smoke`: it says what is wrong with the wheel",
        ) from error
    return program


def _turn(workers: Sequence[_Worker], way: Way, tokens: int) -> float:
    both, single = workers
    if way == "two processes":
        for each in (both, single):
            each.send(objects=1, threads=1, tokens=tokens)
        return max(both.seconds(), single.seconds())
    both.send(objects=_AT_ONCE, threads=1 if way == "one thread" else _AT_ONCE, tokens=tokens)
    return both.seconds()


class _Worker(Child):
    """A process with so many objects loaded; used in a ``with`` statement."""

    def __init__(self, python: Path, model: Path, objects: int, cpus: Sequence[int]) -> None:
        super().__init__(
            [python, "-P", _SCRIPT, model, str(objects), ",".join(map(str, cpus))],
            title="a process with two threads",
            env=imports.clean_environment(),
            cwd=python.parent,
        )

    def seconds(self) -> float:
        """Wait until it has answered, and return the seconds that it took."""
        return float(str(self.receive()["seconds"]))


def report(
    measured: Sequence[Measured], *, date: datetime, circumstances: Mapping[str, object]
) -> dict[str, object]:
    """Return the content of ``results/parallel.json``."""
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        **circumstances,
        "tokens": dict(TOKENS),
        "pythons": [
            {
                "version": each.python.version,
                "free_threaded": each.python.free_threaded,
                "works": [
                    {
                        "work": work,
                        "seconds": {
                            way: spread(each.seconds[work][way]).rounded(3) for way in WAYS
                        },
                        "gain": {way: each.gain(work, way).rounded(3) for way in WAYS[1:]},
                    }
                    for work in WORKS
                ],
            }
            for each in measured
        ],
        "rounds": len(measured[0].seconds["words"]["one thread"]),
    }
