"""Checks of single arguments before llama.cpp sees them."""

from __future__ import annotations

from llama_cpp._errors import ValidationError


def check_integer(name: str, value: object, lowest: int, highest: int) -> None:
    """Raise :class:`ValidationError` unless ``value`` is an integer in the closed range."""
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise ValidationError(f"{name} is {value!r}; choose an integer from {lowest} to {highest}")


def check_number(name: str, value: object, lowest: float, highest: float) -> None:
    """Raise :class:`ValidationError` unless ``value`` is a number in the closed range; NaN is not."""
    if not isinstance(value, (int, float)) or not lowest <= value <= highest:
        raise ValidationError(
            f"{name} is {value!r}; choose a number from {lowest:g} to {highest:g}"
        )
