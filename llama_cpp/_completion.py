"""Text completion: prompts to answers, whole or in parts, as OpenAI's API shapes them."""

# ruff: noqa: ARG001 - parameters that llama.cpp has no use for any more are still accepted
from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal, overload

from llama_cpp import _prompt_cache, _sampling
from llama_cpp._arguments import check_integer
from llama_cpp._engine import Answer, PreparedPrompt
from llama_cpp._errors import ValidationError
from llama_cpp._generation import Watch
from llama_cpp._logprobs import PromptScores, Scores
from llama_cpp._processors import criteria_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Union

    from typing_extensions import Unpack

    from llama_cpp._processors import Criteria, Processors
    from llama_cpp._sampler import Grammar, Sampler
    from llama_cpp._sampling import Bias, MoreSampling
    from llama_cpp.llama import Llama
    from llama_cpp.llama_types import (
        Completion,
        CompletionChunk,
        CompletionLogprobs,
        FinishReason,
    )

    Prompt = Union[str, Sequence[int]]

_UNBOUNDED = 2**31 - 1


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
    logprobs: int | None = ...,
    echo: bool = ...,
    stop: str | Sequence[str] | None = ...,
    frequency_penalty: float = ...,
    presence_penalty: float = ...,
    repeat_penalty: float = ...,
    top_k: int = ...,
    stream: Literal[False] = ...,
    seed: int | None = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    stopping_criteria: Criteria | None = ...,
    logits_processor: Processors | None = ...,
    grammar: Grammar | str | None = ...,
    logit_bias: Bias | None = ...,
    *,
    spelled: Collection[str] = ...,
    **more: Unpack[MoreSampling],
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
    logprobs: int | None = ...,
    echo: bool = ...,
    stop: str | Sequence[str] | None = ...,
    frequency_penalty: float = ...,
    presence_penalty: float = ...,
    repeat_penalty: float = ...,
    top_k: int = ...,
    *,
    stream: Literal[True],
    seed: int | None = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    stopping_criteria: Criteria | None = ...,
    logits_processor: Processors | None = ...,
    grammar: Grammar | str | None = ...,
    logit_bias: Bias | None = ...,
    spelled: Collection[str] = ...,
    **more: Unpack[MoreSampling],
) -> Iterator[CompletionChunk]: ...


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
    logprobs: int | None = ...,
    echo: bool = ...,
    stop: str | Sequence[str] | None = ...,
    frequency_penalty: float = ...,
    presence_penalty: float = ...,
    repeat_penalty: float = ...,
    top_k: int = ...,
    stream: bool = ...,
    seed: int | None = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    stopping_criteria: Criteria | None = ...,
    logits_processor: Processors | None = ...,
    grammar: Grammar | str | None = ...,
    logit_bias: Bias | None = ...,
    *,
    spelled: Collection[str] = ...,
    **more: Unpack[MoreSampling],
) -> Completion | Iterator[CompletionChunk]: ...


