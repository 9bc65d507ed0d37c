"""Tokens on their way into llama.cpp: ids, positions, sequences, and which of them answer."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_INT32_MAX = 2**31 - 1


class Batch:
    """A reusable batch in Python's memory, so that nothing has to be freed.

    Attributes:
        capacity: the most tokens it holds.
        outputs: indices of the tokens that logits (or embeddings) are asked for, in order.
    """

    __slots__ = (
        "_ids",
        "_marks",
        "_n_seq",
        "_positions",
        "_rows",
        "_seq_ids",
        "_struct",
        "capacity",
        "n_positions",
        "n_seq_max",
        "n_vocab",
        "outputs",
    )

    def __init__(
        self, capacity: int, *, n_vocab: int, n_seq_max: int = 1, n_positions: int | None = None
    ) -> None:
        """Make room.

        Args:
            capacity: the most tokens per call.
            n_vocab: ids run from 0 to one less.
            n_seq_max: sequence ids run from 0 to one less; also the most sequences per token.
            n_positions: positions run from 0 to one less; None where the model sets no end.
        """
        self.capacity = capacity
        self.n_vocab = n_vocab
        self.n_seq_max = n_seq_max
        self.n_positions = _INT32_MAX if n_positions is None else n_positions
        self.outputs: list[int] = []
        self._ids = (ctypes.c_int32 * capacity)()
        self._positions = (ctypes.c_int32 * capacity)()
        self._n_seq = (ctypes.c_int32 * capacity)()
        self._marks = (ctypes.c_int8 * capacity)()
        self._seq_ids = (ctypes.c_int32 * (capacity * n_seq_max))()
        base, step = ctypes.addressof(self._seq_ids), n_seq_max * ctypes.sizeof(ctypes.c_int32)
        self._rows = (ctypes.c_void_p * capacity)(*range(base, base + capacity * step, step))
        self._struct = _abi.llama_batch(
            n_tokens=0,
            token=self._ids,
            embd=None,
            pos=self._positions,
            n_seq_id=self._n_seq,
            seq_id=ctypes.cast(self._rows, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=self._marks,
        )

    def __len__(self) -> int:
        """Return the number of tokens in it."""
        return self._struct.n_tokens

    @property
    def struct(self) -> _abi.llama_batch:
        """llama.cpp's view of it; valid as long as this object is."""
        return self._struct

    def clear(self) -> None:
        """Empty it."""
        self._struct.n_tokens = 0
        self.outputs = []

    def add(self, token: int, position: int, seq_ids: Sequence[int], *, output: bool) -> int:
        """Append one token; return its index.

        Args:
            token: its id.
            position: its place in the sequence, from 0.
            seq_ids: the sequences it belongs to, at least one.
            output: whether logits (or an embedding) are wanted for it.

        Raises:
            ValidationError: the batch is full, or an id or position is out of range.
        """
        index = self._struct.n_tokens
        if index >= self.capacity:
            raise ValidationError(f"the batch is full: it holds {self.capacity} tokens")
        if not 0 <= token < self.n_vocab:
            raise ValidationError(
                f"token id {token}; this model's ids run from 0 to {self.n_vocab - 1}"
            )
        self._check_position(position)
        if not 0 < len(seq_ids) <= self.n_seq_max:
            raise ValidationError(
                f"a token belongs to 1 to {self.n_seq_max} sequences, not {len(seq_ids)}"
            )
        for seq_id in seq_ids:
            self._check_seq_id(seq_id)
        self._ids[index] = token
        self._positions[index] = position
        self._n_seq[index] = len(seq_ids)
        start = index * self.n_seq_max
        self._seq_ids[start : start + len(seq_ids)] = list(seq_ids)
        self._marks[index] = output
        self._struct.n_tokens = index + 1
        if output:
            self.outputs.append(index)
        return index

    def add_run(self, tokens: Sequence[int], position: int, seq_id: int, *, output: bool) -> int:
        """Append consecutive, already checked tokens of one sequence; return the last one's index.

        Args:
            tokens: ids that :meth:`Vocabulary.check` has passed, or that llama.cpp has sampled.
            position: place of the first of them.
            seq_id: their sequence.
            output: whether logits are wanted for the last of them.

        Raises:
            ValidationError: they do not fit, or a position or the sequence is out of range.
        """
        start, count = self._struct.n_tokens, len(tokens)
        stop = start + count
        if not 0 < count <= self.capacity - start:
            raise ValidationError(
                f"{count} tokens; the batch has room for {self.capacity - start} more"
            )
        self._check_seq_id(seq_id)
        self._check_position(position)
        self._check_position(position + count - 1)
        self._ids[start:stop] = list(tokens)
        self._positions[start:stop] = list(range(position, position + count))
        self._n_seq[start:stop] = [1] * count
        width = self.n_seq_max
        self._seq_ids[start * width : stop * width : width] = [seq_id] * count
        ctypes.memset(ctypes.addressof(self._marks) + start, 0, count)
        self._marks[stop - 1] = output
        self._struct.n_tokens = stop
        if output:
            self.outputs.append(stop - 1)
        return stop - 1

    def set_run(
        self,
        tokens: Sequence[int],
        position: int,
        seq_id: int,
        *,
        output: bool,
        every: bool = False,
    ) -> None:
        """Replace the content by consecutive, already checked tokens of one sequence.

        Args:
            tokens: ids that :meth:`Vocabulary.check` has passed, or that llama.cpp has sampled.
            position: place of the first of them.
            seq_id: their sequence.
            output: whether logits are wanted for the last of them.
            every: whether logits are wanted for all of them.
        """
        count = len(tokens)
        if not 0 < count <= self.capacity:
            raise ValidationError(f"{count} tokens; the batch holds 1 to {self.capacity}")
        self._check_seq_id(seq_id)
        self._check_position(position)
        self._check_position(position + count - 1)
        if count == 1:
            self._ids[0] = tokens[0]
            self._positions[0] = position
            self._n_seq[0] = 1
            self._seq_ids[0] = seq_id
        else:
            self._ids[:count] = list(tokens)
            self._positions[:count] = list(range(position, position + count))
            self._n_seq[:count] = [1] * count
            self._seq_ids[: count * self.n_seq_max : self.n_seq_max] = [seq_id] * count
            ctypes.memset(self._marks, every, count)
        self._marks[count - 1] = output or every
        self._struct.n_tokens = count
        if every:
            self.outputs = list(range(count))
        else:
            self.outputs = [count - 1] if output else []

    def _check_position(self, position: int) -> None:
        if not 0 <= position < self.n_positions:
            raise ValidationError(
                f"position {position}; this model's positions run from 0 to {self.n_positions - 1}"
            )

    def _check_seq_id(self, seq_id: int) -> None:
        if not 0 <= seq_id < self.n_seq_max:
            raise ValidationError(
                f"sequence id {seq_id}; this context's ids run from 0 to {self.n_seq_max - 1}"
            )
