"""A place in a grammar: what it allows next, and going on by a token."""

from __future__ import annotations

import ctypes
import math
import re
from typing import TYPE_CHECKING

from llama_cpp import _abi, _gbnf, _library, _log
from llama_cpp._errors import ValidationError
from llama_cpp._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from llama_cpp._model import Model
    from llama_cpp._token_data import LlamaTokenDataArray


class GrammarState:
    """llama.cpp's matcher for one grammar; never told a token that the grammar does not allow.

    Over such a token, or a grammar that it cannot read, llama.cpp ends the process.
    """

    def __init__(self, model: Model, grammar: Any) -> None:
        """Begin.

        Args:
            model: whose tokens it is about.
            grammar: a ``LlamaGrammar``, or GBNF with a rule ``root``.

        Raises:
            ValidationError: llama.cpp cannot use it.
        """
        self.grammar = grammar
        text, root = (grammar, "root") if isinstance(grammar, str) else (grammar.text, grammar.root)
        _gbnf.check(text, root)
        self._vocabulary = vocabulary = model.vocabulary
        self._lib = lib = _library.load()
        _log.clear()
        with model.handle.lock:
            pointer = lib.llama_sampler_init_grammar(
                vocabulary.pointer, text.encode(), root.encode()
            )
            if pointer is not None:
                self._handle = Handle("grammar", pointer, lib.llama_sampler_free, model.handle)
                self._handle.close_with(self)
        if pointer is None:
            raise ValidationError("llama.cpp cannot use the grammar", log=_log.complaints())

    @property
    def handle(self) -> Handle:
        """The native matcher's owner."""
        return self._handle

    def apply(self, candidates: LlamaTokenDataArray) -> None:
        """Give minus infinity as logit to all that is not allowed next.

        Raises:
            ValidationError: they are not this model's tokens.
        """
        ids, size = candidates.left["id"], self._vocabulary.size
        if ids.min() < 0 or ids.max() >= size:
            raise ValidationError(
                f"the grammar is for a model with {size} tokens, and there are candidates with ids "
                f"from {ids.min()} to {ids.max()}"
            )
        with self._handle.lock:
            candidates.apply(self._handle.pointer)

    def allows(self, token: int) -> bool:
        """Return whether ``token`` may come next.

        Raises:
            ValidationError: there is no such token.
        """
        self._vocabulary.check((token,))
        one = _abi.llama_token_data(id=token, logit=1.0, p=0.0)
        alone = _abi.llama_token_data_array(
            data=ctypes.pointer(one), size=1, selected=-1, sorted=False
        )
        with self._handle.lock:
            self._lib.llama_sampler_apply(self._handle.pointer, ctypes.byref(alone))
        return one.logit != -math.inf

    def accept(self, token: int) -> None:
        """Go on by one token.

        Raises:
            ValidationError: the grammar does not allow it.
        """
        with self._handle.lock:
            if not self.allows(token):
                raise ValidationError(
                    f"the grammar does not allow token {token} "
                    f"({self._vocabulary.piece(token, special=True)!r}) here"
                )
            self._lib.llama_sampler_accept(self._handle.pointer, token)

    def reset(self) -> None:
        """Begin again."""
        with self._handle.lock:
            self._lib.llama_sampler_reset(self._handle.pointer)

    def close(self) -> None:
        """Free it; does nothing the second time."""
        self._handle.close()


class TriggeredGrammar:
    """A grammar that begins with a token, or where a pattern matches the answer so far.

    llama.cpp can do this itself, but ends the process where what a pattern found is not in the
    grammar.
    """

    def __init__(
        self, model: Model, grammar: Any, patterns: Sequence[str], tokens: Sequence[int]
    ) -> None:
        """Wait.

        Args:
            model: whose tokens it is about.
            grammar: a ``LlamaGrammar``, or GBNF with a rule ``root``.
            patterns: regular expressions, matched from the beginning of the answer; the grammar then
                begins with the first group that took part, or with the match.
            tokens: ids; the grammar begins with such a token.

        Raises:
            ValidationError: llama.cpp cannot use the grammar, or there is no good trigger.
        """
        self._vocabulary = model.vocabulary
        self._tokens = frozenset(model.vocabulary.check(tokens))
        try:
            self._patterns = [re.compile(pattern) for pattern in patterns]
        except (re.error, TypeError) as error:
            raise ValidationError(f"a trigger pattern is no regular expression: {error}") from error
        if not self._tokens and not self._patterns:
            raise ValidationError("a lazy grammar needs a trigger: give a pattern or a token")
        self._state = GrammarState(model, grammar)
        self._seen = b""
        self.active = False

    def apply(self, candidates: LlamaTokenDataArray) -> None:
        """Refuse what is not allowed next, once it has begun."""
        if self.active:
            self._state.apply(candidates)

    def accept(self, token: int) -> None:
        """Go on by one token, or look whether it begins now.

        Raises:
            ValidationError: the grammar does not allow it, or what the pattern found.
        """
        if self.active:
            self._state.accept(token)
            return
        beginning = [token] if token in self._tokens else self._found(token)
        if beginning is not None:
            for each in beginning:
                self._state.accept(each)
            self.active = True

    def _found(self, token: int) -> list[int] | None:
        self._seen += self._vocabulary.piece(token, special=True)
        text = self._seen.decode("utf-8", "replace")
        for pattern in self._patterns:
            if match := pattern.match(text):
                groups = range(1, pattern.groups + 1)
                group = next((index for index in groups if match.start(index) >= 0), 0)
                rest = text[match.start(group) :].encode()
                return self._vocabulary.tokenize(rest, add_special=False, parse_special=True)
        return None

    def reset(self) -> None:
        """Begin again: wait."""
        self.active, self._seen = False, b""
        self._state.reset()

    def close(self) -> None:
        """Free it; does nothing the second time."""
        self._state.close()
