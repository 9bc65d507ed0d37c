from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from tests.tiny.bert import TinyBert, pieces

if TYPE_CHECKING:
    from pathlib import Path

MODEL = TinyBert(name="bert")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ["[CLS]", "[SEP]"], id="empty"),
        pytest.param("Morning SUN", ["[CLS]", "▁morning", "▁sun", "[SEP]"], id="words"),
        pytest.param("suns, 42", ["[CLS]", "▁sun", "s", "▁,", "▁4", "2", "[SEP]"], id="split"),
    ],
)
def test_encode(text: str, expected: list[str]) -> None:
    assert [pieces()[token] for token in MODEL.encode(text)] == expected


def test_encode_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"^only printable ASCII has a known tokenization here"):
        MODEL.encode("naïve")


def test_vector_refuses_a_text_longer_than_the_model() -> None:
    with pytest.raises(ValueError, match=r"^257 tokens, but the model has 256 positions$"):
        MODEL.vector([5] * 257)


def test_vector_of_equal_tokens_without_layers_is_by_hand() -> None:
    # One token: the mean over the text is the token itself, so each norm sees one vector and the
    # result is normalised: mean 0 and mean square 1.
    vector = MODEL.vector([5])
    assert vector.shape == (64,)
    assert vector.mean() == pytest.approx(0.0, abs=1e-12)
    assert (vector**2).mean() == pytest.approx(1.0, abs=1e-5)


def test_vectors_tell_words_and_order_apart() -> None:
    def vector(text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        v = MODEL.vector(MODEL.encode(text))
        return v / np.linalg.norm(v)

    same_words = vector("morning sun") @ vector("sun morning")
    other_words = vector("morning sun") @ vector("fog")
    assert 0.99 < same_words < 0.998
    assert other_words < 0.7
    assert np.abs(vector("morning sun") - vector("sun morning")).max() > 0.01


def test_file(tmp_path: Path) -> None:
    MODEL.write(tmp_path / "bert.gguf")
    reader = gguf.GGUFReader(tmp_path / "bert.gguf")
    assert reader.fields["general.architecture"].contents() == "bert"
    assert reader.fields["bert.pooling_type"].contents() == gguf.PoolingType.MEAN
    assert tuple(reader.fields["tokenizer.ggml.tokens"].contents()) == pieces()
