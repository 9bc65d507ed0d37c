"""llama.cpp's own samplers in the order of its ``common_sampler``, as parameters ask for them."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

from llama_cpp import _abi

if TYPE_CHECKING:
    from llama_cpp._abi import Functions
    from llama_cpp._sampler import SamplingParams
    from llama_cpp._vocabulary import Vocabulary

# llama.cpp's common/sampling.cpp gives mirostat 1 this many candidates
_MIROSTAT_CANDIDATES = 100


def links(
    lib: Functions, params: SamplingParams, vocabulary: Vocabulary, n_ctx: int
) -> list[int | None]:
    """Make the chain's links, in order; None stands for one that llama.cpp could not make.

    Args:
        lib: llama.cpp.
        params: checked ones.
        vocabulary: of the model.
        n_ctx: how far back "the whole context" is.
    """
    mirostat = params.mirostat_mode if not params.greedy else 0
    made = _biases(lib, params, vocabulary)
    if not mirostat:
        if params.penalizes:
            made.append(
                lib.llama_sampler_init_penalties(
                    vocabulary.size,
                    n_ctx if params.penalty_last_n < 0 else params.penalty_last_n,
                    params.repeat_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                )
            )
        if params.dry:
            made.append(_dry(lib, params, vocabulary, n_ctx))
    if params.greedy:
        made.append(lib.llama_sampler_init_greedy())
    elif mirostat:
        made.append(lib.llama_sampler_init_temp(params.temperature))
        made.append(_mirostat(lib, params, vocabulary))
    else:
        made.extend(_filters(lib, params, vocabulary))
        made.append(
            lib.llama_sampler_init_temp_ext(
                params.temperature, params.dynatemp_range, params.dynatemp_exponent
            )
        )
        made.append(lib.llama_sampler_init_dist(params.seed))
    return made


def _biases(lib: Functions, params: SamplingParams, vocabulary: Vocabulary) -> list[int | None]:
    biases = [*params.logit_bias.items(), *((t, -math.inf) for t in vocabulary.suppressed)]
    if not biases:
        return []
    array = (_abi.llama_logit_bias * len(biases))(
        *(_abi.llama_logit_bias(token, bias) for token, bias in biases)
    )
    return [lib.llama_sampler_init_logit_bias(vocabulary.size, len(biases), array)]


def _dry(lib: Functions, params: SamplingParams, vocabulary: Vocabulary, n_ctx: int) -> int | None:
    breakers = [text.encode() for text in params.dry_sequence_breakers]
    return lib.llama_sampler_init_dry(
        vocabulary.pointer,
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        n_ctx if params.dry_penalty_last_n < 0 else params.dry_penalty_last_n,
        (ctypes.c_char_p * len(breakers))(*breakers),
        len(breakers),
    )


def _mirostat(lib: Functions, params: SamplingParams, vocabulary: Vocabulary) -> int | None:
    if params.mirostat_mode == 1:
        return lib.llama_sampler_init_mirostat(
            vocabulary.size,
            params.seed,
            params.mirostat_tau,
            params.mirostat_eta,
            _MIROSTAT_CANDIDATES,
        )
    return lib.llama_sampler_init_mirostat_v2(params.seed, params.mirostat_tau, params.mirostat_eta)


def _filters(lib: Functions, params: SamplingParams, vocabulary: Vocabulary) -> list[int | None]:
    keep = params.min_keep
    filters = []
    if params.top_n_sigma > 0:
        filters.append(lib.llama_sampler_init_top_n_sigma(params.top_n_sigma))
    if params.top_k > 0:
        filters.append(lib.llama_sampler_init_top_k(params.top_k))
    if params.typical_p < 1:
        filters.append(lib.llama_sampler_init_typical(params.typical_p, keep))
    if params.top_p < 1:
        filters.append(lib.llama_sampler_init_top_p(params.top_p, keep))
    if params.min_p > 0:
        filters.append(lib.llama_sampler_init_min_p(params.min_p, keep))
    if params.xtc_probability > 0:
        filters.append(
            lib.llama_sampler_init_xtc(
                params.xtc_probability, params.xtc_threshold, keep, params.seed
            )
        )
    if params.infill:
        # after top_k and top_p, says llama.h
        filters.append(lib.llama_sampler_init_infill(vocabulary.pointer))
    return filters
