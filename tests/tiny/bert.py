"""An embedding model whose vectors are known without running it.

One layer, width 64, architecture "bert". Queries and keys are zero, so attention is the plain mean
over all tokens of the text, [CLS] and [SEP] included, and the whole model is a closed formula:

    x_i = norm(E[t_i] + T + P[i])           y_i = norm(x_i + W mean(x))
    z_i = norm(y_i + D gelu(U y_i))         vector = mean(z)

The vectors depend on the words, on their order (P) and on all of them (the mean in y). Of a quantised
model the weights in the formula are those that its file stores.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import gguf
import numpy as np

from tests.tiny.codes import Array, signs
from tests.tiny.vocabulary import SPACE, STORY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

WIDTH = 64
HEADS = 4
CONTEXT = 256
EPSILON = 1e-6
Quantisation: TypeAlias = Literal["F32", "F16", "Q8_0", "Q4_0"]
QUANTISATIONS: tuple[Quantisation, ...] = ("F32", "F16", "Q8_0", "Q4_0")
# what llama.cpp leaves in F32 when it quantises
_KEPT = ("token_types.weight", "position_embd.weight")
_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}

UNK, CLS, SEP, PAD, MASK = 0, 1, 2, 3, 4
SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")


@dataclass(frozen=True)
class TinyBert:
    """A tiny embedding model and its vectors, which are not normalised (they are about 5 long)."""

    name: str
    quantisation: Quantisation = "F32"

    def encode(self, text: str) -> list[int]:
        """Return the tokens of an ASCII text: lower case, split at spaces and punctuation.

        Raises:
            ValueError: the text has characters other than printable ASCII and spaces.
        """
        if not all(character in string.printable for character in text):
            msg = f"only printable ASCII has a known tokenization here, not {text!r}"
            raise ValueError(msg)
        spaced = "".join(f" {c} " if c in string.punctuation else c for c in text.lower())
        tokens = [CLS]
        for word in spaced.split():
            rest = SPACE + word
            while rest:
                piece = next(rest[:n] for n in range(len(rest), 0, -1) if rest[:n] in piece_ids())
                tokens.append(piece_ids()[piece])
                rest = rest[len(piece) :]
        return [*tokens, SEP]

    def vector(self, tokens: Sequence[int]) -> Array:
        """Return the mean-pooled vector of `tokens`, shape (64,), in double precision.

        Raises:
            ValueError: more tokens than the 256 positions.
        """
        if len(tokens) > CONTEXT:
            msg = f"{len(tokens)} tokens, but the model has {CONTEXT} positions"
            raise ValueError(msg)
        w = stored_weights(self.quantisation)
        x = w["token_embd.weight"][list(tokens)] + w["token_types.weight"][0]
        x = _norm(x + w["position_embd.weight"][: len(tokens)])
        y = _norm(x + w["blk.0.attn_output.weight"] @ w["blk.0.attn_v.weight"] @ x.mean(axis=0))
        up = y @ w["blk.0.ffn_up.weight"].T
        z = _norm(y + _gelu(up) @ w["blk.0.ffn_down.weight"].T)
        pooled: Array = z.mean(axis=0)
        return pooled

    def write(self, path: Path) -> None:
        """Write the model as a GGUF file; equal bytes every time."""
        writer = gguf.GGUFWriter(path, "bert")
        writer.add_name(self.name)
        writer.add_file_type(_FILE_TYPES[self.quantisation])
        writer.add_block_count(1)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_feed_forward_length(WIDTH)
        writer.add_head_count(HEADS)
        writer.add_layer_norm_eps(EPSILON)
        writer.add_causal_attention(value=False)
        writer.add_pooling_type(gguf.PoolingType.MEAN)
        writer.add_tokenizer_model("bert")
        writer.add_token_list(list(pieces()))
        writer.add_token_types(
            [gguf.TokenType.CONTROL if p in SPECIAL else gguf.TokenType.NORMAL for p in pieces()]
        )
        writer.add_token_type_count(1)
        writer.add_unk_token_id(UNK)
        writer.add_bos_token_id(CLS)
        writer.add_sep_token_id(SEP)
        writer.add_pad_token_id(PAD)
        writer.add_mask_token_id(MASK)
        for name, weight in bert_weights().items():
            chosen = _stored_as(name, weight, self.quantisation)
            stored = gguf.quants.quantize(weight.astype(np.float32), chosen)
            writer.add_tensor(name, stored, raw_dtype=chosen)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


@cache
def pieces() -> tuple[str, ...]:
    """Return the vocabulary: special tokens, words, characters that begin and that continue one."""
    words = "".join(piece for piece in STORY if not piece.startswith("<")).split(SPACE)
    alphabet = string.ascii_lowercase + string.digits
    return (
        *SPECIAL,
        *(SPACE + word for word in words if len(word) > 1),
        *(SPACE + character for character in alphabet + string.punctuation),
        *alphabet,
    )


@cache
def piece_ids() -> dict[str, int]:
    """Return the token of each piece."""
    return {piece: token for token, piece in enumerate(pieces())}


@cache
def bert_weights() -> Mapping[str, Array]:
    """Return all tensors by their GGUF names, in double precision, shape (out, in)."""

    def drawn(name: str, rows: int, size: float) -> Array:
        return size * signs(f"bert/{name}", rows * WIDTH).reshape(rows, WIDTH)

    block = "blk.0."
    weights = {
        "token_embd.weight": drawn("token", len(pieces()), 1.0),
        "token_types.weight": drawn("type", 1, 0.25),
        "position_embd.weight": drawn("position", CONTEXT, 0.5),
        block + "attn_q.weight": np.zeros((WIDTH, WIDTH)),
        block + "attn_k.weight": np.zeros((WIDTH, WIDTH)),
        block + "attn_v.weight": drawn("value", WIDTH, 0.125),
        block + "attn_output.weight": drawn("attention", WIDTH, 0.125),
        block + "ffn_up.weight": drawn("up", WIDTH, 0.125),
        block + "ffn_down.weight": drawn("down", WIDTH, 0.0625),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"):
        weights[f"{block}{name}.bias"] = np.zeros(WIDTH)
    for norm in ("token_embd_norm", f"{block}attn_output_norm", f"{block}layer_output_norm"):
        weights[f"{norm}.weight"] = np.ones(WIDTH)
        weights[f"{norm}.bias"] = np.zeros(WIDTH)
    return weights


@cache
def stored_weights(quantisation: Quantisation) -> Mapping[str, Array]:
    """Return all tensors as a file of that quantisation stores them, in double precision."""
    stored = {}
    for name, weight in bert_weights().items():
        chosen = _stored_as(name, weight, quantisation)
        packed = gguf.quants.quantize(weight.astype(np.float32), chosen)
        stored[name] = gguf.quants.dequantize(packed, chosen).astype(np.float64)
    return stored


def _stored_as(name: str, weight: Array, quantisation: Quantisation) -> gguf.GGMLQuantizationType:
    if weight.ndim == 1 or name in _KEPT:
        return gguf.GGMLQuantizationType.F32
    return gguf.GGMLQuantizationType[quantisation]


def _norm(x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    return scaled


def _gelu(x: Array) -> Array:
    # ggml's GELU is the tanh approximation.
    bent: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return bent
