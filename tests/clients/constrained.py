"""What greedy decoding answers where only some texts are allowed, computed without any engine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tests.tiny.vocabulary import EOS

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.tiny.llama import TinyLlama

# F32 is wrong by a hundredth of that
_MARGIN: Final = 0.001


def answer(model: TinyLlama, prompt: str, texts: Collection[str]) -> str:
    """Return the one of `texts` that greedy decoding arrives at, token by token.

    A token may come that keeps the text the beginning of an allowed one; the end of sequence may
    where the text is one. Of tokens with the same bytes it does not matter which comes.

    Raises:
        ValueError: no text is allowed, or two tokens are too close to call.
    """
    wanted = [text.encode() for text in texts]
    contents = [piece.content for piece in model.vocabulary.pieces]
    tokens, said = model.encode(prompt), b""
    while True:
        logits = model.logits(tokens)
        best: dict[bytes, tuple[float, int]] = {}
        for token, content in enumerate(contents):
            if content and any(text.startswith(said + content) for text in wanted):
                best[content] = max(
                    best.get(content, (-math.inf, 0)), (float(logits[token]), token)
                )
        if said in wanted:
            best[b""] = (float(logits[EOS]), EOS)
        ranked = sorted(best.values(), reverse=True)
        if not ranked or (len(ranked) > 1 and ranked[0][0] - ranked[1][0] < _MARGIN):
            raise ValueError(f"after {prompt!r} and {said!r}: {ranked[:2]}")
        token = ranked[0][1]
        if token == EOS:
            return said.decode()
        tokens.append(token)
        said += contents[token]
