"""What a parser found wrong, in one line for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def told(error: ValidationError, *, whole: str) -> str:
    """Return every problem with its place: ``size: Input should be greater than 0; …``.

    ``whole`` is what the place is called where the problem is all of the input.
    """
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}"
        for problem in error.errors()
    )
