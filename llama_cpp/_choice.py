"""Choosing a token from candidates, one operation at a time.

Filters are llama.cpp's own samplers; what draws a token is here, so that one seed governs all draws.
"""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

from llama_cpp import _library
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._errors import GenerationError, LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random
    from typing import Any

    from llama_cpp._token_data import LlamaTokenDataArray

FARTHEST = 2**20
"""The most recent tokens that penalties look at."""

_INT32_MAX = 2**31 - 1
_LARGEST_FLOAT32 = 3.4028234663852886e38


def apply(candidates: LlamaTokenDataArray, sampler: int | None) -> None:
    """Let a sampler that was made for this work on ``candidates``, and free it."""
    if sampler is None:
        raise LlamaError("llama.cpp could not make a sampler")
    try:
        candidates.apply(sampler)
    finally:
        _library.load().llama_sampler_free(sampler)


def penalize(
    candidates: LlamaTokenDataArray,
    last_tokens: Sequence[int],
    last_n: int,
    repeat: float,
    frequency: float,
    presence: float,
) -> None:
    """Lower the logits of the last ``last_n`` of ``last_tokens``."""
    check_penalties(last_n, repeat, frequency, presence)
    lib = _library.load()
    sampler = lib.llama_sampler_init_penalties(
        candidates.n_vocab, last_n, repeat, frequency, presence
    )
    if sampler is not None and last_n > 0:
        for token in list(last_tokens)[-last_n:]:
            lib.llama_sampler_accept(sampler, token)
    apply(candidates, sampler)


