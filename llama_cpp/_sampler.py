"""Choosing the next token: a chain of llama.cpp's own samplers, built from parameters."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi, _library
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._handle import Handle
from llama_cpp._model import _Owner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_cpp._abi import Functions
    from llama_cpp._context import Context
    from llama_cpp._model import Model
    from llama_cpp._vocabulary import Vocabulary

# Logits divided by less than this overflow float32, and the choice among infinities is arbitrary.
_COLDEST = 1e-6

# llama.cpp's common/sampling.cpp gives mirostat 1 this many candidates
_MIROSTAT_CANDIDATES = 100
_MIROSTAT_MODES = (0, 1, 2)

_LARGEST_FLOAT32 = 3.4028234663852886e38


class SamplingParams(NamedTuple):
    """How the next token is chosen; what is at its neutral value costs nothing."""

    temperature: float = 0.8
    """0 or less always takes the likeliest token."""
    top_k: int = 40
    """Keep the k likeliest; 0 or less keeps all."""
    top_p: float = 0.95
    """Keep the likeliest whose probabilities add up to p; 1 keeps all."""
    min_p: float = 0.05
    """Keep those at least this share of the likeliest; 0 keeps all."""
    typical_p: float = 1.0
    """Keep the locally typical ones that add up to p; 1 keeps all."""
    repeat_penalty: float = 1.0
    """Divides the positive logits of recent tokens; 1 is neutral."""
    frequency_penalty: float = 0.0
    """Taken from a recent token's logit for each of its occurrences."""
    presence_penalty: float = 0.0
    """Taken once from a recent token's logit."""
    penalty_last_n: int = 64
    """How many tokens count as recent, prompt included."""
    mirostat_mode: int = 0
    """0 off, 1 Mirostat, 2 Mirostat 2.0; either replaces all filters above."""
    mirostat_tau: float = 5.0
    """Target surprise."""
    mirostat_eta: float = 0.1
    """Learning rate."""
    seed: int = _abi.LLAMA_DEFAULT_SEED
    """The default draws a seed."""
    logit_bias: Mapping[int, float] = MappingProxyType({})
    """Added to logits by token id; minus infinity forbids a token."""

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < _COLDEST

    @property
    def penalizes(self) -> bool:
        """Whether recent tokens matter."""
        return self.penalty_last_n > 0 and (
            self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        )

    def check(self, vocabulary: Vocabulary) -> None:
        """Raise :class:`ValidationError` for what makes no distribution or aborts in llama.cpp."""
        for name in ("temperature", "frequency_penalty", "presence_penalty"):
            check_number(name, getattr(self, name), -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        for name in ("top_p", "min_p", "typical_p"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("repeat_penalty", self.repeat_penalty, 1e-6, 1e6)
        check_number("mirostat_tau", self.mirostat_tau, 1e-6, 1e6)
        check_number("mirostat_eta", self.mirostat_eta, 0, 1e6)
        check_integer("top_k", self.top_k, -(2**31), 2**31 - 1)
        check_integer("penalty_last_n", self.penalty_last_n, 0, 2**20)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        if self.mirostat_mode not in _MIROSTAT_MODES:
            raise ValidationError(f"mirostat_mode is {self.mirostat_mode!r}; choose 0, 1 or 2")
        vocabulary.check(self.logit_bias)
        for token, bias in self.logit_bias.items():
            if bias != -math.inf:
                check_number(f"logit_bias[{token}]", bias, -1e9, 1e9)
        forbidden = sum(bias == -math.inf for bias in self.logit_bias.values())
        if forbidden >= vocabulary.size:
            raise ValidationError("logit_bias forbids every token")


class Sampler(_Owner):
    """A chain of samplers with its own state (random numbers, recent tokens).

    Used by one generation under its context's lock.
    """

    def __init__(self, model: Model, params: SamplingParams) -> None:
        """Build the chain, in the order of llama.cpp's own ``common_sampler``.

        Raises:
            ValidationError: a parameter is out of range.
        """
        params.check(model.vocabulary)
        self.params = params
        lib = _library.load()
        settings = lib.llama_sampler_chain_default_params()
        settings.no_perf = True
        with model.handle.lock:
            _ = model.handle.pointer
            chain = lib.llama_sampler_chain_init(settings)
            if chain is None:
                raise LlamaError("llama.cpp could not make a sampler")
            self._handle = Handle("sampler", chain, lib.llama_sampler_free, model.handle)
            self._handle.close_with(self)
        for sampler in _links(lib, params, model.vocabulary):
            if sampler is None:
                raise LlamaError("llama.cpp could not make a sampler")
            with self._handle.lock:
                lib.llama_sampler_chain_add(self._handle.pointer, sampler)
        self._sample = lib.llama_sampler_sample
        self._accept = lib.llama_sampler_accept

    def accept(self, tokens: Sequence[int]) -> None:
        """Let it know tokens that it did not choose: the end of the prompt."""
        with self._handle.lock:
            pointer = self._handle.pointer
            for token in tokens:
                self._accept(pointer, token)

    def sample(self, context: Context, index: int = -1) -> int:
        """Choose a token from an output of the context's last batch, and remember it.

        Args:
            context: where the logits are.
            index: as for :meth:`Context.output_index`.
        """
        # the model's close() frees samplers before contexts, and waits for this lock alone
        with context.lock, self._handle.lock:
            return self._sample(
                self._handle.pointer, context.handle.pointer, context.output_index(index)
            )


def _links(lib: Functions, params: SamplingParams, vocabulary: Vocabulary) -> list[int | None]:
    """Return the chain's links in order; grammars, when there are any, come before all of them."""
    links = []
    biases = [*params.logit_bias.items(), *((t, -math.inf) for t in vocabulary.suppressed)]
    if biases:
        array = (_abi.llama_logit_bias * len(biases))(
            *(_abi.llama_logit_bias(token, bias) for token, bias in biases)
        )
        links.append(lib.llama_sampler_init_logit_bias(vocabulary.size, len(biases), array))
    mirostat = params.mirostat_mode if not params.greedy else 0
    if params.penalizes and not mirostat:
        links.append(
            lib.llama_sampler_init_penalties(
                vocabulary.size,
                params.penalty_last_n,
                params.repeat_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        )
    if params.greedy:
        links.append(lib.llama_sampler_init_greedy())
    elif mirostat == 1:
        links.append(lib.llama_sampler_init_temp(params.temperature))
        links.append(
            lib.llama_sampler_init_mirostat(
                vocabulary.size,
                params.seed,
                params.mirostat_tau,
                params.mirostat_eta,
                _MIROSTAT_CANDIDATES,
            )
        )
    elif mirostat:
        links.append(lib.llama_sampler_init_temp(params.temperature))
        links.append(
            lib.llama_sampler_init_mirostat_v2(
                params.seed, params.mirostat_tau, params.mirostat_eta
            )
        )
    else:
        links.extend(_filters(lib, params))
        links.append(lib.llama_sampler_init_temp(params.temperature))
        links.append(lib.llama_sampler_init_dist(params.seed))
    return links


def _filters(lib: Functions, params: SamplingParams) -> list[int | None]:
    filters = []
    if params.top_k > 0:
        filters.append(lib.llama_sampler_init_top_k(params.top_k))
    if params.typical_p < 1:
        filters.append(lib.llama_sampler_init_typical(params.typical_p, 1))
    if params.top_p < 1:
        filters.append(lib.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0:
        filters.append(lib.llama_sampler_init_min_p(params.min_p, 1))
    return filters
