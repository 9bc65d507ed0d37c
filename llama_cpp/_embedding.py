"""Embeddings: texts in, vectors out, several texts per decode call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Union, cast, overload

from llama_cpp import _abi, _log
from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_cpp._engine import Engine
    from llama_cpp.llama import Llama
    from llama_cpp.llama_types import CreateEmbeddingResponse

    Text = Union[str, Sequence[int]]
    Texts = Sequence[Text]

Embedding = Union["list[float]", "list[list[float]]"]
"""One vector for a text; with pooling NONE one vector per token."""

# Poolings whose vector llama.cpp makes of the tokens that are computed at once.
_POOLED_AT_ONCE = (
    _abi.LLAMA_POOLING_TYPE_MEAN,
    _abi.LLAMA_POOLING_TYPE_CLS,
    _abi.LLAMA_POOLING_TYPE_RANK,
)


@overload
def embed(
    self: Llama,
    input: str,
    normalize: bool = ...,
    truncate: bool = ...,
    return_count: Literal[False] = ...,
) -> Embedding: ...


@overload
def embed(
    self: Llama,
    input: list[str],
    normalize: bool = ...,
    truncate: bool = ...,
    return_count: Literal[False] = ...,
) -> list[Embedding]: ...


@overload
def embed(
    self: Llama,
    input: Text | Texts,
    normalize: bool = ...,
    truncate: bool = ...,
    return_count: Literal[False] = ...,
) -> Embedding | list[Embedding]: ...


@overload
def embed(
    self: Llama,
    input: Text | Texts,
    normalize: bool = ...,
    truncate: bool = ...,
    *,
    return_count: Literal[True],
) -> tuple[Embedding | list[Embedding], int]: ...


def embed(
    self: Llama,
    input: Text | Texts,  # noqa: A002 - the compatible interface's name
    normalize: bool = False,
    truncate: bool = True,
    return_count: bool = False,
) -> Any:
    """Return the embedding of a text, or those of several.

    Args:
        input: a text, or token ids taken as they are; or a list of such.
        normalize: scale each vector to length 1.
        truncate: shorten a text that does not fit, instead of raising.
        return_count: return the number of tokens as well, shortened texts as short as they are.

    Returns:
        ``n_embd()`` floats per text; with pooling NONE such a vector per token, with pooling RANK
        the scores of the model's classes. With ``return_count`` a pair of that and the number.

    Raises:
        LlamaError: the object was made without ``embedding=True``.
        ValidationError: a text has no tokens, or does not fit and ``truncate`` is False.
        GenerationError: llama.cpp failed.
    """
    engine = embedding_engine(self)
    alone = isinstance(input, str) or (bool(input) and not _is_text(input[0]))
    texts = cast("Texts", [input] if alone else input)
    vectors, tokens = vectors_of(
        engine, [_ids(self, text) for text in texts], normalize=normalize, truncate=truncate
    )
    found = vectors[0] if alone else vectors
    return (found, tokens) if return_count else found


def create_embedding(
    self: Llama,
    input: Text | Texts,  # noqa: A002 - the compatible interface's name
    model: str | None = None,
) -> CreateEmbeddingResponse:
    """Return embeddings in the shape of OpenAI's API.

    Args:
        input: a text, or token ids; or a list of such.
        model: name to report; None is the path.

    Returns:
        ``{"object": "list", "data": [{"object": "embedding", "embedding": …, "index": 0}, …],
        "model": …, "usage": {"prompt_tokens": …, "total_tokens": …}}``

    Raises:
        LlamaError: the object was made without ``embedding=True``.
        ValidationError: a text has no tokens.
        GenerationError: llama.cpp failed.
    """
    found, tokens = embed(self, input, return_count=True)
    alone = isinstance(input, str) or (bool(input) and not _is_text(input[0]))
    vectors = cast("list[Embedding]", [found] if alone else found)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": vector, "index": index}
            for index, vector in enumerate(vectors)
        ],
        "model": self.model_path if model is None else model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embedding_engine(self: Llama) -> Engine:
    """Return the engine of an object that was made for embeddings."""
    engine = self._running()
    if not engine.context.params.embeddings:
        raise LlamaError("load the model with embedding=True to make embeddings")
    return engine


def _is_text(item: object) -> bool:
    return isinstance(item, str) or hasattr(item, "__len__")


def _ids(self: Llama, text: Text) -> list[int]:
    if isinstance(text, str):
        return self.tokenize(text, special=True)
    return self._core.vocabulary.check(text)


def room_of(engine: Engine) -> int:
    """Return the most tokens of a text."""
    context = engine.context
    room = min(context.n_batch, context.n_ctx_seq)
    if not context.causal or context.pooling_type in _POOLED_AT_ONCE:
        room = min(room, context.n_ubatch)
    return room


def vectors_of(
    engine: Engine, texts: Sequence[list[int]], *, normalize: bool, truncate: bool
) -> tuple[list[Embedding], int]:
    """Return one embedding per text, and how many tokens were computed.

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
    room = room_of(engine)
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
                    results.append([unit(row) for row in rows] if normalize else rows)
                else:
                    row = context.sequence_embedding(seq_id)
                    results.append(unit(row) if normalize else row)
                start += len(text)
        context.clear()
    return results, sum(map(len, fitting))


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


def unit(vector: list[float]) -> list[float]:
    """Return ``vector`` scaled to Euclidean length 1; a zero vector stays as it is."""
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector] if length else vector
