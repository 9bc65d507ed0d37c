"""From a model's answer to tool calls, piece by piece.

A reader takes the answer's text as it comes and gives :class:`Delta`: content, the start of a call,
or a piece of its arguments. The whole answer is the sum of the deltas, so streaming and not
streaming cannot differ. What looks like a call and is none comes out as content.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llama_cpp._tools import Family, Tools, arguments_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_decode = json.JSONDecoder(strict=False).raw_decode
_SPACE = re.compile(r"[\s;,]*")
_NAMED_CALL = re.compile(r"([a-zA-Z0-9_.\-:/]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")


class Call(NamedTuple):
    """A tool call."""

    name: str
    arguments: str
    """JSON text."""


class Delta(NamedTuple):
    """What a piece of text adds to an answer: content, or a piece of a call."""

    content: str = ""
    call: int = -1
    """Which call the rest belongs to; -1 for content."""
    name: str | None = None
    """In the first piece of a call."""
    arguments: str = ""


class Reader(Protocol):
    """Reads one answer."""

    def push(self, text: str) -> list[Delta]:
        """Take a piece of the answer; return what is certain now."""

    def flush(self) -> list[Delta]:
        """End the answer; return what was held back."""


def reader(tools: Tools, family: Family) -> Reader:
    """Return the reader for an answer to a request with these tools."""
    if tools.choice == "none":
        return PlainReader()
    if tools.forced is not None:
        return NamedReader(tools.forced)
    if tools.choice == "required":
        return ChoiceReader(arguments_key(family))
    if family in {"functionary-v2", "functionary-v3"}:
        return RecipientReader(tools.schemas)
    return MarkReader(tools.schemas)


class PlainReader:
    """An answer without calls."""

    def push(self, text: str) -> list[Delta]:
        """Return the text."""
        return [Delta(content=text)] if text else []

    def flush(self) -> list[Delta]:
        """Return nothing: nothing was held back."""
        return []


class NamedReader:
    """An answer that is the arguments of one call, because a grammar made it so."""

    def __init__(self, name: str) -> None:
        """Read arguments for ``name``."""
        self._name: str | None = name

    def push(self, text: str) -> list[Delta]:
        """Return a piece of the arguments."""
        if self._name is None:
            return [Delta(call=0, arguments=text)] if text else []
        name, self._name = self._name, None
        return [Delta(call=0, name=name), *self.push(text)]

    def flush(self) -> list[Delta]:
        """Return the call's start if no text came."""
        return self.push("") if self._name is not None else []


class ChoiceReader:
    """An answer that is one call with its name, because a grammar made it so."""

    def __init__(self, key: str) -> None:
        """Read a call that has its arguments under ``key``."""
        self._head = re.compile(
            rf'\s*\{{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"{key}"\s*:\s*', re.DOTALL
        )
        self._held = ""
        self._end: JsonEnd | None = None

    def push(self, text: str) -> list[Delta]:
        """Return the call's start once its name is known, then pieces of its arguments."""
        if self._end is not None:
            part = self._end.push(text)
            return [Delta(call=0, arguments=part)] if part else []
        self._held += text
        head = self._head.match(self._held)
        if head is None:
            return []
        self._end = JsonEnd()
        rest, self._held = self._held[head.end() :], ""
        return [Delta(call=0, name=json.loads(head[1])), *self.push(rest)]

    def flush(self) -> list[Delta]:
        """Return as content what did not become a call, if the answer was cut that early."""
        held, self._held = self._held, ""
        return [Delta(content=held)] if held else []


class JsonEnd:
    """Finds where the first JSON object or array of a growing text ends."""

    def __init__(self) -> None:
        """Start before the value."""
        self._depth = 0
        self._quoted = self._escaped = self.ended = False

    def push(self, text: str) -> str:
        """Return how much of ``text`` still belongs to the value."""
        if self.ended:
            return ""
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = character == "\\"
                self._quoted = character != '"'
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.ended = True
                    return text[: index + 1]
        return text


class _Block(NamedTuple):
    """A way to write calls within a text: where it begins and where it ends."""

    opens: str
    closes: str | None
    """None: at the end of the answer."""


