"""The tokens to choose from, in an array of ours that llama.cpp's samplers work on.

Used where Python has a say between the logits and the choice (logits processors, grammars); the
plain case never leaves ``llama_sampler_sample``.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

from llama_cpp import _abi

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from numpy.typing import NDArray

    from llama_cpp._abi import Functions

_DataPointer = ctypes.POINTER(_abi.llama_token_data)

# maxima to look among are so many times more than the tokens that are looked for, at least so many
_MAXIMA_PER_TOKEN = 4
_FEWEST_MAXIMA = 1024


def likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp] | None:
    """Return the ids of the ``count`` tokens with the largest logits, and few more, in order of ids.

    Exact, ties at the end included, at a twentieth of what partitioning all of them takes: at least
    ``count`` tokens reach the ``count``-th largest of the maxima of disjoint groups. What llama.cpp
    sorts among them may bring tokens of exactly the same logit into another order than among all.

    Returns:
        None where that would leave out too little, or too many tokens are refused (-inf) or NaN.
    """
    import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

    width = max(_FEWEST_MAXIMA, _MAXIMA_PER_TOKEN * count)
    rows = len(logits) // width
    if rows <= 1:
        return None
    # a group is a column: whole rows are compared at once
    maxima = np.maximum.reduce(logits[: rows * width].reshape(rows, width))
    lowest = np.partition(maxima, -count)[-count]
    if not lowest > -math.inf:
        # a NaN, too, which comes last in order
        return None
    ids: NDArray[np.intp] = (logits >= lowest).nonzero()[0]
    return ids


class Candidates:
    """One ``llama_token_data`` per token id, and the array header that points to them."""

    def __init__(self, lib: Functions, size: int) -> None:
        """Make room for ``size`` tokens."""
        import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

        self._apply = lib.llama_sampler_apply
        self._rows = np.zeros(size, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        self._data = ctypes.cast(self._rows.ctypes.data, _DataPointer)
        self._id, self._logit = self._rows["id"], self._rows["logit"]
        self._ids = np.arange(size, dtype=np.int32)
        self._array = _abi.llama_token_data_array()
        self._reference = ctypes.byref(self._array)
        self._one = _abi.llama_token_data()
        self._alone = _abi.llama_token_data_array()
        self._alone_reference = ctypes.byref(self._alone)

    def fill(self, logits: NDArray[np.float32]) -> None:
        """Take all tokens, with these logits."""
        self._id[:] = self._ids
        self._logit[:] = logits
        self._set_size(len(self._rows))

    def fill_with(self, ids: NDArray[np.intp], logits: NDArray[np.float32]) -> None:
        """Take some tokens only, with their places in ``logits``."""
        self._id[: len(ids)] = ids
        self._logit[: len(ids)] = logits[ids]
        self._set_size(len(ids))

    def apply(self, sampler: int) -> None:
        """Let a sampler work on them."""
        self._apply(sampler, self._reference)

    @property
    def selected(self) -> int | None:
        """The token that the last sampler chose; None where nothing can be chosen."""
        array = self._array
        if not 0 <= array.selected < array.size:
            return None
        chosen = array.data[array.selected]
        return None if chosen.logit == -math.inf else chosen.id

    def allows(self, sampler: int, token: int) -> bool:
        """Return whether a sampler that only refuses, such as a grammar, lets ``token`` pass."""
        self._one.id, self._one.logit, self._one.p = token, 1.0, 0.0
        alone = self._alone
        alone.data = ctypes.pointer(self._one)
        alone.size, alone.selected, alone.sorted = 1, -1, False
        self._apply(sampler, self._alone_reference)
        return self._one.logit != -math.inf

    def drop(self, tokens: Collection[int]) -> None:
        """Refuse ``tokens``; to be called right after :meth:`fill`."""
        if tokens:
            self._logit[list(tokens)] = -math.inf

    def compact(self) -> int:
        """Remove what is refused; return how many are left.

        llama.cpp's own filters would count the refused ones as candidates of probability 0.
        """
        size = self._array.size
        kept = self._rows[:size][self._logit[:size] != -math.inf]
        count = len(kept)
        self._rows[:count] = kept
        self._set_size(count)
        return count

    def _set_size(self, size: int) -> None:
        array = self._array
        array.data = self._data
        array.size, array.selected, array.sorted = size, -1, False
