"""Bounds and multiples of numbers: decimal arithmetic agrees, at the bounds and around them."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from llama_cpp import _json_number
from llama_cpp._automaton import TooLargeError
from llama_cpp._json_number import Bound, NumberShape


def fits(shape: NumberShape, value: Decimal) -> bool:
    low, high = shape.low, shape.high
    return (
        (shape.kind == "number" or (value == int(value)) == (shape.kind == "integer"))
        and (low is None or value > low.value or (value == low.value and not low.exclusive))
        and (high is None or value < high.value or (value == high.value and not high.exclusive))
        and all(value % multiple == 0 for multiple in shape.multiples)
    )


def drawn_bound(choice: random.Random) -> Bound | None:
    if choice.random() < 0.3:
        return None
    value = Decimal(choice.randint(-300, 300)) / choice.choice([1, 1, 10, 100, 4])
    return Bound(value, exclusive=choice.random() < 0.5)


@pytest.mark.parametrize("kind", ["integer", "number", "fraction"])
def test_random_shapes(kind: str) -> None:
    choice = random.Random(20261121)
    counts = [0, 0]
    for _ in range(60):
        multiples = [Decimal(choice.choice(["3", "0.5", "0.01", "7", "2.5"]))]
        shape = NumberShape(
            kind,
            drawn_bound(choice),
            drawn_bound(choice),
            tuple(multiples if choice.random() < 0.3 else ()),
        )
        automaton = _json_number.automaton(shape)
        at_bounds = [bound.value for bound in (shape.low, shape.high) if bound is not None]
        for _ in range(150):
            value = Decimal(choice.randint(-400, 400)) / choice.choice([1, 10, 100, 4, 1000])
            if at_bounds and choice.random() < 0.3:
                value = choice.choice(at_bounds)
            text = format(value.normalize(), "f") if value else "0"
            if kind == "integer" and value != int(value):
                continue
            assert automaton.accepts(text) == fits(shape, value), (shape, text)
            counts[fits(shape, value)] += 1
    assert min(counts) > 100


@pytest.mark.parametrize("text", ["01", "-", "1.", ".5", "+1", "1e2", "--1", ""])
def test_only_json_s_numbers(text: str) -> None:
    shape = NumberShape("number", Bound(Decimal(-10), exclusive=False), None, ())
    assert not _json_number.automaton(shape).accepts(text)


def test_trailing_zeros_are_the_same_number() -> None:
    shape = NumberShape("number", None, Bound(Decimal("1.5"), exclusive=False), ())
    automaton = _json_number.automaton(shape)
    assert [automaton.accepts(text) for text in ("1.500", "1.501", "1.49")] == [True, False, True]


def test_exactly() -> None:
    automaton = _json_number.exactly(0)
    assert [automaton.accepts(text) for text in ("0", "-0", "0.0", "0.01")] == [True] * 3 + [False]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            NumberShape("number", Bound(Decimal("1e999"), exclusive=False), None, ()),
            "the bound is too far from zero, or too near to it",
        ),
        (
            NumberShape("integer", None, None, (Decimal(12345),)),
            "the number has digits that make more than 2000",
        ),
        (
            NumberShape("number", None, None, (Decimal("1e-30"),)),
            "the number has too many digits",
        ),
    ],
)
def test_too_large(shape: NumberShape, message: str) -> None:
    with pytest.raises(TooLargeError) as caught:
        _json_number.automaton(shape)
    assert str(caught.value) == message
