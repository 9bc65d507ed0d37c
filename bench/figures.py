"""What is computed from measurements: medians, quartiles, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median with the quartiles around it and the extremes."""

    median: float
    low_quartile: float
    high_quartile: float
    lowest: float
    highest: float

    def rounded(self, digits: int) -> dict[str, float]:
        """Return the five numbers for a JSON file."""
        return {
            "median": round(self.median, digits),
            "low_quartile": round(self.low_quartile, digits),
            "high_quartile": round(self.high_quartile, digits),
            "lowest": round(self.lowest, digits),
            "highest": round(self.highest, digits),
        }


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of one or more values; quartiles are interpolated.

    Raises:
        ValueError: there is none.
    """
    if not values:
        raise ValueError("no values")
    if len(values) == 1:
        quartiles = [values[0]] * 3
    else:
        quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(
        median=statistics.median(values),
        low_quartile=quartiles[0],
        high_quartile=quartiles[2],
        lowest=min(values),
        highest=max(values),
    )


def ratios(values: Sequence[float], references: Sequence[float]) -> tuple[float, ...]:
    """Return value / reference round by round.

    Pairing them is what makes the ratio hold on a machine whose speed drifts.

    Raises:
        ValueError: the two have not the same number of rounds.
    """
    return tuple(value / reference for value, reference in zip(values, references, strict=True))


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a ratio is to be at least."""

    text: str
    least: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A goal and the ratio that was measured."""

    goal: Goal
    ratio: float

    @property
    def met(self) -> bool:
        """Whether the measured ratio reaches the goal."""
        return self.ratio >= self.goal.least