def create_completion(
    self: Llama,
    prompt: Prompt,
    suffix: str | None = None,
    max_tokens: int | None = 16,
    temperature: float = 0.8,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    logprobs: int | None = None,
    echo: bool = False,
    stop: str | Sequence[str] | None = [],
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    top_k: int = 40,
    stream: bool = False,
    seed: int | None = None,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    stopping_criteria: Criteria | None = None,
    logits_processor: Processors | None = None,
    grammar: Grammar | str | None = None,
    logit_bias: Bias | None = None,
    *,
    spelled: Collection[str] = (),
    **more: Unpack[MoreSampling],
) -> Completion | Iterator[CompletionChunk]:
    """Complete a prompt.

    Args:
        prompt: text, or token ids taken as they are.
        suffix: text that comes after the answer; needs a model with fill-in-the-middle tokens.
        max_tokens: most tokens of the answer; None, 0 or less fills the context.
        temperature: 0 always takes the likeliest token.
        top_p: keep the likeliest whose probabilities add up to p.
        min_p: keep those at least this share of the likeliest.
        typical_p: keep the locally typical ones.
        logprobs: report the log probability of each token and of so many likeliest ones in its
            place: the model's own, before temperature and all else. With ``echo`` of the prompt's
            tokens, too, which is computed as a whole then.
        echo: put the prompt in front of the answer.
        stop: strings that end the answer; they are not part of it.
        frequency_penalty: taken from logits per occurrence.
        presence_penalty: taken from logits once.
        repeat_penalty: divides the logits of recent tokens.
        top_k: keep the k likeliest.
        stream: return an iterator of parts. Streams of one object end each other.
        seed: of this call; None is the object's, -1 draws one.
        tfs_z: does nothing; llama.cpp has no such sampler any more.
        mirostat_mode: 0, 1 or 2.
        mirostat_tau: target surprise.
        mirostat_eta: learning rate.
        model: name to report; None is the path.
        stopping_criteria: one or several of ``(input_ids, logits) -> bool``, asked after each token;
            the token with which one is met is the last, and the reason is "stop".
        logits_processor: one or several of ``(input_ids, scores) -> scores``, called before all else.
        grammar: what the answer must look like: a :class:`LlamaGrammar`, or GBNF.
        logit_bias: added to logits by token id (or its digits); minus infinity forbids a token.
        spelled: texts of control tokens, such as ``<|python_tag|>``, that are part of the answer's
            text; others add nothing to it.
        more: further fields of :class:`SamplingParams` by their names: ``xtc_probability``,
            ``dry_multiplier``, ``top_n_sigma``, ``dynatemp_range``, ``min_keep`` …

    Returns:
        A completion, or an iterator of its parts.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, nothing can be chosen, or another generation has taken the
            context over.
        Exception: whatever a callable of the application raises.
    """
    self._running()
    params = _sampling.parameters(
        self,
        more,
        seed=seed,
        logit_bias=logit_bias,
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
    )
    ids = _prompt(self, prompt, suffix)
    if logprobs is not None:
        check_integer("logprobs", logprobs, 0, self._core.vocabulary.size)
    criteria = criteria_of(stopping_criteria)
    vocabulary = self._core.vocabulary
    before = _spelled(self, prompt) if echo else ""
    pieces = vocabulary.spelling(_texts_of(spelled)) if spelled else vocabulary.pieces
    scores = None
    if logprobs is not None:
        scores = Scores(vocabulary, logprobs, start=len(before), pieces=pieces)
    task = _Task(
        self,
        ids,
        Answer(pieces, stops=_stops(stop), limit=_limit(max_tokens)),
        before=before,
        scores=scores,
        prompt_scores=_prompt_scores(self, prompt, ids, logprobs) if echo else None,
        watch=Watch(ids, criteria, scores) if criteria or scores else None,
        model=model,
    )
    sampler = _sampling.sampler(self, params, grammar, logits_processor)
    return task.chunks(sampler) if stream else task.completion(sampler)


class _Task:
    """One completion on its way."""

    def __init__(
        self,
        llm: Llama,
        ids: list[int],
        answer: Answer,
        *,
        before: str,
        scores: Scores | None,
        prompt_scores: PromptScores | None,
        watch: Watch | None,
        model: str | None,
    ) -> None:
        self._llm = llm
        self._ids = ids
        self._answer = answer
        self._before = before
        self._scores = scores
        self._prompt_scores = prompt_scores
        self._watch = watch
        self._id = f"cmpl-{os.urandom(12).hex()}"
        self._created = int(time.time())
        self._model = llm.model_path if model is None else model

    def completion(self, sampler: Sampler) -> Completion:
        """Compute it all."""
        with self._llm._running().context.lock:  # noqa: SLF001 - one of its methods, in a file of its own
            text = "".join(self._texts(sampler))
        ids, count = self._ids, self._answer.n_tokens
        n_prompt = ids.n_tokens if isinstance(ids, PreparedPrompt) else len(ids)
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "text": self._before + text,
                    "index": 0,
                    "logprobs": _joined(self._prompt_found(), self._last_found(len(text))),
                    "finish_reason": self._answer.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": n_prompt,
                "completion_tokens": count,
                "total_tokens": n_prompt + count,
            },
        }

    def chunks(self, sampler: Sampler) -> Iterator[CompletionChunk]:
        """Yield it in parts, each as soon as its text is certain; the last has no text."""
        waits = bool(self._before)
        if waits and self._prompt_scores is None:
            waits = False
            yield self._chunk(self._before)
        length = 0
        for text in self._texts(sampler):
            if waits:
                waits = False
                yield self._chunk(self._before, self._prompt_found())
            length += len(text)
            found = None
            if self._scores is not None:
                end = len(self._before) + length
                found = self._scores.spelled(self._scores.until(end))
            yield self._chunk(text, found)
        if waits:
            yield self._chunk(self._before, self._prompt_found())
        yield self._chunk("", self._last_found(length), self._answer.finish_reason)

    def _texts(self, sampler: Sampler) -> Iterator[str]:
        llm = self._llm
        texts = llm._running().stream(  # noqa: SLF001
            self._ids,
            sampler,
            self._answer,
            watch=self._watch,
            draft=llm.draft_model,
            scores=self._prompt_scores,
        )
        return texts if llm.cache is None else _prompt_cache.through(llm, self._ids, texts)

    def _chunk(
        self,
        text: str,
        found: CompletionLogprobs | None = None,
        reason: FinishReason | None = None,
    ) -> CompletionChunk:
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [{"text": text, "index": 0, "logprobs": found, "finish_reason": reason}],
        }

    def _prompt_found(self) -> CompletionLogprobs | None:
        scores = self._prompt_scores
        return None if scores is None else scores.spelled(scores.until(None))

    def _last_found(self, length: int) -> CompletionLogprobs | None:
        """Return what is left to tell of an answer of so many characters."""
        scores = self._scores
        if scores is None:
            return None
        # tokens behind a stop string are no part of the answer
        end = len(self._before) + length if self._answer.stopped else None
        return scores.spelled(scores.until(end))


