"""What is in a model file's header that llama.cpp accepts, and dies of while it computes.

What it asserts on while it opens a file becomes an exception by itself (:mod:`llama_cpp._assertions`),
and so does what it refuses. The rest is here: each check names the line of llama.cpp that it is for.
The header is read by ggml's own reader, which survives any file.
"""

from __future__ import annotations

import ctypes
import math
import os
import re
from typing import TYPE_CHECKING

from llama_cpp import _abi, _log
from llama_cpp._errors import ModelLoadError
from llama_cpp._gguf import AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llama_cpp._abi import Functions

# ggml-cpu.c's type_traits_cpu have no kernels for these
_NO_WEIGHTS = {
    *(_abi.GGML_TYPE_Q8_1, _abi.GGML_TYPE_Q8_K, _abi.GGML_TYPE_F64),
    *(_abi.GGML_TYPE_I8, _abi.GGML_TYPE_I16, _abi.GGML_TYPE_I32, _abi.GGML_TYPE_I64),
}
_VECTORS = (b"norm.weight", b".bias")
_WEIGHTS = (b".weight", b".bias", b".scale", b".lora_a", b".lora_b")
# tables of ids, which are no operands
_TABLES = (b"tid2eid", b"d2t", b"t2d")
# the architectures of llama.cpp's that always use M-RoPE (llama_model_rope_type)
_SECTIONED = {
    *(b"paddleocr", b"qwen2vl", b"qwen3tts", b"qwen3vl", b"qwen3vlmoe", b"qwen35", b"qwen35moe"),
    b"qwen4exp",
}
_BYTE = 6  # LLAMA_TOKEN_TYPE_BYTE in llama.h
_BYTES = 256
_BYTE_TEXT = re.compile(rb"<0x[0-9A-Fa-f]{2}>", re.ASCII)
_WITHOUT_BYTES = (b"bert", b"rwkv", b"none")


def check_header(
    lib: Functions,
    path: Path,
    what: str = "model",
    overrides: Mapping[str, object] | None = None,
) -> None:
    """Raise :class:`ModelLoadError` for what would end the process later.

    A file that ggml cannot read is left to llama.cpp, which says why.

    Args:
        lib: the native functions.
        path: the file.
        what: how to call it in the message.
        overrides: values that take the place of the file's, by their keys.
    """
    with _log.kept():
        pointer = lib.gguf_init_from_file(os.fsencode(path), _abi.gguf_init_params(no_alloc=True))
        _log.clear()
    if pointer is None:
        return
    try:
        problem = _problem(_Header(lib, pointer), overrides or {})
    finally:
        lib.gguf_free(pointer)
    if problem is not None:
        raise ModelLoadError(f"{what} file {path} is damaged: {problem}; {AGAIN}")


class _Header:
    """ggml's view of a header."""

    def __init__(self, lib: Functions, pointer: int) -> None:
        self.lib = lib
        self.pointer = pointer

    def keys(self) -> dict[bytes, int]:
        """Return the keys and their numbers."""
        lib = self.lib
        return {
            lib.gguf_get_key(self.pointer, index) or b"": index
            for index in range(lib.gguf_get_n_kv(self.pointer))
        }

    def text(self, index: int | None) -> bytes:
        """Return a value that is a text; empty for others."""
        if index is None or self.lib.gguf_get_kv_type(self.pointer, index) != _abi.GGUF_TYPE_STRING:
            return b""
        return self.lib.gguf_get_val_str(self.pointer, index) or b""

    def number(self, index: int) -> float:
        """Return a value that is a number of 32 bits; 0 for others, which llama.cpp refuses."""
        if self.lib.gguf_get_kv_type(self.pointer, index) != _abi.GGUF_TYPE_FLOAT32:
            return 0.0
        return float(self.lib.gguf_get_val_f32(self.pointer, index))

    def length(self, index: int | None, kind: int) -> int:
        """Return the length of an array of a kind; 0 for others."""
        lib = self.lib
        if index is None or lib.gguf_get_kv_type(self.pointer, index) != _abi.GGUF_TYPE_ARRAY:
            return 0
        if lib.gguf_get_arr_type(self.pointer, index) != kind:
            return 0
        return lib.gguf_get_arr_n(self.pointer, index)

    def integers(self, index: int | None) -> memoryview:
        """Return an array of 32-bit integers, to be read while the header is there."""
        length = self.length(index, _abi.GGUF_TYPE_INT32) or self.length(
            index, _abi.GGUF_TYPE_UINT32
        )
        if index is None or not length:
            return memoryview(b"").cast("i")
        address = self.lib.gguf_get_arr_data(self.pointer, index)
        assert address is not None
        return memoryview((ctypes.c_int32 * length).from_address(address)).cast("B").cast("i")

    def item(self, index: int, place: int) -> bytes:
        """Return a text of an array of texts."""
        return self.lib.gguf_get_arr_str(self.pointer, index, place) or b""


def _problem(header: _Header, overrides: Mapping[str, object]) -> str | None:
    keys = header.keys()
    return (
        _of_epsilons(header, keys, overrides)
        or _of_sections(header, keys)
        or _of_tensors(header)
        or _of_bytes(header, keys)
        or _of_missing_bytes(header, keys)
        or _of_rwkv(header, keys)
    )


