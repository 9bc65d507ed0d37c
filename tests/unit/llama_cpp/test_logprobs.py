"""Log probabilities against their definition, and how they are spelled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from llama_cpp._logprobs import PromptScores, Scored, Scores, likeliest, logprobs, normaliser
from llama_cpp._text import PieceTable

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECES = [b"a", b"b", b" the", b"\xf0\x9f", b"\x99\x82", b"", b"<s>"]


class Words:
    """A vocabulary of seven tokens: text, halves of a character, an ending one, a control token."""

    pieces = PieceTable(lambda t: b"" if t == 6 else PIECES[t], lambda t: t == 5)
    special_pieces = PieceTable(PIECES.__getitem__, lambda t: t == 5)


def vocabulary() -> object:
    return Words()


@pytest.mark.parametrize("size", [1, 5, 63, 64, 320, 1000, 152_064])
@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_the_likeliest(size: int, count: int) -> None:
    rng = np.random.default_rng(size + count)
    # few values, so that many are equal
    logits = rng.integers(-20, 20, size).astype(np.float32)
    expected = np.lexsort((np.arange(size), -logits))[:count]
    assert likeliest(logits, count).tolist() == expected.tolist()


def test_the_likeliest_among_minus_infinity() -> None:
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[7, 900]] = (1.0, 2.0)
    own, top = logprobs(logits, 7, 5)
    total = math.log(math.e + math.e**2)
    assert own == pytest.approx(1 - total)
    assert [token for token, _ in top] == [900, 7]
    assert [value for _, value in top] == pytest.approx([2 - total, 1 - total])


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1e6])
def test_normaliser(shift: float) -> None:
    logits = np.linspace(-30, 30, 152_064).astype(np.float32)
    exact = math.log(math.fsum(math.exp(x - 30) for x in logits.tolist())) + 30
    assert normaliser(logits + np.float32(shift)) == pytest.approx(
        exact + shift, abs=0.1 if shift else 1e-6
    )


def test_tokens_go_with_their_text() -> None:
    scores = Scores(vocabulary(), 2, start=10)  # type: ignore[arg-type]
    rows = np.log(np.array([[0.5, 0.25, 0.125, 0.0625, 0.03125, 0.02, 0.01]], dtype=np.float32))
    for token in (0, 2, 3, 4, 1, 5):
        scores.choose(token, rows[0])
    # the ending token is no part of the text; half a character begins where the whole one does
    assert [(s.token, s.start) for s in scores.until(14)] == [(0, 10), (2, 11)]
    assert scores.until(15) == []
    assert [(s.token, s.start) for s in scores.until(None)] == [(3, 15), (4, 15), (1, 16)]


def test_spelling() -> None:
    scores = Scores(vocabulary(), 2)  # type: ignore[arg-type]
    found = scores.spelled(
        [
            Scored(0, None, (), 0),
            Scored(3, -1.0, ((0, -0.5), (3, -1.0)), 1),
            Scored(1, -3.0, ((6, -0.5), (2, -1.0)), 1),
        ]
    )
    assert found == {
        "tokens": ["a", "bytes:\\xf0\\x9f", "b"],
        "text_offset": [0, 1, 1],
        "token_logprobs": [None, -1.0, -3.0],
        "top_logprobs": [
            None,
            {"a": -0.5, "bytes:\\xf0\\x9f": -1.0},
            {"<s>": -0.5, " the": -1.0, "b": -3.0},
        ],
    }


@pytest.mark.parametrize("parts", [[6], [1, 5], [2, 2, 2]], ids=str)
@pytest.mark.parametrize("skipped", [0, 1])
def test_a_prompt_in_parts(parts: Sequence[int], skipped: int) -> None:
    prompt = [6, 0, 2, 1, 0, 2]
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((6, 7)).astype(np.float32)
    scores = PromptScores(vocabulary(), 0, prompt, skipped=skipped)  # type: ignore[arg-type]
    start = 0
    for part in parts:
        scores.take(rows[start : start + part])
        start += part
    shares = np.exp(rows.astype(np.float64))
    own = np.log(shares / shares.sum(axis=1, keepdims=True))
    expected = [None, *(float(own[i, prompt[i + 1]]) for i in range(5))]
    found = scores.until(None)
    assert [s.token for s in found] == prompt[skipped:]
    assert [s.logprob for s in found] == pytest.approx(expected[skipped:])