_BLOCKS = (
    _Block("<tool_call>", "</tool_call>"),
    _Block("<tool_calls>", "</tool_calls>"),
    _Block("<TOOLCALL>", "</TOOLCALL>"),
    _Block("<minimax:tool_call>", "</minimax:tool_call>"),
    _Block("<function=", "</function>"),
    _Block("<|START_OF_FUNCTION_CALL|>", "<|END_OF_FUNCTION_CALL|>"),
    _Block("[TOOL_CALLS]", None),
    _Block("<|python_tag|>", None),
    _Block("<|tool_call|>", None),
    _Block("<|function_call|>", None),
)


class MarkReader:
    """An answer that may have calls between marks, or that may be a call without marks.

    Marks can be control tokens, which are not part of a text: so an answer that begins like a call
    is held back until it can be none.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        """Know which tools there are."""
        self._schemas = schemas
        self._held = ""
        self._block: _Block | None = None
        self._space = ""  # in front of the block; goes with it
        self._started = False
        self._count = 0

    def push(self, text: str) -> list[Delta]:
        """Return content, and calls as soon as they are complete."""
        self._held += text
        deltas: list[Delta] = []
        while self._held and (self._inside(deltas) if self._block else self._outside(deltas)):
            pass
        return deltas

    def flush(self) -> list[Delta]:
        """Return what was held back: a last call, or content."""
        held, self._held = self._held, ""
        block = self._block
        if block is not None:
            body = held[len(block.opens) :]
            if block.closes is not None:  # the answer may have been cut within the closing mark
                body = body[: _begin_of(body, block.closes)]
            return self._read(body, held)
        if not self._started:
            calls = bare_calls(held, self._schemas)
            if calls:
                return self._deltas(calls)
        return self._content(held)

    def _inside(self, deltas: list[Delta]) -> bool:
        """Look for the end of the block; return whether there is more to read."""
        block = self._block
        if block is None or block.closes is None:
            return False
        end = self._held.find(block.closes)
        while end >= 0:
            body = self._held[len(block.opens) : end]
            if not _is_open(body):
                end += len(block.closes)
                whole, self._held = self._held[:end], self._held[end:]
                deltas += self._read(body, whole)
                return True
            end = self._held.find(block.closes, end + 1)
        return False

    def _outside(self, deltas: list[Delta]) -> bool:
        """Look for the beginning of a block; return whether there is more to read."""
        found = min(
            ((at, block) for block in _BLOCKS if (at := self._held.find(block.opens)) >= 0),
            default=None,
        )
        at = len(self._held) if found is None else found[0]
        if not self._started and self._held[:at].strip() and may_be_bare(self._held, self._schemas):
            return False
        if found is None:
            if not self._held.strip():
                return False
            at = min(_begin_of(self._held, block.opens) for block in _BLOCKS)
        text = self._held[:at].rstrip()
        self._started = self._started or bool(text) or found is not None
        deltas += self._content(text)
        self._held = self._held[len(text) :]
        if found is None:
            return False
        self._space, self._held = self._held[: at - len(text)], self._held[at - len(text) :]
        self._block = found[1]
        return True

    def _content(self, text: str) -> list[Delta]:
        if self._count and not text.strip():  # between and after calls space only separates
            return []
        return [Delta(content=text)] if text else []

    def _read(self, body: str, whole: str) -> list[Delta]:
        """Return the calls of the block that has ended, or the whole of it as content."""
        opens = "" if self._block is None else self._block.opens
        self._block = None
        calls = block_calls(body, opens, self._schemas)
        return self._deltas(calls) if calls else [Delta(content=self._space + whole)]

    def _deltas(self, calls: Iterable[Call]) -> list[Delta]:
        deltas = []
        for call in calls:
            deltas.append(Delta(call=self._count, name=call.name))
            deltas.append(Delta(call=self._count, arguments=call.arguments))
            self._count += 1
        return deltas


class RecipientReader:
    """An answer in functionary's way: to whom, a new line, what; perhaps several times.

    Version 2 separates by ``<|from|>assistant`` and ``<|recipient|>``, version 3 by ``>>>``.
    """

    _SEPARATORS = (
        *("\n<|from|>assistant\n<|recipient|>", "<|from|>assistant\n<|recipient|>"),
        *("\n>>>", ">>>"),
    )

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        """Know which tools there are."""
        self._schemas = schemas
        self._held = ""
        self._recipient: str | None = None
        self._called = False
        self._count = 0

    def push(self, text: str) -> list[Delta]:
        """Return content for everyone, and pieces of calls."""
        self._held += text
        deltas: list[Delta] = []
        while self._step(deltas):
            pass
        return deltas

    def flush(self) -> list[Delta]:
        """Return what was held back."""
        held, self._held = self._held, ""
        if self._recipient is None:
            return [Delta(content=held)] if held and held.strip() != "all" else []
        return self._part(held)

    def _step(self, deltas: list[Delta]) -> bool:
        if self._recipient is None:
            name, line, rest = self._held.partition("\n")
            if not line and not self._may_be_name(name):
                self._recipient = "all"  # no header at all: nothing is lost
                return True
            mark = "<|content|>"
            if not line or (mark.startswith(rest) and rest != mark):
                return False
            name = name.strip()
            if name != "all" and name not in self._schemas:
                self._recipient = "all"
                return True
            self._held = rest.removeprefix(mark)
            self._recipient = name
            if name != "all":
                deltas.append(Delta(call=self._count, name=name))
            return True
        found = min(
            (
                (at, -len(separator), separator)
                for separator in self._SEPARATORS
                if (at := self._held.find(separator)) >= 0
            ),
            default=None,
        )
        if found is None:
            keep = min(_begin_of(self._held, separator) for separator in self._SEPARATORS)
            deltas += self._part(self._held[:keep])
            self._held = self._held[keep:]
            return False
        at, _, separator = found
        deltas += self._part(self._held[:at])
        self._held = self._held[at + len(separator) :]
        self._count += self._recipient != "all"
        self._recipient = None
        return True

    def _part(self, text: str) -> list[Delta]:
        if not text:
            return []
        if self._recipient == "all":
            return [Delta(content=text)]
        return [Delta(call=self._count, arguments=text)]

    def _may_be_name(self, text: str) -> bool:
        return any(name.startswith(text.strip()) for name in (*self._schemas, "all"))


def _begin_of(text: str, mark: str) -> int:
    """Return where the longest end of ``text`` that begins ``mark`` starts."""
    start = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while start >= 0:
        if mark.startswith(text[start:]):
            return start
        start = text.find(mark[0], start + 1)
    return len(text)


def _is_open(text: str) -> bool:
    """Say whether a text is the beginning of a JSON value, so that a mark in it is part of it."""
    end = JsonEnd()
    return text.lstrip()[:1] in {"{", "["} and end.push(text) == text and not end.ended


# -- whole texts -------------------------------------------------------------------------------


def block_calls(body: str, opens: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Return the calls between marks; none where it is anything else."""
    if opens == "<function=":
        name, _, arguments = body.partition(">")
        return _call(name, arguments, schemas)
    if opens == "<|START_OF_FUNCTION_CALL|>":
        name, _, arguments = body.partition(":")
        return _call(name, arguments, schemas)
    if opens == "[TOOL_CALLS]":
        parts = [bare_calls(part, schemas) for part in body.split(opens)]
        return [call for calls in parts for call in calls] if all(parts) else []
    if opens == "<|tool_call|>":
        body = body.strip().removesuffix("<|/tool_call|>")
    for tagged in (_FUNCTION_TAG, _INVOKE_TAG):
        if tagged.call.match(body) is not None:
            return _tagged_calls(body, tagged, schemas)
    name, _, rest = body.strip().partition("<arg_key>")
    if rest and name.strip() in schemas:
        return _tagged_call(name, f"<arg_key>{rest}", _ARGUMENT, schemas)
    return bare_calls(body, schemas)


