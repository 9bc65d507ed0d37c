"""Tokenization of the tiny language model, restated in Python.

What llama.cpp does for `tokenizer.ggml.model = "llama"` with `add_space_prefix = false`: the
user-defined pieces are cut out first, longest first; spaces become U+2581; then the adjacent pair
with the best score is merged until no pair is in the vocabulary; a character without a piece falls
back to its bytes.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from tests.tiny.vocabulary import BOS, SPACE, Kind, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def encode(text: str, vocabulary: Vocabulary, *, add_bos: bool, special: bool) -> list[int]:
    """Return the tokens of `text`; with `special`, "</s>" in the text is the control token."""
    kinds: set[Kind] = {"user", "control", "unknown"} if special else {"user"}
    whole = sorted(
        (piece for piece in vocabulary.pieces if piece.kind in kinds),
        key=lambda piece: -len(piece.text.encode()),
    )
    fragments: list[str | int] = [text]
    for piece in whole:
        cut: list[str | int] = []
        for fragment in fragments:
            if isinstance(fragment, int):
                cut.append(fragment)
                continue
            first, *rest = fragment.split(piece.text)
            cut.append(first)
            for part in rest:
                cut += [piece.id, part]
        fragments = cut
    tokens = [BOS] if add_bos else []
    for fragment in fragments:
        tokens += [fragment] if isinstance(fragment, int) else _merge(fragment, vocabulary)
    return tokens


def decode(tokens: Iterable[int], vocabulary: Vocabulary) -> bytes:
    """Return the bytes that `tokens` stand for; control tokens are left out."""
    return b"".join(vocabulary.pieces[token].content for token in tokens)


def _merge(text: str, vocabulary: Vocabulary) -> list[int]:
    symbols = list(text.replace(" ", SPACE))
    following = [*range(1, len(symbols)), -1] if symbols else []
    previous = list(range(-1, len(symbols) - 1))
    queue: list[tuple[float, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right < 0:
            return
        merged = symbols[left] + symbols[right]
        token = vocabulary.ids.get(merged)
        if token is not None:
            heapq.heappush(queue, (-vocabulary.pieces[token].score, left, right, merged))

    for left in range(len(symbols) - 1):
        offer(left, left + 1)
    while queue:
        _, left, right, merged = heapq.heappop(queue)
        if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != merged:
            continue
        symbols[left], symbols[right] = merged, ""
        following[left] = following[right]
        if following[right] >= 0:
            previous[following[right]] = left
        offer(previous[left], left)
        offer(left, following[left])
    return _look_up([symbol for symbol in symbols if symbol], vocabulary)


def _look_up(symbols: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    tokens: list[int] = []
    for symbol in symbols:
        token = vocabulary.ids.get(symbol)
        if token is not None:
            tokens.append(token)
        else:
            tokens += [vocabulary.byte(value) for value in symbol.encode()]
    return tokens
