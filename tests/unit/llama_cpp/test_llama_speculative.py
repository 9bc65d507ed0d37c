"""Prompt lookup: where the last tokens stood before, and what followed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from llama_cpp import ValidationError
from llama_cpp.llama_speculative import LlamaDraftModel, LlamaPromptLookupDecoding

find = LlamaPromptLookupDecoding.find_candidate_pred_tokens


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.intc)


@pytest.mark.parametrize(
    ("tokens", "ngram", "count", "expected"),
    [
        pytest.param((1, 2, 3, 4, 1, 2), 2, 10, [3, 4, 1, 2], id="what followed two tokens"),
        pytest.param((1, 2, 3, 4, 1, 2), 2, 2, [3, 4], id="no more than asked for"),
        pytest.param((1, 2, 3, 4, 9, 2), 2, 2, [3, 4], id="one token where two are nowhere"),
        pytest.param((5, 1, 2, 7, 1, 2), 3, 1, [7], id="shorter runs are tried"),
        pytest.param((2, 8, 1, 2, 7, 1, 2), 2, 1, [7], id="the longer run wins"),
        pytest.param((1, 2, 3, 1, 2, 4, 1, 2), 2, 1, [3], id="the first place wins"),
        pytest.param((1, 2, 3), 2, 5, [], id="nowhere"),
        pytest.param((), 2, 5, [], id="no tokens"),
        pytest.param((7,), 2, 5, [], id="one token"),
        pytest.param((7, 7), 5, 5, [7], id="run longer than the text"),
        pytest.param((7, 7, 7), 2, 5, [7], id="overlapping itself"),
    ],
)
def test_candidates(tokens: tuple[int, ...], ngram: int, count: int, expected: list[int]) -> None:
    found = find(ids(*tokens), ngram, count)
    assert (found.tolist(), found.dtype) == (expected, np.dtype(np.intc))


def test_the_same_as_a_plain_search() -> None:
    draw = random.Random(5)
    for _ in range(300):
        tokens = [draw.randrange(4) for _ in range(draw.randrange(30))]
        size, count = draw.randrange(1, 6), draw.randrange(1, 8)
        expected: list[int] = []
        for length in range(min(size, len(tokens) - 1), 0, -1):
            last = tokens[-length:]
            places = range(len(tokens) - length)
            start = next((s for s in places if tokens[s : s + length] == last), None)
            if start is not None:
                expected = tokens[start + length : start + length + count]
                break
        assert find(ids(*tokens), size, count).tolist() == expected


def test_draft_model() -> None:
    draft = LlamaPromptLookupDecoding(max_ngram_size=2, num_pred_tokens=3)
    assert isinstance(draft, LlamaDraftModel)
    assert draft(ids(1, 2, 3, 4, 5, 1, 2)).tolist() == [3, 4, 5]
    assert draft(ids(1, 2), more="ignored").tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"max_ngram_size": 0},
            "max_ngram_size is 0; choose an integer from 1 to 1024",
            id="no n-gram",
        ),
        pytest.param(
            {"num_pred_tokens": -1},
            "num_pred_tokens is -1; choose an integer from 1 to 4096",
            id="nothing to predict",
        ),
    ],
)
def test_sizes_out_of_range(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LlamaPromptLookupDecoding(**arguments)
    assert str(caught.value) == message
