"""The look at a model file before llama.cpp opens it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from llama_cpp._errors import ModelLoadError
from llama_cpp._gguf import check_file


def header(version: int = 3, tensors: int = 1, pairs: int = 1, magic: bytes = b"GGUF") -> bytes:
    return struct.pack("<4sIQQ", magic, version, tensors, pairs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "model file {path} is empty: download it again", id="empty"),
        pytest.param(
            b"<!DOCTYPE html>" * 4,
            "{path} is not a GGUF file: it looks like an HTML page (a failed download?)",
            id="html",
        ),
        pytest.param(
            b"PK\x03\x04" + bytes(60),
            "{path} is not a GGUF file: it looks like a zip archive (a PyTorch checkpoint?)",
            id="zip",
        ),
        pytest.param(
            bytes(64),
            "{path} is not a GGUF file: it begins with b'\\x00\\x00\\x00\\x00' instead of b'GGUF'",
            id="zeros",
        ),
        pytest.param(
            header()[:20],
            "model file {path} is truncated after 20 bytes: download it again and compare its size "
            "and sha256 with the source",
            id="short header",
        ),
        pytest.param(
            header(version=4) + bytes(100),
            "model file {path} has GGUF version 4; this llama.cpp reads up to version 3: upgrade "
            "llama-cpp-python, or convert the model for version 3",
            id="newer",
        ),
        pytest.param(
            header(version=1) + bytes(100),
            "model file {path} has GGUF version 1, which llama.cpp no longer reads: get a newer "
            "conversion of the model",
            id="older",
        ),
        pytest.param(
            header(version=3 << 24) + bytes(100),
            "model file {path} is a big-endian GGUF file; get the little-endian one",
            id="big-endian",
        ),
        pytest.param(
            header(tensors=2, pairs=3) + bytes(78),
            "model file {path} is truncated or damaged: it announces 2 tensors and 3 metadata pairs, "
            "but has only 102 bytes: download it again and compare its size and sha256 with the "
            "source",
            id="too small for its tensors",
        ),
        pytest.param(
            header(tensors=2**63) + bytes(100),
            "model file {path} is truncated or damaged: it announces 9223372036854775808 tensors and "
            "1 metadata pairs, but has only 124 bytes: download it again and compare its size and "
            "sha256 with the source",
            id="absurd",
        ),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        check_file(path)
    assert str(caught.value) == message.format(path=path)


def test_good_header_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header(tensors=2, pairs=3) + bytes(2 * 32 + 3 * 13))
    check_file(path)


def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadError) as caught:
        check_file(Path("nope.gguf"), "LoRA adapter")
    assert str(caught.value) == (
        f"LoRA adapter file nope.gguf does not exist (current directory: {tmp_path}); "
        "check the path, or download the file first"
    )


def test_directory_names_the_models_in_it(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ModelLoadError) as caught:
        check_file(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is a directory, not a model file; it holds a.gguf, b.gguf: name one of them"
    )


def test_nul_in_the_path() -> None:
    with pytest.raises(
        ModelLoadError, match=r"^the model path 'a\\x00b' contains a NUL character$"
    ):
        check_file(Path("a\0b"))
