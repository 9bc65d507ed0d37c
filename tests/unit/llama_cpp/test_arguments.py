"""Checks of single arguments."""

from __future__ import annotations

import math

import pytest

from llama_cpp._arguments import check_integer, check_number
from llama_cpp._errors import ValidationError


@pytest.mark.parametrize("value", [0, 9, -128, 127])
def test_integers_in_range(value: int) -> None:
    check_integer("x", value, -128, 127)


@pytest.mark.parametrize("value", [128, -129, 1.0, "1", None, 2**70])
def test_integers_out_of_range(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        check_integer("x", value, -128, 127)
    assert str(caught.value) == f"x is {value!r}; choose an integer from -128 to 127"


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_numbers_in_range(value: float) -> None:
    check_number("x", value, 0, 1)


@pytest.mark.parametrize("value", [1.0001, -1e-9, math.nan, math.inf, "1", None])
def test_numbers_out_of_range(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        check_number("x", value, 0, 1)
    assert str(caught.value) == f"x is {value!r}; choose a number from 0 to 1"
