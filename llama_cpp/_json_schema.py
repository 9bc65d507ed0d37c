"""JSON schema (draft 2020-12) → GBNF of exactly the texts that fit it.

What a grammar cannot express is refused by its place and keyword, never widened in silence. Keys
come in the order of the schema's properties, other names after them; white space is bounded; strings
are written with no more escapes than JSON asks for where their content is constrained.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llama_cpp import _automaton, _json_number
from llama_cpp._automaton import TooLargeError
from llama_cpp._errors import ValidationError
from llama_cpp._json_place import Document, Place, canonical
from llama_cpp._json_shape import Places, Shapes, string_automaton
from llama_cpp._json_text import (
    Rules,
    automaton_text,
    character_class,
    literal,
    repeated,
    string_characters,
)
from llama_cpp._json_valid import EXCLUDED, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_cpp._automaton import Automaton
    from llama_cpp._json_shape import ArrayShape, ObjectShape

_DEEPEST = 10


def to_gbnf(schema: Any, prop_order: Sequence[str] = ()) -> str:
    """Return the grammar of a schema; its root is ``root``.

    Args:
        schema: a dictionary or a boolean.
        prop_order: names of properties that come first in every object, in this order.

    Raises:
        ValidationError: it is no schema, nothing fits it, or it says something that no grammar can
            express; the message has the path and the keyword.
    """
    try:
        document = Document(schema)
        return Converter(document, tuple(prop_order)).grammar()
    except RecursionError:
        raise ValidationError("JSON schema: it is nested too deep") from None


def grammar_of(schemas: Mapping[str, Any], prop_order: Sequence[str] = ()) -> str:
    """Return one grammar of several schemas, each with a rule of its name.

    Args:
        schemas: name → schema; there should be a ``root``.
        prop_order: as for :func:`to_gbnf`.

    Raises:
        ValidationError: as for :func:`to_gbnf`, or two rules have one name.
    """
    bodies: dict[str, str] = {}
    for name, schema in schemas.items():
        for line in to_gbnf(schema, prop_order).splitlines():
            rule, _, body = line.partition(" ::= ")
            rule = name if rule == "root" else rule
            if bodies.setdefault(rule, body) != body:
                raise ValidationError(
                    f"JSON schemas {', '.join(map(repr, schemas))} need different rules {rule!r}: "
                    "make a grammar of each, or one schema with $defs"
                )
    return "".join(f"{rule} ::= {body}\n" for rule, body in bodies.items())


class Converter:
    """Turns the places of one document into rules."""

    def __init__(self, document: Document, order: tuple[str, ...]) -> None:
        """Write the objects' properties in this order first."""
        self._document = document
        self._order = order
        self._shapes = Shapes(document)
        self._rules = Rules()
        # what is done; None where nothing fits
        self._done: dict[tuple[str, ...], str | None] = {}
        # what is being written, and the rule that refers to it once something does
        self._open: dict[tuple[str, ...], str | None] = {}

    def grammar(self) -> str:
        """Return the whole grammar."""
        root = self.expression(self.places(self._document.root), "root")
        if root is None:
            raise ValidationError(
                "JSON schema, #: no value fits it; something in it contradicts itself"
            )
        return self._rules.text(root)

    @staticmethod
    def places(place: Place) -> Places:
        """Return what must fit at a place."""
        return () if place.schema is True else (place,)

    def expression(self, places: Places, hint: str) -> str | None:
        """Return what fits all places: a name, a literal or a sequence without bare choices.

        None where nothing does.
        """
        if not places:
            return "value"
        if any(place.schema is False for place in places):
            return None
        key = tuple(sorted(place.path for place in places))
        if key in self._done:
            return self._done[key]
        if key in self._open:
            self._open[key] = self._open[key] or self._rules.reserve(hint)
            return self._open[key]
        self._open[key] = None
        text = self._united(places, hint)
        name = self._open.pop(key)
        if text is not None and name is not None:
            self._rules.define(name, text)
            text = name
        elif text is not None and (len(text) > 40 or " | " in text):
            text = self._rules.named(hint, text) if hint != "root" else text
        self._done[key] = text
        return text

    def _united(self, places: Places, hint: str) -> str | None:
        found: dict[str, None] = {}
        alternatives = self._shapes.alternatives(places)
        for alternative in alternatives:
            for text in self._alternative(alternative, hint):
                found[text] = None
        for name, parts in (("number", ("integer", "number")), ("value", _FREE_VALUE)):
            if all(part in found for part in parts):
                found = {**{text: None for text in found if text not in parts}, name: None}
        return " | ".join(found) if found else None

    def _alternative(self, places: Places, hint: str) -> list[str]:
        values = self._shapes.values(places)
        if values is not None:
            return self._listed(values, hint)
        kinds = self._shapes.kinds(places)
        excluded = [value for p in places for value in p.schema.get(EXCLUDED, ())]
        found = []
        if {"integer", "fraction"} <= set(kinds):
            kinds = [*(k for k in kinds if k not in ("integer", "fraction")), "number"]
        for kind in kinds:
            if kind in ("object", "array") and any(kind_of(value) == kind for value in excluded):
                places[-1].fail("", f"that an {kind} differs from another cannot be expressed")
            text = self._of_kind(kind, places, excluded, hint)
            if text is not None:
                found.append(text)
        return found

    def _of_kind(self, kind: str, places: Places, excluded: list[Any], hint: str) -> str | None:
        if kind == "object":
            return self._object(self._shapes.object(places, self._order), hint)
        if kind == "array":
            return self._array(self._shapes.array(places), hint)
        if kind == "string":
            return self._string(places, hint)
        if kind in ("integer", "fraction", "number"):
            return self._number(places, kind, excluded, hint)
        names = ["true", "false"] if kind == "boolean" else ["null"]
        left = [name for name in names if name not in map(canonical, excluded)]
        if left == ["true", "false"]:
            return "boolean"
        return literal(left[0]) if left else None

    def _listed(self, values: list[Any], hint: str) -> list[str]:
        strings = [value for value in values if isinstance(value, str)]
        found = []
        if len(strings) > 1:
            words = _automaton.words(strings)
            found.append(self._quoted(words, hint))
        elif strings:
            found.append(self._constant(strings[0]))
        found += [self._constant(value) for value in values if not isinstance(value, str)]
        return found

    def _constant(self, value: Any) -> str:
        """Return one value, with room for white space inside."""
        if isinstance(value, list):
            inner = ' "," ws '.join(self._constant(element) for element in value)
            return f'"[" ws {inner} ws "]"' if value else '"[" ws "]"'
        if isinstance(value, dict):
            members = [
                f'{literal(json.dumps(name, ensure_ascii=False))} ":" ws {self._constant(v)}'
                for name, v in value.items()
            ]
            inner = ' "," ws '.join(members)
            return f'"{{" ws {inner} ws "}}"' if value else '"{" ws "}"'
        if isinstance(value, str):
            return self._quoted(_automaton.words([value]), "constant")
        return literal(canonical(value))

    # -- strings and numbers --

    def _quoted(self, automaton: Automaton, hint: str) -> str:
        inner = automaton_text(automaton, string_characters, self._rules, f"{hint}-text")
        if inner.startswith('"') and inner.endswith('"') and '" ' not in inner:
            return f'"\\"{inner[1:-1]}\\""'
        return f'"\\"" {inner} "\\""' if inner else '"\\"\\""'

    def _string(self, places: Places, hint: str) -> str | None:
        shape = self._shapes.string(places)
        if shape.is_free:
            return "string"
        if shape.most is not None and shape.least > shape.most:
            return None
        if not shape.languages and not shape.excluded:
            if shape.most == 0:
                return '"\\"\\""'
            inner = repeated(self._rules, "char", shape.least, shape.most, f"{hint}-text")
            return f'"\\"" {inner} "\\""'
        try:
            automaton = string_automaton(shape)
        except TooLargeError as error:
            self._refuse_size(places, ("pattern", "format", "maxLength", "minLength"), error)
        return None if automaton.is_empty else self._quoted(automaton, hint)

    def _number(self, places: Places, kind: str, excluded: list[Any], hint: str) -> str | None:
        shape = self._shapes.number(places, kind)
        numbers = [value for value in excluded if kind_of(value) in ("integer", "fraction")]
        if shape.is_free and not numbers:
            return kind
        try:
            automaton = _json_number.automaton(shape)
            for value in numbers:
                automaton = _automaton.without(automaton, _json_number.exactly(value))
        except TooLargeError as error:
            self._refuse_size(places, ("multipleOf", "minimum", "maximum"), error)
        if automaton.is_empty:
            return None
        return automaton_text(automaton, character_class, self._rules, f"{hint}-digits")

    def _refuse_size(self, places: Places, keywords: Sequence[str], error: TooLargeError) -> None:
        for place in places:
            for keyword in keywords:
                if keyword in place.schema:
                    place.fail(keyword, f"it cannot be expressed: {error}")
        places[0].fail("", f"it cannot be expressed: {error}")

    # -- arrays --

    def _array(self, shape: ArrayShape, hint: str) -> str | None:
        prefix: list[str] = []
        most = shape.most
        for index, element in enumerate(shape.prefix):
            text = self.expression(element, f"{hint}-{index + 1}")
            if text is None:
                most = index if most is None else min(most, index)
                break
            prefix.append(_grouped(text))
        rest = None
        if most is None or most > len(prefix):
            rest = self.expression(shape.rest, f"{hint}-item")
            if rest is None:
                most = len(prefix)
        if most is not None and shape.least > most:
            return None
        if shape.least == 0 and most is None and not prefix and rest == "value":
            return "array"
        if most == 0:
            return '"[" ws "]"'
        elements = self._elements(0, prefix, rest, shape.least, most, hint)
        return f'"[" ws {elements} ws "]"' if shape.least else f'"[" ws ({elements} ws)? "]"'

    def _elements(
        self,
        index: int,
        prefix: list[str],
        rest: str | None,
        least: int,
        most: int | None,
        hint: str,
    ) -> str:
        """Return at least one element, from an index on."""
        if most is not None and index >= most:
            return ""
        first = prefix[index] if index < len(prefix) else _grouped(rest or "")
        if index >= len(prefix):
            more = self._more(
                first, max(least - index - 1, 0), None if most is None else most - index - 1, hint
            )
            return f"{first} {more}".rstrip()
        following = self._elements(index + 1, prefix, rest, least, most, hint)
        if not following:
            return first
        following = f'"," ws {following}'
        if index + 1 >= least:
            if index % _DEEPEST == _DEEPEST - 1:
                following = self._rules.named(f"{hint}-rest", following)
            following = f"({following})?"
        return f"{first} {following}"

    def _more(self, element: str, least: int, most: int | None, hint: str) -> str:
        if most == 0:
            return ""
        if most is None and least <= 1:
            return f'("," ws {element}){"*" if least == 0 else "+"}'
        item = self._rules.named(f"{hint}-more", f'"," ws {element}')
        return repeated(self._rules, item, least, most, f"{hint}-more")

    # -- objects --

    def _object(self, shape: ObjectShape, hint: str) -> str | None:
        members = []
        for name, value in shape.properties.items():
            text = self.expression(value, name)
            if text is None:
                if name in shape.required:
                    return None
                continue
            key = self._quoted(_automaton.words([name]), "key") if name else '"\\"\\""'
            pair = f'{key} ":" ws {_grouped(text)}'
            members.append((pair, name in shape.required))
        if not shape.required <= set(shape.properties):
            return None
        others = self._other_members(shape, hint)
        least = max(shape.least, 0)
        most = shape.most
        if others is None:
            most = None if most is not None and most >= len(members) else most
        needed = sum(required for _, required in members)
        if (most is not None and needed > most) or (others is None and least > len(members)):
            return None
        if not members and others == "member" and least == 0 and most is None:
            return "object"
        text = _Members(self._rules, members, others, least, most, f"{hint}-part").text()
        if not text:
            return '"{" ws "}"'
        if needed or least:
            return f'"{{" ws {text} ws "}}"'
        return f'"{{" ws ({text} ws)? "}}"'

    def _other_members(self, shape: ObjectShape, hint: str) -> str | None:
        """Return one member with a name that is not listed; None where there is none."""
        found = []
        for keys, value in shape.others:
            text = self.expression(value, f"{hint}-value")
            if text is None:
                continue
            if keys == _automaton.ALL:
                key = "string"
            else:
                key = self._rules.named(f"{hint}-key", self._quoted(keys, f"{hint}-key"))
            found.append(f'{key} ":" ws {_grouped(text)}')
        if found == ['string ":" ws value']:
            return "member"
        return self._rules.named(f"{hint}-other", " | ".join(found)) if found else None


