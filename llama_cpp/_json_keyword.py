"""What the keywords of a schema that hold no schema may have as values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


def _number(value: Any) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if number and math.isfinite(value) else f"{value!r} is no number"


def _positive(value: Any) -> str | None:
    return _number(value) or (None if value > 0 else "it is not above zero")


def _count(value: Any) -> str | None:
    fits = _number(value) is None and value >= 0 and value == int(value)
    return None if fits else f"{value!r} is no count"


def _string(value: Any) -> str | None:
    return None if isinstance(value, str) else f"{value!r} is no string"


def _list(value: Any) -> str | None:
    return None if isinstance(value, list) else "it is no list"


def _names(value: Any) -> str | None:
    fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return None if fits else "it is no list of names"


def _names_by_name(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(_names(names) is None for names in value.values())
    return None if fits else "it is no object of lists of names"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"{value!r} is no boolean"


def _types(value: Any) -> str | None:
    for name in value if isinstance(value, list) else [value]:
        if name not in TYPES:
            return f"{name!r} is no type: there are {', '.join(TYPES)}"
    return None


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "$ref": _string,
    "type": _types,
    "enum": _list,
    "minimum": _number,
    "maximum": _number,
    "exclusiveMinimum": _number,
    "exclusiveMaximum": _number,
    "multipleOf": _positive,
    "minLength": _count,
    "maxLength": _count,
    "pattern": _string,
    "format": _string,
    "minItems": _count,
    "maxItems": _count,
    "uniqueItems": _boolean,
    "minContains": _count,
    "maxContains": _count,
    "minProperties": _count,
    "maxProperties": _count,
    "required": _names,
    "dependentRequired": _names_by_name,
}
"""Keyword → what is wrong with its value; None where nothing is."""
