"""The generation engine: prompt → tokens → pieces → text → stop, at a flat cost per token.

Three parts that do not know each other's drivers: ``_sequence.CachedSequence`` mirrors what the
context remembers of one sequence, :class:`Answer` turns one request's tokens into text and knows when
it is over, and :class:`Engine` drives one of each over one context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import count
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from llama_cpp import _log
from llama_cpp._errors import GenerationError, LlamaError, ValidationError
from llama_cpp._generation import by_draft, one_by_one
from llama_cpp._scores import ScoreRows
from llama_cpp._sequence import CachedSequence
from llama_cpp._text import PieceTable, TextStream

# tokens in a decode that takes long enough for Ctrl-C to matter inside it
_LONG = 32
# logits of one decode where those of every token are wanted: 64 MB
_MOST_LOGITS = 2**24

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from llama_cpp._context import Context
    from llama_cpp._generation import DraftModel, Tokens, Watch
    from llama_cpp._logprobs import PromptScores
    from llama_cpp._sampler import Sampler
    from llama_cpp.llama_types import FinishReason


_BARRED = "this generation was cancelled"


class Prefills(Protocol):
    """What computes a prepared prompt: an :class:`Engine`, or a pool for one of its sequences."""

    context: Context
    sequence: CachedSequence

    def append(self, tokens: Sequence[int]) -> None:
        """Compute ``tokens`` after those in memory."""
        ...


class PreparedPrompt(list[int], ABC):
    """A prompt that knows how to compute itself; one number per position, media negative.

    Attributes:
        n_tokens: places that it takes in a context's memory.
    """

    n_tokens: int

    @abstractmethod
    def prefill(self, engine: Prefills, *, whole: bool = True) -> int:
        """Compute it as :meth:`Engine.prefill` does; return how many positions were in memory.

        Args:
            engine: what computes.
            whole: with its last token, whose logits are wanted then; without it that is left.
        """


class Answer:
    """One request's way from tokens to text, and when it is over.

    Attributes:
        n_tokens: tokens of the answer, the ending token not counted.
        finish_reason: "stop" (a stop string, or the model ended), "length", or None while it runs.
    """

    __slots__ = ("_limit", "_pieces", "_text", "finish_reason", "n_tokens")

    def __init__(self, pieces: PieceTable, *, stops: Sequence[str], limit: int) -> None:
        """Start an answer.

        Args:
            pieces: the model's pieces, with or without control tokens.
            stops: strings that end it; they are not part of it.
            limit: most tokens.
        """
        self._pieces = pieces
        self._text = TextStream(pieces, stops)
        self._limit = limit
        self.n_tokens = 0
        self.finish_reason: FinishReason | None = None

    def push(self, token: int) -> str:
        """Take the next token; return the text that is now certain."""
        if self._pieces[token].ends:
            return self.finish("stop")
        self.n_tokens += 1
        text = self._text.push(token)
        if self._text.stopped:
            self.finish_reason = "stop"
        elif self.n_tokens >= self._limit:
            text += self.finish("length")
        return text

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it."""
        return self._text.stopped

    def finish(self, reason: FinishReason) -> str:
        """End it; return the text that was held back."""
        self.finish_reason = reason
        return self._text.flush()