_FREE_VALUE = ("object", "array", "string", "number", "boolean", '"null"')


def _grouped(text: str) -> str:
    """Return text that a sequence may hold."""
    return f"({text})" if " | " in text else text


class _Members:
    """The members of an object: required and optional ones in order, then others, counted."""

    def __init__(
        self,
        rules: Rules,
        members: list[tuple[str, bool]],
        others: str | None,
        least: int,
        most: int | None,
        hint: str,
    ) -> None:
        self.rules = rules
        self.members = members
        self.others = others
        self.least = least
        self.most = most
        self.hint = hint
        # beyond this, how many there are makes no difference
        self.cap = most if most is not None else least
        self.required_after = [0] * (len(members) + 1)
        for index in range(len(members) - 1, -1, -1):
            self.required_after[index] = self.required_after[index + 1] + members[index][1]
        self.known: dict[tuple[int, int], str | None] = {}

    def text(self) -> str | None:
        """Return at least one member; None where there can be none."""
        return self.some(0, 0)

    def some(self, index: int, count: int) -> str | None:
        """Return at least one member from an index on, after some; None where it cannot be."""
        key = (index, min(count, self.cap))
        if key not in self.known:
            self.known[key] = self._some(*key)
        return self.known[key]

    def _some(self, index: int, count: int) -> str | None:
        if self.most is not None and count + max(self.required_after[index], 1) > self.most:
            return None
        if index == len(self.members):
            if self.others is None:
                return None
            least = max(self.least - count - 1, 0)
            most = None if self.most is None else self.most - count - 1
            if most == 0:
                return self.others
            more = f'("," ws {self.others})*'
            if most is not None or least:
                item = self.rules.named(self.hint, f'"," ws {self.others}')
                more = repeated(self.rules, item, least, most, self.hint)
            return f"{self.others} {more}"
        pair, required = self.members[index]
        after = self._rest(index + 1, count + 1)
        ways = [f"{pair} {after}".rstrip()] if after is not None else []
        if not required:
            without = self.some(index + 1, count)
            if without is not None:
                ways.append(without)
        if not ways:
            return None
        return ways[0] if len(ways) == 1 else self.rules.named(self.hint, " | ".join(ways))

    def _rest(self, index: int, count: int) -> str | None:
        """Return what follows a member; None where too few can follow."""
        more = self.some(index, count)
        enough = count >= self.least and not self.required_after[index]
        if more is None:
            return "" if enough else None
        if enough:
            return f'("," ws {more})?'
        return f'"," ws {more}'
