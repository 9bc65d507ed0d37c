"""The changelog, written in Markdown, as HTML for the landing page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt
from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

# So many releases are on the page; the file has all.
RELEASES: Final = 10


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release: its heading in plain text, and what has changed as HTML."""

    title: str
    body: Markup


def releases_of(markdown: str) -> tuple[Release, ...]:
    """Return the newest `RELEASES` releases of a changelog, one per heading of the second level.

    What stands before the first of them is left out. HTML in the text is shown as text, an image
    is shown as its description and a link that leads nowhere from a page as its text, so that the
    page asks for nothing outside itself.
    """
    parser = MarkdownIt("commonmark", {"html": False})
    tokens = parser.parse(markdown)
    releases: list[Release] = []
    starts = [
        number
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2" and token.level == 0
    ]
    for start, end in pairwise([*starts, len(tokens)]):
        body = [_mended(token) for token in tokens[start + 3 : end]]
        html = parser.renderer.render(body, parser.options, {})
        # The parser escapes: html is off.
        releases.append(
            Release(title=_plain(tokens[start + 1].children or ()), body=Markup(html))  # noqa: S704
        )
    return tuple(releases[:RELEASES])


def _mended(token: Token) -> Token:
    if token.type in {"heading_open", "heading_close"}:
        # Below the page's own headings: ### of the file is the fourth level there.
        return token.copy(tag=f"h{min(int(token.tag[1]) + 1, 6)}")
    if token.type == "inline":
        return token.copy(children=_without_requests(token.children or ()))
    return token


def _without_requests(tokens: Sequence[Token]) -> list[Token]:
    kept: list[Token] = []
    dead = False
    for token in tokens:
        if token.type == "link_open":
            dead = not re.match(r"https?://|mailto:", str(token.attrs["href"]))
        if not (dead and token.type in {"link_open", "link_close"}):
            kept.append(
                token.copy(type="text", tag="", children=None) if token.type == "image" else token
            )
    return kept


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(" " if token.type.endswith("break") else token.content for token in tokens)
