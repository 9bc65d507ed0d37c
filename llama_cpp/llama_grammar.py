"""Grammars that an answer must follow: GBNF, from a text, a file or a JSON schema."""

# ruff: noqa: ARG002, ARG003 - the parameters that callers are used to
from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_cpp import _gbnf, _grammars
from llama_cpp._errors import ValidationError

LLAMA_GRAMMAR_DEFAULT_ROOT = "root"
"""The rule that a grammar starts with."""

JSON_GBNF = _grammars.JSON
"""Any JSON value."""
JSON_ARR_GBNF = _grammars.JSON_OBJECTS
"""A JSON array, one element per line."""
LIST_GBNF = _grammars.LIST
"""Lines that begin with a hyphen."""
ARITHMETIC_GBNF = _grammars.ARITHMETIC
"""Equations."""
C_GBNF = _grammars.C
"""A small part of C."""
CHESS_GBNF = _grammars.CHESS
"""A game of chess in algebraic notation."""
JAPANESE_GBNF = _grammars.JAPANESE
"""Japanese text."""
ENGLISH_GBNF = _grammars.ENGLISH
"""English sentences."""

SPACE_RULE = '" "?'
"""An optional blank, as GBNF."""
DOT = "[^\\x0A\\x0D]"
"""Any character but a line break, as GBNF."""
DOTALL = "[\\U00000000-\\U0010FFFF]"
"""Any character, as GBNF."""


class LlamaGrammar:
    """A grammar that llama.cpp can use: checked when it is made, then immutable.

    Equal texts make equal grammars; a grammar may be a dictionary's key, pickled and shared between
    threads. It holds nothing native.
    """

    __slots__ = ("_grammar", "_root")
    _grammar: str
    _root: str

    def __init__(
        self,
        *args: object,
        _grammar: str,
        _root: str = LLAMA_GRAMMAR_DEFAULT_ROOT,
        **kwargs: object,
    ) -> None:
        """Check and keep a grammar; :meth:`from_string` is the usual way here.

        Args:
            *args: ignored.
            _grammar: GBNF.
            _root: the rule to start with.
            **kwargs: ignored.

        Raises:
            ValidationError: llama.cpp could not use it; the message says where and why.
        """
        _gbnf.check(_grammar, _root)
        object.__setattr__(self, "_grammar", _grammar)
        object.__setattr__(self, "_root", _root)

    @property
    def text(self) -> str:
        """The grammar, as GBNF."""
        return self._grammar

    @property
    def root(self) -> str:
        """The rule that it starts with."""
        return self._root

    @classmethod
    def from_string(
        cls, grammar: str, verbose: bool = True, *, root: str = LLAMA_GRAMMAR_DEFAULT_ROOT
    ) -> LlamaGrammar:
        """Make a grammar from GBNF.

        Args:
            grammar: the text.
            verbose: ignored: nothing is printed.
            root: the rule to start with.

        Raises:
            ValidationError: llama.cpp could not use it; the message says where and why.
        """
        return cls(_grammar=grammar, _root=root)

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], verbose: bool = True) -> LlamaGrammar:
        """Make a grammar from a file of GBNF in UTF-8.

        Args:
            file: its path.
            verbose: ignored: nothing is printed.

        Raises:
            OSError: the file cannot be read.
            ValidationError: it is not UTF-8, or llama.cpp could not use it.
        """
        try:
            text = Path(file).read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValidationError(
                f"grammar file {os.fspath(file)} is not UTF-8 (byte {error.start}): save it as UTF-8"
            ) from None
        return cls.from_string(text, verbose=verbose)

    @classmethod
    def from_json_schema(
        cls, json_schema: str | bool | Mapping[str, Any], verbose: bool = True
    ) -> LlamaGrammar:
        """Make a grammar of the JSON texts that fit a schema.

        Args:
            json_schema: a JSON schema (draft 2020-12), as JSON text or as a dictionary.
            verbose: ignored: nothing is printed.

        Raises:
            ValidationError: it is no schema, or says something that no grammar can express; the
                message names the place and the keyword.
        """
        return cls.from_string(json_schema_to_gbnf(json_schema), verbose=verbose)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a LlamaGrammar cannot be changed (setting {name!r}): make another")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a LlamaGrammar cannot be changed (deleting {name!r}): make another")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LlamaGrammar):
            return NotImplemented
        return (self._grammar, self._root) == (other._grammar, other._root)

    def __hash__(self) -> int:
        return hash((self._grammar, self._root))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (type(self), self._grammar, self._root))

    def __repr__(self) -> str:
        text = self._grammar if len(self._grammar) <= 60 else f"{self._grammar[:57]}..."
        root = "" if self._root == LLAMA_GRAMMAR_DEFAULT_ROOT else f", root={self._root!r}"
        return f"LlamaGrammar.from_string({text!r}{root})"


