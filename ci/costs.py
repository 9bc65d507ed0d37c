"""Costs: what each wheel of a release took to compile, and how large it came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from ci.record import BuildRecord

_NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One target: what its build record says; None where nothing measured it.

    Attributes:
        target: its name.
        seconds: of compiling, by the clock on the wall.
        cpu_seconds: of the processors.
        units: objects that it consists of.
        cache_hits: of those from the compiler cache.
        cache_misses: of those compiled.
        wheel_bytes: size of the finished wheel.
        module_bytes: size of the backend's own libraries in it, unpacked.
    """

    target: str
    seconds: float | None
    cpu_seconds: float | None
    units: int | None
    cache_hits: int | None
    cache_misses: int | None
    wheel_bytes: int
    module_bytes: int


def cost_of(record: BuildRecord) -> Cost:
    """Return the cost of a finished wheel from its build record."""
    compiled = record.compilation
    return Cost(
        target=record.target,
        seconds=compiled.seconds if compiled else None,
        cpu_seconds=compiled.cpu_seconds if compiled else None,
        units=record.units,
        cache_hits=compiled.cache_hits if compiled else None,
        cache_misses=compiled.cache_misses if compiled else None,
        wheel_bytes=record.wheel.size if record.wheel else 0,
        module_bytes=sum(module.size for module in record.modules),
    )


def costs_json(costs: Sequence[Cost]) -> str:
    """Return the costs for machines: a row per target in the given order, and their sums."""
    content = {
        "schema": 1,
        "targets": [asdict(cost) for cost in costs],
        "total": {name: _sum(costs, name) for name in _SUMMED},
    }
    return json.dumps(content, indent=2) + "\n"


def costs_page(costs: Sequence[Cost]) -> str:
    """Return the costs for people, as a table in Markdown."""
    rows = [
        ["target", *(title for title, _, _ in _COLUMNS)],
        ["---", *["--:"] * len(_COLUMNS)],
        *([f"`{cost.target}`", *_cells(cost)] for cost in costs),
        ["**together**", *(_told(_sum(costs, name), told) for _, name, told in _COLUMNS)],
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{_HEAD}\n{table}\n"


_HEAD = """\
# What the wheels cost

Compiling alone, from the build record beside each wheel: a GPU wheel is the CPU wheel of its platform and
one module more, and its row is that module's. "Of those cached" came from the compiler cache and cost
nothing. A dash is where nothing could measure it. MB are a million bytes; the module's are unpacked.
"""


def _seconds(value: float) -> str:
    return f"{value:,.0f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.1f}"


# title, field, how a number is written
_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("seconds", "seconds", _seconds),
    ("CPU seconds", "cpu_seconds", _seconds),
    ("objects", "units", _count),
    ("of those cached", "cache_hits", _count),
    ("wheel, MB", "wheel_bytes", _megabytes),
    ("module, MB", "module_bytes", _megabytes),
)
_SUMMED = (
    "seconds",
    "cpu_seconds",
    "units",
    "cache_hits",
    "cache_misses",
    "wheel_bytes",
    "module_bytes",
)


def _cells(cost: Cost) -> list[str]:
    values = asdict(cost)
    return [_told(values[name], told) for _, name, told in _COLUMNS]


def _told(value: float | None, told: Callable[[float], str]) -> str:
    return _NOTHING if value is None else told(value)


def _sum(costs: Sequence[Cost], name: str) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    values = [value for cost in costs if (value := asdict(cost)[name]) is not None]
    return round(sum(values), 1) if values else None
