"""Log probabilities of tokens: of those that were chosen, of those that were likely, of a prompt's.

They are the model's own: the log-softmax of its logits, before temperature, penalties, grammars and
the application's processors.
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from llama_cpp._text import PieceTable
    from llama_cpp._vocabulary import Vocabulary
    from llama_cpp.llama_types import CompletionLogprobs

_Utf8Decoder = getincrementaldecoder("utf-8")

# the likeliest are looked for in the best rows of the logits, laid out so wide
_WIDTH = 64


class Scored(NamedTuple):
    """A token and how likely it was."""

    token: int
    logprob: float | None
    """Natural logarithm; None where nothing was before it."""
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens at its place, best first."""
    start: int
    """Where it begins in the text, in characters."""


def likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the ids of the ``count`` largest logits, largest first; among equals the smaller id."""
    import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

    whole = len(logits) - len(logits) % _WIDTH
    ids = np.arange(len(logits))
    if 0 < count < whole // _WIDTH:
        # the best `count` are in the `count` rows with the best maxima, or in the rest
        maxima = logits[:whole].reshape(-1, _WIDTH).max(axis=1)
        rows = np.sort(np.argsort(-maxima, kind="stable")[:count])
        ids = np.concatenate([(rows[:, None] * _WIDTH + np.arange(_WIDTH)).ravel(), ids[whole:]])
    return ids[np.argsort(-logits[ids], kind="stable")[:count]]


def normaliser(logits: NDArray[np.float32]) -> float:
    """Return the logarithm of the sum of the exponentials: logit - this = log probability."""
    import numpy as np  # noqa: PLC0415

    best = logits.max()
    return float(best) + math.log(float(np.exp(logits - best).sum(dtype=np.float64)))


def logprobs(
    logits: NDArray[np.float32], token: int, count: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the log probability of ``token``, and the ``count`` likeliest with theirs.

    Tokens that cannot follow at all (a logit of minus infinity) are never among the likeliest.
    """
    total = normaliser(logits)
    top = [(int(i), float(logits[i]) - total) for i in likeliest(logits, count)] if count else []
    own = float(logits[token]) - total
    return own, tuple((i, value) for i, value in top if value != -math.inf)


class Scores:
    """The scored tokens of one text, handed out together with the parts of that text."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        count: int,
        *,
        start: int = 0,
        special: bool = False,
        pieces: PieceTable | None = None,
    ) -> None:
        """Start a text.

        Args:
            vocabulary: of the model.
            count: how many of the likeliest tokens of each place to tell.
            start: where the text begins, in characters.
            special: whether control tokens are spelled out in it.
            pieces: what its tokens add to it, where only some control tokens are spelled out.
        """
        if pieces is None:
            pieces = vocabulary.special_pieces if special else vocabulary.pieces
        self._pieces = pieces
        self._spelling = vocabulary.special_pieces
        self._count = count
        self._decoder = _Utf8Decoder("replace")
        self._end = start
        self._waiting: list[Scored] = []

    def choose(self, token: int, logits: NDArray[np.float32]) -> None:
        """Take a token that was chosen from ``logits``; one that ends the text is not part of it."""
        if not self._pieces[token].ends:
            self.add(token, *logprobs(logits, token, self._count))

    def add(
        self, token: int, logprob: float | None, top: tuple[tuple[int, float], ...] = ()
    ) -> None:
        """Take the next token."""
        self._waiting.append(Scored(token, logprob, top, max(0, self._end)))
        self._end += len(self._decoder.decode(self._pieces[token].data))

    def until(self, end: int | None) -> list[Scored]:
        """Return, once, the tokens that begin before character ``end``; None is all of them."""
        count = len(self._waiting)
        if end is not None:
            count = sum(scored.start < end for scored in self._waiting)
        taken = self._waiting[:count]
        # in place: a pool's computing thread may be adding the next one
        del self._waiting[:count]
        return taken

    def spelled(self, scored: Iterable[Scored]) -> CompletionLogprobs:
        r"""Return scored tokens in the shape of OpenAI's completions.

        A token that is no text by itself is spelled ``bytes:\\xf0``, as OpenAI does.
        """
        result: CompletionLogprobs = {
            "tokens": [],
            "text_offset": [],
            "token_logprobs": [],
            "top_logprobs": [],
        }
        for token, logprob, top, start in scored:
            result["tokens"].append(self._spell(token))
            result["text_offset"].append(start)
            result["token_logprobs"].append(logprob)
            if logprob is None:
                result["top_logprobs"].append(None)
                continue
            likely: dict[str, float] = {}
            # two tokens may be spelled alike: the likelier counts
            for other, value in (*top, (token, logprob)):
                likely.setdefault(self._spell(other), value)
            result["top_logprobs"].append(likely)
        return result

    def _spell(self, token: int) -> str:
        data, text, _ = self._spelling[token]
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data) if text is None else text


class PromptScores(Scores):
    """The scored tokens of a prompt, whose logits come in parts."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        count: int,
        prompt: Sequence[int],
        *,
        skipped: int = 0,
        start: int = 0,
        special: bool = False,
    ) -> None:
        """Score ``prompt`` but for its first ``skipped`` tokens, which are no text.

        ``start`` is -1 where the tokenizer has put a space in front of the text.
        """
        super().__init__(vocabulary, count, start=start, special=special)
        self._prompt = prompt
        self._skipped = skipped
        self._seen = 0
        if not skipped and prompt:
            self.add(prompt[0], None)

    def take(self, logits: NDArray[np.float32]) -> None:
        """Take the logits of the next tokens, a row each: they tell of the tokens that follow."""
        for row in logits:
            self._seen += 1
            if self._skipped <= self._seen < len(self._prompt):
                token = self._prompt[self._seen]
                self.add(token, *logprobs(row, token, self._count))
