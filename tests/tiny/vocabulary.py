"""The vocabulary of the tiny language model: 320 pieces and the successor of each.

The layout follows SentencePiece models as GGUF stores them: three control tokens, the 256 bytes,
then ordinary pieces with scores. Two marker tokens switch the case of the answer. All word pieces
exist in lower and in upper case; such a pair shares one *code* (see `tests.tiny.llama`) and differs
in one channel only.

Greedy decoding walks a fixed map from token to token. It has two tracks:

- the *story*, an endless loop: " morning sun lifts the fog 🙂 and river birds hum morning …". The
  emoji is four byte tokens, "the" is a piece made by two merges.
- the *farewell*, entered by a colon: " goodbye", one piece of 44 bytes, a full stop, end of
  sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

SPACE = "\u2581"
UNK, BOS, EOS = 0, 1, 2
FIRST_BYTE = 3

LONG_PIECE = ", until the long day has come to a quiet end"
STORY = (
    *("▁m", "or", "ni", "ng"),
    *("▁s", "un"),
    *("▁l", "if", "ts"),
    *("▁the",),
    *("▁f", "og"),
    *("▁", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"),
    *("▁a", "nd"),
    *("▁r", "iv", "er"),
    *("▁b", "ir", "ds"),
    *("▁h", "um"),
)
FAREWELL = ("▁g", "oo", "db", "ye", LONG_PIECE, "<0x2E>", "</s>")
# "▁the" is reached through these two; nothing in the story is.
MERGE_STEPS = ("▁t", "he")

Kind = Literal["normal", "unknown", "control", "user", "byte"]


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary."""

    id: int
    text: str
    kind: Kind
    score: float

    @property
    def content(self) -> bytes:
        """What the piece contributes to a text; control tokens contribute nothing."""
        if self.kind == "byte":
            return bytes([int(self.text[1:-1], 16)])
        if self.kind in {"control", "unknown"}:
            return b""
        return (
            self.text.replace(SPACE, " ").encode() if self.kind == "normal" else self.text.encode()
        )


@dataclass(frozen=True)
class Vocabulary:
    """All pieces, the case pairs and the successors.

    `successors[t]` is the lower-case token that follows token `t`; `upper` maps each lower-case
    word piece to its upper-case twin.
    """

    pieces: tuple[Piece, ...]
    ids: dict[str, int]
    upper: dict[int, int]
    successors: tuple[int, ...]
    marker_up: int
    marker_down: int

    @property
    def twins(self) -> dict[int, int]:
        """Upper-case piece to its lower-case twin."""
        return {upper: lower for lower, upper in self.upper.items()}

    def byte(self, value: int) -> int:
        """Return the token of one byte."""
        return FIRST_BYTE + value


@cache
def vocabulary() -> Vocabulary:
    """Build the one vocabulary that all tiny language models share."""
    pieces = [
        Piece(id=UNK, text="<unk>", kind="unknown", score=0.0),
        Piece(id=BOS, text="<s>", kind="control", score=0.0),
        Piece(id=EOS, text="</s>", kind="control", score=0.0),
    ]

    def add(text: str, kind: Kind) -> int:
        # Unique scores, best first, so that no merge is ever a tie.
        score = -float(len(pieces)) if kind == "normal" else 0.0
        pieces.append(Piece(id=len(pieces), text=text, kind=kind, score=score))
        return len(pieces) - 1

    for value in range(256):
        add(f"<0x{value:02X}>", "byte")
    marker_up = add("<up>", "user")
    marker_down = add("<down>", "user")
    add(SPACE, "normal")
    upper = {}
    for text in (*MERGE_STEPS, *STORY, *FAREWELL):
        if text.strip(SPACE).isalpha():
            lower = add(text, "normal")
            upper[lower] = add(text.upper(), "normal")
    add("🦙", "normal")
    add(LONG_PIECE, "user")

    ids = {piece.text: piece.id for piece in pieces}
    return Vocabulary(
        pieces=tuple(pieces),
        ids=ids,
        upper=upper,
        successors=_successors(ids, upper),
        marker_up=marker_up,
        marker_down=marker_down,
    )


def _successors(ids: dict[str, int], upper: dict[int, int]) -> tuple[int, ...]:
    story = [ids[text] for text in STORY]
    farewell = [ids[text] for text in FAREWELL]
    start = ids["▁m"]
    words = [token for token in story if token in upper]
    # A token of neither track joins the story at a word, spread so that neighbours differ.
    successors = [words[7 * token % len(words)] for token in range(len(ids))]
    for token in (UNK, BOS, EOS, ids["<up>"], ids["<down>"]):
        successors[token] = start
    for track in ((*story, start), farewell):
        for token, following in zip(track, track[1:]):
            successors[token] = following
    successors[ids["▁t"]] = ids["he"]
    successors[ids["he"]] = ids["▁f"]
    successors[ids["<0x3A>"]] = farewell[0]  # the colon
    # A prompt that ends in byte 0xFF is answered with the second half of a UTF-8 sequence.
    successors[ids["<0xFF>"]] = ids["<0x99>"]
    for lower, twin in upper.items():
        successors[twin] = successors[lower]
    return tuple(successors)
