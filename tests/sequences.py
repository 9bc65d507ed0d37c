"""Sequences side by side, on every Python that the binding's tests run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def paired(*sequences: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Return what ``zip(strict=True)`` of Python 3.10 does, whose lengths must be the same."""
    lists = [list(sequence) for sequence in sequences]
    lengths = {len(each) for each in lists}
    assert len(lengths) <= 1, f"sequences of {sorted(lengths)} things side by side"
    return zip(*lists)
