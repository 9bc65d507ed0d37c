"""Models that say words, for what the Python side of a token costs: little arithmetic, real texts.

Architecture llama, one layer, width 32, random weights in Q8_0, and a SentencePiece vocabulary of
words. All but words have an output row of zeros, so that greedy decoding never comes upon the end of
sequence.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from filelock import FileLock

from bench.models import Shape
from ci import paths

_SEED = 20260103
_WIDTH = 32  # a block of Q8_0
_CONTEXT = 4096
_SPECIAL = (
    ("<unk>", gguf.TokenType.UNKNOWN),
    ("<s>", gguf.TokenType.CONTROL),
    ("</s>", gguf.TokenType.CONTROL),
)
_BYTES = 256
_KIND = gguf.GGMLQuantizationType.Q8_0


def text_model(vocabulary: int) -> Path:
    """Return a model file with so many tokens, written where it is not in the cache yet."""
    folder = paths.cache_folder() / "bench" / "text-models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"words-{vocabulary}-{_SEED}.gguf"
    with FileLock(folder / "lock"):
        if not path.is_file():
            partial = path.with_suffix(".partial")
            write_text_model(vocabulary, partial)
            partial.replace(path)
    return path


def write_text_model(vocabulary: int, path: Path) -> None:
    """Write a GGUF file in Q8_0; the same bytes each time."""
    shape = Shape(
        layers=1, width=_WIDTH, feed_forward=_WIDTH, heads=1, kv_heads=1, vocabulary=vocabulary
    )
    words = vocabulary - len(_SPECIAL) - _BYTES
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("llama")
    pieces = [text for text, _ in _SPECIAL]
    pieces += [f"<0x{byte:02X}>" for byte in range(_BYTES)]
    pieces += [f"\u2581word{number}" for number in range(words)]
    kinds = [kind for _, kind in _SPECIAL]
    kinds += [gguf.TokenType.BYTE] * _BYTES + [gguf.TokenType.NORMAL] * words
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * (len(_SPECIAL) + _BYTES) + [-float(n) for n in range(words)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(_SEED)
    for name, size in shape.tensors().items():
        if len(size) == 1:
            writer.add_tensor(name, np.ones(size, np.float32))
            continue
        weights = random.standard_normal(size, np.float32) * np.float32(size[1] ** -0.5)
        if name == "output.weight":
            weights[: len(_SPECIAL) + _BYTES] = 0.0
        writer.add_tensor(name, gguf.quants.quantize(weights, _KIND), raw_dtype=_KIND)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
