"""The public JSON-Schema-Test-Suite: what we convert fits exactly what is valid; the rest is counted."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llama_cpp import _gbnf
from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_matcher import Matcher
from llama_cpp._gbnf_parser import parse
from llama_cpp._json_schema import to_gbnf
from tests import json_schema_suite
from tests.sequences import paired

pytestmark = pytest.mark.network

# file → schemas that we convert, and that we refuse
TABLE = {
    "additionalProperties": (9, 0),
    "allOf": (10, 2),
    "anchor": (4, 0),
    "anyOf": (7, 1),
    "boolean_schema": (1, 1),
    "const": (15, 0),
    "contains": (0, 7),
    "content": (4, 0),
    "default": (3, 0),
    "defs": (0, 1),
    "dependentRequired": (4, 0),
    "dependentSchemas": (4, 0),
    "dynamicRef": (0, 20),
    "enum": (14, 0),
    "exclusiveMaximum": (1, 0),
    "exclusiveMinimum": (1, 0),
    "format": (13, 6),
    "if-then-else": (10, 0),
    "infinite-loop-detection": (1, 0),
    "items": (10, 0),
    "maxContains": (1, 3),
    "maxItems": (2, 0),
    "maxLength": (2, 0),
    "maxProperties": (3, 0),
    "maximum": (2, 0),
    "minContains": (2, 6),
    "minItems": (2, 0),
    "minLength": (2, 0),
    "minProperties": (2, 0),
    "minimum": (2, 0),
    "multipleOf": (4, 1),
    "not": (6, 3),
    "oneOf": (8, 3),
    "pattern": (2, 0),
    "patternProperties": (5, 0),
    "prefixItems": (4, 0),
    "properties": (6, 0),
    "propertyNames": (6, 0),
    "ref": (33, 2),
    "refRemote": (0, 15),
    "required": (5, 0),
    "type": (11, 0),
    "unevaluatedItems": (11, 16),
    "unevaluatedProperties": (20, 21),
    "uniqueItems": (3, 3),
    "vocabulary": (2, 0),
    "optional/format/date": (1, 0),
    "optional/format/time": (1, 0),
    "optional/format/date-time": (1, 0),
    "optional/format/duration": (1, 0),
    "optional/format/email": (1, 0),
    "optional/format/hostname": (1, 0),
    "optional/format/ipv4": (1, 0),
    "optional/format/ipv6": (1, 0),
    "optional/format/uri": (1, 0),
    "optional/format/uri-reference": (1, 0),
    "optional/format/uuid": (1, 0),
    "optional/format/json-pointer": (1, 0),
    "optional/format/relative-json-pointer": (1, 0),
    "optional/ecmascript-regex": (20, 0),
}

# files in which a format is only an annotation; for us it always holds, see FORMATS
ANNOTATIONS = ("format",)

# Valid, and yet not generated: (file, description of the test).
NARROWER = {
    # leap seconds
    *(
        ("optional/format/time", text)
        for text in (
            "a valid time string with leap second, Zulu",
            "valid leap second, zero time-offset",
            "valid leap second, positive time-offset",
            "valid leap second, large positive time-offset",
            "valid leap second, negative time-offset",
            "valid leap second, large negative time-offset",
        )
    ),
    ("optional/format/date-time", "a valid date-time with a leap second, UTC"),
    ("optional/format/date-time", "a valid date-time with a leap second, with minus offset"),
    # quoted local parts, and addresses for domains
    *(
        ("optional/format/email", text)
        for text in (
            "a quoted string with a space in the local part is valid",
            "a quoted string with a double dot in the local part is valid",
            "a quoted string with a @ in the local part is valid",
            "an IPv4-address-literal after the @ is valid",
            "an IPv6-address-literal after the @ is valid",
        )
    ),
    # a dialect without the validation vocabulary, whose metaschema is elsewhere
    ("vocabulary", "no validation: invalid number, but it still validates"),
}


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return json_schema_suite.cases(
        json_schema_suite.download(tmp_path_factory.mktemp("json-schema-suite"))
    )


class Converted(NamedTuple):
    """One schema's grammar and what the suite says of some texts."""

    grammar: str
    texts: dict[str, tuple[bool, str]]
    """Text → whether it is valid, and the test's description."""


def converted(case: dict[str, Any]) -> Converted | None:
    """Return a case's grammar and texts; None where the schema is refused."""
    try:
        grammar = to_gbnf(case["schema"])
    except ValidationError as error:
        # where nothing fits, nothing may be valid
        if "no value fits" in str(error):
            assert not any(test["valid"] for test in case["tests"]), case["description"]
        return None
    texts = {}
    for test in case["tests"]:
        data = json_schema_suite.instance(test["data"], case["schema"])
        for separators in ((",", ":"), (", ", ": ")):
            text = json.dumps(data, ensure_ascii=False, separators=separators)
            texts[text] = (test["valid"], test["description"])
        if isinstance(data, dict) and not test["valid"] and len(data) <= 4:
            for names in itertools.permutations(data):
                text = json.dumps({name: data[name] for name in names}, ensure_ascii=False)
                texts[text] = (False, test["description"])
    return Converted(grammar, texts)


def test_every_file_is_counted(suite: dict[str, list[dict[str, Any]]]) -> None:
    counted = {}
    for name, cases in suite.items():
        done = sum(converted(case) is not None for case in cases)
        counted[name] = (done, len(cases) - done)
    assert counted == TABLE


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ANNOTATIONS])
def test_file(suite: dict[str, list[dict[str, Any]]], name: str) -> None:
    wrong = []
    for case in suite[name]:
        found = converted(case)
        if found is None:
            continue
        _gbnf.check(found.grammar)
        matcher = Matcher(parse(found.grammar))
        for text, (valid, description) in found.texts.items():
            if (name, description) in NARROWER:
                assert not matcher.accepts(text), description
            elif matcher.accepts(text) != valid:
                wrong.append((case["description"], description, text, valid))
    assert wrong == []


@pytest.mark.build
@pytest.mark.skipif(sys.platform == "win32", reason="the probe forks")
def test_llama_cpp_agrees(suite: dict[str, list[dict[str, Any]]], model_file: Path) -> None:
    """A sample of all schemas, decided by llama.cpp's own matcher."""
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    cases = [found for cases in suite.values() for case in cases if (found := converted(case))]
    sample = cases[::4]
    asked = [{"grammar": c.grammar, "texts": [t for t in c.texts if "\0" not in t]} for c in sample]
    answers = probe(model_file, asked)
    for case, answer in paired(sample, answers):
        matcher = Matcher(parse(case.grammar))
        texts = [text for text in case.texts if "\0" not in text]
        assert answer == {"ended": "ok", "fits": [matcher.accepts(text) for text in texts]}
    assert len(sample) > 60
