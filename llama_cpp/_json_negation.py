"""What it means not to fit a schema, as choices of other schemas (not, if/else)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_cpp._json_place import Document, Place, canonical
from llama_cpp._json_valid import ABSENT, EXCLUDED, KINDS, KINDS_KEY, kinds_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANNOTATIONS = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$comment", "$schema", "$id", "$anchor", "$defs", "definitions", "nullable"),
        *("contentEncoding", "contentMediaType", "contentSchema", "then", "else"),
    }
)

_NUMBERS = ["integer", "fraction"]
# keyword → the kinds that it is about, the keyword that says the opposite, and what to add
_OPPOSITES: dict[str, tuple[list[str], str, int]] = {
    "minimum": (_NUMBERS, "exclusiveMaximum", 0),
    "exclusiveMinimum": (_NUMBERS, "maximum", 0),
    "maximum": (_NUMBERS, "exclusiveMinimum", 0),
    "exclusiveMaximum": (_NUMBERS, "minimum", 0),
    "minLength": (["string"], "maxLength", -1),
    "maxLength": (["string"], "minLength", 1),
    "minItems": (["array"], "maxItems", -1),
    "maxItems": (["array"], "minItems", 1),
    "minProperties": (["object"], "maxProperties", -1),
    "maxProperties": (["object"], "minProperties", 1),
}


def negations(place: Place, document: Document) -> list[list[Place]]:
    """Return choices of places of which one fits whenever this one does not.

    Raises:
        ValidationError: a keyword of the place has no expressible opposite.
    """
    if isinstance(place.schema, bool):
        return [] if place.schema else [[]]
    found: list[list[Place]] = []
    for keyword in place.schema:
        if keyword not in _ANNOTATIONS:
            found += _opposites(place, keyword, document)
    return found


def _opposites(place: Place, keyword: str, document: Document) -> Iterator[list[Place]]:
    value = place.schema[keyword]
    if keyword in _OPPOSITES:
        kinds, opposite, step = _OPPOSITES[keyword]
        # nothing has fewer than none
        if value + step >= 0 or not step:
            yield _instead(place, keyword, {KINDS_KEY: kinds, opposite: value + step})
    elif keyword == "not":
        yield [place.at("not")]
    elif keyword == "$ref":
        yield from negations(document.target(place), document)
    elif keyword == "allOf":
        for index in range(len(value)):
            yield from negations(place.at("allOf", index), document)
    elif keyword == "anyOf":
        choices: list[list[Place]] = [[]]
        for index in range(len(value)):
            others = negations(place.at("anyOf", index), document)
            choices = [[*choice, *other] for choice in choices for other in others]
        yield from choices
    else:
        for schema in _other_schemas(place, keyword, value):
            yield _instead(place, keyword, schema)


def _instead(place: Place, keyword: str, schema: dict[str, Any]) -> list[Place]:
    # told apart by what it says: a keyword may have several opposites
    return [Place(f"{place.path}/{keyword}!{canonical(schema)}", schema)]


def _other_schemas(place: Place, keyword: str, value: Any) -> list[dict[str, Any]]:
    """Return schemas of which a value that does not fit a keyword fits one."""
    if keyword == "type":
        kinds = kinds_of(place.schema)
        return [{KINDS_KEY: [kind for kind in KINDS if kind not in kinds]}]
    if keyword in ("const", "enum"):
        return [{EXCLUDED: [value] if keyword == "const" else value}]
    if keyword == "required":
        return [{KINDS_KEY: ["object"], ABSENT: [name]} for name in value]
    if keyword != "properties":
        place.fail(keyword, "not to fit it cannot be expressed: say what is allowed instead")
    return [
        {KINDS_KEY: ["object"], "required": [name], "properties": {name: {"not": schema}}}
        for name, schema in value.items()
    ]
