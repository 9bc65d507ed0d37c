"""JSON schemas as grammars: what fits, what does not, what is refused, and how the grammar reads."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_cpp import _gbnf
from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_matcher import Matcher
from llama_cpp._gbnf_parser import parse
from llama_cpp._json_schema import to_gbnf

OBJECT = {"type": "object", "additionalProperties": False}
NODE = {
    **OBJECT,
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    },
    "required": ["value", "next"],
}

# schema, texts that fit, texts that do not
FITS: dict[str, tuple[Any, list[str], list[str]]] = {
    "anything": (
        True,
        ["null", '{"a": [1, {}]}', '"\\u00e9\\ud83d\\ude00"'],
        ["", "nul", '"\\ud83d"'],
    ),
    "a type": ({"type": "boolean"}, ["true", "false"], ["null", "0", ""]),
    "types": ({"type": ["string", "null"]}, ['"a"', "null"], ["1", "[]"]),
    "nullable": ({"type": "string", "nullable": True}, ['"a"', "null"], ["1"]),
    "constants": ({"const": {"a": [1, None]}}, ['{"a":[1,null]}', '{ "a": [ 1, null ] }'], ["{}"]),
    "a listing": (
        {"enum": ["one", "two", "on", 3, None]},
        ['"one"', '"on"', '"two"', "3", "null"],
        ['"o"', '"ones"', "30", "true"],
    ),
    "a listing under other keywords": (
        {"enum": ["a", "ab", 3, 4.5], "type": ["string", "integer"], "minLength": 2},
        ['"ab"', "3"],
        ['"a"', "4.5"],
    ),
    "control characters are escaped": (
        {"type": "string", "maxLength": 1},
        ['"\\n"', '"\\u0007"', '"é"', '"\\u00e9"', '"\\ud83d\\ude00"', '""'],
        ['"\n"', '"\x07"', '"ab"', '"\\x"', '"""'],
    ),
    "long strings": (
        {"type": "string", "minLength": 2500, "maxLength": 5100},
        [f'"{"a" * 2500}"', f'"{"a" * 3999}"', f'"{"a" * 5100}"'],
        [f'"{"a" * 2499}"', f'"{"a" * 5101}"'],
    ),
    "a pattern": ({"type": "string", "pattern": "^a+$"}, ['"a"', '"aaa"'], ['""', '"ab"']),
    "a pattern with quotes": (
        {"type": "string", "pattern": '^["\\\\\\n]$'},
        ['"\\""', '"\\\\"', '"\\n"'],
        ['"""', '"n"', '"\\/"'],
    ),
    "a pattern and lengths": (
        {"type": "string", "pattern": "b", "minLength": 2, "maxLength": 3},
        ['"ab"', '"bbb"', '"bé"'],
        ['"b"', '"aa"', '"aaab"'],
    ),
    "two patterns": (
        {"type": "string", "allOf": [{"pattern": "a"}, {"pattern": "b"}]},
        ['"ab"', '"xbya"'],
        ['"a"', '"b"'],
    ),
    "a date": (
        {"type": "string", "format": "date"},
        ['"2024-02-29"', '"2023-12-31"'],
        ['"2023-02-29"', '"2023-13-01"', '"2023-1-1"'],
    ),
    "a format that nobody knows": ({"type": "string", "format": "colour"}, ['"red"'], ["1"]),
    "numbers": ({"type": "number"}, ["0", "-1.5", "1e-9", "12.50"], ["01", ".5", "1.", '"1"']),
    "integers": ({"type": "integer"}, ["0", "-12"], ["1.0", "1e3", "00"]),
    "bounds": (
        {"type": "integer", "minimum": -3, "exclusiveMaximum": 12},
        ["-3", "0", "9", "11"],
        ["-4", "12", "100"],
    ),
    "prices": (
        {"type": "number", "minimum": 0, "multipleOf": 0.01},
        ["0", "12.34", "5.5", "7.120"],
        ["-1", "0.001", "12.345"],
    ),
    "closed objects": (
        {**OBJECT, "properties": {"a": {"type": "null"}, "b": {"const": 1}}, "required": ["b"]},
        ['{"b":1}', '{"a": null, "b": 1}', '{\n  "a": null,\n  "b": 1\n}'],
        ["{}", '{"a":null}', '{"b":1,"a":null}', '{"b":1,"c":1}', '{"b":1,}', '{"b" :1}'],
    ),
    "open objects": (
        {"type": "object", "properties": {"a": {"type": "null"}}},
        ["{}", '{"a": null}', '{"b": [1]}', '{"a": null, "ab": 1, "": 2}'],
        ['{"a": 1}', '{"b": 1, "a": 1}', '{"\\u0061": 1}', "[]"],
    ),
    "values of other names": (
        {"type": "object", "additionalProperties": {"type": "integer"}},
        ["{}", '{"a": 1, "b": 2}'],
        ['{"a": "b"}'],
    ),
    "names by patterns": (
        {
            **OBJECT,
            "properties": {"x-a": {"minimum": 5}},
            "patternProperties": {"^x-": {"type": "integer"}, "z$": {"maximum": 9}},
        },
        ['{"x-a": 5}', '{"x-b": 1}', '{"x-z": 9}', '{"z": "s"}'],
        ['{"x-a": 4}', '{"x-a": "a"}', '{"x-z": 10}', '{"y": 1}', '{"z": 10}'],
    ),
    "names of names": (
        {"type": "object", "propertyNames": {"pattern": "^[a-c]+$", "maxLength": 2}},
        ["{}", '{"a": 1, "bc": 2}'],
        ['{"d": 1}', '{"abc": 1}'],
    ),
    "numbers of members": (
        {
            "type": "object",
            "properties": {"a": {}, "b": {}},
            "minProperties": 2,
            "maxProperties": 3,
        },
        ['{"a":1,"b":2}', '{"a":1,"x":2}', '{"x":1,"y":2,"z":3}', '{"a":1,"b":2,"x":3}'],
        ["{}", '{"a":1}', '{"a":1,"b":2,"x":3,"y":4}'],
    ),
    "what one name needs": (
        {**OBJECT, "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
        ["{}", '{"b":1}', '{"a":1,"b":2}'],
        ['{"a":1}'],
    ),
    "arrays": (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        ["[1]", "[ 1, 2, 3 ]", "[\n  1,\n  2\n]"],
        ["[]", "[1,2,3,4]", '["a"]', "[1,]"],
    ),
    "tuples": (
        {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}},
        ["[]", "[1]", "[1,2]", "[1,2,3,3]"],
        ["[2]", "[1,3]", "[1,2,2]"],
    ),
    "recursion": (
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        ['{"value":1,"next":null}', '{"value":1,"next":{"value":2,"next":null}}'],
        ['{"value":1}', '{"value":1,"next":{}}'],
    ),
    "all of several objects": (
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"a": {"minimum": 5}, "b": {"type": "null"}}},
            ],
            "type": "object",
        },
        ['{"a":5}', '{"a":7,"b":null}', '{"a":7,"c":1}'],
        ["{}", '{"a":4}', '{"a":5.5}', '{"a":5,"b":1}'],
    ),
    "one of exclusive objects": (
        {
            "oneOf": [
                {**OBJECT, "properties": {"k": {"const": k}, "v": {"type": t}}, "required": ["k"]}
                for k, t in (("i", "integer"), ("s", "string"))
            ]
        },
        ['{"k":"i","v":1}', '{"k":"s","v":"a"}', '{"k":"s"}'],
        ['{"k":"i","v":"a"}', '{"k":"x"}', "{}"],
    ),
    "only one of overlapping numbers": (
        {"type": "integer", "oneOf": [{"minimum": 2}, {"maximum": 5}]},
        ["1", "6"],
        ["2", "3", "5"],
    ),
    "not a type": ({"not": {"type": ["string", "object", "array"]}}, ["1", "null"], ['"a"', "[]"]),
    "not some values": (
        {"type": ["string", "integer"], "not": {"enum": ["no", 0]}},
        ['"n"', '"yes"', "1", "10"],
        ['"no"', "0", "-0"],
    ),
    "numbers that are no integers": (
        {"type": "number", "not": {"type": "integer"}},
        ["1.5", "-0.01"],
        ["1", "1.0"],
    ),
    "conditions": (
        {
            **OBJECT,
            "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer"}},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "a"}}},
            "then": {"required": ["n"]},
        },
        ['{"kind":"a","n":1}', '{"kind":"b"}'],
        ['{"kind":"a"}'],
    ),
    "names in other scripts": (
        {**OBJECT, "properties": {'ключ "1"': {"const": "значение"}}, "required": ['ключ "1"']},
        ['{"ключ \\"1\\"": "значение"}'],
        ["{}"],
    ),
    "anchors and identifiers": (
        {
            "$id": "https://example.com/root",
            "allOf": [{"$ref": "#int"}, {"$ref": "item"}],
            "$defs": {
                "a": {"$anchor": "int", "type": "integer"},
                "b": {"$id": "item", "minimum": 3},
            },
        },
        ["3"],
        ["2", '"a"'],
    ),
    "annotations": (
        {
            "type": "null",
            "title": "T",
            "description": "D",
            "default": 1,
            "examples": [1],
            "deprecated": True,
            "x-own": {},
        },
        ["null"],
        ["1"],
    ),
}


