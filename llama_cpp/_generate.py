"""Token by token: what :class:`llama_cpp.Llama` computes, yields and chooses without text."""

# ruff: noqa: ARG001 - parameters that llama.cpp has no use for any more are still accepted
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _sampling
from llama_cpp._errors import ValidationError
from llama_cpp._generation import Watch
from llama_cpp._processors import criteria_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from typing_extensions import Unpack

    from llama_cpp._engine import Engine
    from llama_cpp._processors import Criteria, Processors, StoppingCriteria
    from llama_cpp._sampler import Grammar, Sampler
    from llama_cpp._sampling import Bias, MoreSampling
    from llama_cpp.llama import Llama


def eval_tokens(self: Llama, tokens: Sequence[int]) -> None:
    """Compute tokens after those in memory; streams of the object are ended.

    Raises:
        ValidationError: an id is out of range, or they do not fit the context.
        GenerationError: llama.cpp failed.
    """
    engine = self._running()
    ids = self._core.vocabulary.check(tokens)
    with engine.context.lock:
        engine.take_over()
        if ids:
            engine.prefill([*engine.sequence.tokens, *ids], answer=0)


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
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    penalize_nl: bool = True,
    logits_processor: Processors | None = None,
    stopping_criteria: Criteria | None = None,
    grammar: Grammar | str | None = None,
    *,
    logit_bias: Bias | None = None,
    seed: int | None = None,
    **more: Unpack[MoreSampling],
) -> Generator[int, Sequence[int] | None, None]:
    """Yield the token ids that follow ``tokens``, ending tokens included, until the context is full.

    What is in memory already is not computed again. ``send(ids)`` puts tokens after the one that was
    yielded, and returns the next one.

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
        tfs_z: does nothing; llama.cpp has no such sampler any more.
        mirostat_mode: 0, 1 or 2.
        mirostat_tau: target surprise.
        mirostat_eta: learning rate.
        penalize_nl: does nothing, alike.
        logits_processor: one or several of ``(input_ids, scores) -> scores``, called before all else.
        stopping_criteria: one or several of ``(input_ids, logits) -> bool``, asked after each token;
            the token with which one is met is the last.
        grammar: what the text of the tokens must look like.
        logit_bias: added to logits by token id.
        seed: of this call; None is the object's.
        more: further fields of :class:`SamplingParams` by their names.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, nothing can be chosen, or another generation has taken the
            context over.
        Exception: whatever a callable of the application raises.
    """
    engine = self._running()
    params = _sampling.parameters(
        self,
        more,
        seed=seed,
        logit_bias=logit_bias,
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
    )
    ids = self._core.vocabulary.check(tokens)
    sampler = _sampling.sampler(self, params, grammar, logits_processor)
    return _generate(self, engine, ids, sampler, criteria_of(stopping_criteria), reset=reset)


def _generate(
    self: Llama,
    engine: Engine,
    ids: list[int],
    sampler: Sampler,
    criteria: Sequence[StoppingCriteria],
    *,
    reset: bool,
) -> Generator[int, Sequence[int] | None, None]:
    prompt = ids if reset else [*engine.sequence.tokens, *ids]
    watch = Watch(prompt, criteria) if criteria else None
    with sampler:
        yield from engine.tokens(prompt, sampler, watch=watch, draft=self.draft_model)


class LastSampler(NamedTuple):
    """What :func:`sample` goes on with when it is called again alike."""

    arguments: tuple[object, ...]
    sampler: Sampler
    tokens: list[int]
    """Those that the sampler knows."""


def sample(
    self: Llama,
    top_k: int = 40,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    temp: float = 0.8,
    repeat_penalty: float = 1.0,
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_eta: float = 0.1,
    mirostat_tau: float = 5.0,
    penalize_nl: bool = True,
    logits_processor: Processors | None = None,
    grammar: Grammar | str | None = None,
    idx: int | None = None,
    *,
    logit_bias: Bias | None = None,
    seed: int | None = None,
    **more: Unpack[MoreSampling],
) -> int:
    """Choose a token from the logits of what was computed last; it is not computed itself.

    Called again with the same arguments it goes on with its random numbers, its penalties and its
    place in the grammar, as long as the memory has only grown.

    Args:
        top_k: see :meth:`generate`, as for all that are not listed here.
        top_p: see there.
        min_p: see there.
        typical_p: see there.
        temp: see there.
        repeat_penalty: see there.
        frequency_penalty: see there.
        presence_penalty: see there.
        tfs_z: does nothing.
        mirostat_mode: see there.
        mirostat_eta: see there.
        mirostat_tau: see there.
        penalize_nl: does nothing.
        logits_processor: see there.
        grammar: see there.
        idx: the place in memory of the token after which to choose, which must have logits (the last
            :meth:`eval` with ``logits_all``); None is the last.
        logit_bias: see there.
        seed: see there.
        more: see there.

    Raises:
        ValidationError: an argument is out of range, or nothing was computed there.
        GenerationError: nothing can be chosen.
        Exception: whatever a callable of the application raises.
    """
    engine = self._running()
    params = _sampling.parameters(
        self,
        more,
        seed=seed,
        logit_bias=logit_bias,
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
    )
    with engine.context.lock:
        tokens = list(engine.sequence.tokens)
        index = engine.output
        if idx is not None:
            if not -len(tokens) <= idx < len(tokens):
                raise ValidationError(f"idx is {idx}; {len(tokens)} tokens are in memory")
            index += idx % len(tokens) - (len(tokens) - 1)
            if index < 0 <= engine.output:
                raise ValidationError(f"no logits at idx {idx}: the last batch begins after it")
        if index != -1 or engine.context.held_logits is None:
            engine.context.output_index(index)
        sampler = _last_sampler(self, (params, grammar, logits_processor), tokens)
        token = sampler.sample(engine.context, index)
        tokens.append(token)
        self._last_sampler = self._last_sampler._replace(tokens=tokens)  # type: ignore[union-attr]
        return token


def _last_sampler(self: Llama, arguments: tuple[object, ...], tokens: list[int]) -> Sampler:
    last: LastSampler | None = self._last_sampler
    if last is not None:
        known = last.tokens
        if last.arguments == arguments and not last.sampler.closed:
            # the token that was chosen may have been computed since, or not
            for length in (len(known), len(known) - 1):
                if tokens[:length] == known[:length]:
                    last.sampler.accept(tokens[length:])
                    return last.sampler
        last.sampler.close()
    made = _sampling.sampler(self, *arguments)  # type: ignore[arg-type]
    made.accept(tokens)
    self._last_sampler = LastSampler(arguments, made, [])
    return made
