"""What the Python side of a token costs: this package, the one that the index has, and no package.

That package is the sdist that the pin names as a mirror: it carries the same commit of llama.cpp, so
its Python files run on the wheel's libraries, and all contenders compute with the same code. Nothing
of it is compiled. Times are CPU times of one thread; contenders take turns within a round.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bench import imports, machine
from bench.child import Child
from bench.figures import Spread, ratios, spread
from bench.imports import OURS, THEIRS, Installed
from bench.text_models import text_model
from ci.download import download_sdist
from ci.errors import BuildError, NetworkError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.vendor import Mirror

Option: TypeAlias = Literal[
    "plain", "logits processor", "logits processor, sampled", "logit_bias", "logprobs=5"
]
OPTIONS: tuple[Option, ...] = get_args(Option)

RAW = "raw"
CONTENDERS = (RAW, OURS, THEIRS)
LENGTHS = (100, 400, 1600)
SMALL_VOCABULARY, LARGE_VOCABULARY = 1024, 152_064
_LARGE_TOKENS = 32
_STATE_TOKENS = 64
_CONTEXT = 2048

# at most so many times the raw loop, at any length; and no more of them where a text is long
GOAL_TO_RAW, GOAL_FLAT = 1.5, 1.25
# on top of the raw loop, the other package costs at least so many times more
GOAL_OPTIONS, GOAL_IMPORT = 20.0, 5.0
_WITH_GOAL: tuple[Option, ...] = ("logits processor", "logit_bias", "logprobs=5")

_SCRIPT = Path(__file__).with_name("binding_work.py")
_REQUIRED = ("diskcache==5.6.3", "jinja2==3.1.6", "numpy==2.4.6", "typing-extensions==4.16.0")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Microseconds of CPU time per token, round by round and contender, and the states' bytes."""

    completion: Mapping[int, Mapping[str, Sequence[float]]]
    options: Mapping[Option, Mapping[str, Sequence[float]]]
    state_bytes: Mapping[str, int]

    def per_token(self, tokens: int, name: str) -> Spread:
        """Return what a token of a completion of a length costs."""
        return spread(self.completion[tokens][name])

    def to_raw(self, tokens: int, name: str) -> float:
        """Return how many times the raw loop that is, whose turn was beside it."""
        costs = self.completion[tokens]
        return spread(ratios(costs[name], costs[RAW])).median

    def flatness(self, name: str) -> float:
        """Return how many times the raw loop the longest completion is, relative to the shortest.

        The raw loop's own tokens cost more where attention looks back on more of them.
        """
        longest, shortest = max(self.completion), min(self.completion)
        return self.to_raw(longest, name) / self.to_raw(shortest, name)

    def extra(self, option: Option, name: str) -> float:
        """Return what a token costs on top of the raw loop, whose turn was beside it."""
        pairs = zip(self.options[option][name], self.options[option][RAW], strict=True)
        return spread([cost - raw for cost, raw in pairs]).median

    def option_ratio(self, option: Option) -> float:
        """Return how many times more that is in the other package."""
        return self.extra(option, THEIRS) / max(self.extra(option, OURS), 1.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A goal with its bound, and the ratio that was measured."""

    text: str
    measured: float
    met: bool


def other_package(mirror: Mirror, libraries: Path, folder: Path, progress: Progress) -> Installed:
    """Install the other package's Python files beside the wheel's libraries.

    Args:
        mirror: what the pin says of its sdist.
        libraries: the folder ``lib`` of the unpacked wheel.
        folder: where the environment goes.
        progress: where to say so.

    Raises:
        NetworkError: it cannot be downloaded, or pip cannot get what it requires.
        VendorError: it is not the file of the pin.
    """
    python = imports.environment(folder)
    try:
        run([python, "-m", "pip", "install", "--quiet", *_REQUIRED])
    except ProcessError as error:
        raise NetworkError(
            f"what {mirror.project} requires could not be installed: {error.what}",
            cure="check pip's index-url",
        ) from error
    site = Path(
        run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        sdist = download_sdist(
            progress,
            project=mirror.project,
            version=mirror.project_version,
            sha256=mirror.sha256,
            folder=Path(scratch),
        )
        inside = f"{sdist.name.removesuffix('.tar.gz')}/llama_cpp/"
        with tarfile.open(sdist) as archive:
            members = [member for member in archive if member.name.startswith(inside)]
            archive.extractall(scratch, members=members, filter="data")
        shutil.move(Path(scratch, inside), site / "llama_cpp")
    shutil.copytree(libraries, site / "llama_cpp" / "lib", dirs_exist_ok=True)
    return Installed(
        name=THEIRS,
        title=f"sdist {mirror.project_version} on the wheel's libraries",
        wheel=sdist,
        python=python,
        programs=imports.PROGRAMS[THEIRS],
    )


def measure(packages: Mapping[str, Installed], *, rounds: int, progress: Progress) -> Measured:
    """Let the contenders complete in turns.

    Raises:
        BuildError: a contender cannot compute.
    """
    small, large = text_model(SMALL_VOCABULARY), text_model(LARGE_VOCABULARY)
    completion: dict[int, dict[str, list[float]]] = {
        length: {name: [] for name in CONTENDERS} for length in LENGTHS
    }
    options: dict[Option, dict[str, list[float]]] = {
        option: {name: [] for name in CONTENDERS} for option in OPTIONS
    }
    with ExitStack() as stack:

        def workers(model: Path, *, logits_all: bool = False) -> list[_Worker]:
            return [
                stack.enter_context(
                    _Worker(
                        name,
                        packages[OURS if name == RAW else name],
                        model,
                        logits_all=logits_all,
                    )
                )
                for name in CONTENDERS
            ]

        progress.step(f"completions: {rounds} rounds of {len(CONTENDERS)}")
        at_work = workers(small)
        for number in range(rounds + 1):
            for length in LENGTHS:
                for worker in _turn(at_work, number):
                    cost = worker.complete(length, "plain")
                    if number:
                        completion[length][worker.name].append(cost)
        progress.step(f"a vocabulary of {LARGE_VOCABULARY:,}: {rounds} rounds")
        # the other package gives logprobs only where it keeps the logits of all tokens
        plain, keeping = workers(large), workers(large, logits_all=True)
        states = {worker.name: worker.state(_STATE_TOKENS) for worker in plain}
        for number in range(rounds + 1):
            for option in OPTIONS:
                for worker in _turn(keeping if option == "logprobs=5" else plain, number):
                    cost = worker.complete(_LARGE_TOKENS, option)
                    if number:
                        options[option][worker.name].append(cost)
    return Measured(
        completion=completion,
        options=options,
        state_bytes={name: states[name] for name in (OURS, THEIRS)},
    )


def _turn(workers: Sequence[_Worker], number: int) -> Sequence[_Worker]:
    first = number % len(workers)
    return (*workers[first:], *workers[:first])


class _Worker(Child):
    """A contender's process with a model loaded; used in a ``with`` statement."""

    def __init__(self, name: str, package: Installed, model: Path, *, logits_all: bool) -> None:
        super().__init__(
            [package.python, "-P", _SCRIPT, name],
            title=package.title,
            env=imports.clean_environment(),
            cwd=package.python.parent,
        )
        self.name = name
        self._package = package
        self.ask(verb="load", model=str(model), context=_CONTEXT, logits_all=logits_all)

    def complete(self, tokens: int, option: Option) -> float:
        """Return the microseconds of CPU time per token; short completions are made several times."""
        seconds, times = 0.0, max(1, max(LENGTHS) // tokens) if tokens in LENGTHS else 1
        for _ in range(times):
            answer = self.ask(verb="complete", tokens=tokens, option=option)
            if answer["tokens"] != tokens:
                raise BuildError(
                    f"{self._package.title} gave {answer['tokens']} tokens instead of {tokens}",
                    cure="delete the models in the cache folder and run this again",
                )
            seconds += float(str(answer["seconds"]))
        return seconds / (tokens * times) * 1e6

    def state(self, tokens: int) -> int:
        """Return the bytes of a saved state."""
        return int(str(self.ask(verb="state", tokens=tokens)["bytes"]))


def report(
    measured: Measured,
    packages: Mapping[str, Installed],
    timed: imports.Timed,
    *,
    rounds: int,
    date: datetime,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return the content of ``results/binding.json``."""
    states = measured.state_bytes
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "cpus": machine.cpu_count(),
        **circumstances,
        "rounds": rounds,
        "packages": {name: package.title for name, package in packages.items()},
        "completion": [
            {
                "tokens": length,
                "microseconds": {
                    name: measured.per_token(length, name).rounded(1) for name in CONTENDERS
                },
                "to_raw": {
                    name: round(measured.to_raw(length, name), 2) for name in (OURS, THEIRS)
                },
            }
            for length in LENGTHS
        ],
        "vocabulary": LARGE_VOCABULARY,
        "options": [
            {
                "option": option,
                "microseconds": {
                    name: spread(measured.options[option][name]).rounded(1) for name in CONTENDERS
                },
                "extra": {name: round(measured.extra(option, name), 1) for name in (OURS, THEIRS)},
                "ratio": round(measured.option_ratio(option), 1),
            }
            for option in OPTIONS
        ],
        "state": {"tokens": _STATE_TOKENS, "bytes": dict(states)},
        "import_ms": {
            name: round(timed.spread(name, "import").median * 1000, 1) for name in (OURS, THEIRS)
        },
        "goals": [
            {"goal": each.text, "measured": round(each.measured, 2), "met": each.met}
            for each in goals(measured, timed)
        ],
    }


def goals(measured: Measured, timed: imports.Timed) -> tuple[Verdict, ...]:
    """Compare with what the package is to be."""
    slowest = max(measured.to_raw(length, OURS) for length in LENGTHS)
    flat = f"the same at {max(LENGTHS)} tokens : at {min(LENGTHS)}"
    ratio = timed.ratio("import")
    return (
        _most("a token of a completion : raw loop", GOAL_TO_RAW, slowest),
        _most(flat, GOAL_FLAT, measured.flatness(OURS)),
        *(
            _least(f"{option}, sdist : wheel", GOAL_OPTIONS, measured.option_ratio(option))
            for option in _WITH_GOAL
        ),
        _least("import, sdist : wheel", GOAL_IMPORT, ratio),
    )


def _most(text: str, goal: float, measured: float) -> Verdict:
    return Verdict(text=f"{text} ≤ {goal:g}", measured=measured, met=measured <= goal)


def _least(text: str, goal: float, measured: float) -> Verdict:
    return Verdict(text=f"{text} ≥ {goal:g}", measured=measured, met=measured >= goal)
