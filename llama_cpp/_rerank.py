"""Reranking: how well documents answer a query, by a model with a classifier on top.

The prompt is built as llama.cpp's server builds it: from the model's own template named "rerank", or
from begin, end and separator tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from llama_cpp import _abi, _library
from llama_cpp._embedding import embedding_engine, room_of, vectors_of
from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_cpp._model import Model
    from llama_cpp.llama import Llama


def rank(
    self: Llama, query: str, documents: Sequence[str], *, truncate: bool = True
) -> list[float]:
    """Return how well each document answers the query, the higher the better.

    Args:
        query: a question.
        documents: texts.
        truncate: shorten a document that does not fit, instead of raising.

    Returns:
        A score per document, in their order: what the model's classifier says, of several classes
        the first (a probability for Qwen3's rerankers, a logit for most others).

    Raises:
        LlamaError: the object was made without ``embedding=True`` and
            ``pooling_type=LLAMA_POOLING_TYPE_RANK``, or the model has no classifier.
        ValidationError: a text is no string, or does not fit and ``truncate`` is False.
        GenerationError: llama.cpp failed.
    """
    engine = embedding_engine(self)
    if engine.context.pooling_type != _abi.LLAMA_POOLING_TYPE_RANK:
        raise LlamaError(
            f"{self._core.path.name} is loaded with pooling_type {engine.context.pooling_type}; "
            "ranking needs a reranking model, loaded with pooling_type=4 (LLAMA_POOLING_TYPE_RANK)"
        )
    if not self._core.has_classifier:
        raise LlamaError(
            f"{self._core.path.name} has no classifier (tensors cls.*), so its scores would mean "
            "nothing; take a reranking model"
        )
    if isinstance(documents, (str, bytes)):
        raise ValidationError("documents is one text; give a list of texts")
    prompt = _Prompt(self, self._core, query)
    room = room_of(engine)
    prompts = [
        prompt.fitting(document, room, where=f"document {index}", truncate=truncate)
        for index, document in enumerate(documents)
    ]
    scores, _ = vectors_of(engine, prompts, normalize=False, truncate=False)
    return [cast("float", score[0]) for score in scores]


class _Prompt:
    """A query, ready to meet documents."""

    def __init__(self, llm: Llama, model: Model, query: str) -> None:
        self._llm = llm
        self._vocabulary = model.vocabulary
        self._template = model.chat_template("rerank")
        self._query = _text(query, "query")
        lib = _library.load()
        self._adds_separator: bool = lib.llama_vocab_get_add_sep(self._vocabulary.pointer)

    def fitting(self, document: str, room: int, *, where: str, truncate: bool) -> list[int]:
        """Return the tokens of query and document, the document shortened to what fits."""
        text = _text(document, where)
        prompt = self._tokens(text)
        kept = self._tokenize(text)
        while len(prompt) > room:
            if not truncate:
                raise ValidationError(
                    f"{where} has {len(prompt)} tokens with the query, and {room} fit: shorten it, "
                    "or pass truncate=True"
                )
            if not kept:
                raise ValidationError(
                    f"the query has {len(prompt)} tokens with what the model needs around it, and "
                    f"{room} fit: shorten it"
                )
            kept = kept[: max(0, len(kept) - (len(prompt) - room))]
            prompt = self._tokens(self._llm.detokenize(kept).decode("utf-8", "ignore"), kept)
        return prompt

    def _tokens(self, document: str, ids: list[int] | None = None) -> list[int]:
        if self._template is not None:
            # as llama.cpp does: the document may hold "{query}" afterwards, not before
            text = self._template.replace("{query}", self._query).replace("{document}", document)
            return self._tokenize(text, special=True)
        vocabulary = self._vocabulary
        end = vocabulary.sep if vocabulary.eos < 0 else vocabulary.eos
        ends = [self._known(end, "end")] if vocabulary.adds_eos else []
        return [
            *([self._known(vocabulary.bos, "begin")] if vocabulary.adds_bos else ()),
            *self._tokenize(self._query),
            *ends,
            *([self._known(vocabulary.sep, "separator")] if self._adds_separator else ()),
            *(self._tokenize(document) if ids is None else ids),
            *ends,
        ]

    def _tokenize(self, text: str, *, special: bool = False) -> list[int]:
        return self._llm.tokenize(text, add_bos=False, special=special)

    @staticmethod
    def _known(token: int, name: str) -> int:
        if token < 0:
            raise ValidationError(
                f"this model wants a {name} token between query and document, and names none"
            )
        return token


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"{name} is {value!r}; give a text")
    return value
