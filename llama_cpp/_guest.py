"""A :class:`llama_cpp.Llama` whose answers a pool computes, so that its API serves pools, too."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn, cast

from llama_cpp import _replies
from llama_cpp._engine import PreparedPrompt
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._slot import CancelledError, Request
from llama_cpp.llama import Llama

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from typing_extensions import Self

    from llama_cpp._engine import Answer, Engine
    from llama_cpp._sampler import Sampler
    from llama_cpp._scheduler import Scheduler
    from llama_cpp._slot import Job, Watch


class Guest:
    """One call of :class:`llama_cpp.Llama`'s API on a pool; used by one thread at a time.

    Attributes:
        llm: has the facts of the pool's model; completions and chats of it are computed there.
        cancelled: whether :meth:`cancel` was called.
    """

    def __init__(self, llm: Llama, scheduler: Scheduler) -> None:
        """Compute with ``scheduler`` what is asked of an object like ``llm``."""
        self.cancelled = False
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._job: Job | None = None
        self.llm = Llama.__new__(Llama)
        self.llm.__dict__.update(llm.__dict__)
        # both would need the context for themselves
        self.llm.__dict__.update(cache=None, draft_model=None)
        self.llm.__dict__["_engine"] = cast("Engine", _GuestEngine(llm, self))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Need not be told."""

    def cancel(self) -> None:
        """End the answer that is computed, and those that would begin."""
        with self._lock:
            self.cancelled = True
            job = self._job
        if job is not None:
            self._scheduler.cancel(job)

    def stream(self, request: Request) -> Iterator[str]:
        """Yield an answer's text in parts."""
        parts = _replies.stream(self._scheduler, request, TEXT)
        with self._lock:
            self._job = parts.job
            cancelled = self.cancelled
        try:
            if cancelled:
                raise CancelledError("the request was cancelled")
            yield from parts
        finally:
            parts.close()


class _GuestEngine:
    """What a completion needs of an :class:`Engine`."""

    def __init__(self, llm: Llama, guest: Guest) -> None:
        self.context = _GuestContext(llm, guest._scheduler.room)  # noqa: SLF001 - the same module
        self._guest = guest

    def stream(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        answer: Answer,
        *,
        watch: Watch | None = None,
        draft: object = None,  # noqa: ARG002 - a guess costs others their turn
        scores: object = None,
    ) -> Iterator[str]:
        """Yield the answer's text in parts; see :meth:`Engine.stream`."""
        with sampler:
            if scores is not None:
                raise ValidationError(
                    "a pool has no log probabilities of prompts: leave out echo or logprobs, or use "
                    "a Llama of its own"
                )
            yield from self._guest.stream(
                Request(
                    prompt=prompt if isinstance(prompt, PreparedPrompt) else list(prompt),
                    sampling=sampler.params,
                    sampler=sampler,
                    answer=answer,
                    watch=watch,
                )
            )

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what would need the context for itself."""
        raise LlamaError(
            f"a pool computes for many requests at once and has no {name} of one: this needs a "
            "Llama of its own"
        )


class _GuestContext:
    """The facts of the context, as if it were for one sequence, and a lock that is nobody else's."""

    def __init__(self, llm: Llama, room: int) -> None:
        context = llm._running().context  # noqa: SLF001 - a part of that class
        self.lock = threading.RLock()
        self.model = context.model
        self.params = context.params
        self.n_ctx = self.n_ctx_seq = room
        self.n_batch = context.n_batch
        self.n_ubatch = context.n_ubatch
        self.pooling_type = context.pooling_type
        self.causal = context.causal
        self.has_memory = context.has_memory
        self.adapters = context.adapters
        self.native = context.native


class _Text:
    """An answer as it is."""

    def begin(self) -> Iterable[str]:
        return ()

    def part(self, text: str) -> str:
        return text

    def end(self, _job: Job) -> Iterable[str]:
        return ()

    def whole(self, text: str, _job: Job) -> str:
        return text


TEXT = _Text()
