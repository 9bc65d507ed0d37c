"""Answers in gpt-oss's way, which is called harmony: messages with a channel and perhaps a recipient."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal

from llama_cpp._delta import Delta, begin_of
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKS = (
    "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>",
)  # fmt: skip
_MESSAGE = "<|message|>"
# What ends a message; the last one begins the next.
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
_LONGEST_END = max(len(end) for end in _ENDS)
_HEADS = ("<|start|>", "<|channel|>", "to=")
_LONGEST_HEAD = 512
_RECIPIENT = re.compile(r"(?:^|\s)to=([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")

Kind = Literal["call", "content", "reasoning", "verbatim"]


def apart(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as gpt-oss's template takes them: thoughts of earlier answers in "thinking".

    It refuses content with channels, and content beside thoughts where there are calls.
    """
    told = []
    for message in messages:
        said = dict(message)
        told.append(said)
        if said["role"] != "assistant":
            continue
        reasoning = said.pop("reasoning_content", None)
        thinking = said.get("thinking") or reasoning or ""
        if not isinstance(thinking, str):
            raise ValidationError(f"an assistant's thinking is {thinking!r}; it must be text")
        if "<|channel|>" in said["content"]:
            reader = HarmonyReader({}, split=True)
            deltas = [*reader.push(said["content"]), *reader.flush()]
            thinking = thinking or "".join(delta.reasoning for delta in deltas)
            said["content"] = "".join(delta.content for delta in deltas)
        if thinking and said.get("tool_calls"):
            thinking = "\n".join(text for text in (thinking, said["content"]) if text)
            said["content"] = ""
        if thinking:
            said["thinking"] = thinking
    return told


def described(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools as gpt-oss's template takes them: it cannot do without a description."""
    return [{**tool, "function": {"description": "", **tool["function"]}} for tool in tools]


class HarmonyReader:
    """Reads messages: calls of tools, thoughts (the channel "analysis") and content.

    Where thoughts are not split off, all that is no call stays as it was written, marks included.
    """

    def __init__(self, schemas: Mapping[str, Any], *, split: bool) -> None:
        """Know which tools there are, and whether thoughts are wanted apart."""
        self._schemas = schemas
        self._split = split
        self._held = ""
        self._head: str | None = None  # of the message that is being read
        self._kind: Kind = "content"
        self._name = ""
        self._said: set[Kind] = set()
        self._searched = 0  # before this no end begins
        self._part = False  # this message has said something
        self._count = 0

    def push(self, text: str) -> list[Delta]:
        """Return content and thoughts, and calls as soon as they are complete."""
        self._held += text
        deltas: list[Delta] = []
        while self._held and (self._header(deltas) if self._head is None else self._body(deltas)):
            pass
        return deltas

    def flush(self) -> list[Delta]:
        """Return what was held back: a last call, or content."""
        held, self._held = self._held, ""
        if self._head is None:
            return [Delta(content=held)] if held.strip() or (held and not self._count) else []
        return self._end(held, "")

    def _header(self, deltas: list[Delta]) -> bool:
        """Look for the end of a header; return whether there is more to read."""
        text = self._held.lstrip()
        if not any(text.startswith(head) or head.startswith(text) for head in _HEADS):
            self._head, self._kind = "", "verbatim"  # no header at all: nothing is lost
            return True
        at = self._held.find(_MESSAGE)
        if at < 0:
            if len(self._held) > _LONGEST_HEAD:
                self._head, self._kind = "", "verbatim"
                return True
            return False
        head = self._head = self._held[: at + len(_MESSAGE)]
        self._held = self._held[len(head) :]
        self._kind = self._kind_of(head)
        self._part = False
        if self._kind == "verbatim":
            deltas.append(Delta(content=head))
        return True

    def _kind_of(self, head: str) -> Kind:
        recipient = _RECIPIENT.search(head[: -len(_MESSAGE)])
        channel = _CHANNEL.search(head)
        if recipient is not None:
            self._name = recipient[1].removeprefix("functions.")
            return "call" if self._name in self._schemas else "verbatim"
        if not self._split:
            return "verbatim"
        return "reasoning" if channel is not None and channel[1] == "analysis" else "content"

    def _body(self, deltas: list[Delta]) -> bool:
        """Look for the end of a message; return whether there is more to read."""
        found = min(
            ((at, end) for end in _ENDS if (at := self._held.find(end, self._from)) >= 0),
            default=None,
        )
        if found is None:
            if self._kind == "call":
                self._searched = max(0, len(self._held) - _LONGEST_END)
            else:
                keep = min(begin_of(self._held, end) for end in _ENDS)
                deltas += self._text(self._held[:keep])
                self._held = self._held[keep:]
            return False
        self._searched = 0
        at, end = found
        body, self._held = self._held[:at], self._held[at:]
        if end != "<|start|>":
            self._held = self._held[len(end) :]
        else:
            end = ""
        deltas += self._end(body, end)
        return True

    @property
    def _from(self) -> int:
        """Where to look for ends: a text without a header may begin with such a mark."""
        return 1 if not self._head and not self._part else self._searched

    def _end(self, body: str, mark: str) -> list[Delta]:
        """End a message."""
        head, self._head = self._head or "", None
        if self._kind == "call":
            arguments = body.strip() or "{}"
            try:
                valid = isinstance(json.loads(arguments, strict=False), dict)
            except (ValueError, RecursionError):
                valid = False
            if not valid:
                return [Delta(content=head + body + mark)]
            call, self._count = self._count, self._count + 1
            self._said.add("call")
            return [Delta(call=call, name=self._name), Delta(call=call, arguments=arguments)]
        if self._kind == "verbatim":
            body += mark
        return self._text(body)

    def _text(self, text: str) -> list[Delta]:
        if not text:
            return []
        kind = self._kind
        again = kind != "verbatim" and not self._part and kind in self._said
        between = "\n" if again else ""
        self._part = True
        self._said.add(kind)
        if kind == "reasoning":
            return [Delta(reasoning=between + text)]
        return [Delta(content=between + text)]
