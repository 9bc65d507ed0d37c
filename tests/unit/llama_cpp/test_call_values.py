"""Arguments that are no JSON, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from llama_cpp._call_values import gemma_calls, may_be_python, python_calls

NAMES = {"f", "get.x"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-1_000", -1000),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("2e-3", 0.002),
        ("True", True),
        ("false", False),
        ("None", None),
        ("null", None),
        ("'a'", "a"),
        ('"a\'b"', "a'b"),
        ("'it's'", "it's"),
        (r"'\'\\\n\x41\u00e9\q'", "'\\\nA\u00e9q"),
        (r"'\ud83d\ude42'", "\U0001f642"),
        (r"'\ud83d'", "\ufffd"),
        ("[]", []),
        ("[1, [2,], ]", [1, [2]]),
        ("{}", {}),
        ("{'a': {\"b\": [1]}, }", {"a": {"b": [1]}}),
        ("[" * 60 + "]" * 60, None),
    ],
)
def test_python(written: str, value: Any) -> None:
    calls = python_calls(f" [ f( a = {written} ) , ] ", NAMES)
    if written.startswith("[[[["):
        assert [name for name, _ in calls] == ["f"]
        return
    assert calls == [("f", {"a": value})]
    assert type(calls[0][1]["a"]) is type(value)


@pytest.mark.parametrize(
    "written",
    ["", "a", "Trueish", "1e999", "'a", "[1", "{'a'}", "{a: 1}", "{1: 2}", "[1 2]", "-", "1 2", "()",
     "[" * 70 + "]" * 70, "9" * 5000 + "."],
)  # fmt: skip
def test_no_python(written: str) -> None:
    assert python_calls(f"[f(a={written})]", NAMES) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "f", "[f]", "[f(]", "[f()", "[f(1)]", "[f(), g()]", "[f() f()]", "[f()] [f()]", "[f(),,]"]
)  # fmt: skip
def test_no_calls_of_python(text: str) -> None:
    assert python_calls(text, NAMES) == []


def test_calls_of_python() -> None:
    assert python_calls("[get.x(), f(a=1)]", NAMES) == [("get.x", {}), ("f", {"a": 1})]
    assert python_calls("f(a=1, b=2); get.x()", NAMES) == [("f", {"a": 1, "b": 2}), ("get.x", {})]


@pytest.mark.parametrize(
    ("text", "may"),
    [("[", True), ("[ ge", True), ("[f", True), ("[f (", True), ("[f(a", True), ("[g", True),
     ("[x", False), ("[x(", False), ("f(", False), ("[f)", False), ("[1", False)],
)  # fmt: skip
def test_what_may_become_calls(text: str, may: bool) -> None:
    assert may_be_python(text, NAMES) is may


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ("|a, {b}: 'c'|", "a, {b}: 'c'"),
        ("||", ""),
        ("[|a|,1,[]]", ["a", 1, []]),
        ("{b c:1,|d:|:{}}", {"b c": 1, "d:": {}}),
    ],
)
def test_gemma(written: str, value: Any) -> None:
    assert gemma_calls(f" call:f{{a:{written}}}\n", NAMES, "|") == [("f", {"a": value})]


@pytest.mark.parametrize(
    "text", ["x", "call:g{}", "call:f", "call:f{a}", "call:f{a:}", "call:f{a:b}", "call:f{a:|b}", "call:f{}x"]
)  # fmt: skip
def test_no_calls_of_gemma(text: str) -> None:
    assert gemma_calls(text, NAMES, "|") == []