def _restored(cls: type[LlamaGrammar], grammar: str, root: str) -> LlamaGrammar:
    return cls(_grammar=grammar, _root=root)


def json_schema_to_gbnf(
    schema: str | bool | Mapping[str, Any], prop_order: Sequence[str] | None = None
) -> str:
    """Return the GBNF of the JSON texts that fit a schema.

    Args:
        schema: a JSON schema (draft 2020-12), as JSON text or as a dictionary.
        prop_order: names of properties that come first, in this order; all others follow in the
            schema's order.

    Raises:
        ValidationError: it is no schema, or says something that no grammar can express; the message
            names the place and the keyword.
    """
    from llama_cpp import _json_schema  # noqa: PLC0415 - nothing that a grammar of GBNF needs

    if isinstance(schema, (str, bytes)):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise ValidationError(f"the JSON schema is no JSON: {error}") from None
        except RecursionError:
            raise ValidationError("JSON schema: it is nested too deep") from None
    return _json_schema.to_gbnf(schema, prop_order=tuple(prop_order or ()))


class BuiltinRule:
    """A rule of GBNF and the names of the rules that it needs."""

    def __init__(self, content: str, deps: Sequence[str] | None = None) -> None:
        """Keep both.

        Args:
            content: the rule's body.
            deps: the names that occur in it.
        """
        self.content = content
        self.deps = list(deps or [])


class SchemaConverter:
    """Turns JSON schemas into GBNF step by step; :func:`json_schema_to_gbnf` does it at once."""

    def __init__(
        self,
        *,
        prop_order: Mapping[str, int] | Sequence[str] | None = None,
        allow_fetch: bool = False,
        dotall: bool = False,
        raw_pattern: bool = False,
    ) -> None:
        """Start with no rule.

        Args:
            prop_order: names of properties that come first, with their positions or in order.
            allow_fetch: only False: nothing is fetched.
            dotall: only False: in a pattern a dot is no line break, as ECMA-262 says.
            raw_pattern: only False: strings that have a pattern are in quotes, as JSON says.

        Raises:
            ValidationError: one of the flags is true.
        """
        for name, value in (
            ("allow_fetch", allow_fetch),
            ("dotall", dotall),
            ("raw_pattern", raw_pattern),
        ):
            if value:
                raise ValidationError(f"SchemaConverter cannot do {name}=True: leave it out")
        order = prop_order or ()
        if isinstance(order, Mapping):
            order = sorted(order, key=order.__getitem__)
        self._order = tuple(order)
        self._schemas: dict[str, object] = {}

    def resolve_refs(self, schema: Any, url: str) -> Any:
        """Return the schema as it is: references are followed by :meth:`visit`.

        Args:
            schema: a JSON schema.
            url: ignored.
        """
        return schema

    def visit(self, schema: Any, name: str) -> str:
        """Add the rules of a schema.

        Args:
            schema: a JSON schema (draft 2020-12).
            name: of the rule; an empty name is the root.

        Returns:
            The name of its rule.

        Raises:
            ValidationError: it is no schema, or says something that no grammar can express.
        """
        json_schema_to_gbnf(schema, self._order)
        self._schemas[name or LLAMA_GRAMMAR_DEFAULT_ROOT] = schema
        return name or LLAMA_GRAMMAR_DEFAULT_ROOT

    def format_grammar(self) -> str:
        """Return the grammar of what was visited, as GBNF.

        Raises:
            ValidationError: nothing was.
        """
        from llama_cpp import _json_schema  # noqa: PLC0415 - nothing that a grammar of GBNF needs

        if not self._schemas:
            raise ValidationError(
                "SchemaConverter has seen no schema: call visit(schema, '') first"
            )
        return _json_schema.grammar_of(self._schemas, self._order)

    def not_literal(
        self, literal: str, dotall: bool = True, maybe_escaped_underscores: bool = False
    ) -> str:
        """Return GBNF of the beginnings of texts that leave a literal before its end.

        ``not_literal("abc")`` is ``[^a] | "a" ([^b] | "b" ([^c])?)?`` in parentheses.

        Args:
            literal: the text, not empty.
            dotall: whether what leaves it may be a line break.
            maybe_escaped_underscores: whether a backslash may stand before each ``_``.

        Raises:
            ValidationError: the literal is empty.
        """
        if not literal:
            raise ValidationError("not_literal needs a text that is not empty")
        from llama_cpp._json_text import literal as quoted  # noqa: PLC0415 - only this needs it
        from llama_cpp._json_text import negated_class  # noqa: PLC0415 - the same

        text = ""
        for char in reversed(literal):
            escapes = maybe_escaped_underscores and char == "_"
            backslash = '"\\\\"? ' if escapes else ""
            excluded = {char} | ({"\\"} if escapes else set()) | (set() if dotall else set("\r\n"))
            text = (
                negated_class(excluded)
                if not text
                else f"{negated_class(excluded)} | {backslash}{quoted(char)} ({text})?"
            )
        return f"({text})"
