"""Grammars that an answer must follow: GBNF, from a text or a file."""

# ruff: noqa: ARG002, ARG003 - the parameters that callers are used to
from __future__ import annotations

import os
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
