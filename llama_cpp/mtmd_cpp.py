"""mtmd's own functions, structures and constants by their C names (mtmd.h, mtmd-helper.h).

Nothing here is checked: a wrong argument ends the process. Handles are ``int | None``. The libraries
are loaded when a function is first asked for, or all names at once (``vars(llama_cpp.mtmd_cpp)``).
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import Structure, c_void_p
from typing import TYPE_CHECKING, Any, NewType

from llama_cpp import _abi, _library
from llama_cpp._namespace import Namespace
from llama_cpp.llama_cpp import ctypes_function_for_shared_library, load_shared_library

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llama_cpp._abi import *  # noqa: F403 - what __getattr__ gives

__all__ = ["Structure", "ctypes_function_for_shared_library", "load_shared_library"]

# what a type checker tells apart and Python does not: addresses as integers
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

# Python 3.9 says `typing`
for _type in (
    mtmd_context_p,
    mtmd_bitmap_p,
    mtmd_image_tokens_p,
    mtmd_input_chunk_p,
    mtmd_input_chunks_p,
    mtmd_batch_p,
    mtmd_helper_video_p,
    mtmd_helper_gen_audio_p,
):
    _type.__module__ = __name__


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
    opt = _library.load().mtmd_helper_init_opt_default() if opt is None else opt
    return _bitmap(_library.load().mtmd_helper_bitmap_init_from_file(ctx, fname, placeholder, opt))


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
    opt = _library.load().mtmd_helper_init_opt_default() if opt is None else opt
    data = (ctypes.c_uint8 * len(buf)).from_buffer_copy(buf) if isinstance(buf, bytes) else buf
    return _bitmap(
        _library.load().mtmd_helper_bitmap_init_from_buf(ctx, data, length, placeholder, opt)
    )


def _bitmap(made: _abi.mtmd_helper_bitmap_wrapper) -> mtmd_bitmap_p | None:
    if made.video_ctx is not None:
        if made.bitmap is not None:
            _library.load().mtmd_bitmap_free(made.bitmap)
        _library.load().mtmd_helper_video_free(made.video_ctx)
        return None
    return None if made.bitmap is None else mtmd_bitmap_p(made.bitmap)


def mtmd_get_audio_bitrate(ctx: mtmd_context_p) -> int:
    """Return what is now called ``mtmd_get_audio_sample_rate``: Hz, -1 without audio."""
    return _library.load().mtmd_get_audio_sample_rate(ctx)


def ctypes_function(
    name: str,
    argtypes: Sequence[Any],
    restype: Any,
    enabled: bool = True,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that puts libmtmd's function in place of a declaration.

    Args:
        name: the C function.
        argtypes: ctypes types of its parameters.
        restype: ctypes type of its result; None for void.
        enabled: False leaves the declaration as it is.
    """
    return ctypes_function_for_shared_library(_libmtmd())(name, argtypes, restype, enabled)


def _libmtmd() -> ctypes.CDLL:
    # it is opened with its first function
    _ = _library.load().mtmd_default_marker
    return _library.native("mtmd")


# ---- everything else comes from the headers ------------------------------------------------------

# C's own functions return a structure, where these names have long meant the bitmap
_WRAPPERS = {
    "mtmd_helper_bitmap_init_from_buf_wrapper": "mtmd_helper_bitmap_init_from_buf",
    "mtmd_helper_bitmap_init_from_file_wrapper": "mtmd_helper_bitmap_init_from_file",
}


def __getattr__(name: str) -> Any:
    """Return a name of mtmd's headers."""
    value: object
    if name in _WRAPPERS:
        value = getattr(_library.load(), _WRAPPERS[name])
    elif _abi.PROTOTYPES.get(name, ("",))[0] == "mtmd":
        value = getattr(_library.load(), name)
    elif name.startswith(("mtmd_", "MTMD_")) and hasattr(_abi, name):
        value = getattr(_abi, name)
    else:
        raise AttributeError(f"module 'llama_cpp.mtmd_cpp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what there is."""
    public = (name for name in vars(_abi) if name.startswith(("mtmd_", "MTMD_")))
    functions = (name for name, (library, *_) in _abi.PROTOTYPES.items() if library == "mtmd")
    return sorted({*globals(), *public, *functions, *_WRAPPERS})


sys.modules[__name__].__class__ = Namespace
