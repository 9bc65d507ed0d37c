"""Batches: what is in them, and what they refuse."""

from __future__ import annotations

import pytest

from llama_cpp._batch import Batch
from llama_cpp._errors import ValidationError


def content(batch: Batch) -> list[tuple[int, int, list[int], int]]:
    """What llama.cpp reads: id, position, sequences, output flag."""
    s = batch.struct
    return [
        (s.token[i], s.pos[i], s.seq_id[i][: s.n_seq_id[i]], s.logits[i]) for i in range(len(batch))
    ]


def test_added_tokens() -> None:
    batch = Batch(4, n_vocab=10, n_seq_max=3)
    assert batch.add(9, 0, (0,), output=False) == 0
    assert batch.add(0, 5, (2, 0, 1), output=True) == 1
    assert batch.add(3, 1, (1,), output=True) == 2
    assert content(batch) == [(9, 0, [0], 0), (0, 5, [2, 0, 1], 1), (3, 1, [1], 1)]
    assert batch.outputs == [1, 2]
    batch.clear()
    assert (len(batch), batch.outputs, content(batch)) == (0, [], [])


def test_a_run_of_one_sequence() -> None:
    batch = Batch(8, n_vocab=10, n_seq_max=2)
    batch.set_run([5, 6, 7], 10, 1, output=True)
    assert content(batch) == [(5, 10, [1], 0), (6, 11, [1], 0), (7, 12, [1], 1)]
    assert batch.outputs == [2]
    batch.set_run([8], 13, 0, output=True)
    assert content(batch) == [(8, 13, [0], 1)]
    assert batch.outputs == [0]
    batch.set_run([1, 2, 3, 4], 0, 0, output=False)
    assert content(batch) == [(1, 0, [0], 0), (2, 1, [0], 0), (3, 2, [0], 0), (4, 3, [0], 0)]
    assert batch.outputs == []


@pytest.mark.parametrize(
    ("token", "position", "seq_ids", "message"),
    [
        (10, 0, (0,), "token id 10; this model's ids run from 0 to 9"),
        (-1, 0, (0,), "token id -1; this model's ids run from 0 to 9"),
        (1, -1, (0,), "position -1; this model's positions run from 0 to 5"),
        (1, 6, (0,), "position 6; this model's positions run from 0 to 5"),
        (1, 0, (2,), "sequence id 2; this context's ids run from 0 to 1"),
        (1, 0, (-1,), "sequence id -1; this context's ids run from 0 to 1"),
        (1, 0, (), "a token belongs to 1 to 2 sequences, not 0"),
        (1, 0, (0, 1, 0), "a token belongs to 1 to 2 sequences, not 3"),
    ],
)
def test_refused_tokens(token: int, position: int, seq_ids: tuple[int, ...], message: str) -> None:
    batch = Batch(4, n_vocab=10, n_seq_max=2, n_positions=6)
    with pytest.raises(ValidationError) as caught:
        batch.add(token, position, seq_ids, output=True)
    assert str(caught.value) == message
    assert (len(batch), batch.outputs) == (0, [])


def test_a_full_batch() -> None:
    batch = Batch(1, n_vocab=10)
    batch.add(1, 0, (0,), output=True)
    with pytest.raises(ValidationError, match=r"^the batch is full: it holds 1 tokens$"):
        batch.add(1, 1, (0,), output=True)


@pytest.mark.parametrize(
    ("tokens", "position", "seq_id", "message"),
    [
        ([], 0, 0, "0 tokens; the batch holds 1 to 3"),
        ([1, 2, 3, 4], 0, 0, "4 tokens; the batch holds 1 to 3"),
        ([1, 2], 5, 0, "position 6; this model's positions run from 0 to 5"),
        ([1], 0, 1, "sequence id 1; this context's ids run from 0 to 0"),
    ],
)
def test_refused_runs(tokens: list[int], position: int, seq_id: int, message: str) -> None:
    batch = Batch(3, n_vocab=10, n_positions=6)
    with pytest.raises(ValidationError) as caught:
        batch.set_run(tokens, position, seq_id, output=True)
    assert str(caught.value) == message
