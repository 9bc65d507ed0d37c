"""Language models whose memory is no plain KV cache, and what they answer.

Each answers in the words of `tests.tiny.llama`, whose tables it has; what differs is how the case is
carried from the markers "<up>" and "<down>" to where a word is chosen:

- mamba, a recurrent state: the last marker decides, however long ago it was. The convolution delays
  everything by one token, so a marker counts from the token after it.
- granite_swa, two layers of attention: the first sees the last `WINDOW` tokens only, the second all.
- jamba, a recurrent layer and one of attention that sees all.

The latter two add up what their layers say, +1 to -1 each (a mean over the markers that a layer
sees; of the recurrent one, the last marker), and answer in upper case from 4/3 on: both memories
must be right for that, and with the window the case changes within an answer.

In a recurrent layer a marker opens the gate: its step is so large that the old state is gone. All
others have a step of almost zero, which keeps the state as it is. silu(x) - silu(-x) = x brings the
marker's sign through the activation.

`python -m tests.tiny.memory FOLDER` writes them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import gguf
import numpy as np

from tests.tiny import sentencepiece
from tests.tiny.codes import Array, signs
from tests.tiny.llama import (
    ATTENTION,
    CASE,
    CHAT_TEMPLATE,
    CODE,
    CODE_CHANNELS,
    CONSTANT,
    CONSTANT_2,
    CONTEXT,
    EPSILON,
    KEY_CHANNEL,
    LOWER,
    LOWER_BIAS,
    MARK,
    OUTPUT_GAIN,
    ROPE_BASE,
    SIGN,
    SWITCH,
    WIDTH,
    token_codes,
)
from tests.tiny.vocabulary import BOS, EOS, UNK, Kind, Vocabulary, vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Architecture = Literal["mamba", "jamba", "granite_swa"]
ARCHITECTURES: tuple[Architecture, ...] = ("mamba", "jamba", "granite_swa")

WINDOW = 24
ENOUGH = 4 / 3  # what two memories must say together for upper case
TOO_LITTLE = 1.0

INNER = 2 * WIDTH  # of a recurrent layer, as its loader demands
STATE = 16
KERNEL = 4
# inner channels: the marker's sign and its opposite, that there is a marker, a constant
PLUS, MINUS, MARKED, ONE = 0, 1, 2, 3
INPUT_GAIN = 4.0
STEP_MARKED, STEP_OTHER = 16.0, -20.0  # before softplus
ALONE, TOGETHER = 3.0, 0.625  # of the case channel, for a memory that says 1
# two layers write little there, lest the first change how the second weighs the markers; the output
# makes much of it
TOGETHER_SIGN = 4 * SIGN
NORMED = 1 / 0.86  # a channel of 1 after a norm, with most tokens
NORMED_MARKER = 1 / 0.875

_KINDS: Mapping[Kind, gguf.TokenType] = {
    "normal": gguf.TokenType.NORMAL,
    "unknown": gguf.TokenType.UNKNOWN,
    "control": gguf.TokenType.CONTROL,
    "user": gguf.TokenType.USER_DEFINED,
    "byte": gguf.TokenType.BYTE,
}


@dataclass(frozen=True)
class TinyMemory:
    """A language model and what it answers; all its weights are F32."""

    architecture: Architecture
    window: int = WINDOW

    @property
    def name(self) -> str:
        """The model's name, which is also its file's without ".gguf"."""
        return f"{self.architecture.replace('_', '-')}-f32"

    @property
    def vocabulary(self) -> Vocabulary:
        """The pieces and successors, the same for all tiny language models."""
        return vocabulary()

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Return the tokens of `text`, as llama.cpp's tokenizer gives them."""
        return sentencepiece.encode(text, self.vocabulary, add_bos=add_bos, special=False)

    def decode(self, tokens: Sequence[int]) -> bytes:
        """Return the bytes of `tokens`; a text may be cut within a character."""
        return sentencepiece.decode(tokens, self.vocabulary)

    def is_upper(self, context: Sequence[int]) -> bool:
        """Say whether the token after a context is in upper case.

        Raises:
            ValueError: it is too close to call.
        """
        if self.architecture == "mamba":
            return self._last(context[:-1]) > 0
        first = (
            self._last(context[:-1])
            if self.architecture == "jamba"
            else self._mean(context[-self.window :])
        )
        both = first + self._mean(context)
        if TOO_LITTLE + 1e-9 < both < ENOUGH - 1e-9:
            msg = f"the memories say {both} of 2 together, which is too close to call"
            raise ValueError(msg)
        return both > TOO_LITTLE + 1e-9

    def expected_tokens(self, prompt: Sequence[int], n: int) -> list[int]:
        """Return the first `n` greedy tokens after the prompt; fewer if </s> comes, which is last.

        Raises:
            ValueError: the case of one of them is too close to call.
        """
        context = list(prompt)
        words = self.vocabulary
        while len(context) < len(prompt) + n:
            token = words.successors[context[-1]]
            context.append(words.upper.get(token, token) if self.is_upper(context) else token)
            if context[-1] == EOS:
                break
        return context[len(prompt) :]

    def expected_text(self, prompt: str | Sequence[int], n: int) -> str:
        """Return the text of the first `n` greedy tokens; broken UTF-8 shows as U+FFFD."""
        tokens = self.encode(prompt) if isinstance(prompt, str) else prompt
        return self.decode(self.expected_tokens(tokens, n)).decode(errors="replace")

    def write(self, path: Path) -> None:
        """Write the model as a GGUF file; equal bytes every time."""
        key = self.architecture
        writer = gguf.GGUFWriter(path, key)
        writer.add_name(self.name)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        writer.add_block_count(1 if key == "mamba" else 2)
        writer.add_context_length(CONTEXT)
        writer.add_embedding_length(WIDTH)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_feed_forward_length(0 if key == "mamba" else WIDTH)
        writer.add_head_count(0 if key == "mamba" else 1)
        if key == "granite_swa":
            writer.add_head_count_kv(1)
            writer.add_rope_dimension_count(WIDTH)
            writer.add_rope_freq_base(ROPE_BASE)
            writer.add_logit_scale(1.0)
            writer.add_sliding_window(self.window)
            writer.add_sliding_window_pattern([True, False])
        else:
            if key == "jamba":
                writer.add_head_count_kv([0, 1])
            writer.add_ssm_conv_kernel(KERNEL)
            writer.add_ssm_inner_size(INNER)
            writer.add_ssm_state_size(STATE)
            writer.add_ssm_time_step_rank(1)
        pieces = self.vocabulary.pieces
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
        for name, weight in memory_weights(key).items():
            writer.add_tensor(name, weight.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def _last(self, tokens: Sequence[int]) -> float:
        """Return +1 or -1 for the last marker; 0 where there is none."""
        words = self.vocabulary
        said = {words.marker_up: 1.0, words.marker_down: -1.0}
        return next((said[token] for token in reversed(tokens) if token in said), 0.0)

    def _mean(self, tokens: Sequence[int]) -> float:
        """Return the mean of the markers; 0 where there is none."""
        up = tokens.count(self.vocabulary.marker_up)
        down = tokens.count(self.vocabulary.marker_down)
        return (up - down) / max(up + down, 1)


def memory_models() -> Mapping[str, TinyMemory]:
    """Return every model by its name."""
    every = [TinyMemory(architecture=architecture) for architecture in ARCHITECTURES]
    return {model.name: model for model in every}


def write_memory(folder: Path) -> list[Path]:
    """Write all models into `folder`, made if missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for model in memory_models().values():
        written.append(folder / f"{model.name}.gguf")
        model.write(written[-1])
    return written


@cache
def memory_weights(architecture: Architecture) -> Mapping[str, Array]:
    """Return all tensors by their GGUF names, in double precision, shape (out, in)."""
    if architecture == "mamba":
        return {**_tables(SIGN, LOWER_BIAS), **_recurrent(ALONE, normed=False)}
    # halfway between what is enough and what is not
    bias = TOGETHER_SIGN * TOGETHER * (TOO_LITTLE + ENOUGH) / 2
    if architecture == "jamba":
        layers = {**_recurrent(TOGETHER, normed=True), **_attention(1)}
    else:
        layers = {**_attention(0), **_attention(1)}
        for block in range(2):
            layers[f"blk.{block}.attn_sinks.weight"] = np.array([-1000.0])
    for block in range(2):
        layers[f"blk.{block}.ffn_norm.weight"] = np.ones(WIDTH)
        for name in ("gate", "up", "down"):
            layers[f"blk.{block}.ffn_{name}.weight"] = np.zeros((WIDTH, WIDTH))
    return {**_tables(TOGETHER_SIGN, bias), **layers}


def _tables(sign: float, lower_bias: float) -> dict[str, Array]:
    """Return the embedding, which holds the codes of the successors, and the output matrix."""
    words = vocabulary()
    channels = list(CODE_CHANNELS)
    embedding = np.zeros((len(words.pieces), WIDTH))
    embedding[:, [CONSTANT, CONSTANT_2, LOWER]] = 1.0
    embedding[:, channels] = CODE * token_codes()[list(words.successors)]
    embedding[[words.marker_up, words.marker_down], MARK] = 1.0
    embedding[words.marker_up, SWITCH] = SIGN
    embedding[words.marker_down, SWITCH] = -SIGN
    output = np.zeros_like(embedding)
    output[:, channels] = CODE * token_codes()
    lower, upper = list(words.upper), list(words.upper.values())
    output[lower, CASE], output[upper, CASE] = -sign, sign
    output[lower, LOWER], output[upper, LOWER] = lower_bias, -lower_bias
    return {
        "token_embd.weight": embedding,
        "output_norm.weight": np.full(WIDTH, OUTPUT_GAIN),
        "output.weight": output,
    }


def _attention(block: int) -> dict[str, Array]:
    """Return a layer that adds the mean of the markers it sees to the case channel."""
    place = f"blk.{block}."
    gain = TOGETHER / (SIGN * NORMED_MARKER)
    return {
        f"{place}attn_norm.weight": np.ones(WIDTH),
        f"{place}attn_q.weight": _matrix(WIDTH, WIDTH, (KEY_CHANNEL, CONSTANT, ATTENTION)),
        f"{place}attn_k.weight": _matrix(WIDTH, WIDTH, (KEY_CHANNEL, MARK, ATTENTION)),
        f"{place}attn_v.weight": _matrix(WIDTH, WIDTH, (0, SWITCH, 1.0)),
        f"{place}attn_output.weight": _matrix(WIDTH, WIDTH, (CASE, 0, gain)),
    }


def _recurrent(case: float, *, normed: bool) -> dict[str, Array]:
    """Return layer 0, which adds `case` times the last marker's sign to the case channel.

    `normed` is for architectures that norm step, B and C.
    """
    convolution = np.zeros((INNER, KERNEL))
    convolution[[PLUS, MINUS, MARKED], KERNEL - 2] = 1.0
    convolution[ONE, KERNEL - 1] = 1.0
    sign = signs("memory/state", STATE)
    projection = np.zeros((1 + 2 * STATE, INNER))
    projection[0, MARKED] = 1.0
    projection[1:, ONE] = np.tile(sign, 2)
    step = np.zeros((INNER, 1))
    marked = 1.0 if normed else _silu(INPUT_GAIN * NORMED_MARKER)
    step[[PLUS, MINUS], 0] = (STEP_MARKED - STEP_OTHER) / marked
    # what a marker leaves in the state, read at any later token, per 1 of its sign
    content = 1.0 if normed else _silu(NORMED) ** 2
    written = STEP_MARKED * STATE * content * INPUT_GAIN * SIGN * NORMED_MARKER
    gain = case / (written * _silu(INPUT_GAIN * NORMED))
    norms = {"dt": 1, "b": STATE, "c": STATE} if normed else {}
    return {
        "blk.0.attn_norm.weight": np.ones(WIDTH),
        "blk.0.ssm_in.weight": _matrix(
            2 * INNER,
            WIDTH,
            (PLUS, SWITCH, INPUT_GAIN),
            (MINUS, SWITCH, -INPUT_GAIN),
            (MARKED, MARK, INPUT_GAIN),
            (ONE, CONSTANT, 1.0),
            (INNER + PLUS, CONSTANT, INPUT_GAIN),
            (INNER + MINUS, CONSTANT, INPUT_GAIN),
        ),
        "blk.0.ssm_conv1d.weight": convolution,
        "blk.0.ssm_conv1d.bias": np.zeros(INNER),
        "blk.0.ssm_x.weight": projection,
        **{f"blk.0.ssm_{name}_norm.weight": np.ones(length) for name, length in norms.items()},
        "blk.0.ssm_dt.weight": step,
        "blk.0.ssm_dt.bias": np.full(INNER, STEP_OTHER),
        "blk.0.ssm_a": np.full((INNER, STATE), -1.0),
        "blk.0.ssm_d": np.zeros(INNER),
        "blk.0.ssm_out.weight": _matrix(WIDTH, INNER, (CASE, PLUS, gain), (CASE, MINUS, -gain)),
    }


def _matrix(rows: int, columns: int, *entries: tuple[int, int, float]) -> Array:
    matrix = np.zeros((rows, columns))
    for row, column, value in entries:
        matrix[row, column] = value
    return matrix


def _silu(x: float) -> float:
    return float(x / (1 + np.exp(-x)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tiny.memory")
    parser.add_argument("folder", type=Path, help="where to; made if missing, files replaced")
    write_memory(parser.parse_args().folder)
