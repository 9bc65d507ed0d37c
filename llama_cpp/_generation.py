"""How an engine goes from one token to the next: one at a time, or by checking a draft."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_cpp._errors import ValidationError
from llama_cpp._processors import TokenBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from llama_cpp._engine import Engine
    from llama_cpp._logprobs import Scores
    from llama_cpp._processors import StoppingCriteria
    from llama_cpp._sampler import Sampler

    Tokens = Generator[int, "Sequence[int] | None", None]
    DraftModel = Callable[..., "NDArray[np.intc] | Sequence[int]"]


class Watch:
    """Sees each token of a generation with the logits that it was chosen from.

    Attributes:
        met: whether a stopping criterion of the application said that the answer is over.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        criteria: Sequence[StoppingCriteria] = (),
        scores: Scores | None = None,
    ) -> None:
        """Start after ``prompt``; what is chosen goes to ``scores``."""
        self._criteria = criteria
        self._scores = scores
        self._tokens = TokenBuffer(prompt) if criteria else None
        self.met = False

    def add(self, tokens: Sequence[int]) -> None:
        """Note tokens that were not chosen."""
        if self._tokens is not None:
            self._tokens.extend(tokens)

    def see(self, token: int, logits: NDArray[np.float32]) -> None:
        """Take a token with its logits, which are valid during this call."""
        if self._scores is not None:
            self._scores.choose(token, logits)
        if self._tokens is not None:
            self._tokens.extend((token,))
            # a copy: the callable may keep it
            row = logits.copy()
            self.met = any(criterion(self._tokens.view(), row) for criterion in self._criteria)


def one_by_one(engine: Engine, ticket: int, sampler: Sampler, watch: Watch | None) -> Tokens:
    """Yield tokens, each computed by a decode of its own; see :meth:`Engine.tokens`."""
    context, sequence = engine.context, engine.sequence
    lock, room = context.lock, context.n_ctx_seq
    step = [0]
    while True:
        with lock:
            engine.check_ticket(ticket)
            token = sampler.sample(context, -1)
            if watch is not None:
                watch.see(token, context.logits_view(-1))
        sent = yield token
        if watch is not None and watch.met:
            return
        step[0] = token
        with lock:
            engine.check_ticket(ticket)
            if sequence.n_cells >= room:
                return
            if sent is None:
                engine.append_one(step)
            else:
                _append_sent(engine, sampler, watch, token, sent)


def by_draft(
    engine: Engine,
    ticket: int,
    sampler: Sampler,
    watch: Watch | None,
    draft: DraftModel,
    prompt: Sequence[int],
) -> Tokens:
    """Yield the same tokens, several computed by one decode where a draft guessed them.

    A guess that turns out wrong is removed from memory again; each token is chosen by the sampler
    from its own logits, so that the answer does not depend on the guesses.
    """
    context, sequence = engine.context, engine.sequence
    lock, room = context.lock, context.n_ctx_seq
    # between the parts of a decode a sliding window drops what is needed after wrong guesses
    at_once = context.n_ubatch if context.model.n_swa else context.n_batch
    history = TokenBuffer(prompt)
    while True:
        with lock:
            engine.check_ticket(ticket)
            index = engine.output
            token = sampler.sample(context, index)
            if watch is not None:
                watch.see(token, context.logits_view(index))
        sent = yield token
        if watch is not None and watch.met:
            return
        history.extend((token,))
        with lock:
            engine.check_ticket(ticket)
            if sent is None and sequence.confirm(token):
                engine.output = index + 1
                continue
            sequence.settle()
            if sequence.n_cells >= room:
                return
            if sent is not None:
                history.extend(_append_sent(engine, sampler, watch, token, sent))
                continue
            most = min(at_once, room - sequence.n_cells) - 1
            guesses = _guesses(engine, draft, history)[:most]
            # the draft is the application's code, and may have used the object
            engine.check_ticket(ticket)
            engine.append_drafted(token, guesses)


def _guesses(engine: Engine, draft: DraftModel, history: TokenBuffer) -> list[int]:
    found = draft(history.view())
    try:
        tokens = iter(found)
    except TypeError:
        raise ValidationError(
            f"the draft model {draft!r} returned {type(found).__name__}; it must return token ids, "
            "none of them where it has no guess"
        ) from None
    return engine.context.model.vocabulary.check(tokens)


def _append_sent(
    engine: Engine,
    sampler: Sampler,
    watch: Watch | None,
    token: int,
    sent: Sequence[int],
) -> list[int]:
    more = engine.context.model.vocabulary.check(sent)
    room = engine.context.n_ctx_seq - engine.sequence.n_cells
    if len(more) + 1 > room:
        raise ValidationError(
            f"{len(more)} tokens were sent, and the context has room for {room - 1} more"
        )
    engine.append([token, *more])
    sampler.accept(more)
    if watch is not None:
        watch.add(more)
    return more
