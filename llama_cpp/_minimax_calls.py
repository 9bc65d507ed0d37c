"""Calls in MiniMax M3's way: tags with a mark of their own before each, nested as the arguments are."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_cpp._call_values import Written

MARK = "]<]minimax[>["
"""Stands before every tag, so that a text may hold what looks like one."""

_DEPTH = 64
_TAG = re.compile(r'<(/?)([^<>\s/"]+)(?: name="([^">\n]+)")?>')


class _Node(NamedTuple):
    """A tag, the text after it and the tags within it."""

    tag: str
    name: str | None
    text: str
    within: list[_Node]


def minimax_calls(body: str, schemas: Mapping[str, Any]) -> list[Written]:
    """Return the calls that a text consists of; none where there is anything else in it.

    Args:
        body: tags, with space between them.
        schemas: the tools' parameters; they say what is a text and what is JSON.
    """
    root = _tree(body)
    calls: list[Written] = []
    for node in [] if root is None else root.within:
        if node.tag != "invoke" or node.name is None or node.text.strip():
            return []
        if node.name not in schemas:
            return []
        arguments = _value(node, {**schemas[node.name], "type": "object"})
        if not isinstance(arguments, dict):
            return []
        calls.append((node.name, arguments))
    return calls


def _tree(body: str) -> _Node | None:
    before, *parts = body.split(MARK)
    root = _Node("", None, "", [])
    open_nodes = [root]
    for part in parts:
        tag = _TAG.match(part)
        if tag is None:
            return None
        text = part[tag.end() :]
        if not tag[1]:
            node = _Node(tag[2], tag[3], text, [])
            open_nodes[-1].within.append(node)
            open_nodes.append(node)
        elif open_nodes.pop().tag != tag[2] or not open_nodes or text.strip():
            return None
        if len(open_nodes) > _DEPTH:
            return None
    return root if open_nodes == [root] and not before.strip() else None


def _value(node: _Node, schema: object) -> Any:
    known = schema if isinstance(schema, dict) else {}
    kind = known.get("type")
    if node.within and not node.text.strip():
        if all(each.tag == "item" for each in node.within) and kind != "object":
            return [_value(each, known.get("items")) for each in node.within]
        properties = known.get("properties")
        of = properties if isinstance(properties, dict) else {}
        return {each.tag: _value(each, of.get(each.tag)) for each in node.within}
    if not node.text.strip() and kind in {"array", "object"}:
        return [] if kind == "array" else {}
    if kind == "string":
        return node.text
    try:
        return json.loads(node.text, strict=False)
    except (ValueError, RecursionError):
        return node.text
