"""ggml's worker threads, kept alive between calls.

Without a pool of its own a context starts and joins its threads for every graph. Built without
OpenMP, as these libraries are, that costs milliseconds per token with two threads on a busy machine
and tens with four; with a pool it is microseconds.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_cpp._abi import Functions

# ggml-cpu.h: they live in the CPU module, which is reached through ggml's registry only.
_New = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_abi.ggml_threadpool_params))
_Free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

_POLL = 1


def attach(
    lib: Functions, context: int, n_threads: int, n_threads_batch: int
) -> Callable[[], object]:
    """Give a context its own worker threads.

    Args:
        lib: llama.cpp's functions.
        context: a ``struct llama_context *`` that nobody computes on yet.
        n_threads: threads for one token at a time.
        n_threads_batch: threads for prompts.

    Returns:
        What frees them, to be called after the context is freed.
    """
    registry = lib.ggml_backend_reg_by_name(b"CPU")
    if registry is None:
        return _nothing
    new = lib.ggml_backend_reg_get_proc_address(registry, b"ggml_threadpool_new")
    free = lib.ggml_backend_reg_get_proc_address(registry, b"ggml_threadpool_free")
    if new is None or free is None:
        return _nothing
    # A thread alone needs no pool, and a pool of two sizes would keep the surplus spinning.
    pools = {
        count: _make(lib, _New(new), count) for count in {n_threads, n_threads_batch} if count > 1
    }
    lib.llama_attach_threadpool(context, pools.get(n_threads), pools.get(n_threads_batch))
    release = _Free(free)

    def release_all() -> None:
        for pool in pools.values():
            release(pool)

    return release_all


def _make(lib: Functions, new: Callable[..., int | None], count: int) -> int | None:
    params = lib.ggml_threadpool_params_default(count)
    # ggml's 50 has every worker spin for some 170 ms after each call; generation is as fast with 1
    params.poll = _POLL
    return new(ctypes.byref(params))


def _nothing() -> None:
    """Free no threads: this build offers none."""
