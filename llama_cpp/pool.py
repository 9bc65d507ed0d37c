"""Many requests at once on one model: its weights are in memory once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from llama_cpp import _replies
from llama_cpp._async import create_embedding_async
from llama_cpp._guest import TEXT
from llama_cpp._loop_stream import call, stream
from llama_cpp._request_queue import QueueFullError, Stats
from llama_cpp._session import DEFAULT_MAX_TOKENS
from llama_cpp._shared_model import SharedModel
from llama_cpp._sync_pool import SyncPool, check_whole

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from llama_cpp._sampler import SamplingParams
    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["LlamaPool", "QueueFullError", "Stats", "SyncPool"]

R = TypeVar("R")


class LlamaPool:
    """One model that answers ``pool_size`` requests at the same time.

    The weights are loaded once. Each request gets a sequence of a shared context (memory: weights
    and ``pool_size`` KV caches), and every step computes the next token of all of them together.
    Requests beyond that wait, first come, first served. A beginning that requests have in common,
    such as a system prompt, is computed once.

    The methods are coroutines for an event loop; :attr:`sync` has the same ones for plain threads.
    Leave with :meth:`close`, ``async with`` or ``with``.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        pool_size: int = 4,
        *,
        config: LlamaConfig | None = None,
        warmup: bool = False,
        contexts: int = 1,
        kv_size: int | None = None,
        queue_size: int = 64,
        on_full: Literal["wait", "raise"] = "wait",
        prompt_part: int = 128,
        **arguments: Any,
    ) -> None:
        """Load a model and get ready.

        Args:
            model_path: a GGUF file; for a split model its first part.
            pool_size: requests that are answered at the same time.
            config: how to load it; its ``n_ctx`` is the length of each request.
            warmup: compute a token with every sequence first, so that no request meets the cost of a
                first computation.
            contexts: how many contexts share the sequences; each computes in a thread of its own. One
                is the fastest unless a machine has far more cores than one context can use.
            kv_size: tokens in the memory of each context for all its sequences together, which then
                share it: one may use what others leave, and a common beginning is held once; a
                request that finds it full is put back and goes on later. None gives each sequence room
                of its own, which computes faster.
            queue_size: most requests that wait.
            on_full: what happens to more: "wait" makes who submits them wait, "raise" raises
                :class:`QueueFullError`.
            prompt_part: most tokens of prompts that are computed together with running answers.
            **arguments: as for :class:`llama_cpp.Llama`; they win over ``config``.

        Raises:
            ModelLoadError: a file is missing, damaged, too new, or refused by llama.cpp.
            ValidationError: an argument is out of range.
            LlamaError: the libraries are missing, or llama.cpp cannot make a context.
        """
        self._shared = SharedModel(
            model_path,
            pool_size,
            config=config,
            warmup=warmup,
            contexts=contexts,
            kv_size=kv_size,
            queue_size=queue_size,
            on_full=on_full,
            prompt_part=prompt_part,
            arguments=arguments,
        )

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End all requests with a :class:`LlamaError` and free the model.

        Waits for the step that is being computed; does nothing the second time.
        """
        self._shared.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._shared.llm.closed

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it, without blocking the event loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def __repr__(self) -> str:
        """Return the path, the size and the state."""
        shared = self._shared
        closed = " closed" if self.closed else ""
        return f"<LlamaPool {shared.llm.model_path!r} of {shared.size}{closed}>"

    @property
    def sync(self) -> SyncPool:
        """The same methods for plain threads: each waits for its answer."""
        return SyncPool(self._shared)

    @property
    def n_ctx(self) -> int:
        """Most tokens of one request, prompt and answer together."""
        return self._shared.scheduler.room

    def stats(self) -> Stats:
        """Return what was done so far, and is being done.

        Raises:
            LlamaError: the model makes embeddings only.
        """
        return self._shared.scheduler.stats()

    # -- text ----------------------------------------------------------------------------------

    @overload
    async def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        stream: Literal[False] = ...,
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> str: ...

    @overload
    async def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        *,
        stream: Literal[True],
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> AsyncIterator[str]: ...

    async def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = DEFAULT_MAX_TOKENS,
        sampling: SamplingParams | None = None,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        grammar: LlamaGrammar | str | None = None,
    ) -> str | AsyncIterator[str]:
        """Return the text that follows a prompt.

        Cancelling the task, or leaving the loop over a stream, ends the computation.

        Args:
            prompt: text, or token ids taken as they are.
            max_tokens: most tokens of the answer; None fills the sequence.
            sampling: how tokens are chosen; None is the model object's default.
            stream: return an async iterator over the parts of the text as they are made.
            stop: strings that end the answer; they are not part of it.
            grammar: a :class:`llama_cpp.LlamaGrammar` or its text, which the whole answer matches.

        Returns:
            The answer without the prompt, or an async iterator of its parts.

        Raises:
            ValidationError: an argument is out of range, or the prompt does not fit.
            QueueFullError: the queue is full, and the pool was made with ``on_full="raise"``.
            GenerationError: llama.cpp failed.
            LlamaError: the pool is closed, or was closed meanwhile.
        """
        scheduler = self._shared.scheduler
        request = self._shared.request(prompt, max_tokens, sampling, stop, grammar)
        if stream:
            return await _replies.stream_async(scheduler, request, TEXT)
        return await _replies.wait_async(scheduler, request, TEXT)

    async def generate_batch(
        self,
        prompts: Iterable[str | Sequence[int]],
        max_tokens: int | None = DEFAULT_MAX_TOKENS,
        sampling: SamplingParams | None = None,
        stop: str | Sequence[str] | None = None,
        grammar: LlamaGrammar | str | None = None,
    ) -> list[str]:
        """Return the texts that follow several prompts, in their order.

        If one fails the others are cancelled. Arguments and errors are those of :meth:`generate`.

        Args:
            prompts: texts or token ids.
            max_tokens: most tokens of each answer.
            sampling: how tokens are chosen; a seed in it is that of each answer.
            stop: strings that end an answer.
            grammar: what each answer matches.
        """
        return await _together(
            [self.generate(p, max_tokens, sampling, stop=stop, grammar=grammar) for p in prompts]
        )

    async def create_completion(self, prompt: str | Sequence[int], **arguments: Any) -> Any:
        """Complete a prompt in OpenAI's shapes.

        Cancelling the task, or leaving the loop over a stream, ends the computation.

        Args:
            prompt: text, or token ids taken as they are.
            **arguments: as for :meth:`Llama.create_completion`. ``logits_processor`` and
                ``stopping_criteria`` run in the computing thread: while they do, the pool's other
                answers wait.

        Returns:
            What that method returns; with ``stream=True`` an async iterator of the same chunks.

        Raises:
            ValidationError: an argument is out of range, or the prompt does not fit.
            QueueFullError: the queue is full, and the pool was made with ``on_full="raise"``.
            GenerationError: llama.cpp failed.
            LlamaError: the pool is closed, or was closed meanwhile.
        """
        return await self._call("create_completion", prompt, arguments)

    async def create_completion_batch(
        self, prompts: Iterable[str | Sequence[int]], **arguments: Any
    ) -> list[Any]:
        """Complete several prompts; if one fails the others are cancelled.

        Args:
            prompts: texts or token ids.
            **arguments: as for :meth:`create_completion`, without ``stream``.

        Returns:
            The completions, in the order of the prompts.
        """
        check_whole(arguments)
        return await _together([self.create_completion(each, **arguments) for each in prompts])

    async def create_chat_completion(self, messages: Sequence[Any], **arguments: Any) -> Any:
        """Answer a chat in OpenAI's shapes.

        Cancelling the task, or leaving the loop over a stream, ends the computation.

        Args:
            messages: ``{"role": …, "content": …}`` each; images and audio need a chat handler.
            **arguments: as for :meth:`Llama.create_chat_completion`.

        Returns:
            What that method returns; with ``stream=True`` an async iterator of the same chunks.

        Raises:
            ValidationError: an argument is out of range, or the prompt does not fit.
            QueueFullError: the queue is full, and the pool was made with ``on_full="raise"``.
            GenerationError: llama.cpp failed.
            LlamaError: the pool is closed, or was closed meanwhile; or the model's chat handler needs
                the context for itself.
        """
        return await self._call("create_chat_completion", messages, arguments)

    async def create_chat_completion_batch(
        self, conversations: Iterable[Sequence[Any]], **arguments: Any
    ) -> list[Any]:
        """Answer several chats; if one fails the others are cancelled.

        Args:
            conversations: the messages of each.
            **arguments: as for :meth:`create_chat_completion`, without ``stream``.

        Returns:
            The chat completions, in the order of the conversations.
        """
        check_whole(arguments)
        return await _together(
            [self.create_chat_completion(each, **arguments) for each in conversations]
        )

    # -- vectors -------------------------------------------------------------------------------

    async def create_embedding(self, input: Any, **arguments: Any) -> Any:  # noqa: A002
        """Return embeddings in OpenAI's shape.

        They are computed beside the answers, in a context of their own over the same weights, which
        the first call makes. Calls run one after another.

        Args:
            input: a text, or token ids; or a list of such.
            **arguments: as for :meth:`Llama.create_embedding`.

        Raises:
            ValidationError: a text has no tokens.
            GenerationError: llama.cpp failed.
            LlamaError: the pool is closed, or llama.cpp cannot make one more context.
        """
        return await create_embedding_async(self._shared.embedder, input, **arguments)

    # -- inside --------------------------------------------------------------------------------

    async def _call(self, method: str, subject: object, arguments: dict[str, Any]) -> Any:
        guest, threads = self._shared.guest(), self._shared.threads
        function = getattr(guest.llm, method)
        if arguments.get("stream"):
            return await stream(threads, guest, lambda: function(subject, **arguments))
        return await call(threads, guest, lambda: function(subject, **arguments))


async def _together(calls: Sequence[Coroutine[Any, Any, R]]) -> list[R]:
    """Return what several calls return; when one fails the others are cancelled."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
