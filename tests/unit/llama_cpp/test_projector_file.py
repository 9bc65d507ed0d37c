"""Projector files that are damaged in ways that llama.cpp does not survive."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from llama_cpp import ModelLoadError
from llama_cpp._gguf_content import read_content
from llama_cpp._projector_file import read_projector
from tests.tiny.vision import TinyVision, gemma3_projector, qwen3vl_projector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.build

HEAD = "projector (mmproj) file {} is damaged"


def message(path: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        read_projector(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["gemma3-f32", "gemma3-q4_0", "qwen3vl-f16", "qwen3vl-q8_0"])
def test_whole_files(vision: Path, name: str) -> None:
    file = read_projector(vision / f"mmproj-{name}.gguf")
    assert file.kind == ("gemma3" if name.startswith("gemma3") else "qwen3vl_merger")
    assert (file.has_vision, file.has_audio) == (True, False)
    assert file.numbers["embedding_length"] == 64


def test_every_cut_is_seen(vision: Path, tmp_path: Path) -> None:
    data = (vision / "mmproj-gemma3-q4_0.gguf").read_bytes()
    start = read_content(vision / "mmproj-gemma3-q4_0.gguf", "projector").data_start
    path = tmp_path / "cut.gguf"
    for length in [*range(24, start, 13), start, start + 1, len(data) - 32]:
        path.write_bytes(data[:length])
        message(path)
    assert message(path).startswith("projector (mmproj) file ")
    assert "is truncated or damaged: tensor " in message(path)


def test_metadata_that_ends(vision: Path, tmp_path: Path) -> None:
    whole = vision / "mmproj-gemma3-q4_0.gguf"
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole.read_bytes()[: read_content(whole, "projector").data_start - 40])
    assert message(path).startswith(f"{HEAD.format(path)}: it ends within its metadata: download")


def rewritten(
    path: Path,
    architecture: str,
    tensors: Mapping[str, np.ndarray],
    change: Callable[[gguf.GGUFWriter], None] = lambda _writer: None,
    numbers: Mapping[str, int] | None = None,
) -> Path:
    """Write a projector that differs from the sound one."""
    gemma = architecture == "gemma3"
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", val=True)
    writer.add_string("clip.projector_type", "gemma3" if gemma else "qwen3vl_merger")
    values = {
        "image_size": 16,
        "patch_size": 4,
        "embedding_length": 64,
        "feed_forward_length": 64,
        "projection_dim": 64,
        "block_count": 1,
        "attention.head_count": 1,
        ("projector.scale_factor" if gemma else "spatial_merge_size"): 2,
        **(numbers or {}),
    }
    for name, value in values.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    change(writer)
    for name, weight in tensors.items():
        writer.add_tensor(name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "numbers", "words"),
    [
        ("gemma3", {"image_size": 20}, "it has 16 positions for 25 patches"),
        (
            "gemma3",
            {"patch_size": 8},
            "tensor v.patch_embd.weight is (4, 4, 3, 64), not (8, 8, 3, 64)",
        ),
        ("gemma3", {"patch_size": 0}, "clip.vision.patch_size is 0"),
        ("gemma3", {"image_size": 2**20}, "clip.vision.image_size is 1048576"),
        ("gemma3", {"embedding_length": 32}, "tensor v.patch_embd.weight is (4, 4, 3, 64), not "),
        ("gemma3", {"attention.head_count": 3}, "3 heads do not divide a width of 64"),
        (
            "gemma3",
            {"projector.scale_factor": 3},
            "16 pixels are no whole number of 3 patches of 4",
        ),
        (
            "gemma3",
            {"projector.scale_factor": 0},
            "16 pixels are no whole number of 0 patches of 4",
        ),
        ("gemma3", {"block_count": 2}, "it has no tensor v.blk.1.attn_q.weight"),
        ("gemma3", {"image_size": 2**31}, "clip.vision.image_size is 2147483648"),
        ("qwen3vl", {"spatial_merge_size": 4}, "clip.vision.spatial_merge_size is 4"),
        ("qwen3vl", {"attention.head_count": 32}, "a head of 2 channels has no four parts"),
    ],
)
def test_numbers_that_do_not_fit(
    tmp_path: Path, architecture: str, numbers: dict[str, int], words: str
) -> None:
    tensors = gemma3_projector() if architecture == "gemma3" else qwen3vl_projector()
    path = rewritten(tmp_path / "a.gguf", architecture, tensors, numbers=numbers)
    assert words in message(path)


@pytest.mark.parametrize(
    ("architecture", "name", "shape", "words"),
    [
        ("gemma3", "v.blk.0.ln1.weight", (32,), "tensor v.blk.0.ln1.bias is (64,), not (32,)"),
        ("gemma3", "v.blk.0.attn_v.bias", (32,), "tensor v.blk.0.attn_v.bias is (32,), not (64,)"),
        ("gemma3", "v.blk.0.attn_k.weight", (64, 32), "attn_k.weight is (32, 64), not (64, 64)"),
        (
            "gemma3",
            "v.blk.0.ffn_up.weight",
            (96, 64),
            "tensor v.blk.0.ffn_up.bias is (64,), not (96,)",
        ),
        ("gemma3", "v.blk.0.ffn_down.weight", (64, 96), "ffn_up is (64, 64), ffn_down (96, 64)"),
        ("gemma3", "v.position_embd.weight", (9, 64), "it has 9 positions for 16 patches"),
        (
            "gemma3",
            "mm.input_projection.weight",
            (32, 64),
            "mm.input_projection.weight is (64, 32)",
        ),
        ("gemma3", "mm.soft_emb_norm.weight", None, "it has no tensor mm.soft_emb_norm.weight"),
        ("qwen3vl", "v.position_embd.weight", (15, 64), "its 15 positions are no square"),
        ("qwen3vl", "mm.0.weight", (64, 128), "mm.0.weight is (128, 64); it gets 256 channels"),
        ("qwen3vl", "mm.2.bias", (32,), "tensor mm.2.bias is (32,), not (64,)"),
        (
            "qwen3vl",
            "v.blk.0.attn_qkv.weight",
            (64, 64),
            "tensor v.blk.0.attn_qkv.bias is (192,), not (64,)",
        ),
        ("qwen3vl", "v.blk.0.attn_qkv.weight", None, "it has no tensor v.blk.0.attn_q.weight"),
        ("qwen3vl", "v.patch_embd.weight.1", None, "it has no tensor v.patch_embd.weight.1"),
        ("qwen3vl", "v.patch_embd.bias", None, "it has no tensor v.patch_embd.bias"),
        (
            "qwen3vl",
            "v.deepstack.0.norm.weight",
            None,
            "it has no tensor v.deepstack.0.norm.weight",
        ),
        ("qwen3vl", "v.deepstack.0.fc1.weight", (64, 64), "it gets 256 channels"),
    ],
)
def test_tensors_that_do_not_fit(
    tmp_path: Path, architecture: str, name: str, shape: tuple[int, ...] | None, words: str
) -> None:
    tensors = dict(gemma3_projector() if architecture == "gemma3" else qwen3vl_projector())
    assert name in tensors
    del tensors[name]
    if shape is not None:
        tensors[name] = np.zeros(shape)
    assert words in message(rewritten(tmp_path / "a.gguf", architecture, tensors))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.add_uint32("clip.use_gelu", 1), "clip.use_gelu is u32, not bool"),
        (lambda w: w.add_uint8("clip.vision.window_size", 1), "window_size is u8, not u32"),
        (lambda w: w.add_uint32("general.name", 1), "general.name is u32, not string"),
        (lambda w: w.add_uint32("clip.minicpmv_version", 3), "minicpmv_version is u32, not i32"),
        (lambda w: w.add_float32("clip.vision.swiglu_clamp", float("nan")), "swiglu_clamp is nan"),
        (lambda w: w.add_float32("clip.vision.swiglu_clamp", -1.0), "swiglu_clamp is -1.0"),
        (
            lambda w: w.add_array("clip.vision.feature_layer", [1.0]),
            "clip.vision.feature_layer is array of f32, not array of i32",
        ),
    ],
)
def test_values_of_another_type(
    tmp_path: Path, change: Callable[[gguf.GGUFWriter], None], words: str
) -> None:
    assert words in message(rewritten(tmp_path / "a.gguf", "gemma3", gemma3_projector(), change))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            b"a.blk.0.attn_q.weight",
            b"a.blk.0.attn_x.weight",
            "it has no tensor a.blk.0.attn_q.weight",
        ),
        (b"a.position_embd", b"a.position_emxd", "it has no tensor a.position_embd.weight"),
        (b"a.blk.0.ln2.bias", b"a.blk.0.ln3.bias", "it has no tensor a.blk.0.ln2.bias"),
        (b"a.conv1d.2.weight", b"a.conv1d.3.weight", "it has no tensor a.conv1d.2.weight"),
        (
            b"num_mel_bins\4\0\0\0\x50",
            b"num_mel_bins\4\0\0\0\x51",
            "a.conv1d.1.weight is (3, 80, 64)",
        ),
        (b"num_mel_bins\4\0\0\0\x50", b"num_mel_bins\4\0\0\0\0", "clip.audio.num_mel_bins is 0"),
        (b"head_count\4\0\0\0\1", b"head_count\4\0\0\0\5", "5 heads do not divide a width of 64"),
        (b"has_audio_encoder", b"has_xudio_encoder", "has neither a vision nor an audio encoder"),
    ],
)
def test_audio(vision: Path, tmp_path: Path, before: bytes, after: bytes, words: str) -> None:
    data = (vision / "mmproj-audio-f32.gguf").read_bytes()
    assert read_projector(vision / "mmproj-audio-f32.gguf").has_audio
    assert data.count(before) == 1
    path = tmp_path / "a.gguf"
    path.write_bytes(data.replace(before, after))
    assert words in message(path)


def test_unknown_keys_and_tensors_are_let_through(tmp_path: Path) -> None:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.add_uint8("clip.vision.new", 1)
        writer.add_array("some.names", ["a", "b"])

    tensors = {**gemma3_projector(), "v.new.weight": np.zeros(3)}
    path = rewritten(tmp_path / "a.gguf", "gemma3", tensors, change)
    assert "v.new.weight" in read_projector(path).tensors


def test_twice(vision: Path, tmp_path: Path) -> None:
    data = (vision / "mmproj-gemma3-q4_0.gguf").read_bytes()
    path = tmp_path / "a.gguf"
    path.write_bytes(
        data.replace(b"clip.use_gelu", b"clip.use_silu").replace(b"image_std", b"image_mean"[:9])
    )
    assert message(path)
    path.write_bytes(data.replace(b"v.blk.0.ln1.bias", b"v.blk.0.ln2.bias"))
    assert "the tensor 'v.blk.0.ln2.bias' is there twice" in message(path)
    path.write_bytes(data.replace(b"feed_forward_length", b"feed_forward_\xff\xffngth"))
    assert "a text in its metadata is no UTF-8" in message(path)


def test_a_quantised_kernel(tmp_path: Path) -> None:
    pair = TinyVision(architecture="gemma3", quantisation="Q8_0")
    pair.write_projector(tmp_path / "a.gguf")
    data = bytearray((tmp_path / "a.gguf").read_bytes())
    at = data.index(b"v.patch_embd.weight") + len(b"v.patch_embd.weight") + 4 + 4 * 8
    assert struct.unpack_from("<I", data, at) == (1,)
    struct.pack_into("<I", data, at, 99)
    (tmp_path / "a.gguf").write_bytes(data)
    assert "tensor v.patch_embd.weight has the unknown type 99" in message(tmp_path / "a.gguf")
    struct.pack_into("<I", data, at, 30)
    (tmp_path / "a.gguf").write_bytes(data)
    assert "tensor v.patch_embd.weight is of ggml's type 30, not 1" in message(tmp_path / "a.gguf")
