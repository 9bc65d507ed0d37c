"""A pool's model: loaded once, with the contexts that share its weights."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from llama_cpp._arguments import check_integer
from llama_cpp._context import Context
from llama_cpp._engine import Engine
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._guest import Guest
from llama_cpp._scheduler import Scheduler
from llama_cpp._session import check_grammar, check_limit, check_stops
from llama_cpp._slot import Request
from llama_cpp.llama import Llama

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llama_cpp._context_params import ContextParams
    from llama_cpp._sampler import SamplingParams
    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama_grammar import LlamaGrammar

# llama.cpp rounds a context's length up to a multiple of this
_CONTEXT_STEP = 256


class SharedModel:
    """What a pool's methods use: the model, its scheduler, and its maker of embeddings.

    Attributes:
        llm: the model's facts, tokens and chat template; its context belongs to the scheduler.
        threads: where calls of ``Llama``'s API wait for their answers.
        size: requests that are answered at the same time.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None,
        size: int,
        *,
        config: LlamaConfig | None,
        warmup: bool,
        contexts: int,
        kv_size: int | None,
        queue_size: int,
        on_full: Literal["wait", "raise"],
        prompt_part: int,
        arguments: dict[str, Any],
    ) -> None:
        """Load it; arguments and errors are those of :class:`llama_cpp.pool.LlamaPool`."""
        check_integer("pool_size", size, 1, 256)
        check_integer("contexts", contexts, 1, size)
        check_integer("queue_size", queue_size, 1, 2**20)
        if kv_size is not None:
            check_integer("kv_size", kv_size, 1, 2**31 - 1)
        if on_full not in {"wait", "raise"}:
            raise ValidationError(f"on_full is {on_full!r}; choose 'wait' or 'raise'")
        self.size = size
        self._lock = threading.Lock()
        self._embedder: Llama | None = None
        self._scheduler: Scheduler | None = None
        # as many as may wait and run, and one more that is told that the queue is full
        self.threads = ThreadPoolExecutor(size + queue_size + 1, "llama_cpp pool call")
        each, more = divmod(size, contexts)
        sequences = [each + (index < more) for index in range(contexts)]
        self.llm = llm = _Shared.__new__(_Shared)
        llm.share, llm.kv_size = sequences[0], kv_size
        paths = () if model_path is None else (model_path,)
        llm.__init__(*paths, **{**arguments, "config": config, "n_seq_max": None})  # type: ignore[misc]
        try:
            first = llm._running().context  # noqa: SLF001 - a part of that class
            if first.has_memory and not first.model.has_encoder:
                every = [first, *(_like(first, llm, count) for count in sequences[1:])]
                if warmup:
                    for context in every:
                        _warm(context)
                self._scheduler = Scheduler(
                    every,
                    n_ctx=llm.room,
                    queue_size=queue_size,
                    prompt_part=prompt_part,
                    on_full=on_full,
                )
        except BaseException:
            llm.close()
            raise

    @property
    def scheduler(self) -> Scheduler:
        """What computes answers.

        Raises:
            LlamaError: it is closed, or the model makes embeddings only.
        """
        core = self.llm._running().context.model  # noqa: SLF001 - raises once it is closed
        if self._scheduler is None:
            raise LlamaError(f"{core.path.name} ({core.description}) does not generate text")
        return self._scheduler

    def request(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None,
        sampling: SamplingParams | None,
        stop: str | Sequence[str] | None,
        grammar: LlamaGrammar | str | None,
    ) -> Request:
        """Return what to answer; arguments and errors are those of ``LlamaPool.generate``."""
        llm = self.llm
        if isinstance(prompt, str):
            ids = llm.tokenize(prompt, special=True)
        else:
            ids = llm._core.vocabulary.check(prompt)  # noqa: SLF001
        return Request(
            prompt=ids,
            sampling=llm._defaults if sampling is None else sampling,  # noqa: SLF001
            stops=check_stops(stop),
            max_tokens=check_limit(max_tokens),
            grammar=check_grammar(grammar),
        )

    def guest(self) -> Guest:
        """Return an object for one call of ``Llama``'s API; errors are those of :attr:`scheduler`."""
        return Guest(self.llm, self.scheduler)

    @property
    def embedder(self) -> Llama:
        """An object over the same weights that makes embeddings, made at its first use.

        Raises:
            LlamaError: it is closed, or llama.cpp cannot make one more context.
        """
        context = self.llm._running().context  # noqa: SLF001 - raises once it is closed
        with self._lock:
            if self._embedder is None:
                params = context.params._replace(
                    n_ctx=self.llm.room, n_seq_max=1, kv_unified=False, embeddings=True
                )
                wanted = Llama._sequences(self.llm, params)  # noqa: SLF001
                self._embedder = _twin(self.llm, wanted)
            return self._embedder

    def close(self) -> None:
        """End all requests and free everything; does nothing the second time."""
        if self._scheduler is not None:
            self._scheduler.close()
        self.llm.close()
        self.threads.shutdown(wait=False)


class _Shared(Llama):
    """The pool's model with its first context, which holds several sequences.

    Attributes:
        share: sequences of the first context.
        kv_size: tokens in the memory of a context; None is enough for all.
        room: most tokens of one sequence.
    """

    share: int
    kv_size: int | None
    room: int

    def _sequences(self, params: ContextParams) -> ContextParams:
        core = self._core
        wanted = params.n_ctx or core.n_ctx_train or _CONTEXT_STEP
        self.room = -(-wanted // _CONTEXT_STEP) * _CONTEXT_STEP
        total = self.room * self.share if self.kv_size is None else self.kv_size
        # where the length of the context chooses between two sets of factors (LongRoPE), it must be
        # that of one sequence
        limit = core.metadata.get(f"{core.architecture}.rope.scaling.original_context_length", "")
        switches = limit.isdecimal() and self.room <= int(limit) < total
        # in a buffer of their own each sequence's attention sees its own tokens only: with prompts of
        # 400 tokens that takes half the time
        unified = self.kv_size is not None and not switches
        return params._replace(
            n_seq_max=self.share,
            kv_unified=unified,
            n_ctx=total if unified else self.room * self.share,
            embeddings=False,
        )


def _like(context: Context, llm: _Shared, sequences: int) -> Context:
    """Return another context for answers, of so many sequences."""
    params = context.params
    if params.n_ctx == llm.room * params.n_seq_max:
        params = params._replace(n_ctx=llm.room * sequences)
    return _twin(llm, params._replace(n_seq_max=sequences))._running().context  # noqa: SLF001


def _twin(llm: Llama, params: ContextParams) -> Llama:
    """Return an object over the same weights and adapters with a context of its own."""
    first = llm._running().context  # noqa: SLF001
    made = Llama.__new__(Llama)
    made.__dict__.update(llm.__dict__)
    context = Context(first.model, params)
    context.set_adapters(first.adapters)
    made._engine = Engine(context)  # noqa: SLF001
    if made._control_vectors:  # noqa: SLF001
        made.set_control_vectors(made._control_vectors)  # noqa: SLF001
    return made


def _warm(context: Context) -> None:
    """Compute a token with every sequence, and forget it."""
    batch = context.batch()
    for number in range(context.n_seq_max):
        batch.add(max(context.model.vocabulary.bos, 0), 0, (number,), output=True)
    context.decode(batch)
    context.clear()
