"""The metadata and the tensors' places of a GGUF file, read strictly.

llama.cpp's vision library takes what a file says about itself: a value of another type than it expects
ends the process, and data beyond the end of the file stays uninitialised. Format: ggml/docs/gguf.md.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Union

from llama_cpp._errors import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Value = Union[int, float, bool, str, "tuple[int, ...]", "tuple[float, ...]", None]

# gguf.md, enum gguf_metadata_value_type
_SCALARS = {
    0: ("u8", "<B"),
    1: ("i8", "<b"),
    2: ("u16", "<H"),
    3: ("i16", "<h"),
    4: ("u32", "<I"),
    5: ("i32", "<i"),
    6: ("f32", "<f"),
    7: ("bool", "<B"),
    10: ("u64", "<Q"),
    11: ("i64", "<q"),
    12: ("f64", "<d"),
}
_STRING, _ARRAY = 8, 9
_LONGEST_KEY = 65535
# arrays that are longer (a vocabulary's) are skipped: nobody here asks for them
_LONGEST_ARRAY = 4096
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32


class Pair(NamedTuple):
    """A metadata value and its type: ``u32``, ``f32``, ``bool``, ``string``, ``array of i32``."""

    kind: str
    value: Value


class Tensor(NamedTuple):
    """A tensor's description: its sizes (fastest first), ggml's number of its type, its offset."""

    sizes: tuple[int, ...]
    type: int
    offset: int


class GgufContent(NamedTuple):
    """What a file says about itself."""

    pairs: Mapping[str, Pair]
    tensors: Mapping[str, Tensor]
    data_start: int
    size: int


def read_content(path: Path, what: str) -> GgufContent:
    """Read a little-endian GGUF file's metadata and tensor descriptions; no tensor data.

    Args:
        path: a file that :func:`llama_cpp._gguf.check_file` has passed.
        what: how to call it in messages.

    Raises:
        ModelLoadError: it is damaged.
    """
    with path.open("rb") as file:
        try:
            return _Reader(file).content()
        except _DamagedError as error:
            raise ModelLoadError(
                f"{what} file {path} is damaged: {error}: download it again and compare its size "
                "and sha256 with the source"
            ) from None


def check_extents(
    content: GgufContent, path: Path, what: str, block: Callable[[int], tuple[int, int]]
) -> None:
    """Raise where a tensor's data is not wholly inside the file.

    Args:
        content: of the file.
        path: the file.
        what: how to call it in the message.
        block: weights per block and bytes per block of ggml's type of this number; (0, 0) where
            there is no such type.

    Raises:
        ModelLoadError: it is truncated or damaged.
    """
    for name, tensor in content.tensors.items():
        weights, size = block(tensor.type)
        if not weights or not size:
            raise ModelLoadError(
                f"{what} file {path} is damaged, or too new: tensor {name} has the unknown type "
                f"{tensor.type}"
            )
        count = 1
        for length in tensor.sizes:
            count *= length
        if tensor.sizes[0] % weights:
            raise ModelLoadError(
                f"{what} file {path} is damaged: rows of tensor {name} have {tensor.sizes[0]} "
                f"weights, not whole blocks of {weights}"
            )
        end = content.data_start + tensor.offset + count // weights * size
        if end > content.size:
            raise ModelLoadError(
                f"{what} file {path} is truncated or damaged: tensor {name} ends at byte {end} of "
                f"{content.size}: download it again and compare its size and sha256 with the source"
            )


class _DamagedError(Exception):
    """What is wrong, in words."""


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)

    def content(self) -> GgufContent:
        self._bytes(8)  # magic and version: checked by check_file
        tensors, pairs = self._number("<Q"), self._number("<Q")
        metadata: dict[str, Pair] = {}
        for _ in range(pairs):
            key = self._string(_LONGEST_KEY)
            if key in metadata:
                raise _DamagedError(f"the key {key!r} is there twice")
            metadata[key] = self._pair(key)
        found: dict[str, Tensor] = {}
        for _ in range(tensors):
            name = self._string(_LONGEST_KEY)
            if name in found:
                raise _DamagedError(f"the tensor {name!r} is there twice")
            found[name] = self._tensor(name)
        alignment = metadata.get("general.alignment", Pair("u32", _DEFAULT_ALIGNMENT))
        step = alignment.value
        if alignment.kind != "u32" or not isinstance(step, int) or not 0 < step <= 1 << 20:
            raise _DamagedError(f"general.alignment is {step!r}")
        start = -(-self._file.tell() // step) * step
        return GgufContent(pairs=metadata, tensors=found, data_start=start, size=self._size)

    def _bytes(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise _DamagedError("it ends within its metadata")
        return self._file.read(count)

    def _number(self, form: str) -> int:
        value: int = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        return value

    def _string(self, longest: int | None = None) -> str:
        length = self._number("<Q")
        if longest is not None and length > longest:
            raise _DamagedError(f"a name of {length} bytes")
        try:
            text = self._bytes(length).decode()
        except UnicodeDecodeError:
            raise _DamagedError("a text in its metadata is no UTF-8") from None
        return text

    def _pair(self, key: str) -> Pair:
        kind = self._number("<I")
        if kind == _STRING:
            return Pair("string", self._string())
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Pair:
        if kind not in _SCALARS:
            raise _DamagedError(f"the value of {key!r} has the unknown type {kind}")
        name, form = _SCALARS[kind]
        value = self._number(form)
        if name == "bool":
            if value > 1:
                raise _DamagedError(f"the value of {key!r} is {value}, which is no boolean")
            return Pair(name, bool(value))
        return Pair(name, value)

    def _array(self, key: str) -> Pair:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            # a text takes at least its length's 8 bytes
            if count > self._size // 8:
                raise _DamagedError(f"the array {key!r} has {count} texts")
            for _ in range(count):
                self._bytes(self._number("<Q"))
            return Pair("array of string", None)
        if kind not in _SCALARS:
            raise _DamagedError(f"the array {key!r} has the unknown type {kind}")
        name, form = _SCALARS[kind]
        size = struct.calcsize(form)
        if count > _LONGEST_ARRAY:
            left = self._size - self._file.tell()
            if count * size > left:
                raise _DamagedError(f"the array {key!r} has {count} values")
            self._file.seek(count * size, 1)
            return Pair(f"array of {name}", None)
        data = self._bytes(count * size)
        return Pair(f"array of {name}", struct.unpack(f"<{count}{form[1]}", data))

    def _tensor(self, name: str) -> Tensor:
        dimensions = self._number("<I")
        if not 0 < dimensions <= _MOST_DIMENSIONS:
            raise _DamagedError(f"the tensor {name!r} has {dimensions} dimensions")
        sizes = tuple(self._number("<Q") for _ in range(dimensions))
        if not all(0 < size < 1 << 40 for size in sizes):
            raise _DamagedError(f"the tensor {name!r} has the sizes {sizes}")
        return Tensor(sizes=sizes, type=self._number("<I"), offset=self._number("<Q"))
