"""How to make an inference context, and what of it llama.cpp would assert on."""

from __future__ import annotations

import math
from typing import NamedTuple

from llama_cpp import _abi
from llama_cpp._arguments import check_integer
from llama_cpp._errors import ValidationError
from llama_cpp._threads import default_threads

# llama.cpp's common/arg.cpp offers these for the KV cache; others have no kernels and would abort.
_CACHE_TYPES = {
    _abi.GGML_TYPE_F32: "F32",
    _abi.GGML_TYPE_F16: "F16",
    _abi.GGML_TYPE_BF16: "BF16",
    _abi.GGML_TYPE_Q8_0: "Q8_0",
    _abi.GGML_TYPE_Q4_0: "Q4_0",
    _abi.GGML_TYPE_Q4_1: "Q4_1",
    _abi.GGML_TYPE_IQ4_NL: "IQ4_NL",
    _abi.GGML_TYPE_Q5_0: "Q5_0",
    _abi.GGML_TYPE_Q5_1: "Q5_1",
}

# LLAMA_MAX_SEQ in llama-cparams.h
_MOST_SEQUENCES = 256


class ContextParams(NamedTuple):
    """How to make a context; names as in ``struct llama_context_params``."""

    n_ctx: int = 512
    """Tokens; 0 takes the model's training length. llama.cpp rounds up to a multiple of 256."""
    n_batch: int = 512
    """Most tokens per decode call."""
    n_ubatch: int = 512
    """Most tokens computed at once."""
    n_seq_max: int = 1
    """Number of independent sequences."""
    n_threads: int | None = None
    """Threads for one token at a time; None asks the affinity mask and the cgroup."""
    n_threads_batch: int | None = None
    """Threads for prompts."""
    rope_scaling_type: int = _abi.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED
    pooling_type: int = _abi.LLAMA_POOLING_TYPE_UNSPECIFIED
    attention_type: int = _abi.LLAMA_ATTENTION_TYPE_UNSPECIFIED
    flash_attn: bool | None = None
    """None lets llama.cpp decide."""
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0
    yarn_ext_factor: float = -1.0
    yarn_attn_factor: float = -1.0
    yarn_beta_fast: float = -1.0
    yarn_beta_slow: float = -1.0
    yarn_orig_ctx: int = 0
    type_k: int | None = None
    """``enum ggml_type`` of the K cache; None is F16."""
    type_v: int | None = None
    embeddings: bool = False
    offload_kqv: bool = True
    op_offload: bool | None = None
    swa_full: bool | None = None
    kv_unified: bool = False
    """One buffer for all sequences, so that each may use what others leave."""
    no_perf: bool = True

    def check(self) -> None:
        """Raise :class:`ValidationError` for what llama.cpp would assert on."""
        for name, lowest in (("n_ctx", 0), ("n_batch", 1), ("n_ubatch", 1), ("yarn_orig_ctx", 0)):
            check_integer(name, getattr(self, name), lowest, 2**31 - 1)
        check_integer("n_seq_max", self.n_seq_max, 1, _MOST_SEQUENCES)
        for name in ("n_threads", "n_threads_batch"):
            if (threads := getattr(self, name)) is not None:
                check_integer(name, threads, 1, _abi.GGML_MAX_N_THREADS)
        check_integer("rope_scaling_type", self.rope_scaling_type, -1, 3)
        check_integer("pooling_type", self.pooling_type, -1, 4)
        check_integer("attention_type", self.attention_type, -1, 1)
        for name in (
            "rope_freq_base",
            "rope_freq_scale",
            "yarn_ext_factor",
            "yarn_attn_factor",
            "yarn_beta_fast",
            "yarn_beta_slow",
        ):
            if not math.isfinite(getattr(self, name)):
                raise ValidationError(f"{name} is {getattr(self, name)}; it must be finite")
        for name in ("type_k", "type_v"):
            kind = getattr(self, name)
            if kind is not None and kind not in _CACHE_TYPES:
                known = ", ".join(f"{number} ({text})" for number, text in _CACHE_TYPES.items())
                raise ValidationError(f"{name} is {kind!r}; the KV cache can have {known}")


def native_params(
    params: ContextParams, native: _abi.llama_context_params
) -> _abi.llama_context_params:
    """Return llama.cpp's defaults ``native``, changed to what ``params`` say."""
    threads = default_threads()
    native.n_ctx = params.n_ctx
    # llama.cpp keeps room for an output of each sequence, and asserts that a batch can have so many
    native.n_batch = max(params.n_batch, params.n_seq_max)
    native.n_ubatch = min(params.n_batch, params.n_ubatch)
    native.n_seq_max = params.n_seq_max
    native.n_threads = params.n_threads or threads.generation
    native.n_threads_batch = params.n_threads_batch or params.n_threads or threads.batch
    native.rope_scaling_type = params.rope_scaling_type
    native.pooling_type = params.pooling_type
    native.attention_type = params.attention_type
    if params.flash_attn is not None:
        native.flash_attn_type = int(params.flash_attn)
    native.rope_freq_base = params.rope_freq_base
    native.rope_freq_scale = params.rope_freq_scale
    native.yarn_ext_factor = params.yarn_ext_factor
    native.yarn_attn_factor = params.yarn_attn_factor
    native.yarn_beta_fast = params.yarn_beta_fast
    native.yarn_beta_slow = params.yarn_beta_slow
    native.yarn_orig_ctx = params.yarn_orig_ctx
    if params.type_k is not None:
        native.type_k = params.type_k
    if params.type_v is not None:
        native.type_v = params.type_v
    native.embeddings = params.embeddings
    native.offload_kqv = params.offload_kqv
    if params.op_offload is not None:
        native.op_offload = params.op_offload
    if params.swa_full is not None:
        native.swa_full = params.swa_full
    native.kv_unified = params.kv_unified
    native.no_perf = params.no_perf
    return native
