"""What readers of answers give: pieces of content, of thoughts, of calls."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Delta(NamedTuple):
    """What a piece of text adds to an answer: content, thoughts, or a piece of a call."""

    content: str = ""
    call: int = -1
    """Which call the rest belongs to; -1 for content and thoughts."""
    name: str | None = None
    """In the first piece of a call."""
    arguments: str = ""
    reasoning: str = ""


class Reader(Protocol):
    """Reads one answer."""

    def push(self, text: str) -> list[Delta]:
        """Take a piece of the answer; return what is certain now."""

    def flush(self) -> list[Delta]:
        """End the answer; return what was held back."""


def begin_of(text: str, mark: str) -> int:
    """Return where the longest end of ``text`` that begins ``mark`` starts."""
    start = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while start >= 0:
        if mark.startswith(text[start:]):
            return start
        start = text.find(mark[0], start + 1)
    return len(text)
