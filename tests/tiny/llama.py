"""A language model whose greedy answers are known without running it.

One layer, width 64, architecture "llama". Every class of tokens (a case pair, or a single token)
has a code of 58 signs. A token's embedding is the code of its *successor*, a token's output row is
its own code, so the successor wins by the inner product of a code with itself against that of two
different codes. Three things are added so that nothing in the graph can be left out unnoticed:

- Attention. Only the two marker tokens have a key and a value, and all queries are equal, so a
  context's attention is the mean over its markers, +1 for "<up>" and -1 for "<down>". It lands in a
  channel of its own that decides between the upper-case and the lower-case row. The answer depends
  on the whole context, hence on the K and V cache. Without markers the answer is lower case.
- Feed-forward. Embeddings hold half of the code with the wrong sign; SwiGLU turns it round.
- Position. The keys sit in the rotary pair with the lowest frequency, where 2048 positions turn
  them by 0.003 rad: shifting a sequence changes nothing, as it should.

All matrices hold multiples of 1/8 of the largest value of a block of 32, so Q4_0 stores them
without loss, and the quantisations differ by little more than the rounding of activations.

K-quants have blocks of 256 weights. Their model is four of these models side by side, width 256 and
four heads, that give the same logits together: every channel has a sign and a scale of its own,
which the norms take out again, so that a block whose parts are taken for one another answers wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal, Union

import gguf
import numpy as np

from tests.sequences import paired
from tests.tiny import sentencepiece
from tests.tiny.codes import Array, codes, signs
from tests.tiny.k_quants import K_QUANTS, KQuant, quantize_ternary
from tests.tiny.vocabulary import BOS, EOS, UNK, Kind, Vocabulary, vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import TypeGuard

# no `|` of types on Python 3.9
Quantisation = Union[Literal["F32", "F16", "Q8_0", "Q4_0"], KQuant]
QUANTISATIONS: tuple[Quantisation, ...] = ("F32", "F16", "Q8_0", "Q4_0", *K_QUANTS)

WIDTH = 64  # of the model, and of each head of the wide one
COPIES = 4
CONTEXT = 2048
EPSILON = 1e-6
ROPE_BASE = 1e6
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

# Channels. Each block of 32 starts with a constant 1, which is the block's largest value.
CONSTANT, CONSTANT_2, LOWER, MARK, SWITCH, CASE = 0, 32, 33, 34, 35, 36
CODE_CHANNELS = tuple(
    channel
    for channel in range(WIDTH)
    if channel not in {CONSTANT, CONSTANT_2, LOWER, MARK, SWITCH, CASE}
)
CODE = 0.875
SIGN = 0.75  # of a marker's value, and of a word's case in the output rows
KEY_CHANNEL = 62  # of the head; 62 and 63 are the rotary pair of the lowest frequency
ATTENTION = 10.0  # query and key: a marker's score is about 16 above the others'
CASE_GAIN = 3.5
GATE = 4.0
TURN = -0.375  # about -2 / silu(gate), so that x + TURN * silu(gate) * x = -x
LOWER_BIAS = 0.375
OUTPUT_GAIN = 0.25  # logits small enough for sampling to have a choice
# of the wide model: the scale of each 32 channels, and how much smaller that makes a vector
SCALES = (1.0, 0.75, 0.5, 1.25, 0.75, 1.25, 1.0, 0.5)
SHRINKAGE = 0.91

_MODEL_KINDS: Mapping[Kind, gguf.TokenType] = {
    "normal": gguf.TokenType.NORMAL,
    "unknown": gguf.TokenType.UNKNOWN,
    "control": gguf.TokenType.CONTROL,
    "user": gguf.TokenType.USER_DEFINED,
    "byte": gguf.TokenType.BYTE,
}
_TYPES: Mapping[Quantisation, gguf.GGMLQuantizationType] = {
    "F32": gguf.GGMLQuantizationType.F32,
    "F16": gguf.GGMLQuantizationType.F16,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q2_K": gguf.GGMLQuantizationType.Q2_K,
    "Q3_K": gguf.GGMLQuantizationType.Q3_K,
    "Q4_K": gguf.GGMLQuantizationType.Q4_K,
    "Q5_K": gguf.GGMLQuantizationType.Q5_K,
    "Q6_K": gguf.GGMLQuantizationType.Q6_K,
}
_FILE_TYPES: Mapping[Quantisation, gguf.LlamaFileType] = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q2_K": gguf.LlamaFileType.MOSTLY_Q2_K,
    "Q3_K": gguf.LlamaFileType.MOSTLY_Q3_K_S,
    "Q4_K": gguf.LlamaFileType.MOSTLY_Q4_K_S,
    "Q5_K": gguf.LlamaFileType.MOSTLY_Q5_K_S,
    "Q6_K": gguf.LlamaFileType.MOSTLY_Q6_K,
}


@dataclass(frozen=True)
class TinyLlama:
    """A tiny language model and what it answers.

    `redirect` maps a lower-case word piece to another that takes its place in every answer; an
    adapter sets it (see `tests.tiny.lora`), a plain model has none.
    """

    name: str
    quantisation: Quantisation = "F32"
    redirect: Mapping[int, int] = field(default_factory=dict)

    @property
    def weights(self) -> Mapping[str, Array]:
        """All tensors by their GGUF names: `llama_weights`, of K-quants `wide_weights`."""
        return wide_weights() if _is_k_quant(self.quantisation) else llama_weights()

    @property
    def vocabulary(self) -> Vocabulary:
        """The pieces and successors, the same for all tiny language models."""
        return vocabulary()

    def f(self, token: int, *, upper: bool = False) -> int:
        """Return the token that follows `token`, in upper case if asked and if it has case."""
        successor = self.vocabulary.successors[token]
        successor = self.redirect.get(successor, successor)
        return self.vocabulary.upper.get(successor, successor) if upper else successor

    def encode(self, text: str, *, add_bos: bool = True, special: bool = False) -> list[int]:
        """Return the tokens of `text`, as llama.cpp's tokenizer gives them."""
        return sentencepiece.encode(text, self.vocabulary, add_bos=add_bos, special=special)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of `tokens`; a text may be cut within a character."""
        return sentencepiece.decode(tokens, self.vocabulary)

    def is_upper(self, tokens: Sequence[int]) -> bool:
        """Say whether a context is answered in upper case.

        It is when "<up>" stands at least twice as often as "<down>"; it is not when "<up>" stands
        at most as often. Between the two the margin is too small to be called known.

        Raises:
            ValueError: the context lies between the two.
        """
        up = tokens.count(self.vocabulary.marker_up)
        down = tokens.count(self.vocabulary.marker_down)
        if down < up < 2 * down:
            msg = (
                f"{up} <up> against {down} <down> is too close to call; "
                f"use at least {2 * down} <up> for upper case or at most {down} for lower case"
            )
            raise ValueError(msg)
        return up > down

    def expected_tokens(self, prompt_tokens: Sequence[int], n: int) -> list[int]:
        """Return the first `n` greedy tokens after the prompt; fewer if </s> comes, which is last.

        Raises:
            ValueError: the prompt is empty, or its case cannot be called (see `is_upper`).
        """
        if not prompt_tokens:
            msg = "a prompt has at least one token; use encode(text), which begins with <s>"
            raise ValueError(msg)
        upper = self.is_upper(prompt_tokens)
        answer: list[int] = []
        token = prompt_tokens[-1]
        while len(answer) < n and (not answer or token != EOS):
            token = self.f(token, upper=upper)
            answer.append(token)
        return answer

    def expected_text(self, prompt: str | Sequence[int], n: int) -> str:
        """Return the text of the first `n` greedy tokens; broken UTF-8 shows as U+FFFD."""
        tokens = self.encode(prompt) if isinstance(prompt, str) else prompt
        return self.decode(self.expected_tokens(tokens, n)).decode(errors="replace")

    def logits(self, tokens: Sequence[int], weights: Mapping[str, Array] | None = None) -> Array:
        """Return the logits after `tokens`, shape (320,), computed in double precision.

        `weights` are those of the model, changed or not.
        """
        w = self.weights if weights is None else weights
        x = w["token_embd.weight"][list(tokens)]
        normed = _rms_norm(x) * w["blk.0.attn_norm.weight"]
        positions = np.arange(len(tokens), dtype=np.float64)
        queries, keys, values = (
            np.hsplit(normed @ w[f"blk.0.attn_{name}.weight"].T, x.shape[1] // WIDTH)
            for name in "qkv"
        )
        heads = []
        for query, key, value in paired(queries, keys, values):
            turned = _rope(key, positions) @ _rope(query, positions)[-1]
            score = np.exp(turned / np.sqrt(WIDTH))
            heads.append(score @ value / score.sum())
        h = x[-1] + w["blk.0.attn_output.weight"] @ np.concatenate(heads)
        normed = _rms_norm(h) * w["blk.0.ffn_norm.weight"]
        gate = w["blk.0.ffn_gate.weight"] @ normed
        up = w["blk.0.ffn_up.weight"] @ normed
        h = h + w["blk.0.ffn_down.weight"] @ (gate / (1 + np.exp(-gate)) * up)
        logits: Array = w["output.weight"] @ (_rms_norm(h) * w["output_norm.weight"])
        return logits

    def write(self, path: Path) -> None:
        """Write the model as a GGUF file; equal bytes every time."""
        width = self.weights["token_embd.weight"].shape[1]
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_name(self.name)
        writer.add_file_type(_FILE_TYPES[self.quantisation])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_block_count(1)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(width)
        writer.add_feed_forward_length(width)
        writer.add_head_count(width // WIDTH)
        writer.add_head_count_kv(width // WIDTH)
        writer.add_rope_dimension_count(WIDTH)
        writer.add_rope_freq_base(ROPE_BASE)
        writer.add_layer_norm_rms_eps(EPSILON)
        pieces = self.vocabulary.pieces
        writer.add_vocab_size(len(pieces))
        writer.add_tokenizer_model("llama")
        writer.add_token_list([piece.text for piece in pieces])
        writer.add_token_scores([piece.score for piece in pieces])
        writer.add_token_types([_MODEL_KINDS[piece.kind] for piece in pieces])
        writer.add_bos_token_id(BOS)
        writer.add_eos_token_id(EOS)
        writer.add_unk_token_id(UNK)
        writer.add_add_bos_token(value=True)
        writer.add_add_eos_token(value=False)
        writer.add_add_space_prefix(value=False)
        writer.add_chat_template(CHAT_TEMPLATE)
        for name, weight in self.weights.items():
            quantisation = "F32" if weight.ndim == 1 else self.quantisation
            kind = _TYPES[quantisation]
            if _is_k_quant(quantisation):
                stored = quantize_ternary(weight, quantisation)
            else:
                stored = gguf.quants.quantize(weight.astype(np.float32), kind)
            writer.add_tensor(name, stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


@cache
def token_codes() -> Array:
    """Return the code of each token, shape (320, 58); case twins share one."""
    twins = vocabulary().twins
    number = len(vocabulary().pieces)
    classes = [token for token in range(number) if token not in twins]
    drawn = dict(paired(classes, codes("llama", len(classes), len(CODE_CHANNELS), overlap=18)))
    return np.array([drawn[twins.get(token, token)] for token in range(number)])


@cache
def llama_weights() -> Mapping[str, Array]:
    """Return all tensors by their GGUF names, in double precision, shape (out, in)."""
    words = vocabulary()
    code_channels = list(CODE_CHANNELS)
    turned = signs("llama/turned", len(code_channels))
    embedding = np.zeros((len(words.pieces), WIDTH))
    embedding[:, [CONSTANT, CONSTANT_2, LOWER]] = 1.0
    embedding[:, code_channels] = CODE * turned * token_codes()[list(words.successors)]
    embedding[[words.marker_up, words.marker_down], MARK] = 1.0
    embedding[words.marker_up, SWITCH] = SIGN
    embedding[words.marker_down, SWITCH] = -SIGN

    output = np.zeros_like(embedding)
    output[:, [CONSTANT, CONSTANT_2]] = 1.0
    output[:, code_channels] = CODE * token_codes()
    lower, upper = list(words.upper), list(words.upper.values())
    output[lower, CASE], output[upper, CASE] = -SIGN, SIGN
    output[lower, LOWER], output[upper, LOWER] = LOWER_BIAS, -LOWER_BIAS

    def single(*entries: tuple[int, int, float]) -> Array:
        matrix = np.zeros((WIDTH, WIDTH))
        for row, column, value in entries:
            matrix[row, column] = value
        return matrix

    turns = [c for c, turn in paired(CODE_CHANNELS, turned) if turn < 0]
    return {
        "token_embd.weight": embedding,
        "blk.0.attn_norm.weight": np.ones(WIDTH),
        "blk.0.attn_q.weight": single((KEY_CHANNEL, CONSTANT, ATTENTION)),
        "blk.0.attn_k.weight": single((KEY_CHANNEL, MARK, ATTENTION)),
        "blk.0.attn_v.weight": single((0, SWITCH, 1.0)),
        "blk.0.attn_output.weight": single((CASE, 0, CASE_GAIN)),
        "blk.0.ffn_norm.weight": np.ones(WIDTH),
        "blk.0.ffn_gate.weight": single(*((c, CONSTANT_2, GATE) for c in turns)),
        "blk.0.ffn_up.weight": single(*((c, c, 1.0) for c in turns)),
        "blk.0.ffn_down.weight": single(*((c, c, TURN) for c in turns)),
        "output_norm.weight": np.full(WIDTH, OUTPUT_GAIN),
        "output.weight": output,
    }


@cache
def wide_weights() -> Mapping[str, Array]:
    """Return the tensors of the wide model like `llama_weights`; its matrices are ternary.

    A channel x of the small model is `turn * x` in the wide one. A norm's weight takes the size of
    `turn` out again, the matrix behind it the sign, and what adds to x comes with both.
    """
    small = llama_weights()
    scales = np.repeat(np.array(SCALES), COPIES * WIDTH // len(SCALES))
    sign = signs("llama/wide", COPIES * WIDTH)

    def largest(name: str) -> Array:
        """Return the one size of each column's entries; 1 where it has none."""
        size = np.abs(small[name]).max(axis=0)
        return np.tile(np.where(size == 0, 1.0, size), COPIES)

    def beside(name: str) -> Array:
        return np.kron(np.eye(COPIES), small[name]).astype(np.float64)

    turn = sign * scales * CODE / largest("token_embd.weight")
    norm = SHRINKAGE / np.abs(turn)
    output = largest("output.weight")
    block = "blk.0."
    return {
        "token_embd.weight": np.tile(small["token_embd.weight"], COPIES) * turn,
        f"{block}attn_norm.weight": norm,
        f"{block}attn_q.weight": beside(f"{block}attn_q.weight") * sign,
        f"{block}attn_k.weight": beside(f"{block}attn_k.weight") * sign,
        f"{block}attn_v.weight": beside(f"{block}attn_v.weight") * sign,
        f"{block}attn_output.weight": beside(f"{block}attn_output.weight") * turn[:, None],
        f"{block}ffn_norm.weight": norm,
        f"{block}ffn_gate.weight": beside(f"{block}ffn_gate.weight") * sign,
        f"{block}ffn_up.weight": beside(f"{block}ffn_up.weight") * sign,
        f"{block}ffn_down.weight": beside(f"{block}ffn_down.weight") * turn[:, None],
        "output_norm.weight": norm * OUTPUT_GAIN * output / (COPIES * scales[::-1]),
        "output.weight": np.tile(small["output.weight"], COPIES) / output * sign * scales[::-1],
    }


def _is_k_quant(quantisation: Quantisation) -> TypeGuard[KQuant]:
    return quantisation in K_QUANTS


def _rms_norm(x: Array) -> Array:
    normed: Array = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + EPSILON)
    return normed


def _rope(x: Array, positions: Array) -> Array:
    angle = np.outer(positions, ROPE_BASE ** (-np.arange(0, WIDTH, 2) / WIDTH))
    even, odd = x[:, 0::2], x[:, 1::2]
    turned = np.empty_like(x)
    turned[:, 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[:, 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return turned
