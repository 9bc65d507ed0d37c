"""Awaiting one :class:`llama_cpp.Llama`: its work runs in a thread of its own, one call after another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

from llama_cpp._loop_stream import call
from llama_cpp._loop_stream import stream as stream_in_thread
from llama_cpp._session import DEFAULT_MAX_TOKENS, generate_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from typing_extensions import Self

    from llama_cpp._sampler import SamplingParams
    from llama_cpp.llama import Llama
    from llama_cpp.llama_grammar import LlamaGrammar

# One thread per object: calls on it queue up there in their order, and hold up nobody else's.
_threads: WeakKeyDictionary[Llama, ThreadPoolExecutor] = WeakKeyDictionary()
_lock = threading.Lock()


@overload
async def generate_async(
    self: Llama,
    prompt: str,
    max_tokens: int | None = ...,
    sampling: SamplingParams | None = ...,
    stream: Literal[False] = ...,
    reset_kv_cache: bool = ...,
    stop: str | Sequence[str] | None = ...,
    grammar: LlamaGrammar | str | None = ...,
) -> str: ...


@overload
async def generate_async(
    self: Llama,
    prompt: str,
    max_tokens: int | None = ...,
    sampling: SamplingParams | None = ...,
    *,
    stream: Literal[True],
    reset_kv_cache: bool = ...,
    stop: str | Sequence[str] | None = ...,
    grammar: LlamaGrammar | str | None = ...,
) -> AsyncIterator[str]: ...


async def generate_async(
    self: Llama,
    prompt: str,
    max_tokens: int | None = DEFAULT_MAX_TOKENS,
    sampling: SamplingParams | None = None,
    stream: bool = False,
    reset_kv_cache: bool = True,
    stop: str | Sequence[str] | None = None,
    grammar: LlamaGrammar | str | None = None,
) -> str | AsyncIterator[str]:
    """Return the text that follows a prompt, without blocking the event loop.

    Several of these on one object run one after another. Cancelling the task, or leaving the loop
    over a stream, ends the computation at its next token.

    Args:
        prompt: text; control tokens spelled in it are read as such.
        max_tokens: most tokens of the answer; None fills the context.
        sampling: how tokens are chosen; None is the object's own default.
        stream: return an async iterator over the parts of the text as they are made.
        reset_kv_cache: False goes on after what is in memory.
        stop: strings that end the answer; they are not part of it.
        grammar: a :class:`llama_cpp.LlamaGrammar` or its text, which the whole answer matches.

    Returns:
        The answer without the prompt, or an async iterator of its parts.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """

    def parts() -> Iterator[str]:
        return generate_stream(self, prompt, max_tokens, sampling, reset_kv_cache, stop, grammar)

    if stream:
        return await stream_in_thread(_executor(self), _Work(self), parts)
    return await call(_executor(self), _Work(self), lambda: "".join(parts()))


async def create_chat_completion_async(self: Llama, messages: Any, **arguments: Any) -> Any:
    """Answer a conversation, without blocking the event loop.

    Several of these on one object run one after another. Cancelling the task, or leaving the loop
    over a stream, ends the computation at its next token.

    Args:
        messages: the conversation.
        **arguments: as for :meth:`Llama.create_chat_completion`.

    Returns:
        What that method returns; with ``stream=True`` an async iterator of the same chunks.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    llm: Any = self
    if arguments.get("stream"):
        return await stream_in_thread(
            _executor(self),
            _Work(self),
            lambda: llm.create_chat_completion(messages, **arguments),
        )
    return await call(
        _executor(self), _Work(self), lambda: llm.create_chat_completion(messages, **arguments)
    )


async def create_embedding_async(self: Llama, input: Any, **arguments: Any) -> Any:  # noqa: A002
    """Return embeddings as OpenAI's interface does, without blocking the event loop.

    Args:
        input: a text or several.
        **arguments: as for :meth:`Llama.create_embedding`.

    Returns:
        What that method returns.

    Raises:
        LlamaError: the object was made without ``embedding=True``.
        ValidationError: a text has no tokens, or does not fit.
        GenerationError: llama.cpp failed.
    """
    llm: Any = self
    return await call(
        _executor(self), _Work(self), lambda: llm.create_embedding(input, **arguments)
    )


class _Work:
    """One call in the object's thread, which can be ended from outside."""

    def __init__(self, llm: Llama) -> None:
        # raises what a closed object raises, or one from before a fork, whose thread is gone
        self._engine = llm._running()  # noqa: SLF001 - a part of that class
        self._lock = threading.Lock()
        self._thread: int | None = None
        self.cancelled = False

    def __enter__(self) -> Self:
        with self._lock:
            self._thread = threading.get_ident()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self.cancelled:
                self._engine.admit(threading.get_ident())
            self._thread = None

    def cancel(self) -> None:
        """End it where it is; before it has begun it will not begin."""
        with self._lock:
            self.cancelled = True
            if self._thread is not None:
                self._engine.bar(self._thread)


def _executor(self: Llama) -> ThreadPoolExecutor:
    with _lock:
        found = _threads.get(self)
        if found is None:
            found = _threads[self] = ThreadPoolExecutor(1, thread_name_prefix="llama_cpp async")
        return found
