"""Whether a value fits a schema: which listed values (enum, const) are left by the other keywords."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llama_cpp import _json_pattern
from llama_cpp._errors import ValidationError
from llama_cpp._json_format import INEXPRESSIBLE, PATTERNS
from llama_cpp._json_place import Document, Place, canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_cpp._automaton import Automaton

KINDS = ("object", "array", "string", "integer", "fraction", "boolean", "null")
"""The kinds of values; a fraction is a number that is no integer."""

# keywords of our own, for what negations say; no text of JSON can hold them by accident
KINDS_KEY = "\0kinds"
EXCLUDED = "\0excluded"
ABSENT = "\0absent"

_TYPES: dict[str, frozenset[str]] = {
    **{kind: frozenset({kind}) for kind in KINDS if kind != "fraction"},
    "number": frozenset({"integer", "fraction"}),
}


def kinds_of(schema: Any) -> frozenset[str]:
    """Return the kinds of values that the ``type`` of a schema names."""
    if isinstance(schema, bool):
        return frozenset(KINDS if schema else ())
    found = frozenset(schema.get(KINDS_KEY, KINDS))
    if "type" in schema:
        names = schema["type"]
        names = names if isinstance(names, list) else [names]
        named = frozenset().union(*(_TYPES[name] for name in names))
        if schema.get("nullable") is True:
            named |= {"null"}
        found &= named
    return found


def kind_of(value: Any) -> str:
    """Return the kind of a value."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "integer" if value == value // 1 else "fraction"
    return {dict: "object", list: "array", str: "string", type(None): "null"}[type(value)]


class Validator:
    """Says whether values fit places of a document."""

    def __init__(self, document: Document) -> None:
        """Follow the references of this document."""
        self._document = document
        self._enums: dict[str, frozenset[str]] = {}

    def fits(self, value: Any, place: Place) -> bool:
        """Return whether a value fits a place.

        Raises:
            ValidationError: a keyword is not known how to judge.
        """
        schema = place.schema
        if isinstance(schema, bool):
            return schema
        kind = kind_of(value)
        if kind not in kinds_of(schema):
            return False
        if "const" in schema and canonical(schema["const"]) != canonical(value):
            return False
        if "enum" in schema and canonical(value) not in self._listed(place):
            return False
        if canonical(value) in map(canonical, schema.get(EXCLUDED, ())):
            return False
        if not self._fits_in_place(value, place):
            return False
        judges: dict[str, Callable[[Any, Place], bool]] = {
            "integer": _fits_number,
            "fraction": _fits_number,
            "string": _fits_string,
            "array": self._fits_array,
            "object": self._fits_object,
        }
        return kind not in judges or judges[kind](value, place)

    def _listed(self, place: Place) -> frozenset[str]:
        if place.path not in self._enums:
            self._enums[place.path] = frozenset(map(canonical, place.schema["enum"]))
        return self._enums[place.path]

    def _fits_in_place(self, value: Any, place: Place) -> bool:
        schema = place.schema
        if "$ref" in schema and not self.fits(value, self._document.target(place)):
            return False
        for keyword in ("allOf", "anyOf", "oneOf"):
            if keyword in schema:
                count = sum(
                    self.fits(value, place.at(keyword, index))
                    for index in range(len(schema[keyword]))
                )
                wanted = {"allOf": count == len(schema[keyword]), "anyOf": count > 0}
                if not wanted.get(keyword, count == 1):
                    return False
        if "not" in schema and self.fits(value, place.at("not")):
            return False
        if "if" in schema:
            branch = "then" if self.fits(value, place.at("if")) else "else"
            return branch not in schema or self.fits(value, place.at(branch))
        return True

    def _fits_array(self, value: list[Any], place: Place) -> bool:
        schema = place.schema
        if not _in_count(len(value), schema, "minItems", "maxItems"):
            return False
        if schema.get("uniqueItems") is True and len(set(map(canonical, value))) < len(value):
            return False
        if "contains" in schema:
            count = sum(self.fits(element, place.at("contains")) for element in value)
            if not schema.get("minContains", 1) <= count <= schema.get("maxContains", count):
                return False
        return all(
            self.fits(element, inner)
            for index, element in enumerate(value)
            for inner in element_places(place, index)
        )

    def _fits_object(self, value: dict[str, Any], place: Place) -> bool:
        schema = place.schema
        if not _in_count(len(value), schema, "minProperties", "maxProperties"):
            return False
        if any(name not in value for name in schema.get("required", ())):
            return False
        if any(name in value for name in schema.get(ABSENT, ())):
            return False
        for name, needed in schema.get("dependentRequired", {}).items():
            if name in value and any(other not in value for other in needed):
                return False
        for name in schema.get("dependentSchemas", {}):
            if name in value and not self.fits(value, place.at("dependentSchemas", name)):
                return False
        if "propertyNames" in schema and not all(
            self.fits(name, place.at("propertyNames")) for name in value
        ):
            return False
        return all(
            self.fits(member, inner)
            for name, member in value.items()
            for inner in member_places(place, name)
        )


def _in_count(count: int, schema: dict[str, Any], minimum: str, maximum: str) -> bool:
    return bool(schema.get(minimum, 0) <= count <= schema.get(maximum, count))


def _fits_number(value: float, place: Place) -> bool:
    schema = place.schema
    if value < schema.get("minimum", value) or value > schema.get("maximum", value):
        return False
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return False
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return False
    if "multipleOf" in schema:
        return Decimal(str(value)) % Decimal(str(schema["multipleOf"])) == 0
    return True


def _fits_string(value: str, place: Place) -> bool:
    schema = place.schema
    if not _in_count(len(value), schema, "minLength", "maxLength"):
        return False
    if "pattern" in schema and not _found(place, "pattern", schema["pattern"], value):
        return False
    name = schema.get("format")
    if name in INEXPRESSIBLE:
        place.fail("format", f"{name} cannot be expressed: give a pattern instead")
    return name not in PATTERNS or _json_pattern.whole(PATTERNS[name]).accepts(value)


def _found(place: Place, keyword: str, pattern: str, text: str) -> bool:
    return language(place, keyword, pattern).accepts(text)


def language(place: Place, keyword: str, pattern: str) -> Automaton:
    """Return the texts in which a pattern of a keyword is found.

    Raises:
        ValidationError: it is none, or not expressible.
    """
    try:
        return _json_pattern.automaton(pattern)
    except ValidationError as error:
        place.fail(keyword, str(error))


def element_places(place: Place, index: int) -> list[Place]:
    """Return what a schema says about the element of an array at an index."""
    if index < len(place.schema.get("prefixItems", ())):
        return [place.at("prefixItems", index)]
    keywords = ("items", "unevaluatedItems")
    return [place.at(keyword) for keyword in keywords if keyword in place.schema][:1]


def member_places(place: Place, name: str) -> list[Place]:
    """Return what a schema says about the member of an object with a name."""
    schema = place.schema
    found = [place.at("properties", name)] if name in schema.get("properties", ()) else []
    found += [
        place.at("patternProperties", pattern)
        for pattern in schema.get("patternProperties", ())
        if _found(place, "patternProperties", pattern, name)
    ]
    return found or other_places(place)


def other_places(place: Place) -> list[Place]:
    """Return what a schema says about members that it neither names nor has a pattern for."""
    keywords = ("additionalProperties", "unevaluatedProperties")
    return [place.at(keyword) for keyword in keywords if keyword in place.schema][:1]
