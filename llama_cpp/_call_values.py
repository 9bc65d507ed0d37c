"""Calls whose arguments are no JSON: Python's way, ``[f(a=1, b="x")]``, and Gemma's, ``call:f{a:1}``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_DEPTH = 64
_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"\s*([a-zA-Z0-9_.\-:/]+)\s*\(")
_KEY = re.compile(r"\s*([^\W\d]\w*)\s*=")
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS = {
    "True": True, "true": True, "False": False, "false": False, "None": None, "null": None,
}  # fmt: skip
_WORD = re.compile(rf"(?:{'|'.join(_WORDS)})\b")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
# A quote that nothing of the kind follows is part of the text: not every template escapes them.
_AFTER = re.compile(r"\s*(?:[,:)\]}]|$)")
_BARE = re.compile(r"[^,:{}\[\]<]+")
_GEMMA_CALL = re.compile(r"\s*call:([a-zA-Z0-9_.\-:/]+?)\s*(?=\{)")

Written = tuple[str, dict[str, Any]]


def python_calls(text: str, names: Collection[str]) -> list[Written]:
    """Return the calls of a text such as ``[f(a=1), g(b="x")]``, the brackets being optional.

    None where there is anything else in it, or a call of what is not in ``names``.
    """
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]"):
            return []
        text = text[1:-1]
    calls = []
    at = 0
    try:
        while True:
            name = _NAME.match(text, at)
            if name is None or name[1] not in names:
                return []
            arguments, at = _Values(text).arguments(name.end())
            calls.append((name[1], arguments))
            at = _space(text, at)
            if at == len(text):
                return calls
            if text[at] not in ",;":
                return []
            at = _space(text, at + 1)
            if at == len(text):
                return calls
    except ValueError:
        return []


def may_be_python(text: str, names: Collection[str]) -> bool:
    """Say whether a text that goes on could be a list of calls."""
    head = re.match(r"\[\s*([a-zA-Z0-9_.\-:/]*)(\s*)(\(?)", text)
    if head is None:
        return False
    name, _, opens = head.groups()
    if opens:
        return name in names
    return head.end() == len(text) and any(each.startswith(name) for each in names)


def gemma_calls(text: str, names: Collection[str], quote: str) -> list[Written]:
    """Return the calls of a text such as ``call:f{a:1}``; none where there is anything else in it.

    Args:
        text: what stands between the marks.
        names: what can be called.
        quote: what stands before and after a text.
    """
    calls = []
    at = 0
    try:
        while text[at:].strip():
            name = _GEMMA_CALL.match(text, at)
            if name is None or name[1] not in names:
                return []
            arguments, at = _Values(text, quote=quote).value(name.end())
            calls.append((name[1], arguments))
    except ValueError:
        return []
    return calls


class _Values:
    """Reads values from places of a text; what is none is a ValueError."""

    def __init__(self, text: str, *, quote: str | None = None) -> None:
        self._text = text
        self._quote = quote

    def arguments(self, at: int) -> tuple[dict[str, Any], int]:
        """Read ``a=1, b=2)``; return them, and where they end."""
        text = self._text
        found: dict[str, Any] = {}
        at = _space(text, at)
        while text[at : at + 1] != ")":
            key = _KEY.match(text, at)
            if key is None:
                raise ValueError
            found[key[1]], at = self.value(key.end())
            at = self._next(at, ")")
        return found, at + 1

    def value(self, at: int, depth: int = 0) -> tuple[Any, int]:
        """Read a value; return it, and where it ends."""
        text, at = self._text, _space(self._text, at)
        if depth > _DEPTH or at >= len(text):
            raise ValueError
        quote = self._quote
        if quote is not None and text.startswith(quote, at):
            end = text.find(quote, at + len(quote))
            if end < 0:
                raise ValueError
            return text[at + len(quote) : end], end + len(quote)
        if text[at] == "[":
            return self._list(at + 1, depth)
        if text[at] == "{":
            return self._object(at + 1, depth)
        if quote is None and text[at] in "\"'":
            return self._string(at)
        word = _WORD.match(text, at)
        if word is not None:
            return _WORDS[word[0]], word.end()
        number = _NUMBER.match(text, at)
        if number is None:
            raise ValueError
        return _number(number[0]), number.end()

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        found = []
        at = _space(self._text, at)
        while self._text[at : at + 1] != "]":
            value, at = self.value(at, depth + 1)
            found.append(value)
            at = self._next(at, "]")
        return found, at + 1

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        text = self._text
        at = _space(text, at)
        while text[at : at + 1] != "}":
            quoted = text.startswith(self._quote or ('"', "'"), at)
            bare = None if quoted or self._quote is None else _BARE.match(text, at)
            if bare is not None:
                key, at = bare[0].strip(), bare.end()
            elif quoted:
                key, at = self.value(at, depth)
            else:
                raise ValueError
            at = _space(text, at)
            if text[at : at + 1] != ":":
                raise ValueError
            found[key], at = self.value(at + 1, depth + 1)
            at = self._next(at, "}")
        return found, at + 1

    def _next(self, at: int, closing: str) -> int:
        """Return where the next value begins, or the closing bracket is."""
        text, at = self._text, _space(self._text, at)
        if text[at : at + 1] == ",":
            return _space(text, at + 1)
        if text[at : at + 1] != closing:
            raise ValueError
        return at

    def _string(self, at: int) -> tuple[str, int]:
        text, quote = self._text, self._text[at]
        end = at + 1
        while end < len(text):
            if text[end] == "\\":
                end += 1
            elif text[end] == quote and _AFTER.match(text, end + 1) is not None:
                found = _ESCAPE.sub(_unescaped, text[at + 1 : end])
                # escaped halves of one character become one; a half alone becomes U+FFFD
                units = found.encode("utf-16", "surrogatepass")
                return units.decode("utf-16", "replace"), end + 1
            end += 1
        raise ValueError


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2]
    if code:
        return chr(int(code, 16))
    return _ESCAPED.get(found[3], found[3])


def _number(text: str) -> float:
    value = float(text) if re.search(r"[.eE]", text) else int(text)
    if abs(value) == float("inf"):
        raise ValueError(text)
    return value


def _space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
