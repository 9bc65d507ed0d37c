"""Shapes of what :class:`llama_cpp.Llama` returns: OpenAI's completion API."""

from __future__ import annotations

from typing import Literal, Optional, TypedDict

FinishReason = Literal["stop", "length"]


class CompletionChoice(TypedDict):
    """One answer, or one part of it."""

    text: str
    index: int
    logprobs: None
    finish_reason: Optional[FinishReason]  # noqa: UP045 - evaluated at run time on Python 3.9


class CompletionUsage(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(TypedDict):
    """A whole answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


class CompletionChunk(TypedDict):
    """A part of a streamed answer; the last one has a ``finish_reason``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
