"""A pool's methods for plain threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from llama_cpp import _replies
from llama_cpp._errors import ValidationError
from llama_cpp._guest import TEXT
from llama_cpp._session import DEFAULT_MAX_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llama_cpp._sampler import SamplingParams
    from llama_cpp._shared_model import SharedModel
    from llama_cpp.llama_grammar import LlamaGrammar


class SyncPool:
    """A pool's methods for plain threads: each call waits for its answer."""

    def __init__(self, shared: SharedModel) -> None:
        """Answer with a pool's model."""
        self._shared = shared

    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        stream: Literal[False] = ...,
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        *,
        stream: Literal[True],
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: str | Sequence[int],
        max_tokens: int | None = DEFAULT_MAX_TOKENS,
        sampling: SamplingParams | None = None,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        grammar: LlamaGrammar | str | None = None,
    ) -> str | Iterator[str]:
        """Return the text that follows a prompt; see :meth:`LlamaPool.generate`.

        With ``stream=True`` an iterator of its parts: leaving the loop early, or its ``close()``,
        ends the computation.
        """
        scheduler = self._shared.scheduler
        request = self._shared.request(prompt, max_tokens, sampling, stop, grammar)
        if stream:
            return _replies.stream(scheduler, request, TEXT)
        return _replies.wait(scheduler, request, TEXT)

    def generate_batch(
        self,
        prompts: Iterable[str | Sequence[int]],
        max_tokens: int | None = DEFAULT_MAX_TOKENS,
        sampling: SamplingParams | None = None,
        stop: str | Sequence[str] | None = None,
        grammar: LlamaGrammar | str | None = None,
    ) -> list[str]:
        """Return the texts that follow several prompts, in their order.

        See :meth:`LlamaPool.generate_batch`.
        """
        streams: list[Iterator[str]] = []
        try:
            streams.extend(
                self.generate(prompt, max_tokens, sampling, stream=True, stop=stop, grammar=grammar)
                for prompt in prompts
            )
            return ["".join(parts) for parts in streams]
        except BaseException:
            for parts in streams:
                parts.close()  # type: ignore[attr-defined]
            raise

    def create_completion(self, prompt: str | Sequence[int], **arguments: Any) -> Any:
        """Complete a prompt as :meth:`Llama.create_completion` does, with the same arguments.

        ``logits_processor`` and ``stopping_criteria`` run in the computing thread: while they do,
        the pool's other answers wait.
        """
        return self._shared.guest().llm.create_completion(prompt, **arguments)

    def create_completion_batch(
        self, prompts: Iterable[str | Sequence[int]], **arguments: Any
    ) -> list[Any]:
        """Complete several prompts; returns the completions in their order."""
        return self._together("create_completion", prompts, arguments)

    def create_chat_completion(self, messages: Sequence[Any], **arguments: Any) -> Any:
        """Answer a chat as :meth:`Llama.create_chat_completion` does, with the same arguments."""
        llm: Any = self._shared.guest().llm
        return llm.create_chat_completion(messages, **arguments)

    def create_chat_completion_batch(
        self, conversations: Iterable[Sequence[Any]], **arguments: Any
    ) -> list[Any]:
        """Answer several chats; returns the completions in their order."""
        return self._together("create_chat_completion", conversations, arguments)

    def create_embedding(self, input: Any, **arguments: Any) -> Any:  # noqa: A002
        """Return embeddings as :meth:`Llama.create_embedding` does, with the same arguments."""
        return self._shared.embedder.create_embedding(input, **arguments)

    def embed(self, input: Any, **arguments: Any) -> Any:  # noqa: A002
        """Return vectors as :meth:`Llama.embed` does, with the same arguments."""
        return self._shared.embedder.embed(input, **arguments)

    def _together(
        self, method: str, subjects: Iterable[Any], arguments: dict[str, Any]
    ) -> list[Any]:
        check_whole(arguments)
        guests, futures = [], []
        try:
            for subject in subjects:
                guest = self._shared.guest()
                guests.append(guest)
                function = getattr(guest.llm, method)
                futures.append(self._shared.threads.submit(function, subject, **arguments))
            return [future.result() for future in futures]
        except BaseException:
            for guest in guests:
                guest.cancel()
            raise


def check_whole(arguments: dict[str, Any]) -> None:
    """Raise where a batch is asked to stream."""
    if arguments.get("stream"):
        raise ValidationError("a batch is not streamed; stream single calls instead")
