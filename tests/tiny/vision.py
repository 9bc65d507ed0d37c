"""Pairs of a tiny language model and its projector: a red image is answered in upper case.

The language models are `tests.tiny.llama`'s in other architectures (gemma3: norms after the
attention, images attended both ways; qwen3vl: M-RoPE, where an image has fewer positions than tokens,
and a deepstack layer). A projector turns an image into tokens that act like the markers: mostly red
ones like "<up>", mostly blue ones like "<down>", whatever part of the image they show, because its
attention gives every patch the mean of all. So the answer depends on the whole image, on every image
and on every marker in the context.

Pixels come in as -1 to 1 per colour. A patch's channels: its own redness, a constant, and, from
attention on, the redness of the image; gelu(a) - gelu(-a) = a lets it through the layers' bends.

`python -m tests.tiny.media FOLDER` writes them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import cache
from struct import pack
from typing import TYPE_CHECKING, Literal

import gguf
import numpy as np

from tests.tiny import sentencepiece
from tests.tiny.codes import Array, codes, signs
from tests.tiny.llama import (
    ATTENTION,
    CASE,
    CODE,
    CODE_CHANNELS,
    CONSTANT,
    CONSTANT_2,
    CONTEXT,
    EPSILON,
    LOWER,
    LOWER_BIAS,
    MARK,
    OUTPUT_GAIN,
    ROPE_BASE,
    SIGN,
    SWITCH,
    WIDTH,
    llama_weights,
)
from tests.tiny.vocabulary import BOS, EOS, UNK, Kind, Piece, Vocabulary, vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Architecture = Literal["gemma3", "qwen3vl"]
Quantisation = Literal["F32", "F16", "Q8_0", "Q4_0"]
Colour = tuple[int, int, int]

ARCHITECTURES: tuple[Architecture, ...] = ("gemma3", "qwen3vl")
QUANTISATIONS: tuple[Quantisation, ...] = ("F32", "F16", "Q8_0", "Q4_0")
RED: Colour = (255, 0, 0)
BLUE: Colour = (0, 0, 255)

PATCH = 4
MERGE = 2
SIDE = 16  # of what gemma3 scales every image to: 4 tokens
SECTIONS = (8, 12, 12, 0)  # of M-RoPE: pairs of time, height, width
KEY = 63  # of the head; 31 and 63 are the rotary pair of the lowest frequency
OWN, ONE, WHOLE = 0, 1, 2  # a patch's channels
EXTRA_PIECES = (
    "<start_of_image>",
    "<end_of_image>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<|image_pad|>' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

_KINDS: Mapping[Kind, gguf.TokenType] = {
    "normal": gguf.TokenType.NORMAL,
    "unknown": gguf.TokenType.UNKNOWN,
    "control": gguf.TokenType.CONTROL,
    "user": gguf.TokenType.USER_DEFINED,
    "byte": gguf.TokenType.BYTE,
}


@dataclass(frozen=True)
class TinyVision:
    """A language model, its projector, and what they answer together."""

    architecture: Architecture
    quantisation: Quantisation = "F32"

    @property
    def name(self) -> str:
        """The language model's name, which is also its file's without ".gguf"."""
        return f"{self.architecture}-{self.quantisation.lower()}"

    @property
    def projector_name(self) -> str:
        """The projector's name."""
        return f"mmproj-{self.name}"

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Return the tokens of `text`, control tokens read as such."""
        return sentencepiece.encode(text, vision_vocabulary(), add_bos=add_bos, special=True)

    def expected_tokens(self, last: int, n: int, *, upper: bool) -> list[int]:
        """Return the first `n` greedy tokens after the token `last`; fewer if </s> comes."""
        words = vision_vocabulary()
        answer: list[int] = []
        token = last
        while len(answer) < n and (not answer or token != EOS):
            token = words.successors[token]
            token = words.upper.get(token, token) if upper else token
            answer.append(token)
        return answer

    def expected_text(self, prompt: str, n: int, *, upper: bool) -> str:
        """Return the text of the first `n` greedy tokens after `prompt`, which ends the context."""
        tokens = self.expected_tokens(self.encode(prompt)[-1], n, upper=upper)
        return sentencepiece.decode(tokens, vision_vocabulary()).decode(errors="replace")

    def image_tokens(self, width: int, height: int) -> tuple[int, int]:
        """Return tokens and positions of an image whose sides are multiples of 8 (32x16 or more)."""
        if self.architecture == "gemma3":
            tokens = (SIDE // PATCH // MERGE) ** 2
            return tokens, tokens
        columns, rows = width // (PATCH * MERGE), height // (PATCH * MERGE)
        return columns * rows, max(columns, rows)

    def write(self, path: Path) -> None:
        """Write the language model as a GGUF file; equal bytes every time."""
        key = self.architecture
        writer = gguf.GGUFWriter(path, key)
        writer.add_name(self.name)
        # what a deepstack layer adds to must not be the last
        writer.add_block_count(2 if key == "qwen3vl" else 1)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_feed_forward_length(WIDTH)
        writer.add_head_count(1)
        writer.add_head_count_kv(1)
        writer.add_key_length(WIDTH)
        writer.add_value_length(WIDTH)
        writer.add_rope_freq_base(ROPE_BASE)
        writer.add_layer_norm_rms_eps(EPSILON)
        if key == "qwen3vl":
            writer.add_rope_dimension_sections(SECTIONS)
            writer.add_num_deepstack_layers(1)
        pieces = vision_vocabulary().pieces
        writer.add_vocab_size(len(pieces))
        writer.add_tokenizer_model("llama")
        writer.add_token_list([piece.text for piece in pieces])
        writer.add_token_scores([piece.score for piece in pieces])
        writer.add_token_types([_KINDS[piece.kind] for piece in pieces])
        writer.add_bos_token_id(BOS)
        writer.add_eos_token_id(EOS)
        writer.add_unk_token_id(UNK)
        writer.add_add_bos_token(value=True)
        writer.add_add_eos_token(value=False)
        writer.add_add_space_prefix(value=False)
        writer.add_chat_template(CHAT_TEMPLATE)
        weights = gemma3_weights() if key == "gemma3" else qwen3vl_weights()
        self._finish(writer, weights, plain=())

    def write_projector(self, path: Path) -> None:
        """Write the projector as a GGUF file; equal bytes every time."""
        gemma = self.architecture == "gemma3"
        writer = gguf.GGUFWriter(path, "clip")
        writer.add_name(self.projector_name)
        writer.add_bool("clip.has_vision_encoder", val=True)
        writer.add_bool("clip.use_gelu", val=True)
        writer.add_string("clip.projector_type", "gemma3" if gemma else "qwen3vl_merger")
        for name, value in (
            ("image_size", SIDE),
            ("patch_size", PATCH),
            ("embedding_length", WIDTH),
            ("feed_forward_length", WIDTH),
            ("projection_dim", WIDTH),
            ("block_count", 1),
            ("attention.head_count", 1),
            ("projector.scale_factor" if gemma else "spatial_merge_size", MERGE),
        ):
            writer.add_uint32(f"clip.vision.{name}", value)
        writer.add_float32("clip.vision.attention.layer_norm_epsilon", EPSILON)
        writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
        writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
        weights = gemma3_projector() if gemma else qwen3vl_projector()
        # ggml convolves with F16 and F32 kernels only, and gemma3's projection is transposed
        plain = ("v.patch_embd.weight", "v.patch_embd.weight.1", "mm.input_projection.weight")
        self._finish(writer, weights, plain=plain)

    def _finish(
        self, writer: gguf.GGUFWriter, weights: Mapping[str, Array], plain: Sequence[str]
    ) -> None:
        for name, weight in weights.items():
            kind = self.quantisation
            if weight.ndim == 1 or name == "v.position_embd.weight":
                kind = "F32"
            elif name in plain and kind != "F32":
                kind = "F16"
            chosen = gguf.GGMLQuantizationType[kind]
            stored = gguf.quants.quantize(weight.astype(np.float32), chosen)
            writer.add_tensor(name, stored, raw_dtype=chosen)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def vision_models() -> Mapping[str, TinyVision]:
    """Return every pair by the name of its language model."""
    every = [
        TinyVision(architecture=a, quantisation=q) for a in ARCHITECTURES for q in QUANTISATIONS
    ]
    return {pair.name: pair for pair in every}


def write_vision(folder: Path) -> list[Path]:
    """Write all pairs into `folder`, made if missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for pair in vision_models().values():
        for name, write in ((pair.name, pair.write), (pair.projector_name, pair.write_projector)):
            written.append(folder / f"{name}.gguf")
            write(written[-1])
    return written


