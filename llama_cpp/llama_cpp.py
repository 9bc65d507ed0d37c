"""llama.cpp's own functions, structures and constants by their C names.

Nothing here is checked: a wrong argument ends the process. Handles are ``int | None``. The libraries
are loaded when a function is first asked for, or all names at once (``vars(llama_cpp.llama_cpp)``).
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType

from llama_cpp import _abi, _library
from llama_cpp._namespace import Namespace

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from llama_cpp._abi import *  # noqa: F403 - what __getattr__ gives
    from llama_cpp._functions import *  # noqa: F403

    _lib: ctypes.CDLL
    LLAMA_MAX_DEVICES: int

# ---- names of types --------------------------------------------------------------------------

llama_token = ctypes.c_int32
llama_pos = ctypes.c_int32
llama_seq_id = ctypes.c_int32
llama_state_seq_flags = ctypes.c_uint32
llama_log_callback = _abi.ggml_log_callback


class llama_token_p(ctypes.POINTER(llama_token)):  # type: ignore[misc]  # noqa: N801 - C's name
    """A pointer to token ids."""

    _type_ = llama_token


llama_token_data_p = ctypes.POINTER(_abi.llama_token_data)
llama_token_data_array_p = ctypes.POINTER(_abi.llama_token_data_array)
llama_logit_bias_p = ctypes.POINTER(_abi.llama_logit_bias)

# what a type checker tells apart and Python does not: addresses as integers
llama_vocab_p = NewType("llama_vocab_p", int)
llama_model_p = NewType("llama_model_p", int)
llama_context_p = NewType("llama_context_p", int)
llama_batch_ext_p = NewType("llama_batch_ext_p", int)
llama_memory_t = NewType("llama_memory_t", int)
llama_kv_cache_p = NewType("llama_kv_cache_p", int)
llama_sampler_p = NewType("llama_sampler_p", int)
llama_adapter_lora_p = NewType("llama_adapter_lora_p", int)
gguf_context_p = NewType("gguf_context_p", int)

llama_vocab_p_ctypes = ctypes.c_void_p
llama_model_p_ctypes = ctypes.c_void_p
llama_context_p_ctypes = ctypes.c_void_p
llama_batch_ext_p_ctypes = ctypes.c_void_p
llama_memory_t_ctypes = ctypes.c_void_p
llama_kv_cache_p_ctypes = ctypes.c_void_p
llama_sampler_p_ctypes = ctypes.POINTER(_abi.llama_sampler)
gguf_context_p_ctypes = ctypes.c_void_p


class llama_adapter_lora_p_ctypes(ctypes.POINTER(ctypes.c_void_p)):  # type: ignore[misc]  # noqa: N801
    """A pointer to LoRA adapters, as ``llama_set_adapters_lora`` takes it."""

    _type_ = ctypes.c_void_p


# where they are made is not the same in every Python
for _type in (
    llama_vocab_p,
    llama_model_p,
    llama_context_p,
    llama_batch_ext_p,
    llama_memory_t,
    llama_kv_cache_p,
    llama_sampler_p,
    llama_adapter_lora_p,
    gguf_context_p,
    llama_token_data_p,
    llama_token_data_array_p,
    llama_logit_bias_p,
    llama_sampler_p_ctypes,
):
    _type.__module__ = __name__

# ---- enum llama_vocab_pre_type of llama.cpp's src/llama-vocab.h --------------------------------

LLAMA_VOCAB_PRE_TYPE_DEFAULT = 0
LLAMA_VOCAB_PRE_TYPE_LLAMA3 = 1
LLAMA_VOCAB_PRE_TYPE_DEEPSEEK_LLM = 2
LLAMA_VOCAB_PRE_TYPE_DEEPSEEK_CODER = 3
LLAMA_VOCAB_PRE_TYPE_FALCON = 4
LLAMA_VOCAB_PRE_TYPE_MPT = 5
LLAMA_VOCAB_PRE_TYPE_STARCODER = 6
LLAMA_VOCAB_PRE_TYPE_GPT2 = 7
LLAMA_VOCAB_PRE_TYPE_REFACT = 8
LLAMA_VOCAB_PRE_TYPE_COMMAND_R = 9
LLAMA_VOCAB_PRE_TYPE_STABLELM2 = 10
LLAMA_VOCAB_PRE_TYPE_QWEN2 = 11
LLAMA_VOCAB_PRE_TYPE_OLMO = 12
LLAMA_VOCAB_PRE_TYPE_DBRX = 13
LLAMA_VOCAB_PRE_TYPE_SMAUG = 14
LLAMA_VOCAB_PRE_TYPE_PORO = 15
LLAMA_VOCAB_PRE_TYPE_CHATGLM3 = 16
LLAMA_VOCAB_PRE_TYPE_CHATGLM4 = 17
LLAMA_VOCAB_PRE_TYPE_VIKING = 18
LLAMA_VOCAB_PRE_TYPE_JAIS = 19
LLAMA_VOCAB_PRE_TYPE_TEKKEN = 20
LLAMA_VOCAB_PRE_TYPE_SMOLLM = 21
LLAMA_VOCAB_PRE_TYPE_CODESHELL = 22
LLAMA_VOCAB_PRE_TYPE_BLOOM = 23
LLAMA_VOCAB_PRE_TYPE_GPT3_FINNISH = 24
LLAMA_VOCAB_PRE_TYPE_EXAONE = 25
LLAMA_VOCAB_PRE_TYPE_CHAMELEON = 26
LLAMA_VOCAB_PRE_TYPE_MINERVA = 27
LLAMA_VOCAB_PRE_TYPE_DEEPSEEK3_LLM = 28
LLAMA_VOCAB_PRE_TYPE_GPT4O = 29
LLAMA_VOCAB_PRE_TYPE_SUPERBPE = 30
LLAMA_VOCAB_PRE_TYPE_TRILLION = 31
LLAMA_VOCAB_PRE_TYPE_BAILINGMOE = 32
LLAMA_VOCAB_PRE_TYPE_LLAMA4 = 33
LLAMA_VOCAB_PRE_TYPE_PIXTRAL = 34
LLAMA_VOCAB_PRE_TYPE_SEED_CODER = 35
LLAMA_VOCAB_PRE_TYPE_HUNYUAN = 36
LLAMA_VOCAB_PRE_TYPE_KIMI_K2 = 37
LLAMA_VOCAB_PRE_TYPE_HUNYUAN_DENSE = 38
LLAMA_VOCAB_PRE_TYPE_GROK_2 = 39
LLAMA_VOCAB_PRE_TYPE_GRANITE_DOCLING = 40
LLAMA_VOCAB_PRE_TYPE_MINIMAX_M2 = 41
LLAMA_VOCAB_PRE_TYPE_AFMOE = 42
LLAMA_VOCAB_PRE_TYPE_SOLAR_OPEN = 43
LLAMA_VOCAB_PRE_TYPE_YOUTU = 44
LLAMA_VOCAB_PRE_TYPE_EXAONE_MOE = 45
LLAMA_VOCAB_PRE_TYPE_QWEN35 = 46
LLAMA_VOCAB_PRE_TYPE_TINY_AYA = 47
LLAMA_VOCAB_PRE_TYPE_JOYAI_LLM = 48
LLAMA_VOCAB_PRE_TYPE_JAIS2 = 49
LLAMA_VOCAB_PRE_TYPE_GEMMA4 = 50
LLAMA_VOCAB_PRE_TYPE_SARVAM_MOE = 51
LLAMA_VOCAB_PRE_TYPE_MINICPM5 = 52
LLAMA_VOCAB_PRE_TYPE_WHITESPACE = 53
LLAMA_VOCAB_PRE_TYPE_GRANITE_EMB_MULTI = 54
LLAMA_VOCAB_PRE_TYPE_MELLUM2 = 55
LLAMA_VOCAB_PRE_TYPE_LAGUNA = 56
LLAMA_VOCAB_PRE_TYPE_HY_V4 = 57
LLAMA_VOCAB_PRE_TYPE_SPARK2_5 = 58
LLAMA_VOCAB_PRE_TYPE_UFAKZEKA = 59

# ---- fields that llama.cpp's structures no longer have -------------------------------------------

# load_mode → use_mmap, use_mlock
_LOAD_MODES = {
    _abi.LLAMA_LOAD_MODE_AUTO: (True, False),
    _abi.LLAMA_LOAD_MODE_MMAP: (True, False),
    _abi.LLAMA_LOAD_MODE_MMAP_MLOCK: (True, True),
    _abi.LLAMA_LOAD_MODE_MLOCK: (False, True),
    _abi.LLAMA_LOAD_MODE_NONE: (False, False),
    _abi.LLAMA_LOAD_MODE_DIRECT_IO: (False, False),
}


def _load_flag(index: int) -> property:
    """Return a property for one of the two flags that ``load_mode`` stands for now."""

    def read(params: _abi.llama_model_params) -> bool:
        return _LOAD_MODES[params.load_mode][index]

    def write(params: _abi.llama_model_params, value: bool) -> None:
        flags = list(_LOAD_MODES[params.load_mode])
        if flags[index] != bool(value):
            flags[index] = bool(value)
            wanted = (flags[0], flags[1])
            params.load_mode = next(mode for mode, has in _LOAD_MODES.items() if has == wanted)

    return property(read, write)


def _read_flash_attn(params: _abi.llama_context_params) -> bool:
    return params.flash_attn_type == _abi.LLAMA_FLASH_ATTN_TYPE_ENABLED


def _write_flash_attn(params: _abi.llama_context_params, value: bool) -> None:
    params.flash_attn_type = int(bool(value))


def _ignore(params: _abi.llama_context_params, value: bool) -> None:
    """Do nothing: a batch says which tokens have logits."""


for _structure, _name, _property in (
    (_abi.llama_model_params, "use_mmap", _load_flag(0)),
    (_abi.llama_model_params, "use_mlock", _load_flag(1)),
    (_abi.llama_context_params, "flash_attn", property(_read_flash_attn, _write_flash_attn)),
    (_abi.llama_context_params, "logits_all", property(lambda _params: False, _ignore)),
):
    setattr(_structure, _name, _property)

# ---- functions that llama.cpp no longer has ----------------------------------------------------


def llama_apply_adapter_cvec(
    ctx: int,
    data: Any,
    len: int,  # noqa: A002 - the C parameter's name
    n_embd: int,
    il_start: int,
    il_end: int,
) -> int:
    """Call ``llama_set_adapter_cvec``, which is its name now.

    Args:
        ctx: the context.
        data: float32 values, ``n_embd`` for each layer from 1 on; None takes the vector out.
        len: how many floats.
        n_embd: length of one layer's vector.
        il_start: first layer it is applied to, inclusive.
        il_end: last layer, inclusive.

    Returns:
        0, or -1 where it does not fit the model.
    """
    return _library.load().llama_set_adapter_cvec(ctx, data, len, n_embd, il_start, il_end)


def llama_set_adapter_lora(ctx: int, adapter: int, scale: float) -> int:
    """Apply one LoRA adapter by ``llama_set_adapters_lora``, in place of all applied before.

    Args:
        ctx: the context.
        adapter: what ``llama_adapter_lora_init`` returned.
        scale: its strength.

    Returns:
        0.
    """
    adapters, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(scale)
    return _library.load().llama_set_adapters_lora(ctx, adapters, 1, scales)


# ---- binding more functions --------------------------------------------------------------------


def load_shared_library(lib_base_name: str, base_path: str | os.PathLike[str]) -> ctypes.CDLL:
    """Load a library from a folder.

    Args:
        lib_base_name: its name without prefix and suffix: ``llama``, ``mtmd``.
        base_path: the folder it lies in.

    Raises:
        FileNotFoundError: it is not there.
        RuntimeError: it cannot be loaded.
    """
    folder = Path(base_path)
    path = _library.find(folder, lib_base_name)
    if path is None:
        raise FileNotFoundError(
            f"{folder} has no {_library.file_name(lib_base_name)}; the package's own libraries lie "
            f"in {_library.library_folder()}"
        )
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeError(f"cannot load {path}: {error}") from error


def ctypes_function_for_shared_library(
    lib: ctypes.CDLL,
) -> Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Return a decorator like :func:`ctypes_function` for another library.

    Args:
        lib: the library that has the functions.
    """

    def ctypes_function(
        name: str,
        argtypes: Sequence[Any],
        restype: Any,
        enabled: bool = True,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def bind(declaration: Callable[..., Any]) -> Callable[..., Any]:
            if not enabled:
                return declaration
            # an item of a CDLL is a fresh function object, which nobody else can re-declare
            function = lib[name]
            function.argtypes = list(argtypes)
            function.restype = restype
            function.__doc__ = declaration.__doc__
            return function

        return bind

    return ctypes_function


def ctypes_function(
    name: str,
    argtypes: Sequence[Any],
    restype: Any,
    enabled: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that puts libllama's function in place of a declaration.

    Args:
        name: the C function.
        argtypes: ctypes types of its parameters.
        restype: ctypes type of its result; None for void.
        enabled: False leaves the declaration as it is.
    """
    return ctypes_function_for_shared_library(_library.native("llama"))(
        name, argtypes, restype, enabled
    )


# ---- everything else comes from the headers ------------------------------------------------------

# mtmd's functions are mtmd_cpp's, and a build need not have RPC
_LIBRARIES = frozenset({"llama", "ggml", "ggml-base"})


def __getattr__(name: str) -> object:
    """Return a name of llama.cpp's headers, or ``_lib``, the loaded libllama."""
    value: object
    if name == "_lib":
        value = _library.native("llama")
    elif name in _abi.PROTOTYPES:
        value = getattr(_library.load(), name)
    elif name == "LLAMA_MAX_DEVICES":
        value = _library.load().llama_max_devices()
    elif name.startswith("_") or not hasattr(_abi, name):
        raise AttributeError(f"module 'llama_cpp.llama_cpp' has no attribute {name!r}")
    else:
        value = getattr(_abi, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what there is; mtmd's and RPC's functions are given but not listed."""
    public = (name for name in vars(_abi) if not name.startswith("_"))
    functions = (name for name, (library, *_) in _abi.PROTOTYPES.items() if library in _LIBRARIES)
    return sorted({*globals(), *public, *functions, "_lib", "LLAMA_MAX_DEVICES"})


sys.modules[__name__].__class__ = Namespace
