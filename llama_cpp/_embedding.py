"""Embeddings: texts in, vectors out, several texts per decode call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Union

from llama_cpp import _abi, _log
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_cpp._engine import Engine

Embedding = Union["list[float]", "list[list[float]]"]
"""One vector for a text; with pooling NONE one vector per token."""


def embed(
    engine: Engine, texts: Sequence[list[int]], *, normalize: bool, truncate: bool
) -> list[Embedding]:
    """Return one embedding per text.

    Args:
        engine: its context is cleared and its streams are ended.
        texts: checked ids, at least one per text.
        normalize: scale each vector to length 1.
        truncate: shorten a text that does not fit, instead of raising.

    Raises:
        ValidationError: a text is empty, or too long and ``truncate`` is False.
        GenerationError: llama.cpp failed.
    """
    context = engine.context
    room = min(context.n_batch, context.n_ctx_seq)
    if not context.causal:
        room = min(room, context.n_ubatch)
    vocabulary = context.model.vocabulary
    ends = {vocabulary.eos, vocabulary.sep}
    fitting = [_fit(text, i, room, ends=ends, truncate=truncate) for i, text in enumerate(texts)]
    results: list[Embedding] = []
    with context.lock:
        engine.reset()
        context.clear()
        context.set_embeddings(wanted=True)
        batch = context.batch(room)
        for group in _groups(fitting, room, context.n_seq_max):
            batch.clear()
            for seq_id, text in enumerate(group):
                for position, token in enumerate(text):
                    batch.add(token, position, (seq_id,), output=True)
            _log.clear()
            context.clear()
            context.decode(batch)
            start = 0
            for seq_id, text in enumerate(group):
                if context.pooling_type == _abi.LLAMA_POOLING_TYPE_NONE:
                    rows = [context.embedding(start + i) for i in range(len(text))]
                    results.append([_unit(row) for row in rows] if normalize else rows)
                else:
                    row = context.sequence_embedding(seq_id)
                    results.append(_unit(row) if normalize else row)
                start += len(text)
        context.clear()
    return results


def _fit(text: list[int], index: int, room: int, *, ends: set[int], truncate: bool) -> list[int]:
    """Return ``text`` cut to ``room`` tokens; an ending token that was last stays last."""
    if not text:
        raise ValidationError(f"text {index} has no tokens; there is nothing to embed")
    if len(text) <= room:
        return text
    if not truncate:
        raise ValidationError(
            f"text {index} has {len(text)} tokens, and {room} fit: shorten it, or pass truncate=True"
        )
    return [*text[: room - 1], text[-1]] if text[-1] in ends else text[:room]


def _groups(texts: Sequence[list[int]], room: int, most: int) -> Iterator[list[list[int]]]:
    """Yield runs of texts, in order, that fit one call."""
    group: list[list[int]] = []
    used = 0
    for text in texts:
        if group and (used + len(text) > room or len(group) == most):
            yield group
            group, used = [], 0
        group.append(text)
        used += len(text)
    if group:
        yield group


def _unit(vector: list[float]) -> list[float]:
    """Return ``vector`` scaled to Euclidean length 1; a zero vector stays as it is."""
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector] if length else vector
