"""Which architecture a model needs, and whether the libraries know it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from llama_cpp._doctor.model_file import knows_architecture, model_architecture
from llama_cpp._errors import ModelLoadError

if TYPE_CHECKING:
    from pathlib import Path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*pairs: bytes) -> bytes:
    # padded, for the header's check counts at least 13 bytes per pair
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + b"".join(pairs) + bytes(64)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("qwen3vl")
BEFORE = [
    text("a.number") + struct.pack("<II", 4, 7),
    text("a.text") + struct.pack("<I", 8) + text("x"),
    text("an.array") + struct.pack("<IIQ", 9, 4, 3) + bytes(12),
    text("texts") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("yz"),
]


def test_architecture(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(gguf(*BEFORE, ARCHITECTURE))
    assert model_architecture(model) == "qwen3vl"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gguf(*BEFORE), "does not say its architecture (general.architecture)"),
        (
            gguf(text("x") + struct.pack("<I", 99) + bytes(8)),
            "is damaged: it has a value of unknown type 99; download it again",
        ),
        (
            gguf(struct.pack("<Q", 1 << 40) + bytes(8)),
            f"is damaged: it has a name of {1 << 40} bytes; download it again",
        ),
        (
            gguf(*BEFORE, ARCHITECTURE)[:140],
            "is damaged: it ends in the middle of its metadata; download it again",
        ),
        (b"<!DOCTYPE html><html></html>", "it looks like an HTML page (a failed download?)"),
    ],
)
def test_no_architecture(tmp_path: Path, content: bytes, message: str) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        model_architecture(model)
    assert str(caught.value).endswith(message)


def test_known_by_its_name_in_the_library(tmp_path: Path) -> None:
    (tmp_path / "libllama.so").write_bytes(b"\x7fELF\0qwen3\0qwen3vl\0gemma3\0")
    assert knows_architecture(tmp_path, "qwen3vl")
    assert not knows_architecture(tmp_path, "qwen3v")


@pytest.mark.build
def test_the_real_library(libraries: Path) -> None:
    for architecture in ("llama", "qwen2vl", "qwen3vl", "gemma3"):
        assert knows_architecture(libraries, architecture), architecture
    assert not knows_architecture(libraries, "llama9")