@pytest.mark.parametrize(("schema", "good", "bad"), FITS.values(), ids=FITS.keys())
def test_fits(schema: Any, good: list[str], bad: list[str]) -> None:
    grammar = to_gbnf(schema)
    _gbnf.check(grammar)
    matcher = Matcher(parse(grammar))
    assert [text for text in good if not matcher.accepts(text)] == []
    assert [text for text in bad if matcher.accepts(text)] == []


REFUSED: dict[str, tuple[Any, str]] = {
    "no schema": (3, "#: 3 is no schema: a schema is an object or a boolean"),
    "no schema inside": (
        {"properties": {"a": None}},
        "#/properties/a: null is no schema: a schema is an object or a boolean",
    ),
    "no list of schemas": ({"anyOf": {}}, "#/anyOf: {} is no list of schemas"),
    "no object of schemas": ({"properties": []}, "#/properties: [] is no object of schemas"),
    "an unknown type": (
        {"items": {"type": "text"}},
        (
            "#/items/type: 'text' is no type: there are array, boolean, integer, null, number, "
            "object, string"
        ),
    ),
    "elsewhere": (
        {"$ref": "https://example.com/schema"},
        (
            "#/$ref: 'https://example.com/schema' is not in this schema: nothing is fetched, put "
            "what it names into #/$defs"
        ),
    ),
    "nowhere": ({"$ref": "#/$defs/a"}, "#/$ref: there is nothing at '#/$defs/a'"),
    "no anchor": ({"$ref": "#a"}, "#/$ref: there is no $anchor 'a'"),
    "a contradiction": (
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        "#: no value fits it; something in it contradicts itself",
    ),
    "bounds the wrong way round": (
        {"type": "integer", "minimum": 5, "maximum": 4},
        "#: no value fits it; something in it contradicts itself",
    ),
    "a required property that cannot be": (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        "#: no value fits it; something in it contradicts itself",
    ),
    "unique elements": (
        {"type": "array", "uniqueItems": True},
        "#/uniqueItems: that all elements differ cannot be expressed: leave it out",
    ),
    "some element": (
        {"type": "array", "contains": {"const": 1}},
        (
            "#/contains: that some element fits cannot be expressed: say what each element is, with "
            "items"
        ),
    ),
    "tuples of old drafts": (
        {"items": [{}, {}]},
        "#/items: a list of schemas is called prefixItems since draft 2020-12",
    ),
    "a look-ahead": (
        {"properties": {"a/b": {"pattern": "(?=a)"}}},
        (
            "#/properties/a~1b/pattern: '(?=a)', character 1: look-ahead, look-behind and flags "
            "cannot be expressed in a grammar"
        ),
    ),
    "a pattern that is no text": (
        {"type": "string", "pattern": 1},
        "#/pattern: 1 is no string",
    ),
    "too large a pattern": (
        {"type": "string", "pattern": "^[a-z]+@[a-z]+$", "maxLength": 9000},
        "#/pattern: it cannot be expressed: it takes more than 5000 states to follow",
    ),
    "a format beyond automata": (
        {"type": "string", "format": "regex"},
        "#/format: regex cannot be expressed: give a pattern instead",
    ),
    "a count below zero": ({"type": "string", "minLength": -1}, "#/minLength: -1 is no count"),
    "a bound that is no number": (
        {"type": "integer", "minimum": "1"},
        "#/minimum: '1' is no number",
    ),
    "multiples of nothing": (
        {"type": "integer", "multipleOf": 0},
        "#/multipleOf: it is not above zero",
    ),
    "multiples of too much": (
        {"type": "integer", "multipleOf": 123456},
        "#/multipleOf: it cannot be expressed: the number has digits that make more than 2000",
    ),
    "not a pattern": (
        {"type": "string", "not": {"pattern": "a"}},
        "#/not/pattern: not to fit it cannot be expressed: say what is allowed instead",
    ),
    "one of what overlaps": (
        {"oneOf": [{"type": "string"}, {"type": "string", "pattern": "a"}]},
        (
            "#/oneOf: a value may fit several of its schemas, and that only one does cannot be "
            "expressed: make them exclusive (a required property with another const in each), or "
            "use anyOf (JSON schema, #/oneOf/1/pattern: not to fit it cannot be expressed: say what "
            "is allowed instead)"
        ),
    ),
    "unevaluated beside others": (
        {"type": "object", "allOf": [{}], "unevaluatedProperties": False},
        (
            "#/unevaluatedProperties: beside allOf it cannot be expressed: list all in one schema, "
            "and use additionalProperties"
        ),
    ),
    "dynamic references": (
        {"$dynamicRef": "#a"},
        "#/$dynamicRef: dynamic references cannot be expressed: use $ref",
    ),
    "too many alternatives": (
        {"allOf": [{"anyOf": [{"minimum": i}, {"maxLength": i}]} for i in range(9)]},
        "#: it has more than 256 alternatives",
    ),
}


