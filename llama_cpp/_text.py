"""From tokens to text: pieces, UTF-8 across pieces, stop strings across pieces.

Everything here is pure and costs the same for the first token and the ten-thousandth.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Utf8Decoder = getincrementaldecoder("utf-8")


class Piece(NamedTuple):
    """What one token adds to the output."""

    data: bytes
    """The bytes of the token; may be part of a UTF-8 sequence, or empty."""
    text: str | None
    """The same as text where the bytes are whole UTF-8 by themselves."""
    ends: bool
    """Whether the model says that generation ends with this token."""


class PieceTable(dict[int, Piece]):
    """Token id → :class:`Piece`, filled on first use; a hit is one dict lookup."""

    def __init__(self, data_of: Callable[[int], bytes], ends: Callable[[int], bool]) -> None:
        """Remember how to ask the model for the bytes of a token and for whether it ends a text."""
        super().__init__()
        self._data_of = data_of
        self._ends = ends

    def __missing__(self, token: int) -> Piece:
        """Ask the model once."""
        data = self._data_of(token)
        text: str | None
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        piece = self[token] = Piece(data, text, self._ends(token))
        return piece


class StopWindow:
    """Cuts a growing text before the first stop string, holding back only what may become one.

    Where several stop strings are in the text the one that is complete first wins, and of two that
    end together the longer: that choice does not depend on how the text was split into pieces.
    """

    __slots__ = ("_held", "_stops", "stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for ``stops``; none of them may be empty."""
        self._stops = tuple(dict.fromkeys(stops))
        self._held = ""
        self.stopped: str | None = None

    def push(self, text: str) -> str:
        """Add ``text``; return what is certain not to belong to a stop string.

        After a stop string was found :attr:`stopped` names it, and nothing more is returned.
        """
        if self.stopped is not None:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = min(
            (
                (start + len(stop), start, stop)
                for stop in self._stops
                if (start := text.find(stop)) >= 0
            ),
            default=None,
        )
        if found is not None:
            _, start, self.stopped = found
            self._held = ""
            return text[:start]
        keep = min(_begins_at(text, stop) for stop in self._stops)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return what is held back: the text has ended, it will not become a stop string."""
        text, self._held = self._held, ""
        return text


def _begins_at(text: str, stop: str) -> int:
    """Return where the longest end of ``text`` that is a proper beginning of ``stop`` starts."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)


class TextStream:
    """One answer's way from tokens to text.

    Bytes that are no UTF-8 become U+FFFD; a sequence that is still incomplete when the answer ends
    is dropped, since it is no character.
    """

    __slots__ = ("_decode", "_decoder", "_pending", "_pieces", "_window")

    def __init__(self, pieces: PieceTable, stops: Sequence[str] = ()) -> None:
        """Start an answer over ``pieces`` that ends before the first of ``stops``."""
        self._pieces = pieces
        self._decoder = _Utf8Decoder("replace")
        self._decode = self._decoder.decode
        self._pending = False
        self._window = StopWindow(stops) if stops else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._window is not None and self._window.stopped is not None

    def push(self, token: int) -> str:
        """Add a token; return the text that is now certain (often one piece, sometimes nothing)."""
        data, text, _ = self._pieces[token]
        if self._pending or text is None:
            text = self._decode(data)
            self._pending = bool(self._decoder.getstate()[0])
        window = self._window
        return text if window is None else window.push(text)

    def flush(self) -> str:
        """End the answer; return the text that was held back as a possible stop string."""
        self._decoder.reset()
        self._pending = False
        return "" if self._window is None else self._window.flush()
