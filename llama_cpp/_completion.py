"""Text completion: what :class:`llama_cpp.Llama` makes of tokens, as tokens and as text."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal, overload

from llama_cpp._engine import Answer, PreparedPrompt
from llama_cpp._errors import ValidationError
from llama_cpp._sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Union

    from llama_cpp._engine import Engine
    from llama_cpp._sampler import SamplingParams
    from llama_cpp.llama import Llama
    from llama_cpp.llama_types import Completion, CompletionChoice, CompletionChunk, FinishReason

    Prompt = Union[str, Sequence[int]]

_UNBOUNDED = 2**31 - 1


def eval_tokens(self: Llama, tokens: Sequence[int]) -> None:
    """Compute tokens after those in memory.

    Raises:
        ValidationError: an id is out of range, or they do not fit the context.
        GenerationError: llama.cpp failed.
    """
    engine = self._running()
    ids = self._core.vocabulary.check(tokens)
    with engine.context.lock:
        engine.take_over()
        if ids:
            engine.prefill([*engine.sequence.tokens, *ids])


def generate(
    self: Llama,
    tokens: Sequence[int],
    top_k: int = 40,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    temp: float = 0.8,
    repeat_penalty: float = 1.0,
    reset: bool = True,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    *,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield the token ids that follow ``tokens``, ending tokens included, until the context is full.

    What is in memory already is not computed again.

    Args:
        tokens: the prompt's ids.
        top_k: keep the k likeliest.
        top_p: keep the likeliest whose probabilities add up to p.
        min_p: keep those at least this share of the likeliest.
        typical_p: keep the locally typical ones.
        temp: temperature; 0 always takes the likeliest token.
        repeat_penalty: divides the logits of recent tokens.
        reset: False puts the prompt after what is in memory, instead of in its place.
        frequency_penalty: taken from logits per occurrence.
        presence_penalty: taken from logits once.
        mirostat_mode: 0, 1 or 2.
        mirostat_tau: target surprise.
        mirostat_eta: learning rate.
        logit_bias: added to logits by token id.
        seed: of this call; None is the object's.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    engine = self._running()
    params = _sampling(
        self,
        seed,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        temperature=temp,
        repeat_penalty=repeat_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        mirostat_mode=mirostat_mode,
        mirostat_tau=mirostat_tau,
        mirostat_eta=mirostat_eta,
        logit_bias=logit_bias or {},
    )
    ids = self._core.vocabulary.check(tokens)
    return _generate(self, engine, ids, params, reset=reset)


def _generate(
    self: Llama, engine: Engine, ids: list[int], params: SamplingParams, *, reset: bool
) -> Iterator[int]:
    prompt = ids if reset else [*engine.sequence.tokens, *ids]
    with Sampler(self._core, params) as sampler:
        yield from engine.tokens(prompt, sampler)


@overload
def create_completion(
    self: Llama,
    prompt: Prompt,
    suffix: str | None = ...,
    max_tokens: int | None = ...,
    temperature: float = ...,
    top_p: float = ...,
    min_p: float = ...,
    typical_p: float = ...,
    *,
    echo: bool = ...,
    stop: str | Sequence[str] | None = ...,
    frequency_penalty: float = ...,
    presence_penalty: float = ...,
    repeat_penalty: float = ...,
    top_k: int = ...,
    stream: Literal[False] = ...,
    seed: int | None = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    logit_bias: Mapping[int, float] | None = ...,
) -> Completion: ...


@overload
def create_completion(
    self: Llama,
    prompt: Prompt,
    suffix: str | None = ...,
    max_tokens: int | None = ...,
    temperature: float = ...,
    top_p: float = ...,
    min_p: float = ...,
    typical_p: float = ...,
    *,
    echo: bool = ...,
    stop: str | Sequence[str] | None = ...,
    frequency_penalty: float = ...,
    presence_penalty: float = ...,
    repeat_penalty: float = ...,
    top_k: int = ...,
    stream: Literal[True],
    seed: int | None = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    logit_bias: Mapping[int, float] | None = ...,
) -> Iterator[CompletionChunk]: ...


def create_completion(
    self: Llama,
    prompt: Prompt,
    suffix: str | None = None,
    max_tokens: int | None = 16,
    temperature: float = 0.8,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    *,
    echo: bool = False,
    stop: str | Sequence[str] | None = None,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    top_k: int = 40,
    stream: bool = False,
    seed: int | None = None,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logit_bias: Mapping[int, float] | None = None,
) -> Completion | Iterator[CompletionChunk]:
    """Complete a prompt.

    Args:
        prompt: text, or token ids taken as they are.
        suffix: text that comes after the answer; needs a model with fill-in-the-middle tokens.
        max_tokens: most tokens of the answer; None or 0 fills the context.
        temperature: 0 always takes the likeliest token.
        top_p: keep the likeliest whose probabilities add up to p.
        min_p: keep those at least this share of the likeliest.
        typical_p: keep the locally typical ones.
        echo: put the prompt in front of the answer.
        stop: strings that end the answer; they are not part of it.
        frequency_penalty: taken from logits per occurrence.
        presence_penalty: taken from logits once.
        repeat_penalty: divides the logits of recent tokens.
        top_k: keep the k likeliest.
        stream: return an iterator of parts. Streams of one object end each other.
        seed: of this call; None is the object's.
        mirostat_mode: 0, 1 or 2.
        mirostat_tau: target surprise.
        mirostat_eta: learning rate.
        model: name to report; None is the path.
        logit_bias: added to logits by token id; minus infinity forbids a token.

    Returns:
        A completion, or an iterator of its parts.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    engine = self._running()
    params = _sampling(
        self,
        seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        repeat_penalty=repeat_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        mirostat_mode=mirostat_mode,
        mirostat_tau=mirostat_tau,
        mirostat_eta=mirostat_eta,
        logit_bias=logit_bias or {},
    )
    ids = _prompt(self, prompt, suffix)
    n_tokens = ids.n_tokens if isinstance(ids, PreparedPrompt) else len(ids)
    answer = Answer(self._core.vocabulary.pieces, stops=_stops(stop), limit=_limit(max_tokens))
    head: Completion = {
        "id": f"cmpl-{os.urandom(12).hex()}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": self.model_path if model is None else model,
        "choices": [],
        "usage": {"prompt_tokens": n_tokens, "completion_tokens": 0, "total_tokens": 0},
    }
    before = _spelled(self, prompt) if echo else ""
    if stream:
        return _chunks(self, engine, ids, params, answer, head, before)
    with engine.context.lock:
        text = "".join(engine.stream(ids, Sampler(self._core, params), answer))
    head["choices"] = [_choice(before + text, answer.finish_reason)]
    head["usage"]["completion_tokens"] = answer.n_tokens
    head["usage"]["total_tokens"] = n_tokens + answer.n_tokens
    return head


