from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.speed import Measured, Plan, Round, Series, choose_rounds, report
from bench.worker import Facts, Libraries

if TYPE_CHECKING:
    from bench.models import Quantisation
    from bench.speed import Task


def one(share: float, wheel: float = 100.0, native: float = 100.0, avx2: float = 50.0) -> Round:
    return Round(
        tokens_per_second={"wheel": wheel, "native": native, "avx2": avx2}, cpu_share=share
    )


def series(quantisation: Quantisation, task: Task, wheel: float) -> Series:
    rounds = [one(1.0, wheel=wheel), one(1.0, wheel=wheel / 2, native=50.0, avx2=25.0)]
    return Series(quantisation=quantisation, task=task, rounds=rounds, disturbed=1)


def contender(name: str) -> Libraries:
    return Libraries(name=name, title=name.title(), folder=Path("lib"), package=Path())


MEASURED = Measured(
    series=[
        series("F16", "prompt", 90.0),
        series("Q4_0", "prompt", 110.0),
        series("Q4_K_M", "prompt", 130.0),
        series("F16", "generation", 97.0),
        series("Q4_0", "generation", 90.0),
        series("Q4_K_M", "generation", 99.0),
    ],
    facts={
        name: Facts(cpu_variant=None, system_info=name, parameters=5, nice=0)
        for name in ("wheel", "native", "avx2")
    },
)


def test_undisturbed_rounds_are_chosen_in_their_order() -> None:
    rounds = [one(0.99, 1), one(0.5, 2), one(0.96, 3), one(0.97, 4)]
    assert choose_rounds(rounds, 2) == (rounds[0], rounds[2])


def test_without_enough_of_them_the_least_disturbed_are_chosen() -> None:
    rounds = [one(0.3, 1), one(0.8, 2), one(0.5, 3), one(0.96, 4)]
    assert choose_rounds(rounds, 3) == (rounds[1], rounds[2], rounds[3])


def test_ratio_of_a_series_is_the_median_over_its_rounds() -> None:
    assert series("F16", "prompt", 90.0).ratio("wheel", "native").median == pytest.approx(0.9)
    assert series("F16", "prompt", 90.0).speed("wheel").median == 67.5


def test_overall_ratio_is_the_median_over_the_quantisations() -> None:
    assert MEASURED.overall("prompt", "wheel", "native") == pytest.approx(1.1)
    assert MEASURED.overall("generation", "wheel", "native") == pytest.approx(0.97)
    assert MEASURED.overall("prompt", "wheel", "avx2") == pytest.approx(2.2)


def test_goals_on_an_avx512_machine() -> None:
    verdicts = MEASURED.verdicts(avx512=True)
    assert [(each.goal.text, each.goal.least, each.met) for each in verdicts] == [
        ("prompt, wheel / native", 1.0, True),
        ("generation, wheel / native", 0.98, False),
        ("prompt, wheel / avx2", 1.6, True),
    ]


def test_goal_against_the_avx2_build_is_for_avx512_machines_only() -> None:
    assert [each.goal.text for each in MEASURED.verdicts(avx512=False)] == [
        "prompt, wheel / native",
        "generation, wheel / native",
    ]


def test_report_holds_medians_ratios_and_what_was_left_out() -> None:
    content = report(
        MEASURED,
        [contender("wheel"), contender("native"), contender("avx2")],
        Plan(rounds=2),
        date=datetime(2026, 11, 21, 3, 0, tzinfo=UTC),
        circumstances={"commit": "0123"},
    )
    assert content["date"] == "2026-11-21T03:00:00Z"
    assert content["commit"] == "0123"
    contenders = content["contenders"]
    assert isinstance(contenders, dict)
    assert contenders["native"] == {
        "title": "Native",
        "cpu_variant": None,
        "system_info": "native",
        "nice": 0,
    }
    assert content["overall"] == {
        "prompt": {"native": 1.1, "avx2": 2.2},
        "generation": {"native": 0.97, "avx2": 1.94},
    }
    rows = content["series"]
    assert isinstance(rows, list)
    assert rows[0] == {
        "quantisation": "F16",
        "task": "prompt",
        "tokens_per_second": {
            "wheel": {
                "median": 67.5,
                "low_quartile": 56.2,
                "high_quartile": 78.8,
                "lowest": 45.0,
                "highest": 90.0,
            },
            "native": {
                "median": 75.0,
                "low_quartile": 62.5,
                "high_quartile": 87.5,
                "lowest": 50.0,
                "highest": 100.0,
            },
            "avx2": {
                "median": 37.5,
                "low_quartile": 31.2,
                "high_quartile": 43.8,
                "lowest": 25.0,
                "highest": 50.0,
            },
        },
        "ratio": {
            "native": dict.fromkeys(
                ("median", "low_quartile", "high_quartile", "lowest", "highest"), 0.9
            ),
            "avx2": dict.fromkeys(
                ("median", "low_quartile", "high_quartile", "lowest", "highest"), 1.8
            ),
        },
        "lowest_cpu_share": 1.0,
        "disturbed_rounds_left_out": 1,
    }