def bare_calls(text: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Return the calls that a text consists of; none where there is anything else in it."""
    calls: list[Call] = []
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        named = _NAMED_CALL.match(text, at)
        name = named[1] if named is not None and named[1] in schemas else None
        if named is not None and name is not None:
            at = named.end()
        try:
            value, at = _decode(text, at)
        except (ValueError, RecursionError):
            return []
        found = json_calls(value, schemas) if name is None else _named(name, value)
        if not found:
            return []
        calls += found
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    return calls


def may_be_bare(text: str, schemas: Mapping[str, Any]) -> bool:
    """Say whether a text that goes on could be calls without marks."""
    text = text.lstrip()
    if not text:
        return True
    if text[0] in "{[":
        head = re.match(r'[\[\s]*(?:\{\s*(?:"(\w*)("?)|$)|$)', text)
        if head is None:
            return False
        key, whole = head[1] or "", head[2]
        keys = ("name", "parameters", "arguments", "type", "function", "id", "tool_calls")
        return key in keys if whole else any(k.startswith(key) for k in keys)
    if any(name.startswith(text) for name in schemas):
        return True
    name = re.match(r"[a-zA-Z0-9_.\-:/]+", text)
    if name is None or name[0] not in schemas:
        return any(block.opens.startswith(text) for block in _BLOCKS)
    return re.match(r"\s*(?:\[[A-Z_]*\]?[^{]{0,64})?(?:\{|$)", text[name.end() :]) is not None


def json_calls(value: Any, schemas: Mapping[str, Any]) -> list[Call]:
    """Return the calls in a JSON value; none where it is anything else."""
    if isinstance(value, list):
        found = [json_calls(item, schemas) for item in value]
        return [call for calls in found for call in calls] if all(found) else []
    if not isinstance(value, dict):
        return []
    if isinstance(value.get("tool_calls"), list):
        return json_calls(value["tool_calls"], schemas)
    if isinstance(value.get("function"), dict):
        return json_calls(value["function"], schemas)
    name = value.get("name", value.get("function"))
    if not isinstance(name, str) or name not in schemas:
        return []
    return _named(name, value.get("arguments", value.get("parameters", {})))


def _named(name: str, arguments: Any) -> list[Call]:
    if isinstance(arguments, str):
        try:
            json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return []
        return [Call(name, arguments)]
    return [Call(name, json.dumps({} if arguments is None else arguments, ensure_ascii=False))]


def _call(name: str, arguments: str, schemas: Mapping[str, Any]) -> list[Call]:
    name = name.strip()
    return _named(name, arguments.strip() or "{}") if name in schemas else []


class _Tags(NamedTuple):
    """Calls written as tags: the one around a call, with its name, and the ones around values."""

    call: re.Pattern[str]
    value: re.Pattern[str]


_FUNCTION_TAG = _Tags(
    re.compile(r"\s*<function=([^>\n]+)>(.*?)</function>", re.DOTALL),
    re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL),
)
_INVOKE_TAG = _Tags(
    re.compile(r'\s*<invoke name="([^">\n]+)">(.*?)</invoke>', re.DOTALL),
    re.compile(r'\s*<parameter name="([^">\n]+)">\n?(.*?)\n?</parameter>', re.DOTALL),
)
_ARGUMENT = re.compile(
    r"\s*<arg_key>([^<\n]+)</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL
)


def _tagged_calls(body: str, tags: _Tags, schemas: Mapping[str, Any]) -> list[Call]:
    """Read calls one after the other; none where there is anything else."""
    calls: list[Call] = []
    at = 0
    while body[at:].strip():
        tag = tags.call.match(body, at)
        found = tag and _tagged_call(tag[1], tag[2], tags.value, schemas)
        if tag is None or not found:
            return []
        calls += found
        at = tag.end()
    return calls


def _tagged_call(
    name: str, body: str, value: re.Pattern[str], schemas: Mapping[str, Any]
) -> list[Call]:
    """Read the arguments of one call; values are text or JSON, as their schemas say."""
    name = name.strip()
    if name not in schemas:
        return []
    properties = schemas[name].get("properties")
    arguments: dict[str, Any] = {}
    at = 0
    while body[at:].strip():
        tag = value.match(body, at)
        if tag is None:
            return []
        key, text = tag[1].strip(), tag[2]
        schema = properties.get(key) if isinstance(properties, dict) else None
        is_text = isinstance(schema, dict) and schema.get("type") == "string"
        arguments[key] = text if is_text else _value(text)
        at = tag.end()
    return _named(name, arguments)


def _value(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
