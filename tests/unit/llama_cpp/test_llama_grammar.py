"""LlamaGrammar: checked, immutable, and the ready-made grammars fit what they say."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from llama_cpp import llama_grammar
from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_matcher import Matcher
from llama_cpp._gbnf_parser import parse
from llama_cpp.llama_grammar import (
    BuiltinRule,
    LlamaGrammar,
    SchemaConverter,
    json_schema_to_gbnf,
)

TEXT = 'root ::= "a"\nother ::= "b"'


def fits(grammar: str, text: str) -> bool:
    return Matcher(parse(grammar)).accepts(text)


def test_from_string() -> None:
    grammar = LlamaGrammar.from_string(TEXT, verbose=False)
    assert (grammar.text, grammar.root) == (TEXT, "root")
    assert (grammar._grammar, grammar._root) == (TEXT, "root")
    assert repr(grammar) == 'LlamaGrammar.from_string(\'root ::= "a"\\nother ::= "b"\')'


def test_another_root() -> None:
    grammar = LlamaGrammar.from_string(TEXT, root="other")
    assert grammar.root == "other"
    assert grammar != LlamaGrammar.from_string(TEXT)
    assert repr(grammar).endswith(", root='other')")


def test_a_long_text_is_cut_in_its_repr() -> None:
    text = f'root ::= "{"a" * 100}"'
    assert repr(LlamaGrammar.from_string(text)) == (
        f"LlamaGrammar.from_string({text[:57] + '...'!r})"
    )


def test_equal_texts_are_equal() -> None:
    first, second = LlamaGrammar.from_string(TEXT), LlamaGrammar(_grammar=TEXT)
    assert first == second
    assert {first: 1}[second] == 1
    assert first != TEXT


@pytest.mark.parametrize("root", ["root", "other"])
def test_copies(root: str) -> None:
    grammar = LlamaGrammar.from_string(TEXT, root=root)
    assert pickle.loads(pickle.dumps(grammar)) == grammar
    assert copy.deepcopy(grammar) == grammar


def test_it_cannot_be_changed() -> None:
    grammar = LlamaGrammar.from_string(TEXT)
    with pytest.raises(AttributeError, match="a LlamaGrammar cannot be changed"):
        grammar._grammar = "root ::= "
    with pytest.raises(AttributeError, match="a LlamaGrammar cannot be changed"):
        del grammar._root


def test_from_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gbnf"
    path.write_text('root ::= "é"', encoding="utf-8")
    assert LlamaGrammar.from_file(str(path)).text == 'root ::= "é"'
    assert LlamaGrammar.from_file(path) == LlamaGrammar.from_string('root ::= "é"')


def test_from_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.gbnf"
    path.write_bytes(b"root ::= \xff")
    with pytest.raises(ValidationError) as caught:
        LlamaGrammar.from_file(path)
    assert str(caught.value) == f"grammar file {path} is not UTF-8 (byte 9): save it as UTF-8"


def test_from_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LlamaGrammar.from_file(tmp_path / "nope.gbnf")


def test_a_bad_grammar_is_refused() -> None:
    with pytest.raises(ValidationError, match="line 1, column 10: rule 'x' is not defined"):
        LlamaGrammar.from_string("root ::= x")


JSON_VALUES: tuple[object, ...] = ({"a": [1, -2.5e-3, "ü\n", True, None], "b": {}}, [], "x", 0)


@pytest.mark.parametrize("value", JSON_VALUES, ids=str)
@pytest.mark.parametrize("indent", [None, 1])
def test_json(value: object, indent: int | None) -> None:
    assert fits(llama_grammar.JSON_GBNF, json.dumps(value, indent=indent))


@pytest.mark.parametrize("text", ["", "01", "{'a': 1}", "[1,]", "nul", '"a', "{" + " " * 50])
def test_no_json(text: str) -> None:
    assert not fits(llama_grammar.JSON_GBNF, text)


TEXTS = {
    "JSON_ARR_GBNF": ('[\n{"a": 1},\n[2]\n]', "[1, 2]"),
    "LIST_GBNF": ("- one\n- two\n", "one\n"),
    "ARITHMETIC_GBNF": ("(1 + x) * 3 = 7\n", "1 + = 2\n"),
    "C_GBNF": (
        (
            'int main(int a) {\n  float x = a * (2 + f(3));\n  // done\n  if (x >= 1) { puts("a"); }'
            "\n  for (i = 0; i < 3; i = i + 1) { }\n  return x;\n}\n"
        ),
        "int main() { return }",
    ),
    "CHESS_GBNF": ("1. e4 e5\n2. Nf3 Nc6\n3. Bb5 a6\n4. O-O Nxe4\n", "1. e9 e5\n2. a b\n"),
    "JAPANESE_GBNF": ("今日は、いい天気です。", "hello"),
    "ENGLISH_GBNF": ("It works, and well. Good!", "no capital."),
}


@pytest.mark.parametrize(("name", "good", "bad"), [(n, *texts) for n, texts in TEXTS.items()])
def test_ready_made(name: str, good: str, bad: str) -> None:
    grammar = LlamaGrammar.from_string(getattr(llama_grammar, name)).text
    assert (fits(grammar, good), fits(grammar, bad)) == (True, False)


@pytest.mark.parametrize(
    ("rule", "text"), [("SPACE_RULE", " "), ("SPACE_RULE", ""), ("DOT", "é"), ("DOTALL", "\n")]
)
def test_constants(rule: str, text: str) -> None:
    assert fits(f"root ::= {getattr(llama_grammar, rule)}", text)


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "null"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("given", [SCHEMA, json.dumps(SCHEMA)], ids=["dictionary", "text"])
def test_from_json_schema(given: str | dict[str, object]) -> None:
    grammar = LlamaGrammar.from_json_schema(given, verbose=False)
    assert grammar.text == json_schema_to_gbnf(given)
    assert fits(grammar.text, '{"a": 1, "b": null}')
    assert not fits(grammar.text, '{"b": null, "a": 1}')


def test_the_order_of_properties() -> None:
    assert fits(json_schema_to_gbnf(SCHEMA, ["b"]), '{"b": null, "a": 1}')


def test_a_schema_that_is_no_json() -> None:
    with pytest.raises(ValidationError) as caught:
        LlamaGrammar.from_json_schema("{'type': 'string'}")
    assert str(caught.value) == (
        "the JSON schema is no JSON: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1)"
    )


def test_schema_converter() -> None:
    converter = SchemaConverter(prop_order={"b": 0, "a": 1}, allow_fetch=False)
    assert converter.resolve_refs(SCHEMA, "stdin") is SCHEMA
    assert converter.visit(SCHEMA, "") == "root"
    assert converter.format_grammar() == json_schema_to_gbnf(SCHEMA, ["b", "a"])


def test_schema_converter_with_several_schemas() -> None:
    converter = SchemaConverter()
    assert converter.visit({"type": "array", "items": {"type": "integer"}}, "") == "root"
    assert converter.visit({"type": "integer"}, "number-of-it") == "number-of-it"
    text = converter.format_grammar()
    assert fits(text, "[1, 2]")
    assert Matcher(parse(text, "number-of-it")).accepts("12")


def test_schema_converter_cannot_fetch() -> None:
    with pytest.raises(ValidationError) as caught:
        SchemaConverter(allow_fetch=True)
    assert str(caught.value) == "SchemaConverter cannot do allow_fetch=True: leave it out"
    with pytest.raises(ValidationError) as caught:
        SchemaConverter().format_grammar()
    assert str(caught.value) == ("SchemaConverter has seen no schema: call visit(schema, '') first")


@pytest.mark.parametrize(
    ("arguments", "grammar"),
    [
        (("a",), "([^a])"),
        (("abc",), '([^a] | "a" ([^b] | "b" ([^c])?)?)'),
        (("]^", False), '([^\\n\\x0D\\]] | "]" ([^\\n\\x0D\\x5E])?)'),
        (("_a", True, True), '([^\\\\_] | "\\\\"? "_" ([^a])?)'),
    ],
)
def test_not_literal(arguments: tuple[str, bool, bool], grammar: str) -> None:
    assert SchemaConverter().not_literal(*arguments) == grammar
    assert not fits(f"root ::= {grammar}", arguments[0])
    assert fits(f"root ::= {grammar}", arguments[0][:-1] + "x")


def test_not_literal_of_nothing() -> None:
    with pytest.raises(ValidationError, match="not_literal needs a text that is not empty"):
        SchemaConverter().not_literal("")


def test_builtin_rule() -> None:
    rule = BuiltinRule("string | number", ["string", "number"])
    assert (rule.content, rule.deps) == ("string | number", ["string", "number"])
    assert BuiltinRule("[a-z]").deps == []
