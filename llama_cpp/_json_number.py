"""Numbers within bounds and multiples of a number, as automata over their decimal digits."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _automaton
from llama_cpp._automaton import Automaton, TooLargeError
from llama_cpp._json_pattern import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

# as many as 64-bit integers need, and doubles can tell apart
MOST_DIGITS = 20
_FRACTION = rf"(\.[0-9]{{1,{MOST_DIGITS}}})?"
_SOME = rf"[0-9]{{0,{MOST_DIGITS}}}"

_MOST_EXPONENT = 400
_MOST_MODULUS = 2000


class Bound(NamedTuple):
    """The least or the largest number."""

    value: Decimal
    exclusive: bool


class NumberShape(NamedTuple):
    """What a number must be."""

    kind: str
    """``integer``, ``fraction`` (no integer) or ``number`` (either)."""
    low: Bound | None
    high: Bound | None
    multiples: tuple[Decimal, ...]

    @property
    def is_free(self) -> bool:
        """Whether every number of its type fits."""
        free = self.low is None and self.high is None and not self.multiples
        return free and self.kind != "fraction"


def automaton(shape: NumberShape) -> Automaton:
    """Return the decimal numbers of a shape, without exponents.

    Raises:
        TooLargeError: the numbers are too long, or a multiple is of too large a number.
    """
    for bound in (shape.low, shape.high):
        if bound is not None and bound.value and abs(bound.value.adjusted()) > _MOST_EXPONENT:
            raise TooLargeError("the bound is too far from zero, or too near to it")
    found = _integers(shape) if shape.kind == "integer" else _decimals(shape)
    if shape.kind == "fraction":
        found = _automaton.both(found, whole(rf"-?[0-9]+\.0{{0,{MOST_DIGITS}}}[1-9][0-9]*"))
    for multiple in shape.multiples:
        found = _automaton.both(found, multiples(multiple))
    return found


def _integers(shape: NumberShape) -> Automaton:
    low = high = None
    if shape.low is not None:
        low = ceil(shape.low.value)
        low += shape.low.exclusive and low == shape.low.value
    if shape.high is not None:
        high = floor(shape.high.value)
        high -= shape.high.exclusive and high == shape.high.value
    parts = []
    if high is None or high >= 0:
        parts.append(_natural(max(low or 0, 0), high))
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        parts.append(f"-({_natural(least, None if low is None else -low)})")
    return (
        whole("|".join(part for part in parts if not part.endswith("[]")))
        if (low is None or high is None or low <= high)
        else _automaton.EMPTY
    )


def _natural(low: int, high: int | None) -> str:
    """Return a regular expression of the natural numbers between two, both included."""
    if high is not None and low > high:
        return "[]"
    parts = []
    digits = len(str(low))
    last = len(str(high)) if high is not None else digits
    for length in range(digits, last + 1):
        first = max(low, 10 ** (length - 1) if length > 1 else 0)
        top = 10**length - 1
        parts.append(_same_length(str(first), str(top if high is None else min(high, top))))
    if high is None:
        most = max(MOST_DIGITS, digits + 1)
        parts.append(f"[1-9][0-9]{{{digits},{most - 1}}}")
    return "|".join(parts)


def _same_length(low: str, high: str) -> str:
    if low == high:
        return low
    if low[0] == high[0]:
        return low[0] + _group(_same_length(low[1:], high[1:]))
    rest = len(low) - 1
    if not rest:
        return f"[{low}-{high}]"
    parts = []
    first, last = int(low[0]), int(high[0])
    if int(low[1:]):
        parts.append(low[0] + _group(_same_length(low[1:], "9" * rest)))
        first += 1
    if high[1:] != "9" * rest:
        parts.append(high[0] + _group(_same_length("0" * rest, high[1:])))
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}][0-9]{{{rest}}}")
    return "|".join(parts)


def _group(pattern: str) -> str:
    return f"(?:{pattern})"


def _decimals(shape: NumberShape) -> Automaton:
    low, high = shape.low, shape.high
    zero = Decimal(0)
    found = _automaton.EMPTY
    if high is None or high.value > 0 or (high.value == 0 and not high.exclusive):
        found = _magnitudes(low if low is not None and low.value >= 0 else None, high)
    if low is None or low.value < 0 or (low.value == 0 and not low.exclusive):
        least = None if high is None or high.value > 0 else Bound(zero - high.value, high.exclusive)
        most = None if low is None else Bound(zero - low.value, low.exclusive)
        found = _automaton.either(found, _negative(_magnitudes(least, most)))
    return found


def _negative(magnitudes: Automaton) -> Automaton:
    """Return an automaton's texts after a minus sign."""
    moves = tuple(
        tuple((first, last, target + 1) for first, last, target in out) for out in magnitudes.moves
    )
    return _automaton.minimized(
        Automaton(
            (((ord("-"), ord("-"), 1),), *moves),
            frozenset(state + 1 for state in magnitudes.accepting),
        )
    )