def png(width: int, height: int, colours: Sequence[Colour]) -> bytes:
    """Return a PNG file of equally wide vertical stripes."""
    stripe = width // len(colours)
    row = b"\0" + b"".join(bytes(colour) * stripe for colour in colours)
    parts = (
        (b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@cache
def vision_vocabulary() -> Vocabulary:
    """Return the common vocabulary and, after it, the control tokens around images."""
    words = vocabulary()
    first = len(words.pieces)
    extra = tuple(
        Piece(id=first + index, text=text, kind="control", score=0.0)
        for index, text in enumerate(EXTRA_PIECES)
    )
    return replace(
        words,
        pieces=(*words.pieces, *extra),
        ids={**words.ids, **{piece.text: piece.id for piece in extra}},
        successors=(*words.successors, *(words.successors[BOS] for _ in extra)),
    )


# -- language models -------------------------------------------------------------------------------


@cache
def _codes() -> Array:
    words = vision_vocabulary()
    classes = [token for token in range(len(words.pieces)) if token not in words.twins]
    # the first ones are those of the plain model: the drawing goes on where it ended
    drawn = codes("llama", len(classes), len(CODE_CHANNELS), overlap=18)
    place = {token: row for row, token in enumerate(classes)}
    return np.array([drawn[place[words.twins.get(t, t)]] for t in range(len(words.pieces))])


def _single(*entries: tuple[int, int, float]) -> Array:
    matrix = np.zeros((WIDTH, WIDTH))
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def _token_tables(turned: Array) -> tuple[Array, Array]:
    """Return the embedding, whose codes are `turned`, and the output matrix."""
    words = vision_vocabulary()
    channels = list(CODE_CHANNELS)
    embedding = np.zeros((len(words.pieces), WIDTH))
    embedding[:, [CONSTANT, CONSTANT_2, LOWER]] = 1.0
    embedding[:, channels] = CODE * turned * _codes()[list(words.successors)]
    embedding[[words.marker_up, words.marker_down], MARK] = 1.0
    embedding[words.marker_up, SWITCH] = SIGN
    embedding[words.marker_down, SWITCH] = -SIGN
    output = np.zeros_like(embedding)
    output[:, [CONSTANT, CONSTANT_2]] = 1.0
    output[:, channels] = CODE * _codes()
    lower, upper = list(words.upper), list(words.upper.values())
    output[lower, CASE], output[upper, CASE] = -SIGN, SIGN
    output[lower, LOWER], output[upper, LOWER] = LOWER_BIAS, -LOWER_BIAS
    return embedding, output


def _attention() -> dict[str, Array]:
    """Return what both share: the case is carried by those whose key is a marker's."""
    return {
        "blk.0.attn_norm.weight": np.ones(WIDTH),
        "blk.0.attn_q.weight": _single((KEY, CONSTANT, ATTENTION)),
        "blk.0.attn_k.weight": _single((KEY, MARK, ATTENTION)),
        # a vector of one channel has the size 8 after its norm: scores are 16 or 0
        "blk.0.attn_q_norm.weight": np.full(WIDTH, 2.0),
        "blk.0.attn_k_norm.weight": np.ones(WIDTH),
        "blk.0.attn_v.weight": _single((0, SWITCH, 1.0)),
    }


@cache
def gemma3_weights() -> Mapping[str, Array]:
    """Return the language model's tensors; its FFN adds nothing."""
    embedding, output = _token_tables(np.ones(len(CODE_CHANNELS)))
    zero = np.zeros((WIDTH, WIDTH))
    return {
        "token_embd.weight": embedding,
        **_attention(),
        "blk.0.attn_output.weight": _single((CASE, 0, 1.0)),
        # the norm leaves a sign of size 8; the embeddings are scaled by 8 as well
        "blk.0.post_attention_norm.weight": np.full(WIDTH, 2.0),
        "blk.0.ffn_norm.weight": np.ones(WIDTH),
        "blk.0.ffn_gate.weight": zero,
        "blk.0.ffn_up.weight": zero,
        "blk.0.ffn_down.weight": zero,
        "blk.0.post_ffw_norm.weight": np.ones(WIDTH),
        "output_norm.weight": np.full(WIDTH, OUTPUT_GAIN),
        "output.weight": output,
    }


@cache
def qwen3vl_weights() -> Mapping[str, Array]:
    """Return the language model's tensors: the plain model's layer, then one that adds nothing."""
    plain = llama_weights()
    embedding, output = _token_tables(signs("llama/turned", len(CODE_CHANNELS)))
    kept = ("attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    first = {**_attention(), **{f"blk.0.{n}.weight": plain[f"blk.0.{n}.weight"] for n in kept}}
    second = {
        name.replace("blk.0", "blk.1"): weight if weight.ndim == 1 else np.zeros_like(weight)
        for name, weight in first.items()
    }
    return {
        "token_embd.weight": embedding,
        **first,
        **second,
        "output_norm.weight": plain["output_norm.weight"],
        "output.weight": output,
    }


# -- projectors ------------------------------------------------------------------------------------


def image_token() -> Array:
    """Return the embedding that a token of media gets but for its switch: as long as a text's."""
    vector = np.zeros(WIDTH)
    vector[[CONSTANT, CONSTANT_2, LOWER, MARK]] = 1.0
    vector[list(CODE_CHANNELS)] = CODE * signs("vision/image", len(CODE_CHANNELS))
    return vector


def _tower(parts: int) -> dict[str, Array]:
    """Return the tensors of a vision transformer of one layer, whose patches come from `parts`."""
    patch = np.zeros((WIDTH, 3, PATCH, PATCH))
    share = 1 / (2 * PATCH * PATCH * parts)
    patch[OWN, 0], patch[OWN, 2] = share, -share
    bias = np.zeros(WIDTH)
    bias[ONE] = 1.0
    block = "v.blk.0."
    return {
        "v.patch_embd.weight": patch,
        "v.patch_embd.bias": bias,
        "v.position_embd.weight": np.zeros(((SIDE // PATCH) ** 2, WIDTH)),
        # two channels of size 1 become about 1 / 0.177
        f"{block}ln1.weight": np.full(WIDTH, 0.177),
        f"{block}ln1.bias": np.zeros(WIDTH),
        f"{block}attn_out.weight": _single((WHOLE, WHOLE, 1.0)),
        f"{block}attn_out.bias": np.zeros(WIDTH),
        f"{block}ln2.weight": np.full(WIDTH, 0.217),
        f"{block}ln2.bias": np.zeros(WIDTH),
        f"{block}ffn_up.weight": _single((0, WHOLE, 2.0), (1, WHOLE, -2.0)),
        f"{block}ffn_up.bias": np.zeros(WIDTH),
        f"{block}ffn_down.weight": _single((WHOLE, 0, 1.0), (WHOLE, 1, -1.0)),
        f"{block}ffn_down.bias": np.zeros(WIDTH),
    }


@cache
def gemma3_projector() -> Mapping[str, Array]:
    """Return the projector's tensors: SigLIP, a mean over 2x2 patches, a norm, a matrix."""
    block = "v.blk.0."
    projection = np.zeros((WIDTH, WIDTH))  # (in, out)
    # after the norm of (own, one, whole) = (1, 1, 3)
    projection[ONE] = image_token() / 2.41
    projection[WHOLE, SWITCH] = SIGN / 7.24
    nothing = {
        f"{block}attn_{name}.{kind}": np.zeros((WIDTH, WIDTH) if kind == "weight" else WIDTH)
        for name in "qk"
        for kind in ("weight", "bias")
    }
    return {
        **_tower(1),
        **nothing,
        f"{block}attn_v.weight": _single((WHOLE, OWN, 1.0)),
        f"{block}attn_v.bias": np.zeros(WIDTH),
        "mm.soft_emb_norm.weight": np.ones(WIDTH),
        "mm.input_projection.weight": projection,
    }


@cache
def qwen3vl_projector() -> Mapping[str, Array]:
    """Return the projector's tensors: 2x2 patches side by side through two matrices."""
    tower = _tower(2)
    merged = WIDTH * MERGE**2
    qkv = np.zeros((3 * WIDTH, WIDTH))
    qkv[2 * WIDTH :] = _single((WHOLE, OWN, 1.0))
    first = np.zeros((WIDTH, merged))
    first[0, WHOLE::WIDTH], first[1, WHOLE::WIDTH] = 0.25, -0.25
    zeros = {
        "v.deepstack.0.norm.weight": np.ones(merged),
        "v.deepstack.0.norm.bias": np.zeros(merged),
        "v.deepstack.0.fc1.weight": np.zeros((WIDTH, merged)),
        "v.deepstack.0.fc1.bias": np.zeros(WIDTH),
        "v.deepstack.0.fc2.weight": np.zeros((WIDTH, WIDTH)),
        "v.deepstack.0.fc2.bias": np.zeros(WIDTH),
    }
    return {
        **tower,
        "v.patch_embd.weight.1": tower["v.patch_embd.weight"],
        "v.blk.0.attn_qkv.weight": qkv,
        "v.blk.0.attn_qkv.bias": np.zeros(3 * WIDTH),
        **zeros,
        "mm.0.weight": first,
        "mm.0.bias": np.zeros(WIDTH),
        "mm.2.weight": _single((SWITCH, 0, SIGN / 3), (SWITCH, 1, -SIGN / 3)),
        "mm.2.bias": image_token(),
    }