@pytest.mark.parametrize(("schema", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(schema: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        to_gbnf(schema)
    assert str(caught.value) == f"JSON schema, {message}"


def test_nesting_too_deep() -> None:
    schema: Any = {}
    for _ in range(2000):
        schema = {"items": schema}
    with pytest.raises(ValidationError) as caught:
        to_gbnf(schema)
    assert str(caught.value) == "JSON schema: it is nested too deep"


def test_it_reads_well_and_is_the_same_each_time() -> None:
    schema = {
        **OBJECT,
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "minimum": 0, "maximum": 199},
            "tags": {"type": "array", "items": {"enum": ["red", "green"]}},
        },
        "required": ["name", "age"],
    }
    assert to_gbnf(schema) == (
        'root ::= "{" ws "\\"name\\"" ":" ws string "," ws "\\"age\\"" ":" ws age '
        '("," ws "\\"tags\\"" ":" ws tags)? ws "}"\n'
        'ws ::= (" " | "\\n" [ \\t]{0,20})?\n'
        'string ::= "\\"" char* "\\""\n'
        'age ::= ("0" | "1" [0-9]{0,2} | [2-9] [0-9]?)\n'
        'tags ::= "[" ws (tags-item ("," ws tags-item)* ws)? "]"\n'
        'char ::= [^"\\\\\\x00-\\x1F\\uD800-\\uDFFF] | "\\\\" (["\\\\/bfnrt] | "u" (hex-start '
        '[0-9a-fA-F]{2} | [dD] [89abAB] [0-9a-fA-F]{2} "\\\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}))\n'
        'tags-item ::= "\\"" ("green" | "red") "\\""\n'
        "hex-start ::= [0-9abcefABCEF] [0-9a-fA-F] | [dD] [0-7]\n"
    )


def test_the_order_of_properties() -> None:
    properties = {name: {"type": "null"} for name in "abc"}
    schema = {**OBJECT, "properties": properties, "required": [*"abc"]}
    matcher = Matcher(parse(to_gbnf(schema, ["c", "z", "b"])))
    orders = ["abc", "cba", "cab", "bca"]
    texts = [json.dumps(dict.fromkeys(order)) for order in orders]
    assert [matcher.accepts(text) for text in texts] == [False, True, False, False]


def test_white_space_is_bounded() -> None:
    matcher = Matcher(parse(to_gbnf({"type": "array"})))
    assert matcher.accepts(f"[\n{' ' * 20}1]")
    assert not matcher.accepts(f"[\n{' ' * 21}1]")
    assert not matcher.accepts("[ \n1]")
    assert not matcher.accepts(" []")


COUNT = int(os.environ.get("LLAMA_CPP_FUZZ", "1")) * 60
SEED = 20261121
_TYPES = ("string", "integer", "number", "object", "array", "boolean", "null")


def _random_schema(choice: random.Random, depth: int = 0) -> Any:
    """Return a schema, most of them sensible."""
    roll = choice.random()
    if roll < 0.06 or depth > 3:
        return choice.choice([True, False, {}, {"type": "string"}, {"type": "integer"}])

    def inner() -> Any:
        return _random_schema(choice, depth + 1)

    schema: dict[str, Any] = {}
    if choice.random() < 0.85:
        schema["type"] = choice.choice(_TYPES)
    parts: dict[str, Any] = {
        "enum": lambda: choice.sample(["a", "b\n", 1, 2.5, None, [1], {"k": 1}], 3),
        "const": lambda: choice.choice(["x", 0, {"a": []}]),
        "minLength": lambda: choice.choice([0, 1, 3, -1, 2.0]),
        "maxLength": lambda: choice.choice([0, 2, 40, 3000]),
        "pattern": lambda: choice.choice(["^a", "[0-9]{2,3}$", "(a|b)*c", "(?=x)", "^\\w+$", "("]),
        "format": lambda: choice.choice(["date", "uuid", "ipv4", "regex", "other", "time"]),
        "minimum": lambda: choice.choice([-5, 0, 1.5, 1e20, "1"]),
        "exclusiveMaximum": lambda: choice.choice([7, 0.25, 1e3]),
        "multipleOf": lambda: choice.choice([2, 0.1, 7]),
        "properties": lambda: {name: inner() for name in choice.sample(["a", "b", "c", ""], 2)},
        "required": lambda: choice.sample(["a", "b", "d"], 1),
        "additionalProperties": inner,
        "patternProperties": lambda: {choice.choice(["^a", "b$"]): inner()},
        "minProperties": lambda: choice.choice([0, 1, 3]),
        "maxProperties": lambda: choice.choice([0, 1, 3]),
        "items": inner,
        "prefixItems": lambda: [inner() for _ in range(choice.randint(1, 3))],
        "minItems": lambda: choice.choice([0, 1, 2]),
        "maxItems": lambda: choice.choice([0, 2, 2500]),
        "anyOf": lambda: [inner() for _ in range(2)],
        "oneOf": lambda: [inner() for _ in range(2)],
        "allOf": lambda: [inner()],
        "not": inner,
        "$ref": lambda: choice.choice(["#", "#/properties/a", "#/nope"]),
        "dependentRequired": lambda: {"a": ["b"]},
        "if": inner,
        "then": inner,
    }
    for keyword in choice.sample(list(parts), choice.randint(0, 4)):
        schema[keyword] = parts[keyword]()
    return schema


@pytest.mark.build
@pytest.mark.skipif(sys.platform == "win32", reason="the probe forks")
def test_fuzz(model_file: Path, record_property: Any) -> None:
    """Random schemas: each is refused by name, or makes a grammar that llama.cpp lives with.

    ``LLAMA_CPP_FUZZ=100`` makes a hundred times as many.
    """
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    choice = random.Random(SEED)
    grammars = []
    for _ in range(COUNT):
        schema = _random_schema(choice)
        try:
            grammar = to_gbnf(schema)
        except ValidationError as error:
            assert str(error).startswith("JSON schema")  # noqa: PT017 - the others are counted
            continue
        _gbnf.check(grammar)
        grammars.append(grammar)
    record_property("schemas", COUNT)
    record_property("converted", len(grammars))
    answers = probe(model_file, [{"grammar": text, "walk": 1} for text in grammars])
    assert {answer["ended"] for answer in answers} == {"ok"}
    assert len(grammars) > COUNT // 3
