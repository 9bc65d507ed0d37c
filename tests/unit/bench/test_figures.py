from __future__ import annotations

import pytest

from bench.figures import Goal, Spread, Verdict, ratios, spread


def test_spread_of_many_values_has_interpolated_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(
        median=3.0, low_quartile=2.0, high_quartile=4.0, lowest=1.0, highest=5.0
    )


def test_spread_of_two_values() -> None:
    assert spread([1.0, 2.0]) == Spread(
        median=1.5, low_quartile=1.25, high_quartile=1.75, lowest=1.0, highest=2.0
    )


def test_spread_of_one_value_is_that_value() -> None:
    assert spread([7.5]) == Spread(
        median=7.5, low_quartile=7.5, high_quartile=7.5, lowest=7.5, highest=7.5
    )


def test_spread_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^no values$"):
        spread([])


def test_spread_is_rounded_for_the_file() -> None:
    assert spread([1.0, 1.23456, 2.0]).rounded(2) == {
        "median": 1.23,
        "low_quartile": 1.12,
        "high_quartile": 1.62,
        "lowest": 1.0,
        "highest": 2.0,
    }


def test_ratios_are_taken_round_by_round() -> None:
    # the machine is half as fast in the second round; the ratio does not see it
    assert ratios([120.0, 60.0], [100.0, 50.0]) == (1.2, 1.2)


def test_ratios_want_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize(("ratio", "met"), [(0.97, False), (0.98, True), (1.2, True)])
def test_goal_is_met_from_its_own_value_on(ratio: float, met: bool) -> None:
    assert Verdict(goal=Goal(text="generation", least=0.98), ratio=ratio).met is met
