from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.tiny.llama import EPSILON, WIDTH
from tests.tiny.vision import (
    BLUE,
    ONE,
    OWN,
    PATCH,
    RED,
    WHOLE,
    Architecture,
    TinyVision,
    gemma3_projector,
    png,
    qwen3vl_projector,
    vision_models,
    vision_vocabulary,
)
from tests.tiny.vocabulary import vocabulary

ROOT = Path(__file__).resolve().parents[3]


def test_names() -> None:
    assert list(vision_models())[-1] == "qwen3vl-q4_0"
    assert vision_models()["qwen3vl-q4_0"].projector_name == "mmproj-qwen3vl-q4_0"


def test_vocabulary_goes_on_where_the_plain_one_ends() -> None:
    plain, words = vocabulary(), vision_vocabulary()
    assert words.pieces[:320] == plain.pieces
    assert [piece.text for piece in words.pieces[320:]] == [
        *("<start_of_image>", "<end_of_image>", "<|vision_start|>", "<|vision_end|>"),
        "<|image_pad|>",
    ]
    assert words.successors[:320] == plain.successors
    assert {words.successors[token] for token in range(320, 325)} == {plain.ids["▁m"]}


def test_answers_by_hand() -> None:
    pair = TinyVision(architecture="gemma3")
    assert pair.expected_text("assistant:", 40, upper=True) == (
        " GOODBYE, until the long day has come to a quiet end."
    )
    assert pair.expected_text("<|vision_end|>", 3, upper=False) == " morni"
    assert pair.image_tokens(64, 32) == (4, 4)
    assert TinyVision(architecture="qwen3vl").image_tokens(64, 32) == (32, 8)


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
def test_quantised_projectors_keep_what_ggml_needs_plain(
    tmp_path: Path, architecture: Architecture
) -> None:
    pair = TinyVision(architecture=architecture, quantisation="Q4_0")
    pair.write_projector(tmp_path / "a.gguf")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert kinds["v.patch_embd.weight"] == "F16"
    assert kinds["v.position_embd.weight"] == kinds["v.blk.0.ln1.weight"] == "F32"
    assert kinds["v.blk.0.ffn_up.weight"] == "Q4_0"
    assert kinds.get("mm.input_projection.weight", "F16") == "F16"
    assert kinds.get("mm.0.weight", "Q4_0") == "Q4_0"


def switches(architecture: Architecture, redness: list[float]) -> list[float]:
    """Return the switch channel of each image token, patches being 2 to a token, in numpy."""
    w = gemma3_projector() if architecture == "gemma3" else qwen3vl_projector()
    parts = 1 if architecture == "gemma3" else 2
    x = np.zeros((len(redness), WIDTH))
    kernel = w["v.patch_embd.weight"][OWN]
    for row, red in enumerate(redness):
        pixels = np.zeros((3, PATCH, PATCH))
        pixels[0], pixels[1], pixels[2] = red, -1, -red
        x[row, OWN] = parts * (kernel * pixels).sum()
    x = x + w["v.patch_embd.bias"]

    def norm(rows: np.ndarray, name: str) -> np.ndarray:
        centred = rows - rows.mean(axis=1, keepdims=True)
        size = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
        scaled: np.ndarray = centred / size * w[f"v.blk.0.{name}.weight"]
        return scaled

    def gelu(a: np.ndarray) -> np.ndarray:
        bent: np.ndarray = 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))
        return bent

    assert x[:, ONE].tolist() == [1.0] * len(redness)
    x[:, WHOLE] += norm(x, "ln1")[:, OWN].mean()
    up = norm(x, "ln2") @ w["v.blk.0.ffn_up.weight"].T
    x = x + gelu(up) @ w["v.blk.0.ffn_down.weight"].T
    pooled = x.reshape(-1, 2, WIDTH).mean(axis=1)
    if architecture == "gemma3":
        pooled = pooled / np.sqrt((pooled**2).mean(axis=1, keepdims=True) + EPSILON)
        out = pooled @ w["mm.input_projection.weight"]
    else:
        merged = np.tile(pooled, 4)
        bent = gelu(merged @ w["mm.0.weight"].T)
        out = bent @ w["mm.2.weight"].T + w["mm.2.bias"]
    return [round(float(value), 2) for value in out[:, 35]]


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
def test_an_image_is_like_markers(architecture: Architecture) -> None:
    red, blue = switches(architecture, [1] * 4), switches(architecture, [-1] * 4)
    assert red == pytest.approx([0.75, 0.75], abs=0.05)
    assert blue == pytest.approx([-0.75, -0.75], abs=0.05)
    # three parts of four decide for all tokens
    assert min(switches(architecture, [1, 1, 1, -1])) > 0.2
    assert max(switches(architecture, [-1, 1, -1, -1])) < -0.2


def test_png(tmp_path: Path) -> None:
    data = png(4, 2, [RED, BLUE])
    assert data.startswith(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x04\x00\x00\x00\x02\x08\x02"
    )
    assert sha256(data).hexdigest() == sha256(png(4, 2, [RED, BLUE])).hexdigest()
