"""What several subschemas say together about one value.

A value that must fit some places is described by *alternatives*: in each, every choice (``anyOf``,
``oneOf``, ``if`` …) is made, and what is left are places whose plain keywords hold all at once.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_cpp import _automaton, _json_number, _json_pattern
from llama_cpp._automaton import TooLargeError
from llama_cpp._errors import ValidationError
from llama_cpp._json_format import INEXPRESSIBLE, PATTERNS
from llama_cpp._json_negation import negations
from llama_cpp._json_number import Bound, NumberShape
from llama_cpp._json_place import Document, Place, canonical
from llama_cpp._json_valid import (
    ABSENT,
    EXCLUDED,
    KINDS,
    Validator,
    element_places,
    kinds_of,
    language,
    member_places,
    other_places,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp._automaton import Automaton

Places = tuple[Place, ...]

_MOST_ALTERNATIVES = 256
_DEEPEST_PROOF = 4
# what is refused wherever it says something
_INEXPRESSIBLE = {
    "contains": "that some element fits cannot be expressed: say what each element is, with items",
    "$dynamicRef": "dynamic references cannot be expressed: use $ref",
    "$recursiveRef": "recursive references of draft 2019-09 are not read: use $ref",
    "dependencies": "since draft 2019-09 it is called dependentRequired and dependentSchemas",
    "additionalItems": "since draft 2020-12 it is called items, and the list before it prefixItems",
}


class StringShape(NamedTuple):
    """What a string must be."""

    least: int
    most: int | None
    languages: tuple[Automaton, ...]
    excluded: tuple[str, ...]

    @property
    def is_free(self) -> bool:
        """Whether every string fits."""
        return self.least == 0 and self.most is None and not self.languages and not self.excluded


class ArrayShape(NamedTuple):
    """What an array must be."""

    prefix: tuple[Places, ...]
    rest: Places
    least: int
    most: int | None


class ObjectShape(NamedTuple):
    """What an object must be."""

    properties: dict[str, Places]
    required: frozenset[str]
    others: tuple[tuple[Automaton, Places], ...]
    """Which other names there may be, and what their values are."""
    least: int
    most: int | None


def _joined(places: list[Place]) -> Places:
    """Return places without those that say nothing or are there already."""
    return tuple({place.path: place for place in places if place.schema is not True}.values())


class Shapes:
    """Answers what places say together."""

    def __init__(self, document: Document) -> None:
        """Answer for the places of one document."""
        self.document = document
        self.validator = Validator(document)
        self._known: dict[tuple[str, ...], list[Places]] = {}

    def alternatives(self, places: Places) -> list[Places]:
        """Return the ways to fit all places, those that are known to be impossible left out.

        Raises:
            ValidationError: a keyword cannot be expressed, or the ways are too many.
        """
        key = tuple(place.path for place in places)
        if key not in self._known:
            found: dict[tuple[str, ...], Places] = {}
            for alternative in self._expanded(list(places), ()):
                found.setdefault(tuple(sorted(p.path for p in alternative)), alternative)
                if len(found) > _MOST_ALTERNATIVES:
                    places[0].fail("", f"it has more than {_MOST_ALTERNATIVES} alternatives")
            self._known[key] = [a for a in found.values() if self.is_possible(a)]
        return self._known[key]

    def _expanded(self, pending: list[Place], done: Places) -> Iterator[Places]:
        while pending:
            place, *pending = pending
            schema = place.schema
            if schema is False:
                return
            if schema is True or any(place.path == other.path for other in done):
                continue
            self._check(place)
            done = (*done, place)
            if "$ref" in schema:
                pending.append(self.document.target(place))
            pending += [place.at("allOf", index) for index in range(len(schema.get("allOf", ())))]
            choices = list(self._choices(place, [*done, *pending]))
            if choices:
                for choice in _combined(choices):
                    yield from self._expanded([*choice, *pending], done)
                return
        yield done

    def _choices(self, place: Place, context: list[Place]) -> Iterator[list[list[Place]]]:
        schema = place.schema
        if "anyOf" in schema:
            yield [[place.at("anyOf", index)] for index in range(len(schema["anyOf"]))]
        if "oneOf" in schema:
            branches = [place.at("oneOf", index) for index in range(len(schema["oneOf"]))]
            others = _joined([p for p in context if p.path != place.path])
            if self._are_exclusive(branches, others):
                yield [[branch] for branch in branches]
            else:
                yield list(self._only_one(place, branches))
        if "not" in schema:
            yield negations(place.at("not"), self.document)
        if "if" in schema and ("then" in schema or "else" in schema):
            condition = place.at("if")
            then = [place.at("then")] if "then" in schema else []
            other = [place.at("else")] if "else" in schema else []
            yield [
                [condition, *then],
                *([*choice, *other] for choice in negations(condition, self.document)),
            ]
        for name, required in schema.get("dependentRequired", {}).items():
            yield [
                [Place(f"{place.path}/dependentRequired/{name}!absent", {ABSENT: [name]})],
                [
                    Place(
                        f"{place.path}/dependentRequired/{name}!present",
                        {"required": [name, *required]},
                    )
                ],
            ]
        for name in schema.get("dependentSchemas", {}):
            present = Place(f"{place.path}/dependentSchemas/{name}!present", {"required": [name]})
            yield [
                [Place(f"{place.path}/dependentSchemas/{name}!absent", {ABSENT: [name]})],
                [present, place.at("dependentSchemas", name)],
            ]

    def _check(self, place: Place) -> None:
        schema = place.schema
        for keyword, what in _INEXPRESSIBLE.items():
            if (
                keyword in schema
                and not (
                    keyword == "contains"
                    and (schema.get("minContains") == 0 and "maxContains" not in schema)
                )
                and not (
                    "array" not in kinds_of(schema) and keyword in ("contains", "additionalItems")
                )
            ):
                place.fail(keyword, what)
        for keyword, inner in (("unevaluatedProperties", "object"), ("unevaluatedItems", "array")):
            applies = [k for k in _IN_PLACE if k in schema]
            if schema.get(keyword, True) is not True and inner in kinds_of(schema) and applies:
                place.fail(
                    keyword,
                    f"beside {applies[0]} it cannot be expressed: list all in one schema, and use "
                    f"{'additionalProperties' if inner == 'object' else 'items'}",
                )

    def _are_exclusive(self, branches: list[Place], context: Places) -> bool:
        """Return whether no value can fit two of the branches."""
        return not any(
            self.is_possible(found)
            for first, second in combinations(branches, 2)
            for found in self._expanded([first, second], context)
        )

    def _only_one(self, place: Place, branches: list[Place]) -> Iterator[list[Place]]:
        """Yield each branch together with what the others are not."""
        try:
            nots = [negations(branch, self.document) for branch in branches]
        except ValidationError as error:
            place.fail(
                "oneOf",
                "a value may fit several of its schemas, and that only one does cannot be expressed: "
                "make them exclusive (a required property with another const in each), or use anyOf "
                f"({error})",
            )
        for index, branch in enumerate(branches):
            for choice in _combined(nots[:index] + nots[index + 1 :]):
                yield [branch, *choice]

    # -- is there a value at all? --

    def is_possible(self, places: Places, depth: int = 0) -> bool:
        """Return False where no value can fit these plain keywords (True may be an error)."""
        values = self.values(places)
        if values is not None:
            return bool(values)
        return any(self._has(kind, places, depth) for kind in self.kinds(places))

    def can_fit(self, places: Places, depth: int = 0) -> bool:
        """Return False where no value can fit these places (True may be an error)."""
        if any(place.schema is False for place in places):
            return False
        if depth >= _DEEPEST_PROOF:
            return True
        return any(self.is_possible(found, depth) for found in self._expanded(list(places), ()))

    def _has(self, kind: str, places: Places, depth: int) -> bool:
        try:
            if kind in ("integer", "fraction"):
                shape = self.number(places, kind)
                return shape.is_free or not _json_number.automaton(shape).is_empty
            if kind == "string":
                return self._has_string(self.string(places))
        except TooLargeError:
            return True
        if kind == "array":
            array = self.array(places)
            if array.most is not None and array.least > array.most:
                return False
            needed = [
                array.prefix[index] if index < len(array.prefix) else array.rest
                for index in range(min(array.least, len(array.prefix) + 1))
            ]
            return all(self.can_fit(element, depth + 1) for element in needed)
        if kind == "object":
            members = self.object(places, ())
            if (
                members.most is not None
                and max(members.least, len(members.required)) > members.most
            ):
                return False
            return all(
                name in members.properties and self.can_fit(members.properties[name], depth + 1)
                for name in members.required
            )
        excluded = {canonical(v) for p in places for v in p.schema.get(EXCLUDED, ())}
        names = {"null": {"null"}, "boolean": {"true", "false"}}[kind]
        return not names <= excluded

    def _has_string(self, shape: StringShape) -> bool:
        if shape.most is not None and shape.least > shape.most:
            return False
        return not shape.languages or not string_automaton(shape).is_empty

    # -- what the plain keywords say --

    def kinds(self, places: Places) -> list[str]:
        """Return the kinds of values that fit, in a fixed order."""
        found = set(KINDS)
        for place in places:
            found &= kinds_of(place.schema)
        return [kind for kind in KINDS if kind in found]

    def values(self, places: Places) -> list[Any] | None:
        """Return the values that fit where they are listed (enum, const), otherwise None."""
        for place in places:
            if "const" in place.schema:
                listed = [place.schema["const"]]
            elif "enum" in place.schema:
                listed = place.schema["enum"]
            else:
                continue
            different = {canonical(value): value for value in listed}
            return [v for v in different.values() if all(self.validator.fits(v, p) for p in places)]
        return None

    def number(self, places: Places, kind: str) -> NumberShape:
        """Return what a number must be that is an ``integer``, a ``fraction``, or any."""
        low: Bound | None = None
        high: Bound | None = None
        multiples: dict[Decimal, None] = {}
        for place in places:
            schema = place.schema
            for keyword, exclusive in (("minimum", False), ("exclusiveMinimum", True)):
                if keyword in schema:
                    bound = Bound(_number(place, keyword), exclusive)
                    if low is None or (bound.value, exclusive) > (low.value, low.exclusive):
                        low = bound
            for keyword, exclusive in (("maximum", False), ("exclusiveMaximum", True)):
                if keyword in schema:
                    bound = Bound(_number(place, keyword), exclusive)
                    if high is None or (bound.value, not exclusive) < (
                        high.value,
                        not high.exclusive,
                    ):
                        high = bound
            if "multipleOf" in schema:
                multiple = _number(place, "multipleOf")
                multiples[multiple] = None
        return NumberShape(kind, low, high, tuple(multiples))

    def string(self, places: Places) -> StringShape:
        """Return what a string must be."""
        least, most = _counts(places, "minLength", "maxLength")
        languages: dict[Automaton, None] = {}
        for place in places:
            schema = place.schema
            if "pattern" in schema:
                languages[language(place, "pattern", schema["pattern"])] = None
            name = schema.get("format")
            if name in INEXPRESSIBLE:
                place.fail("format", f"{name} cannot be expressed: give a pattern instead")
            if name in PATTERNS:
                languages[_json_pattern.whole(PATTERNS[name])] = None
        excluded = [
            value for p in places for value in p.schema.get(EXCLUDED, ()) if isinstance(value, str)
        ]
        return StringShape(least, most, tuple(languages), tuple(dict.fromkeys(excluded)))

    def array(self, places: Places) -> ArrayShape:
        """Return what an array must be."""
        least, most = _counts(places, "minItems", "maxItems")
        length = max((len(p.schema.get("prefixItems", ())) for p in places), default=0)
        prefix = [
            _joined([element for p in places for element in element_places(p, index)])
            for index in range(length)
        ]
        rest = _joined([element for p in places for element in element_places(p, length)])
        for index, element in enumerate((*prefix, rest)):
            if any(place.schema is False for place in element):
                most = index if most is None else min(most, index)
                prefix = prefix[:index]
                break
        for place in places:
            if place.schema.get("uniqueItems") is True and (most is None or most > 1):
                place.fail(
                    "uniqueItems", "that all elements differ cannot be expressed: leave it out"
                )
        return ArrayShape(tuple(prefix), rest, least, most)

    def object(self, places: Places, order: tuple[str, ...]) -> ObjectShape:
        """Return what an object must be, its properties in order, some of them first."""
        least, most = _counts(places, "minProperties", "maxProperties")
        names = dict.fromkeys(name for p in places for name in p.schema.get("properties", ()))
        required: dict[str, None] = {}
        for place in places:
            required.update(dict.fromkeys(place.schema.get("required", ())))
        absent = {name for p in places for name in p.schema.get(ABSENT, ())}
        names.update(required)
        listed = [name for name in order if name in names]
        listed += [name for name in names if name not in order]
        properties = {}
        for name in listed:
            members = _joined([member for p in places for member in member_places(p, name)])
            fits = all(
                self.validator.fits(name, p.at("propertyNames"))
                for p in places
                if "propertyNames" in p.schema
            )
            if fits and name not in absent and all(m.schema is not False for m in members):
                properties[name] = members
        return ObjectShape(
            properties,
            frozenset(required),
            tuple(self._others(places, {*names, *absent})),
            least,
            most,
        )

    def _others(self, places: Places, names: set[str]) -> Iterator[tuple[Automaton, Places]]:
        """Yield the names beside the listed ones, by the patterns that they fit."""
        try:
            classes = self._classes(places, names)
        except TooLargeError as error:
            places[0].fail("", f"the names of its properties cannot be expressed: {error}")
        for fitting, keys in classes:
            members: list[Place] = []
            for place in places:
                own = [p for p in fitting if p in place.schema.get("patternProperties", ())]
                members += [place.at("patternProperties", pattern) for pattern in own]
                if not own:
                    members += other_places(place)
            value = _joined(members)
            if not keys.is_empty and all(p.schema is not False for p in value):
                yield keys, value

    def _classes(self, places: Places, names: set[str]) -> list[tuple[tuple[str, ...], Automaton]]:
        """Return which patterns a name may fit at once, and the names that fit just those."""
        free = _automaton.without(_automaton.ALL, _automaton.words(sorted(names)))
        for place in places:
            if "propertyNames" in place.schema:
                free = _automaton.both(free, self._names(place.at("propertyNames")))
        classes: list[tuple[tuple[str, ...], Automaton]] = [((), free)]
        patterns = {
            pattern: language(place, "patternProperties", pattern)
            for place in places
            for pattern in place.schema.get("patternProperties", ())
        }
        for pattern, texts in patterns.items():
            classes = [
                (kept, part)
                for fitting, keys in classes
                for kept, part in (
                    (fitting, _automaton.without(keys, texts)),
                    ((*fitting, pattern), _automaton.both(keys, texts)),
                )
                if not part.is_empty
            ]
        return classes

    def _names(self, place: Place) -> Automaton:
        """Return the strings that fit a place."""
        found = _automaton.EMPTY
        for alternative in self.alternatives(_joined([place])):
            values = self.values(alternative)
            if values is not None:
                texts = _automaton.words(v for v in values if isinstance(v, str))
            elif "string" in self.kinds(alternative):
                texts = string_automaton(self.string(alternative))
            else:
                continue
            found = _automaton.either(found, texts)
        return found


_IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf", "if", "not", "dependentSchemas", "contains")


def string_automaton(shape: StringShape) -> Automaton:
    """Return the strings of a shape.

    Raises:
        TooLargeError: its patterns and lengths together have too many states.
    """
    found = _automaton.lengths(shape.least, shape.most)
    for texts in shape.languages:
        found = _automaton.both(found, texts)
    if shape.excluded:
        found = _automaton.without(found, _automaton.words(shape.excluded))
    return found


def _combined(choices: list[list[list[Place]]]) -> Iterator[list[Place]]:
    if not choices:
        yield []
        return
    for first in choices[0]:
        for others in _combined(choices[1:]):
            yield [*first, *others]


def _number(place: Place, keyword: str) -> Decimal:
    return Decimal(str(place.schema[keyword]))


def _counts(places: Places, minimum: str, maximum: str) -> tuple[int, int | None]:
    least, most = 0, None
    for place in places:
        for keyword in (minimum, maximum):
            value = place.schema.get(keyword)
            if value is None:
                continue
            if keyword == minimum:
                least = max(least, int(value))
            else:
                most = int(value) if most is None else min(most, int(value))
    return least, most