def _chunks(
    self: Llama,
    engine: Engine,
    ids: list[int],
    params: SamplingParams,
    answer: Answer,
    head: Completion,
    before: str,
) -> Iterator[CompletionChunk]:
    def chunk(text: str, reason: FinishReason | None) -> CompletionChunk:
        return {
            "id": head["id"],
            "object": head["object"],
            "created": head["created"],
            "model": head["model"],
            "choices": [_choice(text, reason)],
        }

    if before:
        yield chunk(before, None)
    for text in engine.stream(ids, Sampler(self._core, params), answer):
        yield chunk(text, None)
    yield chunk("", answer.finish_reason)


def _sampling(self: Llama, seed: int | None, **given: object) -> SamplingParams:
    if seed is not None:
        given["seed"] = seed
    params = self._defaults._replace(**given)  # type: ignore[arg-type]
    params.check(self._core.vocabulary)
    return params


def _prompt(self: Llama, prompt: Prompt, suffix: str | None) -> list[int]:
    vocabulary = self._core.vocabulary
    if isinstance(prompt, PreparedPrompt):
        return prompt
    if suffix is None:
        if isinstance(prompt, str):
            return self.tokenize(prompt, special=True)
        return vocabulary.check(prompt)
    prefix_token, suffix_token, middle = (
        vocabulary.fim_prefix,
        vocabulary.fim_suffix,
        vocabulary.fim_middle,
    )
    if min(prefix_token, suffix_token, middle) < 0:
        raise ValidationError(
            "suffix needs a model with fill-in-the-middle tokens, and this one has none"
        )
    if isinstance(prompt, str):
        before = self.tokenize(prompt, add_bos=False, special=True)
    else:
        before = vocabulary.check(prompt)
    after = self.tokenize(suffix, add_bos=False, special=True)
    begin = [vocabulary.bos] if vocabulary.adds_bos and vocabulary.bos >= 0 else []
    return [*begin, prefix_token, *before, suffix_token, *after, middle]


def _spelled(self: Llama, prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return self.detokenize(prompt).decode("utf-8", "replace")


def _choice(text: str, reason: FinishReason | None) -> CompletionChoice:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


def _stops(stop: str | Sequence[str] | None) -> list[str]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise ValidationError(f"stop has {text!r}; stop strings are strings and not empty")
    return stops


def _limit(max_tokens: int | None) -> int:
    if max_tokens is None:
        return _UNBOUNDED
    if not isinstance(max_tokens, int):
        raise ValidationError(f"max_tokens is {max_tokens!r}; it must be an integer or None")
    return max_tokens if max_tokens > 0 else _UNBOUNDED