def _joined(
    before: CompletionLogprobs | None, after: CompletionLogprobs | None
) -> CompletionLogprobs | None:
    if before is None or after is None:
        return after
    return {
        "tokens": before["tokens"] + after["tokens"],
        "text_offset": before["text_offset"] + after["text_offset"],
        "token_logprobs": before["token_logprobs"] + after["token_logprobs"],
        "top_logprobs": before["top_logprobs"] + after["top_logprobs"],
    }


def _prompt_scores(
    self: Llama, prompt: Prompt, ids: list[int], logprobs: int | None
) -> PromptScores | None:
    """Return what scores the tokens of an echoed prompt; a begin token is no part of its text."""
    if logprobs is None:
        return None
    vocabulary = self._core.vocabulary
    spelled = isinstance(prompt, str)
    skipped = int(ids[:1] == [vocabulary.bos])
    spaced = (spelled or skipped > 0) and vocabulary.adds_space
    return PromptScores(
        vocabulary,
        logprobs,
        ids,
        skipped=skipped,
        start=-1 if spaced else 0,
        special=spelled,
    )


def _prompt(self: Llama, prompt: Prompt, suffix: str | None) -> list[int]:
    vocabulary = self._core.vocabulary
    if isinstance(prompt, PreparedPrompt):
        return prompt
    if suffix is None:
        if isinstance(prompt, str):
            return self.tokenize(prompt, special=True)
        return vocabulary.check(prompt)
    first, second, middle = vocabulary.fim_prefix, vocabulary.fim_suffix, vocabulary.fim_middle
    if min(first, second, middle) < 0:
        raise ValidationError(
            "suffix needs a model with fill-in-the-middle tokens, and this one has none"
        )
    if isinstance(prompt, str):
        before = self.tokenize(prompt, add_bos=False, special=True)
    else:
        before = vocabulary.check(prompt)
    after = self.tokenize(suffix, add_bos=False, special=True)
    begin = [vocabulary.bos] if vocabulary.adds_bos and vocabulary.bos >= 0 else []
    if self.spm_infill:
        return [*begin, second, *after, first, *before, middle]
    return [*begin, first, *before, second, *after, middle]


def _spelled(self: Llama, prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return self.detokenize(prompt).decode("utf-8", "replace")


def _stops(stop: str | Sequence[str] | None) -> list[str]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise ValidationError(f"stop has {text!r}; stop strings are strings and not empty")
    return stops


def _texts_of(spelled: Collection[str]) -> frozenset[str]:
    if isinstance(spelled, str) or not all(isinstance(text, str) for text in spelled):
        raise ValidationError(f"spelled is {spelled!r}; it must be texts of tokens")
    return frozenset(spelled)


def _limit(max_tokens: int | None) -> int:
    if max_tokens is None:
        return _UNBOUNDED
    if not isinstance(max_tokens, int):
        raise ValidationError(f"max_tokens is {max_tokens!r}; it must be an integer or None")
    return max_tokens if max_tokens > 0 else _UNBOUNDED
