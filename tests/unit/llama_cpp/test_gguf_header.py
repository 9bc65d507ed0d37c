from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llama_cpp import Llama, ModelLoadError, _library
from llama_cpp._gguf_header import check_header
from tests.fuzz import gguf_file
from tests.fuzz.gguf_file import GgufFile, Pair, parse
from tests.sequences import paired

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.build

AGAIN = "; download it again and compare its size and sha256 with the source"


@pytest.fixture
def parts(model_file: Path) -> GgufFile:
    """The F32 llama's file, taken apart."""
    return parse(model_file.read_bytes())


def changed(parts: GgufFile, *pairs: Pair) -> GgufFile:
    """Return the parts with other values; keys that are not there are added."""
    keys = {pair.key: pair for pair in pairs}
    kept = [keys.pop(pair.key, pair) for pair in parts.pairs]
    return replace(parts, pairs=(*kept, *keys.values()))


def said(parts: GgufFile, path: Path, **overrides: object) -> str:
    """Return what is said of the file, without its name and the cure."""
    path.write_bytes(parts.to_bytes())
    with pytest.raises(ModelLoadError) as caught:
        check_header(_library.load(), path, overrides=overrides)
    text = str(caught.value)
    assert text.startswith(f"model file {path} is damaged: ")
    assert text.endswith(AGAIN)
    return text[len(f"model file {path} is damaged: ") : -len(AGAIN)]


def tokens(parts: GgufFile, key: str) -> list[gguf_file.Scalar]:
    value = parts.pairs[parts.index(f"tokenizer.ggml.{key}")].value
    assert isinstance(value, list)
    return list(value)


@pytest.mark.parametrize("name", ["llama-f32", "llama-q4_k", "bert-f32", "lora-f32"])
def test_good_files_pass(tiny: Path, name: str) -> None:
    check_header(_library.load(), tiny / f"{name}.gguf")


def test_what_ggml_cannot_read_is_left_to_llama_cpp(tmp_path: Path, parts: GgufFile) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(parts.to_bytes()[:1000])
    check_header(_library.load(), path)


@pytest.mark.parametrize("value", [-1e-6, float("-inf"), float("nan")])
def test_a_negative_epsilon(tmp_path: Path, parts: GgufFile, value: float) -> None:
    key = b"llama.attention.layer_norm_rms_epsilon"
    pair = Pair(key=key, kind=gguf_file.FLOAT32, value=value)
    assert said(changed(parts, pair), tmp_path / "damaged.gguf") == (
        f"{key.decode()} is {value:g}, and must not be negative"
    )


def test_an_override_counts_instead_of_the_file(tmp_path: Path, parts: GgufFile) -> None:
    key = "llama.attention.layer_norm_rms_epsilon"
    path = tmp_path / "model.gguf"
    assert said(parts, path, **{key: -2.0}) == f"{key} is -2, and must not be negative"
    damaged = changed(parts, Pair(key=key.encode(), kind=gguf_file.FLOAT32, value=-1.0))
    path.write_bytes(damaged.to_bytes())
    check_header(_library.load(), path, overrides={key: 1e-6})


def test_a_weight_of_integers(tmp_path: Path, parts: GgufFile) -> None:
    place = [tensor.name for tensor in parts.tensors].index(b"blk.0.ffn_gate.weight")
    damaged = parts.with_tensor(place, replace(parts.tensors[place], kind=26))
    assert said(damaged, tmp_path / "damaged.gguf") == (
        "tensor blk.0.ffn_gate.weight has the type I32, which nothing multiplies with"
    )


def test_a_norm_that_is_no_f32(tmp_path: Path, parts: GgufFile) -> None:
    place = [tensor.name for tensor in parts.tensors].index(b"output_norm.weight")
    damaged = parts.with_tensor(place, replace(parts.tensors[place], kind=1))
    moved = [replace(each, offset=each.offset - 128) for each in damaged.tensors[place + 1 :]]
    damaged = replace(damaged, tensors=(*damaged.tensors[: place + 1], *moved))
    assert said(damaged, tmp_path / "damaged.gguf") == (
        "tensor output_norm.weight has the type F16, and norms and biases are F32"
    )


def test_an_empty_tensor(tmp_path: Path, parts: GgufFile) -> None:
    last = len(parts.tensors) - 1
    tensor = replace(parts.tensors[last], dims=(0,))
    assert said(parts.with_tensor(last, tensor), tmp_path / "damaged.gguf") == (
        f"tensor {tensor.name.decode()} is empty"
    )


