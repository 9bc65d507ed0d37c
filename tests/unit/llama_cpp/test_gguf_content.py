"""The metadata and tensor descriptions of GGUF files, sound and damaged, written by hand."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from llama_cpp import ModelLoadError
from llama_cpp._gguf_content import Tensor, check_extents, read_content

if TYPE_CHECKING:
    from pathlib import Path

U32, STRING, ARRAY = 4, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    numbers = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return text(name) + numbers + struct.pack("<IQ", kind, offset)


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def write(folder: Path, pairs: list[bytes], tensors: list[bytes] = [], data: int = 0) -> Path:  # noqa: B006 - not changed
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    content = head + b"".join(pairs) + b"".join(tensors)
    (folder / "a.gguf").write_bytes(content + bytes(-len(content) % 32 + data))
    return folder / "a.gguf"


def message(path: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        read_content(path, "model")
    start, end = f"model file {path} is damaged: ", ": download it again and compare its size and"
    assert str(caught.value).startswith(start)
    return str(caught.value)[len(start) :].partition(end)[0]


def test_values(tmp_path: Path) -> None:
    pairs = [
        pair(b"a", U32, struct.pack("<I", 7)),
        pair(b"b", STRING, text("é".encode())),
        pair(b"c", 7, b"\1"),
        pair(b"d", 6, struct.pack("<f", 0.5)),
        pair(b"e", ARRAY, array(5, 2, struct.pack("<2i", -1, 2))),
        pair(b"f", ARRAY, array(STRING, 2, text(b"x") + text(b"yz"))),
        pair(b"g", ARRAY, array(0, 5000, bytes(5000))),
        pair(b"h", 12, struct.pack("<d", 0.1)),
    ]
    content = read_content(write(tmp_path, pairs), "model")
    assert dict(content.pairs) == {
        "a": ("u32", 7),
        "b": ("string", "é"),
        "c": ("bool", True),
        "d": ("f32", 0.5),
        "e": ("array of i32", (-1, 2)),
        "f": ("array of string", None),
        "g": ("array of u8", None),
        "h": ("f64", 0.1),
    }


def test_tensors_and_where_their_data_begins(tmp_path: Path) -> None:
    tensors = [tensor(b"a", (4, 2), 1, 0), tensor(b"b", (3,), 0, 32)]
    path = write(tmp_path, [pair(b"general.alignment", U32, struct.pack("<I", 64))], tensors, 128)
    content = read_content(path, "model")
    assert dict(content.tensors) == {"a": Tensor((4, 2), 1, 0), "b": Tensor((3,), 0, 32)}
    assert content.data_start % 64 == 0
    check_extents(content, path, "model", lambda kind: (1, 2 if kind else 4))


@pytest.mark.parametrize(
    ("pairs", "tensors", "words"),
    [
        ([pair(b"a", 99, b"")], [], "the value of 'a' has the unknown type 99"),
        ([pair(b"a", 7, b"\2")], [], "the value of 'a' is 2, which is no boolean"),
        ([pair(b"a", 7, b"\1")] * 2, [], "the key 'a' is there twice"),
        ([pair(b"a", ARRAY, array(77, 1, b""))], [], "the array 'a' has the unknown type 77"),
        ([pair(b"a", ARRAY, array(4, 2**60, b""))], [], f"the array 'a' has {2**60} values"),
        ([pair(b"a", ARRAY, array(8, 2**60, b""))], [], f"the array 'a' has {2**60} texts"),
        ([pair(b"a", STRING, struct.pack("<Q", 2**63))], [], "it ends within its metadata"),
        ([pair(b"\xff", 7, b"\1")], [], "a text in its metadata is no UTF-8"),
        ([struct.pack("<Q", 70000) + bytes(70000)], [], "a name of 70000 bytes"),
        ([pair(b"general.alignment", U32, bytes(4))], [], "general.alignment is 0"),
        ([], [tensor(b"a", (2,))] * 2, "the tensor 'a' is there twice"),
        ([], [tensor(b"a", ())], "the tensor 'a' has 0 dimensions"),
        ([], [tensor(b"a", (1, 1, 1, 1, 1))], "the tensor 'a' has 5 dimensions"),
        ([], [tensor(b"a", (0,))], "the tensor 'a' has the sizes (0,)"),
        ([], [tensor(b"a", (2**63,))], f"the tensor 'a' has the sizes ({2**63},)"),
    ],
)
def test_damaged(tmp_path: Path, pairs: list[bytes], tensors: list[bytes], words: str) -> None:
    assert message(write(tmp_path, pairs, tensors)) == words


@pytest.mark.parametrize(
    ("sizes", "kind", "words"),
    [
        ((64,), 9, "tensor a has the unknown type 9"),
        ((33,), 1, "rows of tensor a have 33 weights, not whole blocks of 32"),
        ((64, 2), 1, "tensor a ends at byte 164 of 163"),
    ],
)
def test_extents(tmp_path: Path, sizes: tuple[int, ...], kind: int, words: str) -> None:
    path = write(tmp_path, [], [tensor(b"a", sizes, kind)], 67)
    content = read_content(path, "model")
    with pytest.raises(ModelLoadError) as caught:
        check_extents(content, path, "model", lambda number: (32, 17) if number == 1 else (0, 0))
    assert words in str(caught.value)
