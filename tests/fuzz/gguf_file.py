"""A GGUF file taken apart so that it can be damaged with care, and put together again.

Format: ggml/docs/gguf.md in llama.cpp. The package `gguf` cannot write what is wrong, this can.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

Scalar: TypeAlias = "int | float | bool | bytes"
Value: TypeAlias = "Scalar | list[Scalar]"

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = (
    range(13)
)
FORMATS: Final = {
    UINT8: "<B",
    INT8: "<b",
    UINT16: "<H",
    INT16: "<h",
    UINT32: "<I",
    INT32: "<i",
    FLOAT32: "<f",
    BOOL: "<?",
    UINT64: "<Q",
    INT64: "<q",
    FLOAT64: "<d",
}
ALIGNMENT: Final = 32


@dataclass(frozen=True)
class Pair:
    """A key and its value; an array's `kind` is that of its elements."""

    key: bytes
    kind: int
    value: Value

    @property
    def is_array(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.value, list)


@dataclass(frozen=True)
class Tensor:
    """What the header says of a tensor; `dims` are ggml's, the row's length first."""

    name: bytes
    dims: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """The parts of a file, in its order."""

    pairs: tuple[Pair, ...]
    tensors: tuple[Tensor, ...]
    data: bytes = field(repr=False)
    """All after the padding of the header."""

    @property
    def architecture(self) -> bytes:
        """The value of `general.architecture`; empty without it."""
        found = [pair.value for pair in self.pairs if pair.key == b"general.architecture"]
        return found[0] if found and isinstance(found[0], bytes) else b""

    def index(self, key: str) -> int:
        """Return where the pair of a key is.

        Raises:
            ValueError: there is none.
        """
        return [pair.key for pair in self.pairs].index(key.encode())

    def with_pair(self, index: int, pair: Pair | None) -> GgufFile:
        """Return a copy with another pair at a place; None takes it out."""
        between = () if pair is None else (pair,)
        return replace(self, pairs=(*self.pairs[:index], *between, *self.pairs[index + 1 :]))

    def with_tensor(self, index: int, tensor: Tensor | None) -> GgufFile:
        """Return a copy with another tensor at a place; None takes it out."""
        between = () if tensor is None else (tensor,)
        return replace(self, tensors=(*self.tensors[:index], *between, *self.tensors[index + 1 :]))

    def header(self) -> bytes:
        """Return the file's bytes up to the padding before the tensors' data."""
        parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(self.pairs))]
        for pair in self.pairs:
            parts.append(_string(pair.key))
            if isinstance(pair.value, list):
                parts.append(struct.pack("<IIQ", ARRAY, pair.kind, len(pair.value)))
                parts += [_scalar(pair.kind, each) for each in pair.value]
            else:
                parts += [struct.pack("<I", pair.kind), _scalar(pair.kind, pair.value)]
        for tensor in self.tensors:
            dims = struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims)
            parts += [_string(tensor.name), dims, struct.pack("<IQ", tensor.kind, tensor.offset)]
        return b"".join(parts)

    def to_bytes(self) -> bytes:
        """Return the whole file."""
        header = self.header()
        return header + bytes(-len(header) % ALIGNMENT) + self.data


def parse(content: bytes) -> GgufFile:
    """Return the parts of a little-endian file that is as it should be, alignment 32."""
    reader = _Reader(content)
    tensors, pairs = struct.unpack_from("<QQ", content, 8)
    reader.place = 24
    read_pairs = tuple(reader.pair() for _ in range(pairs))
    read_tensors = tuple(reader.tensor() for _ in range(tensors))
    start = reader.place + -reader.place % ALIGNMENT
    return GgufFile(pairs=read_pairs, tensors=read_tensors, data=content[start:])


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def pair(self) -> Pair:
        key, kind = self.string(), self.integer("<I")
        if kind != ARRAY:
            return Pair(key=key, kind=kind, value=self.scalar(kind))
        kind, length = self.integer("<I"), self.integer("<Q")
        return Pair(key=key, kind=kind, value=[self.scalar(kind) for _ in range(length)])

    def tensor(self) -> Tensor:
        name, count = self.string(), self.integer("<I")
        dims = tuple(self.integer("<Q") for _ in range(count))
        return Tensor(name=name, dims=dims, kind=self.integer("<I"), offset=self.integer("<Q"))

    def scalar(self, kind: int) -> Scalar:
        return self.string() if kind == STRING else self._unpack(FORMATS[kind])

    def string(self) -> bytes:
        length = self.integer("<Q")
        self.place += length
        return self.content[self.place - length : self.place]

    def integer(self, form: str) -> int:
        return int(self._unpack(form))

    def _unpack(self, form: str) -> int | float | bool:
        (value,) = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        assert isinstance(value, (int, float))
        return value


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _scalar(kind: int, value: Scalar) -> bytes:
    if kind == STRING:
        assert isinstance(value, bytes)
        return _string(value)
    return struct.pack(FORMATS[kind], value)


def numbers(value: Sequence[Scalar]) -> list[int | float]:
    """Return those of an array's elements that are numbers."""
    return [each for each in value if isinstance(each, (int, float))]