def _of_epsilons(
    header: _Header, keys: Mapping[bytes, int], overrides: Mapping[str, object]
) -> str | None:
    # ops.cpp: GGML_ASSERT(eps >= 0.0f)
    for key, index in keys.items():
        if not key.endswith((b"_epsilon", b".epsilon", b"_eps", b".eps")):
            continue
        name = key.decode("utf-8", "replace")
        value = overrides.get(name, None)
        number = float(value) if isinstance(value, (int, float)) else header.number(index)
        if math.isnan(number) or number < 0:
            return f"{name} is {number:g}, and must not be negative"
    return None


def _of_sections(header: _Header, keys: Mapping[bytes, int]) -> str | None:
    # ops.cpp: GGML_ASSERT(sections[0] > 0 || sections[1] > 0 || sections[2] > 0)
    architecture = header.text(keys.get(b"general.architecture"))
    name = architecture + b".rope.dimension_sections"
    if architecture not in _SECTIONED or any(
        each > 0 for each in header.integers(keys.get(name))[:3]
    ):
        return None
    return f"{name.decode()} has no section above zero"


def _of_tensors(header: _Header) -> str | None:
    lib = header.lib
    for index in range(lib.gguf_get_n_tensors(header.pointer)):
        kind = lib.gguf_get_tensor_type(header.pointer, index)
        name = lib.gguf_get_tensor_name(header.pointer, index) or b""
        if kind == _abi.GGML_TYPE_F32 and lib.gguf_get_tensor_size(header.pointer, index):
            continue
        text = name.decode("utf-8", "replace")
        if not lib.gguf_get_tensor_size(header.pointer, index):
            # mul_mat divides by the dimensions
            return f"tensor {text} is empty"
        type_name = (lib.ggml_type_name(kind) or b"").decode().upper()
        if kind in _NO_WEIGHTS and name.endswith(_WEIGHTS) and not any(t in name for t in _TABLES):
            return f"tensor {text} has the type {type_name}, which nothing multiplies with"
        if name.endswith(_VECTORS) and b"exps" not in name:
            # binary-ops.cpp: "unsupported types"
            return f"tensor {text} has the type {type_name}, and norms and biases are F32"
    return None


def _of_bytes(header: _Header, keys: Mapping[bytes, int]) -> str | None:
    # llama-vocab.cpp, token_to_byte: `substr(3, 2)` throws for a short text, others abort
    kinds = header.integers(keys.get(b"tokenizer.ggml.token_type"))
    texts = keys.get(b"tokenizer.ggml.tokens")
    if texts is None or _BYTE not in kinds:
        return None
    model = header.text(keys.get(b"tokenizer.ggml.model"))
    count = header.length(texts, _abi.GGUF_TYPE_STRING)
    for token, kind in enumerate(kinds[:count]):
        if kind != _BYTE:
            continue
        if model in _WITHOUT_BYTES:
            return (
                f"token {token} is said to be a byte, which a {model.decode()} vocabulary has not"
            )
        text = header.item(texts, token)
        if not _BYTE_TEXT.fullmatch(text):
            shown = text.decode("utf-8", "replace")[:40]
            return f"token {token} is said to be a byte, and its text is {shown!r}"
    return None


def _of_missing_bytes(header: _Header, keys: Mapping[bytes, int]) -> str | None:
    # llama-vocab.cpp, byte_to_token: `token_to_id.at` throws for a byte that is no token
    kinds = header.integers(keys.get(b"tokenizer.ggml.token_type"))
    texts = keys.get(b"tokenizer.ggml.tokens")
    if texts is None or header.text(keys.get(b"tokenizer.ggml.model")) not in {b"llama", b"t5"}:
        return None
    count = header.length(texts, _abi.GGUF_TYPE_STRING)
    places = [token for token, kind in enumerate(kinds[:count]) if kind == _BYTE]
    if len({header.item(texts, token) for token in places}) == _BYTES:
        return None
    every = {header.item(texts, token) for token in range(count)}
    missing = [
        byte
        for byte in range(_BYTES)
        if b"<0x%02X>" % byte not in every and bytes([byte]) not in every
    ]
    # a vocabulary without bytes is another matter
    if missing and any(_BYTE_TEXT.fullmatch(text) for text in every):
        return f"its vocabulary has tokens for bytes, and none for 0x{missing[0]:02X}"
    return None


def _of_rwkv(header: _Header, keys: Mapping[bytes, int]) -> str | None:
    # llama-vocab.cpp, llm_tokenizer_rwkv_session: where no token is a beginning of what its trie has
    # followed, it stays at the same place for ever
    texts = keys.get(b"tokenizer.ggml.tokens")
    if texts is None or header.text(keys.get(b"tokenizer.ggml.model")) != b"rwkv":
        return None
    count = header.length(texts, _abi.GGUF_TYPE_STRING)
    tokens = {_unescaped(header.item(texts, place)) for place in range(count)}
    for first in sorted({token[:1] for token in tokens if token}):
        if first not in tokens:
            return f"tokens of its RWKV vocabulary begin with {first!r}, which is none itself"
    return None


_ESCAPED = re.compile(rb"\\(?:x(..)|(.))", re.DOTALL)
_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r"}


def _unescaped(text: bytes) -> bytes:
    def replaced(found: re.Match[bytes]) -> bytes:
        digits, character = found.groups()
        if digits is None:
            return _ESCAPES.get(character, character)
        try:
            return bytes([int(digits, 16)])
        except ValueError:
            return b""

    return _ESCAPED.sub(replaced, text)
