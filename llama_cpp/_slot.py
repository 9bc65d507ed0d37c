"""One request's life in a pool, and the place it gets in a context."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._engine import Answer, PreparedPrompt
from llama_cpp._errors import LlamaError
from llama_cpp._sampler import Sampler, SamplingParams
from llama_cpp._sequence import CachedSequence, shared_length

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    from llama_cpp._context import Context
    from llama_cpp._sampler import Grammar

    class Sink(Protocol):
        """Who receives an answer; called by the computing thread, so it must be quick."""

        def part(self, text: str) -> None:
            """Take text that is certain; never empty."""

        def done(self, job: Job, error: BaseException | None) -> None:
            """Learn that nothing more comes; called once."""

    class Watch(Protocol):
        """Sees each token with the logits that it was chosen from."""

        @property
        def met(self) -> bool:
            """Whether the answer is over."""

        def see(self, token: int, logits: NDArray[np.float32]) -> None:
            """Take a token; the logits are valid during this call."""


UNBOUNDED = 2**31 - 1


class Request(NamedTuple):
    """What to answer and how."""

    prompt: Sequence[int]
    """Checked ids, at least one; or a prepared prompt, with media."""
    sampling: SamplingParams = SamplingParams()
    stops: Sequence[str] = ()
    """Strings that end the answer; none is empty."""
    max_tokens: int = UNBOUNDED
    special: bool = False
    """Spell control tokens out."""
    grammar: Grammar | None = None
    """What the answer must look like; checked."""
    sampler: Sampler | None = None
    """Chooses instead of one made from ``sampling`` and ``grammar``; closed at the end."""
    answer: Answer | None = None
    """Takes the tokens instead of one made from ``stops``, ``max_tokens`` and ``special``."""
    watch: Watch | None = None
    """Sees each token with its logits, in the computing thread."""

    @property
    def media(self) -> PreparedPrompt | None:
        """The prompt, if it has to compute itself."""
        return self.prompt if isinstance(self.prompt, PreparedPrompt) else None

    @property
    def n_hidden(self) -> int:
        """Places that the prompt takes in memory beyond one for each position."""
        return 0 if self.media is None else self.media.n_tokens - len(self.media)


class CancelledError(LlamaError):
    """The request was cancelled before its answer was complete."""


class Job:
    """A request on its way from the queue to the last token.

    Its owner reads the attributes after :meth:`Sink.done`; until then they are the computing
    thread's.

    Attributes:
        tokens: the prompt and the answer so far, the ending token not counted.
        answer: text and end of the answer; None until it has begun.
        n_cached: tokens of the prompt that needed no computing.
        held: how many jobs had ended when it was put back; None while it was not.
    """

    __slots__ = (
        "_sampler",
        "_sink",
        "answer",
        "cancelled",
        "held",
        "n_cached",
        "n_prompt",
        "number",
        "over",
        "request",
        "tokens",
    )

    def __init__(self, request: Request, sink: Sink) -> None:
        """Wait to be started."""
        self.request = request
        self.tokens = list(request.prompt)
        self.n_prompt = len(self.tokens)
        self.n_cached = 0
        self.answer: Answer | None = None
        self.number = 0
        self.held: int | None = None
        self.cancelled = threading.Event()
        self.over = False
        self._sampler = request.sampler
        self._sink = sink

    def begin(self, context: Context, room: int) -> None:
        """Make the sampler and the answer; does nothing for a job that was put back.

        Args:
            context: where it will be computed.
            room: most tokens of a sequence.

        Raises:
            ValidationError: the request cannot be sampled for this model.
        """
        if self.answer is not None:
            return
        request = self.request
        if self._sampler is None:
            self._sampler = Sampler(
                context.model, request.sampling, grammar=request.grammar, n_ctx=room
            )
        self._sampler.accept(self.tokens)
        vocabulary = context.model.vocabulary
        pieces = vocabulary.special_pieces if request.special else vocabulary.pieces
        self.answer = request.answer or Answer(
            pieces, stops=request.stops, limit=request.max_tokens
        )

    def take(self, context: Context, index: int, room: int) -> bool:
        """Choose the next token from an output of the last batch; return whether more are wanted.

        Args:
            context: where the logits are.
            index: the output's.
            room: most tokens of a sequence; an answer that fills it ends with "length".

        Raises:
            Exception: whatever the sampler raises; the job is to be ended with it.
        """
        sampler, answer = self._sampler, self.answer
        assert sampler is not None
        assert answer is not None
        token = sampler.sample(context, index)
        watch = self.request.watch
        if watch is not None:
            watch.see(token, context.logits_view(index))
        text = answer.push(token)
        if answer.finish_reason is None and watch is not None and watch.met:
            text += answer.finish("stop")
        if answer.finish_reason is None:
            full = len(self.tokens) + self.request.n_hidden >= room
            self.tokens.append(token)
            if full:
                text += answer.finish("length")
        elif answer.n_tokens > len(self.tokens) - self.n_prompt:
            self.tokens.append(token)
        if text:
            self._sink.part(text)
        return answer.finish_reason is None

    def cut(self) -> None:
        """End the answer here, as if it were long enough."""
        if self.answer is not None and (text := self.answer.finish("length")):
            self._sink.part(text)

    def end(self, error: BaseException | None = None) -> None:
        """Free the sampler and tell the owner; does nothing the second time."""
        if self.over:
            return
        self.over = True
        if self._sampler is not None:
            self._sampler.close()
        self._sink.done(self, error)


class SlotEngine:
    """Computes a prepared prompt for one sequence, in decodes of its own."""

    def __init__(self, context: Context, sequence: CachedSequence) -> None:
        """Compute for ``sequence``; used under the context's lock."""
        self.context = context
        self.sequence = sequence

    def append(self, tokens: Sequence[int]) -> None:
        """Compute ``tokens`` after those in memory; none of them has logits.

        Raises:
            ContextFullError: there is no room.
            GenerationError: llama.cpp failed.
        """
        context, sequence = self.context, self.sequence
        batch = context.batch()
        for start in range(0, len(tokens), context.n_batch):
            part = tokens[start : start + context.n_batch]
            batch.set_run(part, len(sequence.tokens), sequence.seq_id, output=False)
            sequence.begin()
            context.decode(batch)
            sequence.extend(part)