class Engine:
    """Generates over one context, one answer at a time.

    A newer generation takes the context over; an older stream then raises instead of going on from
    a cache that is no longer its own.

    Attributes:
        context: what computes.
        sequence: what it remembers.
        rows: the logits of all tokens in memory, where they are kept.
        output: which output of the last decode belongs to the last token in memory.
    """

    def __init__(self, context: Context, *, logits_all: bool = False) -> None:
        """Drive ``context``, whose sequence 0 is empty.

        Args:
            context: the context.
            logits_all: keep the logits of every token.
        """
        self.context = context
        self.sequence = CachedSequence(context)
        self.rows = ScoreRows(context.model.vocabulary.size) if logits_all else None
        self.output = -1
        self._batch = context.batch()
        self._tickets = count(1)
        self._ticket = 0
        self._holder = 0
        self._barred: set[int] = set()

    @property
    def ticket(self) -> int:
        """The ticket of the context's holder: who took it over last."""
        return self._ticket

    def take_over(self) -> int:
        """End every older stream; return the ticket of the new holder of the context.

        Raises:
            GenerationError: this thread is barred.
        """
        with self.context.lock:
            if get_ident() in self._barred:
                raise GenerationError(_BARRED)
            self._ticket = next(self._tickets)
            self._holder = get_ident()
            self.sequence.settle()
            return self._ticket

    def bar(self, thread: int) -> None:
        """End what a thread generates, at its next token or the next part of its prompt.

        Unlike :meth:`take_over` this waits for nothing. :class:`GenerationError` is raised there.

        Args:
            thread: its ``threading.get_ident()``; it cannot begin again until :meth:`admit`.
        """
        self._barred.add(thread)
        if self._holder == thread:
            self._ticket = next(self._tickets)

    def admit(self, thread: int) -> None:
        """Let a thread generate again."""
        self._barred.discard(thread)

    def reset(self) -> None:
        """Forget all tokens, and end every stream."""
        with self.context.lock:
            self.take_over()
            self.sequence.clear()
            self.output = -1

    def prefill(
        self, prompt: Sequence[int], *, scores: PromptScores | None = None, answer: int = 1
    ) -> int:
        """Compute a prompt, reusing what is already in memory; its last token has logits then.

        Args:
            prompt: checked ids, at least one.
            scores: takes the logits of all its tokens; all of them are computed then.
            answer: how many tokens more must have room.

        Returns:
            How many tokens needed no computing.

        Raises:
            ValidationError: the prompt is empty or does not fit the context.
            GenerationError: llama.cpp failed.
        """
        context = self.context
        self._check_generative()
        room = context.n_ctx_seq
        if not prompt:
            raise ValidationError("the prompt has no tokens: give some text, or a begin token")
        if len(prompt) + answer > room:
            reserved = " with at least one for the answer" if answer else ""
            raise ValidationError(
                f"the prompt has {len(prompt)} tokens, the context holds {room}{reserved}: shorten "
                f"the prompt, or load the model with n_ctx={len(prompt) + answer} or more"
            )
        with context.lock:
            context.set_embeddings(wanted=False)
            kept = self.sequence.keep_prefix(prompt if scores is None else ())
            self.append(prompt[kept:], scores=scores)
            return kept

    def append(self, tokens: Sequence[int], *, scores: PromptScores | None = None) -> None:
        """Compute ``tokens`` after those in memory, ``n_batch`` at a time.

        Between the parts Ctrl-C is seen. The last token has logits afterwards.

        Args:
            tokens: checked ids.
            scores: takes the logits of all of them.

        Raises:
            GenerationError: llama.cpp failed.
        """
        context, sequence, batch = self.context, self.sequence, self._batch
        with context.lock:
            sequence.settle()
            self.output = -1
            _log.clear()
            ticket = self._ticket
            every = self.rows is not None or scores is not None
            most = context.n_batch
            if every:
                # llama.cpp keeps the room that the outputs of one decode took
                most = min(most, max(1, _MOST_LOGITS // context.model.vocabulary.size))
            for start in range(0, len(tokens), most):
                self.check_ticket(ticket)
                part = tokens[start : start + most]
                batch.set_run(
                    part,
                    len(sequence.tokens),
                    0,
                    output=start + len(part) == len(tokens),
                    every=every,
                )
                sequence.begin()
                context.decode(batch, interruptible=len(part) >= _LONG)
                self._keep_scores(part)
                if scores is not None:
                    scores.take(context.logits_view(0, rows=len(part)))
                sequence.extend(part)

    def append_one(self, step: list[int]) -> None:
        """Compute one token: :meth:`append` without what a single token does not need."""
        if self.rows is not None:
            self.append(step)
            return
        sequence = self.sequence
        self._batch.set_run(step, len(sequence.tokens), 0, output=True)
        sequence.begin()
        self.context.decode(self._batch)
        sequence.extend(step)

    def append_drafted(self, token: int, drafted: Sequence[int]) -> None:
        """Compute ``token`` and guesses of what follows it, each with logits, in one decode.

        The guesses count as known when :meth:`CachedSequence.confirm` says so.
        """
        sequence = self.sequence
        run = [token, *drafted]
        self._batch.set_run(run, len(sequence.tokens), 0, output=True, every=True)
        sequence.begin()
        self.context.decode(self._batch)
        self._keep_scores(run)
        sequence.extend_drafted(token, drafted)
        self.output = 0

    def _keep_scores(self, tokens: Sequence[int]) -> None:
        if self.rows is not None:
            logits = self.context.logits_view(0, rows=len(tokens))
            self.rows.write(list(self.sequence.tokens), tokens, logits)

    def tokens(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        watch: Watch | None = None,
        draft: DraftModel | None = None,
        scores: PromptScores | None = None,
    ) -> Tokens:
        """Yield the tokens that follow ``prompt`` until the context is full.

        The context is locked only while something is computed, not while the caller holds a token.
        What the caller sends is put after the token that was yielded, before the next is chosen.

        Args:
            prompt: checked ids, at least one.
            sampler: chooses; told the prompt here.
            watch: sees each token with its logits, and may end the generation after it.
            draft: guesses tokens, which are then computed together.
            scores: takes the logits of all the prompt's tokens.

        Raises:
            ValidationError: the draft cannot be used with this model, or returned no ids; or what
                was sent does not fit.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        if draft is not None:
            self._check_draftable()
        with self.context.lock:
            ticket = self.take_over()
            if isinstance(prompt, PreparedPrompt):
                prompt.prefill(self)
            else:
                self.prefill(prompt, scores=scores)
            sampler.accept(prompt)
        if draft is None:
            yield from one_by_one(self, ticket, sampler, watch)
        else:
            yield from by_draft(self, ticket, sampler, watch, draft, prompt)

    def stream(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        answer: Answer,
        *,
        watch: Watch | None = None,
        draft: DraftModel | None = None,
        scores: PromptScores | None = None,
    ) -> Generator[str, None, None]:
        """Yield the answer's text in parts, none of them empty.

        Args:
            prompt: checked ids, at least one.
            sampler: chooses the tokens; closed at the end.
            answer: takes them; its ``finish_reason`` is set when this ends.
            watch: as for :meth:`tokens`.
            draft: as for :meth:`tokens`.
            scores: as for :meth:`tokens`.

        Raises:
            GenerationError: as for :meth:`tokens`.
        """
        with sampler:
            for token in self.tokens(prompt, sampler, watch=watch, draft=draft, scores=scores):
                text = answer.push(token)
                if text:
                    yield text
                if answer.finish_reason is not None:
                    return
            if text := answer.finish("stop" if watch and watch.met else "length"):
                yield text

    def check_ticket(self, ticket: int) -> None:
        """Raise :class:`GenerationError` unless ``ticket`` is the newest."""
        if ticket != self._ticket:
            if get_ident() in self._barred:
                raise GenerationError(_BARRED)
            raise GenerationError(
                "this stream was ended: another generation on the same model object has begun since "
                "and owns its cache; finish one stream before the next, or use one object per stream"
            )

    def _check_generative(self) -> None:
        model = self.context.model
        if not self.context.has_memory:
            raise LlamaError(
                f"{model.path.name} is an embedding model ({model.description}); use embed()"
            )
        if model.has_encoder:
            raise LlamaError(
                f"{model.path.name} is an encoder-decoder model ({model.description}), which this "
                "engine does not generate with"
            )

    def _check_draftable(self) -> None:
        model = self.context.model
        if model.recurrent or model.hybrid:
            raise ValidationError(
                f"{model.path.name} has a recurrent state ({model.description}), which cannot take "
                "back wrong guesses: set draft_model=None"
            )
