from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import gguf_file
from tests.fuzz.gguf_file import GgufFile, Pair, Tensor, parse

if TYPE_CHECKING:
    from pathlib import Path

FILE = GgufFile(
    pairs=(
        Pair(key=b"general.architecture", kind=gguf_file.STRING, value=b"llama"),
        Pair(key=b"a", kind=gguf_file.INT8, value=[-1, 2]),
    ),
    tensors=(Tensor(name=b"t", dims=(3, 2), kind=1, offset=32),),
    data=b"data",
)


@pytest.mark.parametrize("name", ["llama-f32", "llama-q4_0", "bert-f32", "lora-f32"])
def test_put_together_again_it_is_the_same_file(tiny: Path, name: str) -> None:
    content = (tiny / f"{name}.gguf").read_bytes()
    assert parse(content).to_bytes() == content


def test_a_header_by_hand() -> None:
    words = (
        *(b"GGUF\x03\0\0\0", b"\x01\0\0\0\0\0\0\0", b"\x02\0\0\0\0\0\0\0"),
        *(b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0", b"\x05\0\0\0\0\0\0\0llama"),
        *(b"\x01\0\0\0\0\0\0\0a\x09\0\0\0\x01\0\0\0", b"\x02\0\0\0\0\0\0\0\xff\x02"),
        *(b"\x01\0\0\0\0\0\0\0t\x02\0\0\0", b"\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0"),
        b"\x01\0\0\0\x20\0\0\0\0\0\0\0",
    )
    assert FILE.header() == b"".join(words)


def test_parts() -> None:
    assert parse(FILE.to_bytes()) == FILE
    assert FILE.architecture == b"llama"
    assert FILE.index("a") == 1
    assert FILE.with_pair(0, None).architecture == b""
    assert FILE.with_tensor(0, None).tensors == ()
    assert len(FILE.to_bytes()) % 32 == len(b"data")
