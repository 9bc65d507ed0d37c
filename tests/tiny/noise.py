"""A model that is not tiny: 103 M random weights in Q8_0, for a figure of speed.

Its answers mean nothing; its arithmetic is that of any llama of its size. The vocabulary is that of
the tiny models. `python -m tests.tiny.noise FILE` writes 110 MB in about a second, tensor by tensor,
the same bytes each time (the stream of a bit generator is numpy's promise, its distributions are not).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.tiny.vocabulary import BOS, EOS, UNK, vocabulary

if TYPE_CHECKING:
    from tests.tiny.k_quants import Bytes

LAYERS = 8
WIDTH = 1024
FEED_FORWARD = 2816
HEAD_WIDTH = 64
CONTEXT = 2048
SEED = 20261121
BLOCK = 32
Q8_0 = gguf.GGMLQuantizationType.Q8_0
# the standard deviation of whole numbers drawn from -128 to 127
_DEVIATION = 73.9


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by its GGUF name, (out, in)."""
    words = len(vocabulary().pieces)
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (words, WIDTH)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        found |= {f"{block}attn_norm.weight": (WIDTH,), f"{block}ffn_norm.weight": (WIDTH,)}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            found[f"{block}{name}.weight"] = (WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            found[f"{block}{name}.weight"] = (FEED_FORWARD, WIDTH)
        found[f"{block}ffn_down.weight"] = (WIDTH, FEED_FORWARD)
    return {**found, "output_norm.weight": (WIDTH,), "output.weight": (words, WIDTH)}


def parameters() -> int:
    """Return the number of weights."""
    return sum(int(np.prod(shape)) for shape in shapes().values())


def write_noise(path: Path) -> None:
    """Write the model; one tensor at a time is in memory."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("noise")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(WIDTH // HEAD_WIDTH)
    writer.add_head_count_kv(WIDTH // HEAD_WIDTH)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    pieces = vocabulary().pieces
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([gguf.TokenType.NORMAL] * len(pieces))
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    for name, shape in shapes().items():
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * shape[0])
        else:
            stored = gguf.quants.quant_shape_to_byte_shape(shape, Q8_0)
            size = int(np.prod(stored))
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), size, raw_dtype=Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    stream = np.random.PCG64(SEED)
    for shape in shapes().values():
        writer.write_tensor_data(
            np.ones(shape, np.float32) if len(shape) == 1 else _weights(stream, shape)
        )
    writer.close()


def _weights(stream: np.random.PCG64, shape: tuple[int, ...]) -> Bytes:
    """Return the blocks of a matrix that keeps the size of the vectors that go through it."""
    rows, width = shape
    blocks = rows * width // BLOCK
    drawn = np.asarray(stream.random_raw(blocks * BLOCK // 8)).view(np.uint8)
    scale = np.array([1 / (_DEVIATION * width**0.5)], dtype="<f2").view(np.uint8)
    stored = np.hstack([np.tile(scale, (blocks, 1)), drawn.reshape(blocks, BLOCK)])
    return stored.reshape(rows, -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tiny.noise", description=__doc__)
    parser.add_argument("file", type=Path)
    write_noise(parser.parse_args().file)
