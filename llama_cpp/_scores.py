"""The logits of every token in memory, for whoever asked for them with ``logits_all``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_FIRST_CAPACITY = 64


class ScoreRows:
    """One row of logits per token, each with the tokens that it was computed from.

    Attributes:
        start: rows before this one are unknown: their tokens came from a saved state, or as media.
    """

    def __init__(self, n_vocab: int) -> None:
        """Start with no row of ``n_vocab`` logits."""
        import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

        self._rows = np.empty((_FIRST_CAPACITY, n_vocab), dtype=np.float32)
        self._tokens: list[int] = []
        self.start = 0

    def write(
        self, before: Sequence[int], tokens: Sequence[int], logits: NDArray[np.float32]
    ) -> None:
        """Take the rows of ``tokens``, which were computed after those in ``before``."""
        import numpy as np  # noqa: PLC0415

        position, stop = len(before), len(before) + len(tokens)
        if position < self.start or self._tokens[:position] != before:
            self.start = position
        self._tokens[:] = [*before, *tokens]
        if stop > len(self._rows):
            # a new array: who kept a view of the old one keeps what was in it
            grown = np.empty((2 * stop, self._rows.shape[1]), dtype=np.float32)
            grown[:position] = self._rows[:position]
            self._rows = grown
        self._rows[position:stop] = logits

    def known(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Return the rows of ``tokens`` from :attr:`start` on; none where they are of other tokens."""
        if self._tokens[: len(tokens)] != tokens:
            return self._rows[:0]
        return self._rows[self.start : len(tokens)]
