"""From a model's answer to tool calls, piece by piece.

A reader takes the answer's text as it comes and gives :class:`Delta`: content, the start of a call,
or a piece of its arguments. The whole answer is the sum of the deltas, so streaming and not
streaming cannot differ. What looks like a call and is none comes out as content.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llama_cpp._call_syntax import (
    BLOCKS,
    MARKS,
    Block,
    Call,
    bare_calls,
    block_calls,
    is_open,
    may_be_bare,
)
from llama_cpp._delta import Delta, begin_of
from llama_cpp._harmony import MARKS as HARMONY_MARKS
from llama_cpp._harmony import HarmonyReader
from llama_cpp._reasoning import MARKS as THOUGHT_MARKS
from llama_cpp._reasoning import ReasoningReader
from llama_cpp._tools import Family, Tools, arguments_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llama_cpp._delta import Reader
    from llama_cpp._reasoning import Thoughts


def reader(
    tools: Tools, family: Family, *, reasoning: bool = False, thoughts: Thoughts | None = None
) -> Reader:
    """Return the reader for an answer.

    Args:
        tools: what may be called, and what must be.
        family: how the model writes calls.
        reasoning: tell thoughts apart from content.
        thoughts: those that the prompt has begun.
    """
    if tools.forced is not None:
        return NamedReader(tools.forced)
    if tools.choice == "required":
        return ChoiceReader(arguments_key(family))
    if family == "harmony" and (reasoning or tools.choice != "none"):
        return HarmonyReader(tools.callable, split=reasoning)
    rest: Reader
    if tools.choice == "none":
        rest = PlainReader()
    elif family in {"functionary-v2", "functionary-v3"}:
        rest = RecipientReader(tools.schemas, family)
    else:
        rest = MarkReader(tools.schemas)
    return ReasoningReader(rest, thoughts) if reasoning else rest


def marks(tools: Tools, family: Family, *, reasoning: bool = False) -> frozenset[str]:
    """Return the texts of control tokens that the reader of an answer needs to see."""
    if tools.choice == "required":
        return frozenset()
    found: set[str] = set()
    if family == "harmony" and (reasoning or tools.choice != "none"):
        found.update(HARMONY_MARKS)
    elif reasoning:
        found.update(THOUGHT_MARKS)
    if tools.choice != "none":
        found.update(MARKS if family not in _RECIPIENTS else _RECIPIENT_MARKS)
    return frozenset(found)


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


_TEXT = re.compile(r"\S")
_LONGEST_MARK = max(len(block.opens) for block in BLOCKS)
# Enough of an answer to know whether it can be calls without marks.
_LONGEST_HEAD = 1024


class MarkReader:
    """An answer that may have calls between marks, or that may be a call without marks.

    Marks can be control tokens, which are not part of a text: so an answer that begins like a call
    is held back until it can be none.
    """

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        """Know which tools there are."""
        self._schemas = schemas
        self._held = ""
        self._searched = 0  # before this no mark begins that has not been seen
        self._block: Block | None = None
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
                body = body[: begin_of(body, block.closes)]
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
        end = self._held.find(block.closes, max(self._searched, len(block.opens)))
        while end >= 0:
            body = self._held[len(block.opens) : end]
            if not self._is_open(body, block.opens):
                end += len(block.closes)
                whole, self._held = self._held[:end], self._held[end:]
                self._searched = 0
                deltas += self._read(body, whole)
                return True
            end = self._held.find(block.closes, end + 1)
        self._searched = len(self._held) - len(block.closes) + 1
        return False

    def _is_open(self, body: str, opens: str) -> bool:
        """Say whether a closing mark after ``body`` is part of it."""
        if _is_open(body):  # or a quote of Python's looked like JSON's
            return not block_calls(body, opens, self._schemas)
        return is_open(body, opens)

    def _outside(self, deltas: list[Delta]) -> bool:
        """Look for the beginning of a block; return whether there is more to read."""
        found = min(
            (
                (at, block)
                for block in BLOCKS
                if (at := self._held.find(block.opens, self._searched)) >= 0
            ),
            default=None,
        )
        at = len(self._held) if found is None else found[0]
        if _TEXT.search(self._held, 0, at) is None:
            if found is None:
                return False
        elif not self._started and may_be_bare(self._held[:_LONGEST_HEAD], self._schemas):
            self._searched = max(0, at - _LONGEST_MARK)
            return False
        self._searched = 0
        if found is None:
            at = min(begin_of(self._held, block.opens) for block in BLOCKS)
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


# What separates recipients, and what comes between one and its text.
_RECIPIENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "functionary-v2": (
        ("\n<|from|>assistant\n<|recipient|>", "<|from|>assistant\n<|recipient|>"),
        "<|content|>",
    ),
    "functionary-v3": (("\n>>>", ">>>"), ""),
}
_RECIPIENT_MARKS = ("<|from|>", "<|recipient|>", "<|content|>")


class RecipientReader:
    """An answer in functionary's way: to whom, a new line, what; perhaps several times.

    Version 2 separates by ``<|from|>assistant`` and ``<|recipient|>``, version 3 by ``>>>``.
    """

    def __init__(self, schemas: Mapping[str, Any], family: Family) -> None:
        """Know which tools there are, and how recipients are marked."""
        self._schemas = schemas
        self._separators, self._mark = _RECIPIENTS[family]
        self._held = ""
        self._recipient: str | None = None
        self._empty = True
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
        return [*self._part(held), *self._end()]

    def _step(self, deltas: list[Delta]) -> bool:
        if self._recipient is None:
            name, line, rest = self._held.partition("\n")
            if (line and not self._is_name(name)) or (not line and not self._may_be_name(name)):
                self._recipient = "all"  # no header at all: nothing is lost
                return True
            mark = self._mark
            if not line or (mark.startswith(rest) and rest != mark):
                return False
            self._held = rest.removeprefix(mark)
            name = name.strip()
            self._recipient, self._empty = name, True
            if name != "all":
                deltas.append(Delta(call=self._count, name=name))
            return True
        found = min(
            (
                (at, -len(separator), separator)
                for separator in self._separators
                if (at := self._held.find(separator)) >= 0
            ),
            default=None,
        )
        if found is None:
            keep = min(begin_of(self._held, separator) for separator in self._separators)
            deltas += self._part(self._held[:keep])
            self._held = self._held[keep:]
            return False
        at, _, separator = found
        deltas += [*self._part(self._held[:at]), *self._end()]
        self._held = self._held[at + len(separator) :]
        self._count += self._recipient != "all"
        self._recipient = None
        return True

    def _part(self, text: str) -> list[Delta]:
        if not text:
            return []
        if self._recipient == "all":
            return [Delta(content=text)]
        self._empty = self._empty and not text.strip()
        return [Delta(call=self._count, arguments=text)]

    def _end(self) -> list[Delta]:
        """Return the arguments of a call that has none."""
        if self._recipient == "all" or not self._empty:
            return []
        return [Delta(call=self._count, arguments="{}")]

    def _is_name(self, text: str) -> bool:
        return text.strip() == "all" or text.strip() in self._schemas

    def _may_be_name(self, text: str) -> bool:
        return any(name.startswith(text.strip()) for name in (*self._schemas, "all"))


def _is_open(text: str) -> bool:
    """Say whether a text is the beginning of a JSON value, so that a mark in it is part of it."""
    end = JsonEnd()
    return text.lstrip()[:1] in {"{", "["} and end.push(text) == text and not end.ended
