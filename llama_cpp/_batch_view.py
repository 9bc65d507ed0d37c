"""A batch by the names of llama-cpp-python's internals, over the core's."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from llama_cpp._arguments import check_integer
from llama_cpp._batch import Batch
from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_cpp import _abi
    from llama_cpp._context import Context

_ANY_TOKEN = 2**31 - 1
_MOST_TOKENS = 2**24
_MOST_SEQUENCES = 256


class LlamaBatch:
    """Tokens for one call of :meth:`LlamaContext.decode`, in Python's memory.

    Which ids, positions and sequences there are is the context's to say: it checks them.
    """

    def __init__(self, *, n_tokens: int, embd: int, n_seq_max: int, verbose: bool = True) -> None:
        """Make room.

        Args:
            n_tokens: the most tokens.
            embd: 0; embeddings in place of tokens cannot be given here.
            n_seq_max: the most sequences that a token belongs to.
            verbose: has no effect.

        Raises:
            ValidationError: an argument is out of range.
        """
        check_integer("n_tokens", n_tokens, 1, _MOST_TOKENS)
        check_integer("n_seq_max", n_seq_max, 1, _MOST_SEQUENCES)
        if embd:
            raise ValidationError(
                f"embd is {embd!r}; it must be 0: images go through a chat handler, and embeddings "
                "of your own through llama_cpp.llama_batch_init() and llama_cpp.llama_decode()"
            )
        self._core: Batch | None = Batch(n_tokens, n_vocab=_ANY_TOKEN, n_seq_max=n_seq_max)
        self.verbose = verbose

    @classmethod
    def view(cls, core: Batch, *, verbose: bool = True) -> LlamaBatch:
        """Return a batch by these names."""
        made = cls.__new__(cls)
        made._core = core  # noqa: SLF001 - its own
        made.verbose = verbose
        return made

    @property
    def batch(self) -> _abi.llama_batch:
        """llama.cpp's ``struct llama_batch``; valid as long as this object is."""
        return self._open().struct

    def n_tokens(self) -> int:
        """Return the number of tokens in it."""
        return len(self._open())

    def reset(self) -> None:
        """Empty it."""
        self._open().clear()

    def close(self) -> None:
        """Let go of its memory; does nothing the second time."""
        self._core = None

    def set_batch(self, batch: Sequence[int], n_past: int, logits_all: bool) -> None:
        """Replace the content by consecutive tokens of sequence 0; the last one answers.

        Args:
            batch: ids.
            n_past: position of the first of them.
            logits_all: whether all of them answer.

        Raises:
            ValidationError: they do not fit, or an id or position is out of range.
        """
        self.reset()
        self._extend(batch, n_past, 0, logits_all=logits_all)

    def add_sequence(self, batch: Sequence[int], seq_id: int, logits_all: bool) -> None:
        """Append the tokens of a sequence, from position 0; the last one answers.

        Args:
            batch: ids.
            seq_id: the sequence.
            logits_all: whether all of them answer.

        Raises:
            ValidationError: they do not fit, or an id is out of range.
        """
        self._extend(batch, 0, seq_id, logits_all=logits_all)

    def checked_for(self, context: Context) -> Batch:
        """Return a copy of the content that ``context`` can take, however it came in here.

        Raises:
            ValidationError: an id, a position, a sequence or the number of tokens is out of range.
        """
        core = self._open()
        struct = core.struct
        count = struct.n_tokens
        if not 0 < count <= core.capacity:
            raise ValidationError(
                f"the batch says {count} tokens; it holds 1 to {core.capacity} of them"
            )
        found = context.batch(count)
        for index in range(count):
            n_seq = struct.n_seq_id[index]
            if not 0 < n_seq <= core.n_seq_max:
                raise ValidationError(
                    f"token {index} of the batch is in {n_seq} sequences; this batch has room for "
                    f"1 to {core.n_seq_max}"
                )
            found.add(
                struct.token[index],
                struct.pos[index],
                struct.seq_id[index][:n_seq],
                output=bool(struct.logits[index]),
            )
        return found

    def _extend(
        self, tokens: Sequence[int], position: int, seq_id: int, *, logits_all: bool
    ) -> None:
        core = self._open()
        room = core.capacity - len(core)
        if not 0 < len(tokens) <= room:
            raise ValidationError(f"{len(tokens)} tokens; the batch has room for {room} more")
        if not 0 <= seq_id < _MOST_SEQUENCES:
            raise ValidationError(
                f"sequence id {seq_id}; ids run from 0 to {_MOST_SEQUENCES - 1} at most"
            )
        last = len(tokens) - 1
        for index, token in enumerate(tokens):
            core.add(
                operator.index(token), position + index, (0,), output=logits_all or index == last
            )
            # n_seq_max of llama_batch_init() says how many sequences a token has, not which
            core.struct.seq_id[len(core) - 1][0] = seq_id

    def _open(self) -> Batch:
        if self._core is None:
            raise LlamaError("the batch is closed; make another one")
        return self._core
