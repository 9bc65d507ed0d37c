"""What llama.cpp's own parameter structures ask for, as the core's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from llama_cpp import _abi, _library
from llama_cpp._context_params import ContextParams
from llama_cpp._errors import ValidationError
from llama_cpp._model import ModelParams

if TYPE_CHECKING:
    from collections.abc import Callable

_MAPPED = frozenset(
    {
        _abi.LLAMA_LOAD_MODE_AUTO,
        _abi.LLAMA_LOAD_MODE_MMAP,
        _abi.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }
)
_LOCKED = frozenset({_abi.LLAMA_LOAD_MODE_MLOCK, _abi.LLAMA_LOAD_MODE_MMAP_MLOCK})

_GPUS = ("GPU", "IGPU")

# fields that have no counterpart in ContextParams: they keep llama.cpp's own values
_FIXED = ("n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "ctx_type", "n_samplers")


def model_params(native: _abi.llama_model_params) -> ModelParams:
    """Return what a ``struct llama_model_params`` asks for.

    Raises:
        ValidationError: it asks for something that the core does not do.
    """
    if native.devices or native.tensor_buft_overrides:
        raise ValidationError(
            "devices and tensor_buft_overrides cannot be chosen here; "
            "call llama_cpp.llama_model_load_from_file() for a model of your own"
        )
    if native.load_mode not in _MAPPED | _LOCKED | {_abi.LLAMA_LOAD_MODE_NONE}:
        raise ValidationError(f"load_mode is {native.load_mode}; choose LLAMA_LOAD_MODE_AUTO")
    default = _library.load().llama_model_default_params()
    # llama.cpp's own choice is all layers, which asks for nothing where there is no GPU
    unasked = native.n_gpu_layers == default.n_gpu_layers and not any(
        device.kind in _GPUS for device in _library.devices()
    )
    return ModelParams(
        n_gpu_layers=0 if unasked else native.n_gpu_layers,
        split_mode=native.split_mode,
        main_gpu=native.main_gpu,
        tensor_split=_tensor_split(native),
        vocab_only=native.vocab_only,
        use_mmap=native.load_mode in _MAPPED,
        use_mlock=native.load_mode in _LOCKED,
        check_tensors=native.check_tensors,
        kv_overrides=tuple(_overrides(native)),
    )


def _tensor_split(native: _abi.llama_model_params) -> tuple[float, ...] | None:
    if not native.tensor_split:
        return None
    shares = tuple(native.tensor_split[: max(_library.load().llama_max_devices(), 1)])
    return shares if any(shares) else None


def _overrides(native: _abi.llama_model_params) -> list[tuple[str, bool | int | float | str]]:
    found: list[tuple[str, bool | int | float | str]] = []
    if not native.kv_overrides:
        return found
    index = 0
    # llama.h: the list ends with an empty key
    while native.kv_overrides[index].key:
        entry = native.kv_overrides[index]
        value: bool | int | float | str = {
            _abi.LLAMA_KV_OVERRIDE_TYPE_INT: entry.val_i64,
            _abi.LLAMA_KV_OVERRIDE_TYPE_FLOAT: entry.val_f64,
            _abi.LLAMA_KV_OVERRIDE_TYPE_BOOL: entry.val_bool,
            _abi.LLAMA_KV_OVERRIDE_TYPE_STR: entry.val_str.decode("utf-8", "replace"),
        }[entry.tag]
        found.append((entry.key.decode("utf-8", "replace"), value))
        index += 1
    return found


def progress(native: _abi.llama_model_params) -> Callable[[float], object] | None:
    """Return the progress callback; None where there is none."""
    callback = native.progress_callback
    if not callback:
        return None
    data = native.progress_callback_user_data
    return lambda share: cast("object", callback(share, data))


def context_params(native: _abi.llama_context_params) -> ContextParams:
    """Return what a ``struct llama_context_params`` asks for.

    Raises:
        ValidationError: it asks for something that the core does not do.
    """
    default = _library.load().llama_context_default_params()
    changed = [name for name in _FIXED if getattr(native, name) != getattr(default, name)]
    changed += [
        name for name in ("cb_eval", "abort_callback", "ctx_other") if getattr(native, name)
    ]
    if changed:
        raise ValidationError(
            f"{', '.join(changed)} cannot be chosen here; "
            "call llama_cpp.llama_init_from_model() for a context of your own"
        )
    automatic = native.flash_attn_type == _abi.LLAMA_FLASH_ATTN_TYPE_AUTO
    return ContextParams(
        n_ctx=native.n_ctx,
        n_batch=native.n_batch,
        n_ubatch=native.n_ubatch,
        n_seq_max=native.n_seq_max,
        n_threads=native.n_threads,
        n_threads_batch=native.n_threads_batch,
        rope_scaling_type=native.rope_scaling_type,
        pooling_type=native.pooling_type,
        attention_type=native.attention_type,
        flash_attn=None if automatic else bool(native.flash_attn_type),
        rope_freq_base=native.rope_freq_base,
        rope_freq_scale=native.rope_freq_scale,
        yarn_ext_factor=native.yarn_ext_factor,
        yarn_attn_factor=native.yarn_attn_factor,
        yarn_beta_fast=native.yarn_beta_fast,
        yarn_beta_slow=native.yarn_beta_slow,
        yarn_orig_ctx=native.yarn_orig_ctx,
        type_k=native.type_k,
        type_v=native.type_v,
        embeddings=native.embeddings,
        offload_kqv=native.offload_kqv,
        op_offload=native.op_offload,
        swa_full=native.swa_full,
        kv_unified=native.kv_unified,
        no_perf=native.no_perf,
    )
