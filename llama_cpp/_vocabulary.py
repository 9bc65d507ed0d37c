"""A model's vocabulary: text to token ids and back, one token at a time."""

from __future__ import annotations

import ctypes
import operator
import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._text import PieceTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama_cpp._abi import Functions
    from llama_cpp._handle import Handle

_FIRST_PIECE_BUFFER = 64
_INT32_MAX = 2**31 - 1
# a table grows to some megabytes with a large vocabulary
_MOST_SPELLINGS = 4
_SPACE = "\u2581"  # what SentencePiece makes of a space


class _Spelled(NamedTuple):
    """The characters that are tokens, and what spells the tokens that are taken whole."""

    characters: frozenset[str]
    marks: re.Pattern[str]


class Vocabulary:
    """Tokenizer and special tokens of one model.

    Every id is checked here: llama.cpp itself aborts the process over one that is out of range.
    """

    def __init__(self, lib: Functions, model: Handle) -> None:
        """Read the vocabulary of ``model``."""
        self._lib = lib
        self._model = model
        pointer = lib.llama_model_get_vocab(model.pointer)
        if pointer is None:
            raise LlamaError("llama.cpp gave no vocabulary for this model")
        self._pointer = pointer
        self._spellings: dict[frozenset[str], PieceTable] = {}
        self.type: int = lib.llama_vocab_type(pointer)
        """``enum llama_vocab_type``; ``LLAMA_VOCAB_TYPE_NONE`` for a model without a tokenizer."""
        self.size: int = lib.llama_vocab_n_tokens(pointer)
        """Number of tokens; ids run from 0 to one less."""
        self.bos: int = lib.llama_vocab_bos(pointer)
        """Begin of sequence; -1 where the model has none, as with the others."""
        self.eos: int = lib.llama_vocab_eos(pointer)
        self.eot: int = lib.llama_vocab_eot(pointer)
        self.sep: int = lib.llama_vocab_sep(pointer)
        self.nl: int = lib.llama_vocab_nl(pointer)
        self.fim_prefix: int = lib.llama_vocab_fim_pre(pointer)
        self.fim_suffix: int = lib.llama_vocab_fim_suf(pointer)
        self.fim_middle: int = lib.llama_vocab_fim_mid(pointer)
        self.adds_bos: bool = lib.llama_vocab_get_add_bos(pointer)
        """Whether the tokenizer puts :attr:`bos` first when asked for special tokens."""
        self.adds_eos: bool = lib.llama_vocab_get_add_eos(pointer)

    @cached_property
    def pieces(self) -> PieceTable:
        """What each token adds to a text; control tokens add nothing."""
        return PieceTable(lambda token: self.piece(token, special=False), self.ends)

    @cached_property
    def special_pieces(self) -> PieceTable:
        """The same with control tokens spelled out."""
        return PieceTable(lambda token: self.piece(token, special=True), self.ends)

    def spelling(self, texts: frozenset[str]) -> PieceTable:
        """What each token adds to a text in which control tokens of these texts are spelled out."""
        if not texts:
            return self.pieces
        table = self._spellings.get(texts)
        if table is None:
            if len(self._spellings) >= _MOST_SPELLINGS:
                self._spellings.clear()

            def data_of(token: int) -> bytes:
                data = self.piece(token, special=False)
                if data:
                    return data
                data = self.piece(token, special=True)
                return data if data.decode("utf-8", "replace") in texts else b""

            table = self._spellings[texts] = PieceTable(data_of, self.ends)
        return table

    @cached_property
    def adds_space(self) -> bool:
        """Whether the tokenizer puts a space in front of a text."""
        tokens = self.tokenize(b"a", add_special=False, parse_special=False)
        return b"".join(self.pieces[token].data for token in tokens).startswith(b" ")

    @cached_property
    def _sizes(self) -> list[int]:
        """Each token's length in bytes, control tokens nothing."""
        with self._model.lock:
            self._check_open()
            size_of = self._lib.llama_token_to_piece
            # llama.h: what does not fit is told as a negative count
            return [abs(size_of(self._pointer, t, None, 0, 0, False)) for t in range(self.size)]

    @cached_property
    def longest_piece(self) -> int:
        """Bytes of the longest token."""
        return max(self._sizes, default=0)

    @cached_property
    def hidden(self) -> frozenset[int]:
        """Tokens that add nothing to a text and do not end it either."""
        return frozenset(t for t, size in enumerate(self._sizes) if not size and not self.ends(t))

    @cached_property
    def suppressed(self) -> tuple[int, ...]:
        """Tokens that the model's file forbids to generate."""
        with self._model.lock:
            self._check_open()
            count = ctypes.c_int32()
            ids = self._lib.llama_vocab_get_suppress_tokens(self._pointer, ctypes.byref(count))
            return tuple(ids[: count.value]) if ids else ()

    def check(self, tokens: Iterable[object]) -> list[int]:
        """Return ``tokens`` as a list of ids that llama.cpp can take.

        Raises:
            ValidationError: one is no integer or out of range; the message says which.
        """
        size = self.size
        checked = []
        for index, token in enumerate(tokens):
            try:
                number = operator.index(token)  # type: ignore[arg-type]
            except TypeError:
                raise ValidationError(
                    f"token {index} is {token!r}, not an integer id; tokenize() turns text into ids"
                ) from None
            if not 0 <= number < size:
                raise ValidationError(
                    f"token {index} has id {number}; this model's ids run from 0 to {size - 1}"
                )
            checked.append(number)
        return checked

    def tokenize(self, text: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        """Turn UTF-8 text into ids.

        Args:
            text: any bytes; what is no UTF-8 becomes byte tokens or U+FFFD, as the model has it.
            add_special: add the begin and end tokens that the model asks for.
            parse_special: read control tokens spelled in the text as such.

        Raises:
            ValidationError: the model has no tokenizer, or the text is larger than 2 GB.
        """
        self._check_tokenizer(add_special=add_special)
        if len(text) > _INT32_MAX - 64:
            raise ValidationError(f"a text of {len(text)} bytes is too long to tokenize at once")
        if self._spelled is not None:
            self._check_characters(text, self._spelled)
        # One token per byte is the worst that byte fallback makes; the rest is prefix and specials.
        room = len(text) + 16
        while True:
            buffer = (ctypes.c_int32 * room)()
            with self._model.lock:
                self._check_open()
                count = self._lib.llama_tokenize(
                    self._pointer, text, len(text), buffer, room, add_special, parse_special
                )
            if count >= 0:
                return buffer[:count]
            if count < -_INT32_MAX:
                raise ValidationError("the text has more tokens than 32 bits can count; split it")
            room = -count

    @cached_property
    def _spelled(self) -> _Spelled | None:
        """What a SentencePiece vocabulary without tokens for bytes can write; None of all others.

        llama.cpp (``byte_to_token``) throws through C over a character that such a one has not.
        """
        if self.type != _abi.LLAMA_VOCAB_TYPE_SPM:
            return None
        whole = _abi.LLAMA_TOKEN_ATTR_CONTROL | _abi.LLAMA_TOKEN_ATTR_USER_DEFINED
        characters, marks = set(), []
        with self._model.lock:
            self._check_open()
            for token in range(self.size):
                kind = self._lib.llama_vocab_get_attr(self._pointer, token)
                if kind & _abi.LLAMA_TOKEN_ATTR_BYTE:
                    # a file that has some has all: check_header sees to it
                    return None
                text = (self._lib.llama_vocab_get_text(self._pointer, token) or b"").decode(
                    "utf-8", "replace"
                )
                if len(text) == 1:
                    characters.add(text)
                elif text and kind & whole:
                    marks.append(text)
        marks.sort(key=len, reverse=True)
        return _Spelled(
            frozenset(characters), re.compile("|".join(map(re.escape, marks)) or r"(?!)")
        )

    def _check_characters(self, text: bytes, spelled: _Spelled) -> None:
        plain = spelled.marks.sub("", text.decode("utf-8", "replace")).replace(" ", _SPACE)
        lacking = next((c for c in plain if c not in spelled.characters), None)
        if lacking is not None:
            raise ValidationError(
                f"this model's vocabulary has neither the character {lacking!r} nor tokens for bytes: "
                "leave it out, or give token ids"
            )

    def piece(self, token: int, *, special: bool) -> bytes:
        """Return the bytes of one token.

        Args:
            token: its id.
            special: spell control tokens out, instead of as nothing.
        """
        if not 0 <= token < self.size:
            self.check((token,))
        self._check_tokenizer(add_special=False)
        room = _FIRST_PIECE_BUFFER
        while True:
            buffer = ctypes.create_string_buffer(room)
            with self._model.lock:
                self._check_open()
                count = self._lib.llama_token_to_piece(
                    self._pointer, token, buffer, room, 0, special
                )
            if count >= 0:
                return buffer.raw[:count]
            room = -count  # llama.h: a negative count is the size that is needed

    def ends(self, token: int) -> bool:
        """Return whether generation ends with this token."""
        with self._model.lock:
            self._check_open()
            return self._lib.llama_vocab_is_eog(self._pointer, token)

    def text(self, token: int) -> str:
        """Return the token as the model's file spells it."""
        self.check((token,))
        self._check_tokenizer(add_special=False)
        with self._model.lock:
            self._check_open()
            return (self._lib.llama_vocab_get_text(self._pointer, token) or b"").decode(
                "utf-8", "replace"
            )

    @property
    def pointer(self) -> int:
        """llama.cpp's ``struct llama_vocab *``; belongs to the model."""
        self._check_open()
        return self._pointer

    def _check_open(self) -> None:
        _ = self._model.pointer

    def _check_tokenizer(self, *, add_special: bool) -> None:
        """Raise where llama.cpp would assert instead."""
        self._check_open()
        if self.type == _abi.LLAMA_VOCAB_TYPE_NONE:
            raise ValidationError("this model has no tokenizer: give token ids instead of text")
        if not add_special:
            return
        wpm = self.type == _abi.LLAMA_VOCAB_TYPE_WPM
        needed = (
            ("bos", self.bos, self.adds_bos or wpm),
            ("eos", self.eos, self.adds_eos and not wpm),
            ("sep", self.sep, wpm),
        )
        for name, token, used in needed:
            if used and token < 0:
                raise ValidationError(
                    f"this model's tokenizer adds a {name} token but its file names none; "
                    "tokenize without special tokens (add_bos=False)"
                )