def test_sections_of_m_rope(tmp_path: Path, parts: GgufFile) -> None:
    architecture = Pair(key=b"general.architecture", kind=gguf_file.STRING, value=b"qwen2vl")
    key = b"qwen2vl.rope.dimension_sections"
    expected = f"{key.decode()} has no section above zero"
    path = tmp_path / "damaged.gguf"
    assert said(changed(parts, architecture), path) == expected
    zero = Pair(key=key, kind=gguf_file.INT32, value=[0, 0, 0, 8])
    assert said(changed(parts, architecture, zero), path) == expected
    for kind in (gguf_file.INT32, gguf_file.UINT32):
        good = replace(zero, kind=kind, value=[8, 0, 0, 0])
        path.write_bytes(changed(parts, architecture, good).to_bytes())
        check_header(_library.load(), path)


def test_a_missing_byte(tmp_path: Path, parts: GgufFile) -> None:
    texts, kinds = tokens(parts, "tokens"), tokens(parts, "token_type")
    texts[3 + 0x75], kinds[3 + 0x75] = b"something", 1
    damaged = changed(
        parts,
        Pair(key=b"tokenizer.ggml.tokens", kind=gguf_file.STRING, value=texts),
        Pair(key=b"tokenizer.ggml.token_type", kind=gguf_file.INT32, value=kinds),
    )
    assert said(damaged, tmp_path / "damaged.gguf") == (
        "its vocabulary has tokens for bytes, and none for 0x75"
    )


def test_a_vocabulary_without_any_byte_passes(tmp_path: Path, parts: GgufFile) -> None:
    texts, kinds = tokens(parts, "tokens"), tokens(parts, "token_type")
    path = tmp_path / "model.gguf"
    named = [
        b"word%d" % place if kind == 6 else text
        for place, (text, kind) in enumerate(paired(texts, kinds))
    ]
    path.write_bytes(
        changed(
            parts,
            Pair(key=b"tokenizer.ggml.tokens", kind=gguf_file.STRING, value=list(named)),
            Pair(key=b"tokenizer.ggml.token_type", kind=gguf_file.INT32, value=[1] * len(texts)),
        ).to_bytes()
    )
    check_header(_library.load(), path)


def test_a_byte_that_is_none(tmp_path: Path, parts: GgufFile) -> None:
    texts = tokens(parts, "tokens")
    texts[5] = b"<0"
    damaged = changed(parts, Pair(key=b"tokenizer.ggml.tokens", kind=gguf_file.STRING, value=texts))
    assert said(damaged, tmp_path / "damaged.gguf") == (
        "token 5 is said to be a byte, and its text is '<0'"
    )


def test_bytes_in_a_vocabulary_that_has_none(tmp_path: Path, parts: GgufFile) -> None:
    pair = Pair(key=b"tokenizer.ggml.model", kind=gguf_file.STRING, value=b"bert")
    assert said(changed(parts, pair), tmp_path / "damaged.gguf") == (
        "token 3 is said to be a byte, which a bert vocabulary has not"
    )


def test_an_rwkv_vocabulary_that_no_text_gets_through(tmp_path: Path, parts: GgufFile) -> None:
    texts = [rb"\x41", b"B", rb"\nC", b"BB"]
    damaged = changed(
        parts,
        Pair(key=b"tokenizer.ggml.model", kind=gguf_file.STRING, value=b"rwkv"),
        Pair(key=b"tokenizer.ggml.tokens", kind=gguf_file.STRING, value=list(texts)),
        Pair(key=b"tokenizer.ggml.token_type", kind=gguf_file.INT32, value=[1, 1, 1, 1]),
    )
    assert said(damaged, tmp_path / "damaged.gguf") == (
        r"tokens of its RWKV vocabulary begin with b'\n', which is none itself"
    )


def test_a_model_is_looked_at_before_it_is_loaded(tmp_path: Path, parts: GgufFile) -> None:
    key = b"llama.attention.layer_norm_rms_epsilon"
    path = tmp_path / "damaged.gguf"
    damaged = changed(parts, Pair(key=key, kind=gguf_file.FLOAT32, value=-1.0))
    path.write_bytes(damaged.to_bytes())
    with pytest.raises(ModelLoadError, match=r"layer_norm_rms_epsilon is -1, and must not be"):
        Llama(path, verbose=False)


def test_a_file_for_which_llama_cpp_asserts(tmp_path: Path, parts: GgufFile) -> None:
    path = tmp_path / "damaged.gguf"
    pair = Pair(key=b"llama.block_count", kind=gguf_file.UINT32, value=0)
    path.write_bytes(changed(parts, pair).to_bytes())
    with pytest.raises(ModelLoadError, match=r"made for another llama\.cpp: .*n_layer_all > 0"):
        Llama(path, verbose=False)