class Slot:
    """One sequence of a context: what it remembers, and the job that has it.

    Attributes:
        sequence: the mirror of what is in memory.
        job: who has it; None while it is free.
        started: whether the job's shared beginning has been settled.
        used: when it was last used, in steps; for choosing what to forget.
    """

    __slots__ = ("_divisible", "job", "sequence", "started", "used")

    def __init__(self, context: Context, seq_id: int) -> None:
        """Stand for an empty sequence."""
        # a recurrent state knows all its tokens or none
        self._divisible = not (context.model.recurrent or context.model.hybrid)
        self.sequence = CachedSequence(context, seq_id)
        self.job: Job | None = None
        self.started = False
        self.used = 0

    @property
    def missing(self) -> Sequence[int]:
        """The job's tokens that are not in memory yet; the last one's logits are wanted."""
        assert self.job is not None
        return self.job.tokens[len(self.sequence.tokens) :]

    def shared(self, prompt: Sequence[int]) -> int:
        """Return how many tokens in memory begin ``prompt`` and can be taken over."""
        cached = self.sequence.tokens
        shared = shared_length(cached, prompt)
        return shared if self._divisible or shared == len(cached) else 0

    def promised(self, prompt: Sequence[int]) -> int:
        """Return how many could be, once the job's known tokens are in memory."""
        if self.job is None or not self._divisible:
            return 0
        return shared_length(self.job.tokens, prompt)
