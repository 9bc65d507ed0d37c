"""The tokens to choose from: ``struct llama_token_data_array`` over an array of numpy."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi, _library
from llama_cpp._arguments import check_integer
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import numpy.typing as npt

_MOST_TOKENS = 2**24
_DataPointer = ctypes.POINTER(_abi.llama_token_data)


class LlamaTokenDataArray:
    """One ``llama_token_data`` per token, and the header that llama.cpp's samplers work on.

    Attributes:
        n_vocab: how many tokens there are.
        candidates_data: an array of records with the fields ``id`` (int32), ``logit`` and ``p``
            (float32); its first ``candidates.size`` records count.
        candidates: the ``struct llama_token_data_array`` over it.
    """

    def __init__(self, *, n_vocab: int) -> None:
        """Make room for ``n_vocab`` tokens, all of them with logit 0.

        Raises:
            ValidationError: ``n_vocab`` is out of range.
        """
        import numpy as np  # noqa: PLC0415 - import of the package is to be quick

        check_integer("n_vocab", n_vocab, 1, _MOST_TOKENS)
        self.n_vocab = n_vocab
        self.candidates_data: npt.NDArray[Any] = np.zeros(
            n_vocab, dtype=[("id", np.intc), ("logit", np.single), ("p", np.single)]
        )
        self.default_candidates_data_ids = np.arange(n_vocab, dtype=np.intc)
        self.default_candidates_data_p = np.zeros(n_vocab, dtype=np.single)
        self.candidates = _abi.llama_token_data_array()
        self.copy_logits(self.default_candidates_data_p)

    def copy_logits(self, logits: npt.NDArray[np.single]) -> None:
        """Take all tokens again, with these logits.

        Args:
            logits: one per token id, float32.

        Raises:
            ValidationError: there are more or fewer.
        """
        if len(logits) != self.n_vocab:
            raise ValidationError(f"{len(logits)} logits for {self.n_vocab} tokens")
        self.candidates_data["id"][:] = self.default_candidates_data_ids
        self.candidates_data["logit"][:] = logits
        self.candidates_data["p"][:] = self.default_candidates_data_p
        self._point(self.n_vocab, ordered=False)

    @property
    def left(self) -> npt.NDArray[Any]:
        """The records that count.

        Raises:
            ValidationError: the header has been changed to something else.
        """
        self._check()
        return self.candidates_data[: self.candidates.size]

    def replace(self, records: npt.NDArray[Any], *, ordered: bool) -> None:
        """Let ``records`` be what counts.

        Args:
            records: at least one, at most :attr:`n_vocab`.
            ordered: whether they are in the order of their logits, largest first.
        """
        self.candidates_data[: len(records)] = records
        self._point(len(records), ordered=ordered)

    def apply(self, sampler: int) -> None:
        """Let one of llama.cpp's samplers work on it."""
        self._check()
        _library.load().llama_sampler_apply(sampler, ctypes.byref(self.candidates))

    def _point(self, size: int, *, ordered: bool) -> None:
        header = self.candidates
        header.data = ctypes.cast(self.candidates_data.ctypes.data, _DataPointer)
        header.size, header.selected, header.sorted = size, -1, ordered

    def _check(self) -> None:
        header = self.candidates
        here = header.data and ctypes.addressof(header.data.contents)
        if here != self.candidates_data.ctypes.data or not 0 < header.size <= self.n_vocab:
            raise ValidationError(
                f"the candidates' header says {header.size} tokens of {self.n_vocab}, or points "
                "elsewhere; call copy_logits() first"
            )
