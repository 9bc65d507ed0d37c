"""Problems: every one of them with its place, a line each."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from ci.problems import told


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What is read here."""

    size: int
    names: list[str]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            '{"size": "x", "names": ["a", 1]}',
            (
                "  size: Input should be a valid integer, unable to parse string as an integer\n"
                "  names.1: Input should be a valid string"
            ),
        ),
        ('{"size": 1}', "  names: Field required"),
        ("[]", "  report: Input should be an object"),
    ],
)
def test_problems_are_told_with_their_places(text: str, problems: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Thing).validate_json(text)
    assert told(caught.value, whole="report") == problems


def test_what_is_wrong_as_a_whole_is_a_file_unless_it_has_a_name() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Thing).validate_json("[]")
    assert told(caught.value) == "  file: Input should be an object"
