"""Drafts: guesses of the next tokens that a model checks many at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from llama_cpp._arguments import check_integer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Tokens = npt.NDArray[np.intc]

_MOST_NGRAM = 1024
_MOST_PREDICTED = 4096


class LlamaDraftModel(ABC):
    """Something that guesses how a sequence of tokens goes on."""

    @abstractmethod
    def __call__(self, input_ids: Tokens, /, **kwargs: Any) -> Tokens:
        """Return guesses of the next tokens.

        Args:
            input_ids: the tokens so far, int32, one dimension.
            kwargs: for drafts that take more.

        Returns:
            Ids, int32, one dimension; empty where there is no guess.
        """


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Guesses that what followed the last tokens before follows them again.

    No model is needed, and text that repeats its prompt (summaries, code edits, answers from a
    document) is guessed well. Saxena, "Prompt Lookup Decoding", 2023.
    """

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        """Choose how to look.

        Args:
            max_ngram_size: the longest run of last tokens to look for, then shorter ones.
            num_pred_tokens: most tokens of a guess.

        Raises:
            ValidationError: a size is out of range.
        """
        check_integer("max_ngram_size", max_ngram_size, 1, _MOST_NGRAM)
        check_integer("num_pred_tokens", num_pred_tokens, 1, _MOST_PREDICTED)
        self.max_ngram_size = max_ngram_size
        self.num_pred_tokens = num_pred_tokens

    @staticmethod
    def find_candidate_pred_tokens(
        input_ids: Tokens, max_ngram_size: int, num_pred_tokens: int
    ) -> Tokens:
        """Return what followed the first earlier place where the last tokens stand.

        Args:
            input_ids: the tokens so far, int32, one dimension.
            max_ngram_size: the longest run of last tokens to look for, then shorter ones.
            num_pred_tokens: most tokens to return.

        Returns:
            Ids, int32; empty where no run of last tokens stands anywhere before.
        """
        import numpy as np  # noqa: PLC0415 - import of the package is to be quick

        ids = np.asarray(input_ids, dtype=np.intc)
        count = len(ids)
        for size in range(min(max_ngram_size, count - 1), 0, -1):
            # places that something follows: neither the last tokens themselves nor nothing
            starts = np.flatnonzero(ids[: count - size] == ids[count - size])
            for offset in range(1, size):
                starts = starts[ids[starts + offset] == ids[count - size + offset]]
            if len(starts):
                after = int(starts[0]) + size
                return ids[after : after + num_pred_tokens]
        return np.empty(0, dtype=np.intc)

    def __call__(self, input_ids: Tokens, /, **kwargs: Any) -> Tokens:  # noqa: ARG002
        """Return guesses of the next tokens; as :meth:`find_candidate_pred_tokens`."""
        return self.find_candidate_pred_tokens(input_ids, self.max_ngram_size, self.num_pred_tokens)