def check_penalties(last_n: int, repeat: float, frequency: float, presence: float) -> None:
    """Raise :class:`ValidationError` for penalties that are out of range."""
    check_integer("penalty_last_n", last_n, 0, FARTHEST)
    check_number("penalty_repeat", repeat, 1e-6, 1e6)
    check_number("penalty_freq", frequency, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
    check_number("penalty_present", presence, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)


def softmax(candidates: LlamaTokenDataArray) -> None:
    """Sort by logit, largest first, and fill in the probabilities.

    Raises:
        GenerationError: every token is refused.
    """
    import numpy as np  # noqa: PLC0415 - import of the package is to be quick

    records = candidates.left
    records = records[np.argsort(-records["logit"], kind="stable")]
    top = records["logit"][0]
    if not math.isfinite(top):
        raise GenerationError("nothing can be chosen: every token is refused")
    weights = np.exp(records["logit"] - top)
    records["p"] = weights / weights.sum()
    candidates.replace(records, ordered=True)


def top_k(candidates: LlamaTokenDataArray, k: int, min_keep: int = 1) -> None:
    """Keep the ``k`` likeliest, but at least ``min_keep``; 0 or less keeps all."""
    check_integer("k", k, -_INT32_MAX, _INT32_MAX)
    check_integer("min_keep", min_keep, 0, _INT32_MAX)
    kept = max(k, min_keep) if k > 0 else 0
    apply(candidates, _library.load().llama_sampler_init_top_k(kept))


def top_p(candidates: LlamaTokenDataArray, p: float, min_keep: int = 1) -> None:
    """Keep the likeliest whose probabilities add up to ``p``, but at least ``min_keep``."""
    check_share("p", p, min_keep)
    apply(candidates, _library.load().llama_sampler_init_top_p(p, min_keep))


def min_p(candidates: LlamaTokenDataArray, p: float, min_keep: int = 1) -> None:
    """Keep those at least ``p`` times as likely as the likeliest, but at least ``min_keep``."""
    check_share("p", p, min_keep)
    apply(candidates, _library.load().llama_sampler_init_min_p(p, min_keep))


def typical(candidates: LlamaTokenDataArray, p: float, min_keep: int = 1) -> None:
    """Keep the locally typical ones that add up to ``p``, but at least ``min_keep``."""
    check_share("p", p, min_keep)
    apply(candidates, _library.load().llama_sampler_init_typical(p, min_keep))


def check_share(name: str, value: float, min_keep: int) -> None:
    """Raise :class:`ValidationError` for a share or a number to keep that is out of range."""
    check_number(name, value, 0, 1)
    check_integer("min_keep", min_keep, 0, _INT32_MAX)


def temperature(candidates: LlamaTokenDataArray, value: float) -> None:
    """Divide the logits by ``value``; 0 or less leaves the likeliest alone."""
    check_number("temp", value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
    apply(candidates, _library.load().llama_sampler_init_temp(value))


def likeliest(candidates: LlamaTokenDataArray) -> int:
    """Return the token with the largest logit, of several the first.

    Raises:
        GenerationError: every token is refused.
    """
    records = candidates.left
    best = int(records["logit"].argmax())
    if not math.isfinite(records["logit"][best]):
        raise GenerationError("nothing can be chosen: every token is refused")
    candidates.candidates.selected = best
    return int(records["id"][best])


def draw(candidates: LlamaTokenDataArray, random: Random) -> int:
    """Return a token, drawn by the probabilities.

    Raises:
        GenerationError: every token is refused.
    """
    softmax(candidates)
    records = candidates.left
    sums = records["p"].cumsum(dtype="f8")
    place = min(int(sums.searchsorted(random.random() * sums[-1], "right")), len(records) - 1)
    candidates.candidates.selected = place
    return int(records["id"][place])


def mirostat(
    candidates: LlamaTokenDataArray, tau: float, eta: float, m: int, mu: Any, random: Random
) -> int:
    """Return a token, drawn by Mirostat (Basu et al., 2020, algorithm 1); ``mu`` is changed."""
    import numpy as np  # noqa: PLC0415 - import of the package is to be quick

    check_mirostat(tau, eta)
    check_integer("m", m, 2, _INT32_MAX)
    state = _float_of(mu)
    softmax(candidates)
    p = candidates.left["p"].astype("f8")[:m]
    p = p[p > 0]
    if len(p) > 1:
        ranks = np.arange(1, len(p), dtype="f8")
        t = np.log((ranks + 1) / ranks)
        exponent = float((t * np.log(p[:-1] / p[1:])).sum() / (t * t).sum())
        top_k(candidates, _zipf_cutoff(exponent, state.value, candidates.n_vocab))
    return _learn(candidates, tau, eta, state, random)


def _zipf_cutoff(exponent: float, surprise: float, size: int) -> int:
    """Return how many tokens to keep so that a Zipf law of ``exponent`` has this ``surprise``."""
    beyond = exponent - 1
    try:
        if abs(beyond) < 1e-6:  # the limit of what follows
            k = 2**surprise / math.log(size)
        else:
            k = (beyond * 2**surprise / (1 - size**-beyond)) ** (1 / exponent)
    except (OverflowError, ZeroDivisionError):
        return size
    return max(1, min(int(k), size)) if isinstance(k, float) and math.isfinite(k) else size


def mirostat_v2(
    candidates: LlamaTokenDataArray, tau: float, eta: float, mu: Any, random: Random
) -> int:
    """Return a token, drawn by Mirostat 2.0: of those less surprising than ``mu``."""
    import numpy as np  # noqa: PLC0415 - import of the package is to be quick

    check_mirostat(tau, eta)
    state = _float_of(mu)
    softmax(candidates)
    records = candidates.left
    with np.errstate(divide="ignore"):
        kept = int((-np.log2(records["p"]) <= state.value).sum())
    candidates.replace(records[: max(kept, 1)].copy(), ordered=True)
    return _learn(candidates, tau, eta, state, random)


def check_mirostat(tau: float, eta: float) -> None:
    """Raise :class:`ValidationError` for a target or a rate that is out of range."""
    check_number("tau", tau, 1e-6, 1e6)
    check_number("eta", eta, 0, 1e6)


def _learn(
    candidates: LlamaTokenDataArray,
    tau: float,
    eta: float,
    state: ctypes.c_float,
    random: Random,
) -> int:
    token = draw(candidates, random)
    surprise = -math.log2(candidates.left["p"][candidates.candidates.selected])
    state.value -= eta * (surprise - tau)
    return token


def _float_of(mu: Any) -> ctypes.c_float:
    found = getattr(mu, "contents", getattr(mu, "_obj", mu))
    if not isinstance(found, ctypes.c_float):
        raise ValidationError(f"mu is {mu!r}; give a ctypes.c_float, or a pointer to one")
    return found
