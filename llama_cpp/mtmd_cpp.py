"""mtmd's own functions, structures and constants by their C names (mtmd.h, mtmd-helper.h).

Nothing here is checked: a wrong argument ends the process. Importing this module loads the libraries.
Pointers are integers, None where C gives NULL.
"""

from __future__ import annotations

import ctypes
from ctypes import c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from llama_cpp import _abi, _library

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import Any

    from llama_cpp._abi import *  # noqa: F403 - what the loop below puts here

    def __getattr__(name: str) -> Callable[..., Any]: ...


mtmd_context_p = NewType("mtmd_context_p", int)
mtmd_context_p_ctypes = c_void_p
mtmd_bitmap_p = NewType("mtmd_bitmap_p", int)
mtmd_bitmap_p_ctypes = c_void_p
mtmd_image_tokens_p = NewType("mtmd_image_tokens_p", int)
mtmd_image_tokens_p_ctypes = c_void_p
mtmd_input_chunk_p = NewType("mtmd_input_chunk_p", int)
mtmd_input_chunk_p_ctypes = c_void_p
mtmd_input_chunks_p = NewType("mtmd_input_chunks_p", int)
mtmd_input_chunks_p_ctypes = c_void_p
mtmd_batch_p = NewType("mtmd_batch_p", int)
mtmd_batch_p_ctypes = c_void_p
mtmd_helper_video_p = NewType("mtmd_helper_video_p", int)
mtmd_helper_video_p_ctypes = c_void_p
mtmd_helper_gen_audio_p = NewType("mtmd_helper_gen_audio_p", int)
mtmd_helper_gen_audio_p_ctypes = c_void_p

_functions = _library.load()
for _name, (_home, _, _) in _abi.PROTOTYPES.items():
    if _home == "mtmd":
        globals()[_name] = getattr(_functions, _name)
for _name, _value in vars(_abi).items():
    if _name.startswith(("mtmd_", "MTMD_")):
        globals()[_name] = _value

_libmtmd: ctypes.CDLL = _library.native("mtmd")

mtmd_helper_bitmap_init_from_file_wrapper = _functions.mtmd_helper_bitmap_init_from_file
mtmd_helper_bitmap_init_from_buf_wrapper = _functions.mtmd_helper_bitmap_init_from_buf


def mtmd_helper_bitmap_init_from_file(
    ctx: mtmd_context_p,
    fname: bytes,
    placeholder: bool,
    opt: _abi.mtmd_helper_init_opt | None = None,
) -> mtmd_bitmap_p | None:
    """Return a bitmap made from an image or audio file; None where it cannot be decoded.

    A video has a reader that must outlive its bitmap: make it with
    ``mtmd_helper_bitmap_init_from_file_wrapper``, whose structure holds both.

    Args:
        ctx: a context.
        fname: the file's path, encoded for the file system.
        placeholder: keep the size only, for counting tokens.
        opt: None takes mtmd's defaults.
    """
    opt = _functions.mtmd_helper_init_opt_default() if opt is None else opt
    return _bitmap(_functions.mtmd_helper_bitmap_init_from_file(ctx, fname, placeholder, opt))


def mtmd_helper_bitmap_init_from_buf(
    ctx: mtmd_context_p,
    buf: bytes | ctypes.Array[ctypes.c_uint8],
    length: int,
    placeholder: bool,
    opt: _abi.mtmd_helper_init_opt | None = None,
) -> mtmd_bitmap_p | None:
    """Return a bitmap made from the bytes of an image or audio file; None where they are neither.

    Args:
        ctx: a context.
        buf: the file's content.
        length: its size in bytes.
        placeholder: keep the size only, for counting tokens.
        opt: None takes mtmd's defaults.
    """
    opt = _functions.mtmd_helper_init_opt_default() if opt is None else opt
    data = (ctypes.c_uint8 * len(buf)).from_buffer_copy(buf) if isinstance(buf, bytes) else buf
    return _bitmap(_functions.mtmd_helper_bitmap_init_from_buf(ctx, data, length, placeholder, opt))


def _bitmap(made: _abi.mtmd_helper_bitmap_wrapper) -> mtmd_bitmap_p | None:
    if made.video_ctx is not None:
        if made.bitmap is not None:
            _functions.mtmd_bitmap_free(made.bitmap)
        _functions.mtmd_helper_video_free(made.video_ctx)
        return None
    return None if made.bitmap is None else mtmd_bitmap_p(made.bitmap)


def mtmd_get_audio_bitrate(ctx: mtmd_context_p) -> int:
    """Return what is now called ``mtmd_get_audio_sample_rate``: Hz, -1 without audio."""
    return _functions.mtmd_get_audio_sample_rate(ctx)


def load_shared_library(lib_base_name: str, base_path: str | os.PathLike[str]) -> ctypes.CDLL:
    """Return a library of llama.cpp by its plain name.

    Args:
        lib_base_name: ``mtmd``, ``llama``, ``ggml`` …
        base_path: the folder to load it from, unless it is loaded already.

    Raises:
        LlamaError: it is not there, or cannot be loaded.
    """
    return _library.open_library(Path(base_path), lib_base_name)


def ctypes_function_for_shared_library(
    lib: ctypes.CDLL,
) -> Callable[..., Callable[[Callable[..., object]], Callable[..., object]]]:
    """Return the decorator that binds a Python declaration to a function of ``lib``."""

    def ctypes_function(
        name: str, argtypes: Sequence[type], restype: type | None, enabled: bool = True
    ) -> Callable[[Callable[..., object]], Callable[..., object]]:
        """Replace the decorated declaration by the C function, unless ``enabled`` is False."""

        def bind(declaration: Callable[..., object]) -> Callable[..., object]:
            if not enabled:
                return declaration
            function = lib[name]
            function.argtypes, function.restype = argtypes, restype
            return function

        return bind

    return ctypes_function


ctypes_function = ctypes_function_for_shared_library(_libmtmd)
