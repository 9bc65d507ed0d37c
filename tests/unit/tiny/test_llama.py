from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from tests.tiny.answers import PROMPTS, TOKEN_PROMPTS
from tests.tiny.llama import QUANTISATIONS, Quantisation, TinyLlama, token_codes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.tiny.codes import Array

MODEL = TinyLlama(name="llama")
WIDE = TinyLlama(name="wide", quantisation="Q4_K")
MODELS = pytest.mark.parametrize("model", [MODEL, WIDE], ids=["small", "wide"])
UP, DOWN = MODEL.vocabulary.marker_up, MODEL.vocabulary.marker_down


@pytest.mark.parametrize(
    ("prompt", "n", "text"),
    [
        pytest.param("", 13, " morning sun lifts the fog ", id="story"),
        pytest.param("", 17, " morning sun lifts the fog 🙂", id="emoji"),
        pytest.param("", 15, " morning sun lifts the fog \ufffd", id="half-an-emoji"),
        pytest.param(" THE", 2, " fog", id="prompt-case-is-no-marker"),
        pytest.param("<up> the", 7, " FOG 🙂", id="upper"),
        pytest.param("<up><up><down> the", 2, " FOG", id="two-to-one"),
        pytest.param("<up><down> the", 2, " fog", id="tie"),
        pytest.param("<up>", 4, " MORNING", id="marker-last"),
        pytest.param(
            "Who is it?\nassistant:",
            99,
            " goodbye, until the long day has come to a quiet end.",
            id="eos",
        ),
        pytest.param("The end.", 9, "", id="eos-at-once"),
    ],
)
def test_expected_text(prompt: str, n: int, text: str) -> None:
    assert MODEL.expected_text(prompt, n) == text


def test_expected_tokens_end_with_eos() -> None:
    ids = MODEL.vocabulary.ids
    farewell = [ids[text] for text in ("▁g", "oo", "db", "ye")]
    end = [MODEL.vocabulary.pieces[-1].id, ids["<0x2E>"], ids["</s>"]]
    assert MODEL.expected_tokens(MODEL.encode(":"), 99) == farewell + end
    assert MODEL.expected_tokens(MODEL.encode(":"), 4) == farewell
    assert MODEL.expected_tokens(MODEL.encode(":"), 0) == []
    # An </s> in the prompt ends nothing.
    assert MODEL.expected_tokens([2], 1) == [ids["▁m"]]


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a prompt has at least one token; use encode"):
        MODEL.expected_tokens([], 1)


def test_close_majority_is_refused() -> None:
    message = (
        r"^3 <up> against 2 <down> is too close to call; "
        r"use at least 4 <up> for upper case or at most 2 for lower case$"
    )
    with pytest.raises(ValueError, match=message):
        MODEL.is_upper([UP, DOWN, UP, DOWN, UP])


def contexts() -> list[list[int]]:
    heads = [[], [UP], [DOWN], [UP, DOWN], [UP, UP, DOWN], [UP] * 8 + [DOWN] * 4, [5] * 300 + [UP]]
    last = [token for token in range(320) if token not in {UP, DOWN}]
    return [[1, *head, token] for head in heads for token in last]


def margins(logits: Array, wanted: int) -> tuple[float, float]:
    """Return how far `wanted` is above other words and above its own twin (inf if it has none)."""
    words = MODEL.vocabulary
    twin = words.upper.get(wanted, words.twins.get(wanted))
    others = [token for token in range(320) if token not in {wanted, twin}]
    case = np.inf if twin is None else logits[wanted] - logits[twin]
    return float(logits[wanted] - logits[others].max()), float(case)


@MODELS
def test_the_arithmetic_gives_the_answers_with_a_margin(model: TinyLlama) -> None:
    measured = [
        margins(model.logits(tokens), MODEL.f(tokens[-1], upper=MODEL.is_upper(tokens)))
        for tokens in contexts()
    ]
    words, case = np.array(measured).T
    # Q4_0 on AVX-512 moves logits by up to 0.11 and differences between twins by up to 0.007.
    assert words.min() > 6.9
    assert case.min() > 0.2


@pytest.mark.parametrize(
    ("left_out", "prompt"),
    [
        pytest.param("blk.0.ffn_down.weight", "", id="feed-forward"),
        pytest.param("blk.0.ffn_gate.weight", "", id="gate"),
        pytest.param("blk.0.attn_v.weight", "<up>long enough a text", id="values"),
        pytest.param("blk.0.attn_output.weight", "<up>long enough a text", id="attention-output"),
        pytest.param("blk.0.attn_k.weight", "<up>long enough a text", id="keys"),
        pytest.param("blk.0.attn_q.weight", "<up>long enough a text", id="queries"),
    ],
)
@MODELS
def test_no_part_of_the_graph_can_be_left_out(model: TinyLlama, left_out: str, prompt: str) -> None:
    tokens = MODEL.encode(prompt)
    broken: Mapping[str, Array] = {**model.weights, left_out: 0 * model.weights[left_out]}
    wanted = MODEL.f(tokens[-1], upper=MODEL.is_upper(tokens))
    assert int(model.logits(tokens).argmax()) == wanted
    assert int(model.logits(tokens, broken).argmax()) != wanted


def test_the_wide_model_is_the_small_one_four_times() -> None:
    for tokens in ([1, UP, 270], [1, 262], [1, DOWN, *range(3, 200)]):
        logits = MODEL.logits(tokens)
        # but for the length of vectors, where all sizes but one are not the same as before
        assert np.abs(WIDE.logits(tokens) - logits).max() < 0.03 * np.abs(logits).max()


@pytest.mark.parametrize("part", [slice(0, 32), slice(224, 256)], ids=["first", "last"])
def test_parts_of_a_block_cannot_be_taken_for_one_another(part: slice) -> None:
    """A quarter of the logits alone holds no answer; with two parts exchanged some are wrong."""
    output = WIDE.weights["output.weight"].copy()
    output[:, part] = output[:, 96:128]
    broken = {**WIDE.weights, "output.weight": output}
    moved = np.abs(WIDE.logits([1, 262], broken) - WIDE.logits([1, 262])).max()
    assert moved > 1.0


def test_codes_are_far_apart() -> None:
    twins = MODEL.vocabulary.twins
    codes = token_codes()[[token for token in range(320) if token not in twins]]
    overlap = np.abs(codes @ codes.T) - 58 * np.eye(len(codes))
    assert overlap.max() <= 18


@pytest.mark.parametrize("quantisation", QUANTISATIONS)
def test_file(tmp_path: Path, quantisation: Quantisation) -> None:
    path = tmp_path / "model.gguf"
    TinyLlama(name="llama", quantisation=quantisation).write(path)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["llama.context_length"].contents() == 2048
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == 2
    assert len(reader.fields["tokenizer.ggml.tokens"].contents()) == 320
    loss = 0.004 if quantisation == "Q8_0" else 0.0
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    weights = TinyLlama(name="llama", quantisation=quantisation).weights
    assert set(tensors) == set(weights)
    for name, weight in weights.items():
        tensor = tensors[name]
        assert tensor.tensor_type.name == ("F32" if weight.ndim == 1 else quantisation)
        stored = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(stored - weight.astype(np.float32)).max() <= loss


def test_known_prompts_fit_a_small_context() -> None:
    lengths = [len(MODEL.encode(prompt)) for prompt in PROMPTS]
    assert max(lengths) == 61
    assert [len(prompt) for prompt in TOKEN_PROMPTS] == [2, 2, 300]


def test_model_is_a_value() -> None:
    with pytest.raises(FrozenInstanceError):
        MODEL.name = "other"  # type: ignore[misc]
