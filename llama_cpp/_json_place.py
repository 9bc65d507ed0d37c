"""A JSON schema as places: every subschema with its path, and what refers to what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import unquote, urldefrag, urljoin

from llama_cpp._errors import ValidationError
from llama_cpp._json_keyword import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator

# what has subschemas by name, in a list, and as such
_NAMED = ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)


class Place(NamedTuple):
    """A subschema and where it is."""

    path: str
    """A JSON pointer, ``#/properties/name``."""
    schema: Any
    """A dictionary or a boolean."""

    def at(self, *steps: str | int) -> Place:
        """Return the subschema below some keys."""
        schema = self.schema
        path = self.path
        for step in steps:
            schema = schema[step]
            path += "/" + str(step).replace("~", "~0").replace("/", "~1")
        return Place(path, schema)

    def fail(self, keyword: str, what: str) -> NoReturn:
        """Refuse a keyword of this schema."""
        refuse(f"{self.path}/{keyword}" if keyword else self.path, what)


def refuse(path: str, what: str) -> NoReturn:
    """Refuse what stands at a path."""
    raise ValidationError(f"JSON schema, {path}: {what}")


class Document:
    """A schema and the index of what its references may name."""

    def __init__(self, schema: Any) -> None:
        """Look at every subschema once.

        Raises:
            ValidationError: it is no schema.
        """
        self.root = Place("#", schema)
        self._bases: dict[str, str] = {}
        self._named: dict[str, Place] = {}
        self._index(self.root, "")

    def target(self, place: Place) -> Place:
        """Return what the ``$ref`` of a place names.

        Raises:
            ValidationError: it is elsewhere, or not there.
        """
        reference = place.schema["$ref"]
        base = self._bases.get(place.path, "")
        # urljoin knows nothing of urn:
        whole = f"{base}{reference}" if reference.startswith("#") else urljoin(base, reference)
        address, fragment = urldefrag(whole)
        fragment = unquote(fragment)
        if not fragment or fragment.startswith("/"):
            resource = self._named.get(address)
            if resource is None:
                place.fail(
                    "$ref",
                    f"{reference!r} is not in this schema: nothing is fetched, put what it names into "
                    "#/$defs",
                )
            return self._pointed(place, resource, fragment, reference)
        found = self._named.get(f"{address}#{fragment}")
        if found is None:
            place.fail("$ref", f"there is no $anchor {fragment!r}")
        return found

    def _pointed(self, place: Place, resource: Place, pointer: str, reference: str) -> Place:
        found = resource
        for step in pointer.split("/")[1:]:
            key: str | int = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found.schema, list) and str(key).isdecimal():
                key = int(key)
            try:
                found = found.at(key)
            except (KeyError, IndexError, TypeError):
                place.fail("$ref", f"there is nothing at {reference!r}")
        if found.path not in self._bases:
            # a place that no keyword leads to
            self._index(found, self._bases[resource.path])
        return found

    def _index(self, start: Place, base: str) -> None:
        todo = [(start, base)]
        if start.path == "#":
            self._named[""] = start
        while todo:
            place, base = todo.pop()
            schema = place.schema
            if not isinstance(schema, (dict, bool)):
                refuse(
                    place.path, f"{_shown(schema)} is no schema: a schema is an object or a boolean"
                )
            if isinstance(schema, dict):
                base = self._name(place, base)
            self._bases[place.path] = base
            if isinstance(schema, dict):
                todo += [(child, base) for child in subschemas(place)]

    def _name(self, place: Place, base: str) -> str:
        schema = place.schema
        for keyword, value in schema.items():
            if not isinstance(keyword, str):
                refuse(place.path, f"{keyword!r} is no keyword: the keys of a schema are strings")
            wrong = CHECKS[keyword](value) if keyword in CHECKS else None
            if wrong is not None:
                place.fail(keyword, wrong)
        own = schema.get("$id")
        if isinstance(own, str):
            base = urldefrag(urljoin(base, own))[0]
            self._named.setdefault(base, place)
        anchor = schema.get("$anchor")
        if isinstance(anchor, str):
            self._named.setdefault(f"{base}#{anchor}", place)
        return base


def subschemas(place: Place) -> Iterator[Place]:
    """Yield the schemas right below one."""
    schema = place.schema
    for keyword in schema:
        below = schema[keyword]
        if keyword in _NAMED:
            if not isinstance(below, dict) or any(not isinstance(name, str) for name in below):
                place.fail(keyword, f"{_shown(below)} is no object of schemas")
            yield from (place.at(keyword, name) for name in below)
        elif keyword in _LISTED:
            if not isinstance(below, list) or not below:
                place.fail(keyword, f"{_shown(below)} is no list of schemas")
            yield from (place.at(keyword, index) for index in range(len(below)))
        elif keyword in _SINGLE:
            if keyword == "items" and isinstance(below, list):
                place.fail(keyword, "a list of schemas is called prefixItems since draft 2020-12")
            yield place.at(keyword)


def _shown(value: object) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def canonical(value: Any) -> str:
    """Return a text that is equal for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return repr(int(value)) if value == value // 1 else repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(canonical, value))}]"
    if isinstance(value, dict):
        members = sorted(f"{json.dumps(k)}:{canonical(v)}" for k, v in value.items())
        return f"{{{','.join(members)}}}"
    raise ValidationError(f"{type(value).__name__} is no JSON value")
