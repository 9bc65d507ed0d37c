"""Tokens per second of the finished wheel against builds of the same commit, in one run.

Contenders take turns within a round, each round begins with another one, and ratios are taken
round by round: what slows the machine down slows all of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from bench import machine
from bench.figures import Goal, Spread, Verdict, ratios, spread
from bench.models import QUANTISATIONS, Quantisation
from bench.worker import Facts, Libraries, Timing, Worker
from ci.progress import Progress

Task: TypeAlias = Literal["prompt", "generation"]
TASKS: tuple[Task, ...] = get_args(Task)

WHEEL, NATIVE, BASELINE = "wheel", "native", "avx2"

# a round counts when each contender had its threads' CPUs for itself for at least this much of the
# time; ggml's threads spin while they wait, so what is missing went to other processes
_QUIET = 0.95
# … but not for ever: after this many times the wanted rounds the least disturbed ones are taken
_PATIENCE = 4

_GOALS: tuple[tuple[Task, str, float], ...] = (
    ("prompt", NATIVE, 1.0),
    ("generation", NATIVE, 0.98),
    ("prompt", BASELINE, 1.6),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    threads: int = 2
    rounds: int = 7
    prompt_tokens: int = 512
    generated_tokens: int = 64
    quantisations: tuple[Quantisation, ...] = QUANTISATIONS


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn of every contender: their speeds, and how much of their CPUs they had."""

    tokens_per_second: Mapping[str, float]
    cpu_share: float
    """CPU seconds per thread and second of the contender that was disturbed most; 1 is all."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """The rounds of one task on one quantisation."""

    quantisation: Quantisation
    task: Task
    rounds: Sequence[Round]
    disturbed: int
    """Rounds that were measured and left out because others kept the machine busy."""

    def speed(self, name: str) -> Spread:
        """Return a contender's tokens per second."""
        return spread([each.tokens_per_second[name] for each in self.rounds])

    def ratio(self, name: str, reference: str) -> Spread:
        """Return a contender's speed relative to another's, round by round."""
        return spread(
            ratios(
                [each.tokens_per_second[name] for each in self.rounds],
                [each.tokens_per_second[reference] for each in self.rounds],
            )
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All series of a run, and what the contenders said about themselves."""

    series: Sequence[Series]
    facts: Mapping[str, Facts] = field(default_factory=dict)

    def overall(self, task: Task, name: str, reference: str) -> float:
        """Return the median over the quantisations of the median ratio."""
        return statistics.median(
            each.ratio(name, reference).median for each in self.series if each.task == task
        )

    def verdicts(self, *, avx512: bool) -> tuple[Verdict, ...]:
        """Compare with the goals; the one against the AVX2 build is for AVX-512 machines."""
        return tuple(
            Verdict(
                goal=Goal(text=f"{task}, {WHEEL} / {reference}", least=least),
                ratio=self.overall(task, WHEEL, reference),
            )
            for task, reference, least in _GOALS
            if reference != BASELINE or avx512
        )


def measure(
    contenders: Sequence[Libraries],
    models: Mapping[Quantisation, Path],
    plan: Plan,
    progress: Progress,
) -> Measured:
    """Run every contender on every model.

    Raises:
        BuildError: a contender cannot compute.
    """
    series: list[Series] = []
    facts: dict[str, Facts] = {}
    for quantisation in plan.quantisations:
        progress.step(f"measuring {quantisation}: {plan.rounds} rounds of {len(contenders)}")
        with ExitStack() as stack:
            workers = [
                stack.enter_context(
                    Worker(
                        libraries,
                        models[quantisation],
                        threads=plan.threads,
                        batch=max(plan.prompt_tokens, plan.generated_tokens),
                    )
                )
                for libraries in contenders
            ]
            facts |= {worker.libraries.name: worker.facts for worker in workers}
            for worker in workers:
                # reads the weights once and fills caches
                for task in TASKS:
                    _time(worker, task, plan)
            for task in TASKS:
                rounds = list(_rounds(workers, task, plan))
                kept = choose_rounds(rounds, plan.rounds)
                series.append(
                    Series(
                        quantisation=quantisation,
                        task=task,
                        rounds=kept,
                        disturbed=len(rounds) - len(kept),
                    )
                )
    return Measured(series=series, facts=facts)


def choose_rounds(rounds: Sequence[Round], wanted: int) -> tuple[Round, ...]:
    """Return the rounds that count, in the order they were run.

    Those that were not disturbed; where these are too few, the least disturbed ones.

    Args:
        rounds: all that were run.
        wanted: how many to return.
    """
    quiet = [each for each in rounds if each.cpu_share >= _QUIET]
    if len(quiet) < wanted:
        by_noise = sorted(range(len(rounds)), key=lambda index: -rounds[index].cpu_share)
        quiet = [rounds[index] for index in sorted(by_noise[:wanted])]
    return tuple(quiet[:wanted])


def _rounds(workers: Sequence[Worker], task: Task, plan: Plan) -> Iterator[Round]:
    quiet = 0
    for number in range(plan.rounds * _PATIENCE):
        turn = number % len(workers)
        timings = {
            worker.libraries.name: _time(worker, task, plan)
            for worker in (*workers[turn:], *workers[:turn])
        }
        share = min(each.cpu_s / each.seconds for each in timings.values()) / plan.threads
        yield Round(
            tokens_per_second={name: each.tokens_per_second for name, each in timings.items()},
            cpu_share=share,
        )
        quiet += share >= _QUIET
        if quiet == plan.rounds:
            return


def _time(worker: Worker, task: Task, plan: Plan) -> Timing:
    if task == "prompt":
        return worker.prompt(plan.prompt_tokens)
    return worker.generate(plan.generated_tokens)


def report(
    measured: Measured,
    contenders: Sequence[Libraries],
    plan: Plan,
    *,
    date: datetime,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return the content of ``results/speed.json``.

    Args:
        measured: the figures.
        contenders: what was compared, the wheel first.
        plan: how much was measured.
        date: when it began.
        circumstances: commit, compilers, load averages and the like.
    """
    others = [each.name for each in contenders[1:]]
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "instruction_sets": list(machine.instruction_sets()),
        "cpus": machine.cpu_count(),
        **circumstances,
        "threads": plan.threads,
        "rounds": plan.rounds,
        "prompt_tokens": plan.prompt_tokens,
        "generated_tokens": plan.generated_tokens,
        "contenders": {
            each.name: {
                "title": each.title,
                "cpu_variant": measured.facts[each.name].cpu_variant,
                "system_info": measured.facts[each.name].system_info,
                "nice": measured.facts[each.name].nice,
            }
            for each in contenders
        },
        "series": [
            {
                "quantisation": each.quantisation,
                "task": each.task,
                "tokens_per_second": {
                    item.name: each.speed(item.name).rounded(1) for item in contenders
                },
                "ratio": {name: each.ratio(WHEEL, name).rounded(3) for name in others},
                "lowest_cpu_share": round(min(one.cpu_share for one in each.rounds), 2),
                "disturbed_rounds_left_out": each.disturbed,
            }
            for each in measured.series
        ],
        "overall": {
            task: {name: round(measured.overall(task, WHEEL, name), 3) for name in others}
            for task in TASKS
        },
        "goals": [
            {
                "goal": verdict.goal.text,
                "least": verdict.goal.least,
                "measured": round(verdict.ratio, 3),
                "met": verdict.met,
            }
            for verdict in measured.verdicts(avx512=machine.has_avx512())
        ],
    }