def _magnitudes(low: Bound | None, high: Bound | None) -> Automaton:
    found = whole(f"(?:{_natural(0, None)}){_FRACTION}")
    if low is not None:
        digits, fraction = _split(low.value)
        found = _automaton.both(
            found,
            whole(
                f"(?:{_natural(digits + 1, None)}){_FRACTION}|{digits}"
                f"{_group(_at_least(fraction, low.exclusive))}"
            ),
        )
    if high is not None:
        digits, fraction = _split(high.value)
        parts = [f"(?:{_natural(0, digits - 1)}){_FRACTION}"] if digits else []
        if fraction or not high.exclusive:
            parts.append(f"{digits}{_group(_at_most(fraction, high.exclusive))}")
        found = _automaton.both(found, whole("|".join(parts))) if parts else _automaton.EMPTY
    return found


def _split(value: Decimal) -> tuple[int, str]:
    digits, _, fraction = format(abs(value), "f").partition(".")
    return int(digits), fraction.rstrip("0")


def _at_least(fraction: str, exclusive: bool) -> str:
    positive = rf"0{{0,{MOST_DIGITS}}}[1-9]{_SOME}"
    if not fraction:
        return rf"\.{positive}" if exclusive else _FRACTION
    pattern = positive if exclusive else _SOME
    for digit in reversed(fraction):
        more = f"[{int(digit) + 1}-9]{_SOME}|" if digit != "9" else ""
        pattern = f"(?:{more}{digit}{pattern})"
    return rf"\.{pattern}"


def _at_most(fraction: str, exclusive: bool) -> str:
    if not fraction:
        return rf"(?:\.0{{1,{MOST_DIGITS}}})?"
    # to end before the bound's last digit is to be smaller
    pattern = None if exclusive else f"0{{0,{MOST_DIGITS}}}"
    for index in range(len(fraction) - 1, -1, -1):
        digit = fraction[index]
        choices = [f"[0-{int(digit) - 1}]{_SOME}"] if digit != "0" else []
        if pattern is not None:
            inner = pattern if index == len(fraction) - 1 else f"(?:{pattern})?"
            choices.append(f"{digit}{inner}")
        elif index < len(fraction) - 1:
            choices.append(digit)
        pattern = f"(?:{'|'.join(choices)})"
    return rf"(?:\.{pattern})?"


def multiples(of: Decimal) -> Automaton:
    """Return the decimal numbers that are a multiple of one.

    Raises:
        TooLargeError: its digits make too large a modulus.
    """
    fraction = Fraction(of)
    places = 0
    while fraction.denominator != 1:
        fraction *= 10
        places += 1
        if places > MOST_DIGITS:
            raise TooLargeError("the number has too many digits")
    modulus = fraction.numerator
    if modulus > _MOST_MODULUS:
        raise TooLargeError(f"the number has digits that make more than {_MOST_MODULUS}")

    def accepts(state: _Division) -> bool:
        left = state.rest * 10 ** (places - state.places) % modulus
        return state.phase in ("zero", "digits", "places") and left == 0

    def following(state: _Division) -> list[tuple[int, int, _Division]]:
        return [
            (ord(char), ord(char), new)
            for char in "-.0123456789"
            for new in _divided(state, char, modulus, places)
        ]

    return _automaton.explored(_Division("start", 0, 0), following, accepts)


class _Division(NamedTuple):
    """How far a number, times a power of ten, is divided."""

    phase: str
    rest: int
    places: int


def _divided(state: _Division, char: str, modulus: int, places: int) -> Iterator[_Division]:
    """Yield what a character makes of a division; nothing where it does not fit."""
    phase, rest, seen = state
    if char == "-":
        if phase == "start":
            yield _Division("sign", 0, 0)
    elif char == ".":
        if phase in ("zero", "digits"):
            yield _Division("point", rest, 0)
    elif phase in ("point", "places"):
        if seen < places:
            yield _Division("places", (rest * 10 + int(char)) % modulus, seen + 1)
        elif char == "0":
            yield _Division("places", rest, seen)
    elif phase in ("start", "sign") and char == "0":
        yield _Division("zero", 0, 0)
    elif phase != "zero":
        yield _Division("digits", (rest * 10 + int(char)) % modulus, 0)


def exactly(value: float) -> Automaton:
    """Return the ways to write one number."""
    bound = Bound(Decimal(str(value)), exclusive=False)
    return _decimals(NumberShape("number", low=bound, high=bound, multiples=()))
