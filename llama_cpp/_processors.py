"""Logits processors and stopping criteria: callables of the application between logits and text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from llama_cpp._errors import GenerationError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Union

    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.intc]
    Scores = NDArray[np.single]

LogitsProcessor = Callable[["Ids", "Scores"], "Scores"]
"""Changes the scores, shape (vocabulary,), that the token after the ids is chosen by."""
StoppingCriteria = Callable[["Ids", "Scores"], bool]
"""Says whether an answer is over."""

if TYPE_CHECKING:
    Processors = Union[LogitsProcessor, Sequence[LogitsProcessor]]
    Criteria = Union[StoppingCriteria, Sequence[StoppingCriteria]]

_Member = TypeVar("_Member")

_FIRST_CAPACITY = 256


class LogitsProcessorList(list["LogitsProcessor"]):
    """Processors that run one after the other, each on the scores of the one before."""

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Run all of them.

        Args:
            input_ids: the tokens so far, prompt included, as 32-bit integers.
            scores: the logits of the next token, one 32-bit float per token id.

        Returns:
            The scores to choose from, shaped alike.
        """
        for processor in self:
            scores = processor(input_ids, scores)
        return scores


class StoppingCriteriaList(list["StoppingCriteria"]):
    """Criteria of which one is enough to end an answer."""

    def __call__(self, input_ids: Ids, logits: Scores) -> bool:
        """Return whether one of them says that the answer is over.

        Args:
            input_ids: the tokens so far, prompt and the newest token included.
            logits: those that the newest token was chosen from.
        """
        return any(criterion(input_ids, logits) for criterion in self)


class MinTokensLogitsProcessor:
    """Forbids the end-of-sequence token until an answer has so many tokens."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        """Count from the first call on.

        Args:
            min_tokens: the fewest tokens before the answer may end.
            token_eos: the token that ends it.
        """
        self.min_tokens = min_tokens
        self.token_eos = token_eos
        self.prompt_tokens: int | None = None

    def __call__(self, input_ids: Ids, scores: Scores) -> Scores:
        """Return the scores, in which the ending token is forbidden while it is too early.

        Args:
            input_ids: the tokens so far; those of the first call are the prompt.
            scores: the logits of the next token; changed in place.
        """
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) - self.prompt_tokens < self.min_tokens:
            scores[self.token_eos] = -math.inf
        return scores


class TokenBuffer:
    """A growing array of tokens, so that a callable gets all of them without a copy per token."""

    __slots__ = ("_array", "_count")

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        """Start with ``tokens``."""
        import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

        self._count = len(tokens)
        self._array = np.empty(max(_FIRST_CAPACITY, 2 * self._count), dtype=np.intc)
        self._array[: self._count] = tokens

    def extend(self, tokens: Sequence[int]) -> None:
        """Append ``tokens``."""
        import numpy as np  # noqa: PLC0415

        start, stop = self._count, self._count + len(tokens)
        if stop > len(self._array):
            # a new array: who kept a view of the old one keeps what was in it
            grown = np.empty(2 * stop, dtype=np.intc)
            grown[:start] = self._array[:start]
            self._array = grown
        self._array[start:stop] = tokens
        self._count = stop

    def view(self) -> Ids:
        """Return the tokens so far, read-only."""
        view = self._array[: self._count]
        view.flags.writeable = False
        return view


def processors_of(given: Processors | None) -> tuple[LogitsProcessor, ...]:
    """Return the processors of a list of them, or of a single one."""
    return _callables("logits_processor", given)


def criteria_of(given: Criteria | None) -> tuple[StoppingCriteria, ...]:
    """Return the criteria of a list of them, or of a single one."""
    return _callables("stopping_criteria", given)


def _callables(name: str, given: _Member | Sequence[_Member] | None) -> tuple[_Member, ...]:
    if given is None:
        return ()
    members: tuple[_Member, ...]
    # a LogitsProcessorList is both: its members then have their own line in an error
    members = tuple(given) if isinstance(given, (list, tuple)) else (given,)  # type: ignore[assignment]
    for member in members:
        if not callable(member):
            raise ValidationError(f"{name} has {member!r}, which cannot be called")
    return members


def process(processors: Sequence[LogitsProcessor], ids: Ids, scores: Scores) -> Scores:
    """Run processors over a row of logits that is theirs to change.

    Args:
        processors: what to run, in order.
        ids: the tokens so far.
        scores: the logits; may be changed in place.

    Returns:
        The logits to choose from.

    Raises:
        ValidationError: a processor returned something else than one number per token.
        Exception: whatever a processor raises.
    """
    size = len(scores)
    for processor in processors:
        returned = processor(ids, scores)
        if returned is scores:
            continue
        scores = _scores(processor, returned, size)
    return scores


def best_of(scores: Scores) -> int:
    """Return the token with the largest score, the first of several, of what :func:`process` returned.

    Raises:
        GenerationError: nothing can be chosen: a score is infinite or no number, or all are -inf.
    """
    # of an array with a NaN anywhere this is the first NaN
    token = int(scores.argmax())
    best = float(scores[token])
    if not math.isfinite(best):
        what = {math.inf: "infinite scores", -math.inf: "only refused tokens (-inf)"}
        raise GenerationError(
            f"the logits processors left {what.get(best, 'scores that are no numbers (NaN)')}: "
            "nothing can be chosen; give a finite score to each token that may follow"
        )
    return token


def _scores(processor: LogitsProcessor, returned: object, size: int) -> Scores:
    import numpy as np  # noqa: PLC0415

    try:
        scores: Scores | None = np.asarray(returned, dtype=np.float32)
    except (TypeError, ValueError):
        scores = None
    if returned is None or scores is None:
        raise ValidationError(
            f"the logits processor {processor!r} returned {type(returned).__name__}; "
            f"it must return the scores, an array of {size} numbers"
        )
    if scores.shape != (size,):
        raise ValidationError(
            f"the logits processor {processor!r} returned scores of the shape {scores.shape}; "
            f"there is one for each of the {size} tokens"
        )
    return scores
