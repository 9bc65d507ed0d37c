"""What a parser found wrong, one line per problem, for a person."""

from __future__ import annotations

from pydantic import ValidationError


def told(error: ValidationError, *, whole: str = "file") -> str:
    """Return every problem with its place: ``  family.cuda.modules: Field required``.

    ``whole`` is what the place is called where the problem is all of the input.
    """
    return "\n".join(
        f"  {'.'.join(map(str, problem['loc'])) or whole}: {problem['msg']}"
        for problem in error.errors()
    )
