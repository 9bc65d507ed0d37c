from __future__ import annotations

import gguf
import numpy as np
import pytest

from tests.tiny.k_quants import K_QUANTS, KQuant, quantize_ternary
from tests.tiny.llama import wide_weights

GROUPS = {"Q2_K": 16, "Q3_K": 16, "Q4_K": 32, "Q5_K": 32, "Q6_K": 16}


def read(stored: np.ndarray, kind: KQuant) -> np.ndarray:
    """Read blocks back, by the package that others read them with."""
    return gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind])


@pytest.mark.parametrize("kind", K_QUANTS)
def test_nothing_is_lost(kind: KQuant) -> None:
    """Every group with a scale of its own, every weight one of three, in another order each."""
    group = GROUPS[kind]
    draw = np.random.RandomState(4)
    signs = draw.randint(-1, 2, (7, 3, 256 // group, group)).astype(np.float64)
    scales = draw.permutation(256 // group * [1.0, 2.5, 3.75])[: 21 * (256 // group)]
    values = signs * np.resize(scales, (7, 3, 256 // group, 1))
    values[2] = 0.0
    rows = values.reshape(7, 768)
    stored = quantize_ternary(rows, kind)
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    assert stored.dtype == np.uint8
    assert stored.shape == (7, 3 * size)
    assert (read(stored, kind) == rows).all()


@pytest.mark.parametrize("kind", K_QUANTS)
@pytest.mark.parametrize("name", [n for n, w in wide_weights().items() if w.ndim == 2])
def test_the_wide_model_is_stored_without_loss(name: str, kind: KQuant) -> None:
    weight = wide_weights()[name]
    assert (read(quantize_ternary(weight, kind), kind) == weight).all()


@pytest.mark.parametrize("kind", ["Q2_K", "Q4_K"])
def test_what_is_not_ternary_is_refused(kind: KQuant) -> None:
    values = np.ones((2, 256))
    values[1, 40] = 0.5
    with pytest.raises(
        ValueError, match=rf"^a group of {GROUPS[kind]} weights holds more than -v, 0 and v$"
    ):
        quantize_ternary(values, kind)


def test_half_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^rows of 128 weights; Q6_K needs a multiple of 256$"):
        quantize_ternary(np.ones((2, 128)), "Q6_K")


def test_scales_that_do_not_go_together_are_refused() -> None:
    values = np.ones((1, 256))
    values[0, :16] = 17.0
    assert (read(quantize_ternary(values, "Q3_K"), "Q3_K") == values).all()
    with pytest.raises(ValueError, match=r"of a block have no common measure in Q2_K$"):
        quantize_ternary(values, "Q2_K")
