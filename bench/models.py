"""The model that speed is measured on: architecture llama, 200 M parameters, random weights.

Its answers mean nothing; its arithmetic is that of any llama of its size. F16 is written here, the
quantised files are made from it by ``llama_model_quantize`` of the wheel under test.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import gguf
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from bench.worker import Libraries, quantize
from ci import paths
from ci.progress import Progress

Quantisation: TypeAlias = Literal["F16", "Q4_0", "Q4_K_M"]
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)

_SEED = 20260101
_CONTEXT = 2048


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a llama; ``width`` and ``feed_forward`` are multiples of 256 (K quants' block)."""

    layers: int = 12
    width: int = 1024
    feed_forward: int = 2816
    heads: int = 16
    kv_heads: int = 4
    vocabulary: int = 32_000

    @property
    def head_width(self) -> int:
        """Length of one head's vectors."""
        return self.width // self.heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by name, rows first as in numpy."""
        kv_width = self.kv_heads * self.head_width
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocabulary, self.width),
            "output_norm.weight": (self.width,),
            "output.weight": (self.vocabulary, self.width),
        }
        for layer in range(self.layers):
            shapes |= {
                f"blk.{layer}.attn_norm.weight": (self.width,),
                f"blk.{layer}.attn_q.weight": (self.width, self.width),
                f"blk.{layer}.attn_k.weight": (kv_width, self.width),
                f"blk.{layer}.attn_v.weight": (kv_width, self.width),
                f"blk.{layer}.attn_output.weight": (self.width, self.width),
                f"blk.{layer}.ffn_norm.weight": (self.width,),
                f"blk.{layer}.ffn_gate.weight": (self.feed_forward, self.width),
                f"blk.{layer}.ffn_up.weight": (self.feed_forward, self.width),
                f"blk.{layer}.ffn_down.weight": (self.width, self.feed_forward),
            }
        return shapes

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.tensors().values())


def model_files(
    shape: Shape, libraries: Libraries, *, commit: str, progress: Progress
) -> dict[Quantisation, Path]:
    """Return one model file per quantisation, written where they are not in the cache yet.

    Args:
        shape: the model's sizes.
        libraries: whose ``llama_model_quantize`` makes the quantised files.
        commit: llama.cpp's, which decides what a quantisation holds.
        progress: where to say what is written.
    """
    facts = json.dumps({"shape": asdict(shape), "seed": _SEED, "commit": commit}, sort_keys=True)
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    folder = paths.cache_folder() / "bench" / f"models-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"llama-{name}.gguf" for name in QUANTISATIONS}
    with FileLock(folder / "lock"):
        for name, file in files.items():
            if file.is_file():
                continue
            progress.step(f"writing the model of {shape.parameters / 1e6:.0f} M weights as {name}")
            partial = file.with_suffix(".partial")
            if name == "F16":
                write_model(shape, partial)
            else:
                quantize(libraries, files["F16"], partial, name)
            partial.replace(file)
    return files


def write_model(shape: Shape, path: Path, *, spelled: bool = False) -> None:
    """Write a GGUF file with weights of F16, norms of F32; the same bytes each time.

    Args:
        shape: the model's sizes.
        path: the file.
        spelled: give every token a text, for what has to answer in text.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if spelled:
        _add_vocabulary(writer, shape.vocabulary)
    else:
        # token ids go in and out as they are
        writer.add_tokenizer_model("none")
    random = np.random.default_rng(_SEED)
    for name, size in shape.tensors().items():
        writer.add_tensor(name, _weights(random, size))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Add a SentencePiece vocabulary: three control tokens, the bytes, then numbered words."""
    words = [f"\u2581w{number}" for number in range(size - 259)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(
        ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    )
    writer.add_token_scores([0.0] * 259 + [-float(number) for number in range(len(words))])
    kinds = gguf.TokenType
    writer.add_token_types(
        [
            kinds.UNKNOWN,
            kinds.CONTROL,
            kinds.CONTROL,
            *[kinds.BYTE] * 256,
            *[kinds.NORMAL] * len(words),
        ]
    )


def _weights(
    random: np.random.Generator, size: tuple[int, ...]
) -> npt.NDArray[np.float16] | npt.NDArray[np.float32]:
    if len(size) == 1:
        return np.ones(size, np.float32)
    # keeps the activations' variance, so that nothing overflows or becomes denormal
    spread = np.float32(size[1] ** -0.5)
    return (random.standard_normal(size, np.float32) * spread).astype(np.float16)
