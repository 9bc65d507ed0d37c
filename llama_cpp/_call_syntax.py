"""The ways in which models write calls, read from whole texts.

A text that is anything else than calls has none: it is content then.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_cpp._call_values import Written, gemma_calls, may_be_python, python_calls
from llama_cpp._minimax_calls import MARK as MINIMAX_MARK
from llama_cpp._minimax_calls import minimax_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_decode = json.JSONDecoder(strict=False).raw_decode
_SPACE = re.compile(r"[\s;,]*(?:```\s*)?")
# A call as a name and its arguments: Mistral's, Kimi's ("functions.name:0"), DeepSeek's.
_NAMED_CALL = re.compile(
    r"([a-zA-Z0-9_.\-:/]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?:```json\s*)?(?=\{)"
)
_BEFORE_NAMES = ("", "functions.", "function")
_MARKS_WITHIN = re.compile(r"<\|/?tool_call\w*\|>|<｜tool[^｜]*｜>|｜DSML｜")


class Call(NamedTuple):
    """A tool call."""

    name: str
    arguments: str
    """JSON text."""


class Block(NamedTuple):
    """A way to write calls within a text: where it begins and where it ends."""

    opens: str
    closes: str | None
    """None: at the end of the answer."""


BLOCKS = (
    Block("<tool_call>", "</tool_call>"),
    Block("<tool_calls>", "</tool_calls>"),
    Block("<tool_calls:opensource>", "</tool_calls:opensource>"),
    Block(f"{MINIMAX_MARK}<tool_call>", f"{MINIMAX_MARK}</tool_call>"),
    Block("<TOOLCALL>", "</TOOLCALL>"),
    Block("<minimax:tool_call>", "</minimax:tool_call>"),
    Block("<seed:tool_call>", "</seed:tool_call>"),
    Block("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
    Block("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
    Block("<|tools_prefix|>", "<|tools_suffix|>"),
    Block("<|START_ACTION|>", "<|END_ACTION|>"),
    Block("<function name=", "</function>"),
    Block("<function=", "</function>"),
    Block("<|START_OF_FUNCTION_CALL|>", "<|END_OF_FUNCTION_CALL|>"),
    Block("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    Block("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    Block("<|tool_call_start|>", "<|tool_call_end|>"),
    Block("<|tool_call:begin|>", "<|tool_call:end|>"),
    Block("<|tool_call>", "<tool_call|>"),
    Block("<start_function_call>", "<end_function_call>"),
    Block("```tool_code", "```"),
    Block("Action: ```json", "```"),
    Block("Action:\n```json", "```"),
    Block("[TOOL_CALLS]", None),
    Block("<|python_tag|>", None),
    Block("<|tool_call|>", None),
    Block("<|function_call|>", None),
    # GigaChat's: a role of its own
    Block("function call<|role_sep|>", None),
)


MARKS = frozenset(
    mark for block in BLOCKS for mark in (block.opens, block.closes) if mark and mark[0] in "<["
) | {
    "[ARGS]", "[CALL_ID]", "<|tool_call_begin|>", "<|tool_call_end|>",
    "<|tool_call_argument_begin|>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
    '<|"|>', "<escape>", "<|tool_call:name|>", "<|tool_call:args|>", "｜DSML｜",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<|role_sep|>", MINIMAX_MARK,
    *(f"<{end}{name}:opensource>" for end in ("", "/")
      for name in ("tool_call", "arg_key", "arg_value")), "<tool_sep:opensource>",
}  # fmt: skip
"""Texts of tokens that calls are written with; a model may have them as control tokens."""

# What stands between a name and its arguments.
_NAME_ENDS = {"<function=": ">", "<|START_OF_FUNCTION_CALL|>": ":"}
# Where calls may be written in Python's way without a list around them.
_PYTHON = frozenset({"<|tool_call_start|>", "<|python_tag|>", "```tool_code"})
_PRINTED = re.compile(r"\s*print\((.*)\)\s*", re.DOTALL)
# What Gemma's calls have before and after a text.
_QUOTES = {"<|tool_call>": '<|"|>', "<start_function_call>": "<escape>"}
_SOLAR_CALL = re.compile(r"[^<]*<\|tool_call:name\|>([^<]+)<\|tool_call:args\|>", re.DOTALL)


def is_open(body: str, opens: str) -> bool:
    """Say whether a mark that follows ``body`` is within a text of a call of Gemma's."""
    quote = _QUOTES.get(opens)
    return quote is not None and body.count(quote) % 2 == 1


def block_calls(body: str, opens: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Return the calls between marks; none where it is anything else."""
    if opens in _NAME_ENDS:
        name, _, arguments = body.partition(_NAME_ENDS[opens])
        return _call(name, arguments, schemas)
    if opens == "[TOOL_CALLS]":
        parts = [bare_calls(part, schemas) for part in body.split(opens)]
        return [call for part in parts for call in part] if all(parts) else []
    if opens in _PYTHON and (calls := _python(body, schemas)):
        return calls
    if opens in _QUOTES:
        return _written(gemma_calls(body, schemas, _QUOTES[opens]))
    if opens == "<|tool_call:begin|>":
        solar = _SOLAR_CALL.match(body)
        return [] if solar is None else _call(solar[1], body[solar.end() :], schemas)
    if opens == "<|tools_prefix|>":
        return _keyed_calls(body, schemas)
    if opens == "<tool_calls:opensource>":
        return _tagged_calls(body, _OPENSOURCE_TAG, schemas)
    if opens.startswith(MINIMAX_MARK):
        return _written(minimax_calls(body, schemas))
    if opens == "<function name=":
        body = f"{opens}{body}</function>"
    return _tagged_or_bare(_MARKS_WITHIN.sub("", body), schemas)


def _tagged_or_bare(body: str, schemas: Mapping[str, Any]) -> list[Call]:
    for tagged in (_FUNCTION_TAG, _INVOKE_TAG, _NAMED_FUNCTION_TAG):
        if tagged.call.match(body) is not None:
            return _tagged_calls(body, tagged, schemas)
    name, _, rest = body.strip().partition("<arg_key>")
    if rest and name.strip() in schemas:
        return _tagged_call(name, f"<arg_key>{rest}", _ARGUMENT, schemas)
    return bare_calls(body, schemas)


def bare_calls(text: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Return the calls that a text consists of; none where there is anything else in it."""
    calls = _written(python_calls(text, schemas)) if text.lstrip()[:1] == "[" else []
    if calls:
        return calls
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    while at < len(text):
        named = _NAMED_CALL.match(text, at)
        name = None if named is None else _name(named[1], schemas)
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
    if may_be_python(text, schemas):
        return True
    if text[0] in "{[":
        head = re.match(r'[\[\s]*(?:\{\s*(?:"(\w*)("?)|$)|$)', text)
        if head is None:
            return False
        key, whole = head[1] or "", head[2]
        keys = (
            "name",
            "parameters",
            "arguments",
            "type",
            "function",
            "id",
            "tool_calls",
            "tool_call_id",
            "tool_name",
        )
        return key in keys if whole else any(k.startswith(key) for k in keys)
    if any(f"{before}{name}".startswith(text) for name in schemas for before in _BEFORE_NAMES):
        return True
    name = re.match(r"[a-zA-Z0-9_.\-:/]+", text)
    if name is None or _name(name[0].rstrip(":"), schemas) is None:
        return any(block.opens.startswith(text) for block in BLOCKS)
    rest = text[name.end() :]
    return re.match(r"\s*(?:\[[A-Z_]*\]?[^{]{0,64}|`{1,3}[json]*\s*)?(?:\{|$)", rest) is not None


def _name(written: str, schemas: Mapping[str, Any]) -> str | None:
    """Return the tool that a written name means; None where it is none."""
    if written in schemas:
        return written
    for before in _BEFORE_NAMES:
        name = written.removeprefix(before)
        for found in (name, name.rpartition(":")[0]):
            if found in schemas:
                return found
    return None


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
    name = value.get("name", value.get("tool_name", value.get("function")))
    if not isinstance(name, str) or name not in schemas:
        return []
    return _named(name, value.get("arguments", value.get("parameters", {})))


def _keyed_calls(body: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Read ``[{"name": {…arguments…}}]``."""
    try:
        value = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return []
    calls = []
    for item in value if isinstance(value, list) else []:
        if not isinstance(item, dict) or len(item) != 1 or not item.keys() <= schemas.keys():
            return []
        calls += [call for name, arguments in item.items() for call in _named(name, arguments)]
    return calls


def _python(body: str, schemas: Mapping[str, Any]) -> list[Call]:
    """Read ``f(a=1)``, Gemma 3's ``print(f(a=1))`` or Llama 3.1's ``f.call(a=1)``."""
    printed = _PRINTED.fullmatch(body)
    body = body if printed is None else printed[1]
    names = {**{f"{name}.call": name for name in schemas}, **{name: name for name in schemas}}
    return _written((names[name], arguments) for name, arguments in python_calls(body, names))


def _written(calls: Iterable[Written]) -> list[Call]:
    return [call for name, arguments in calls for call in _named(name, arguments)]


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
    re.compile(r'\s*<parameter name="([^">\n]+)"[^>\n]*>\n?(.*?)\n?</parameter>', re.DOTALL),
)
_NAMED_FUNCTION_TAG = _Tags(
    re.compile(r'\s*<function name="([^">\n]+)">(.*?)</function>', re.DOTALL),
    re.compile(r'\s*<param name="([^">\n]+)">\n?(.*?)\n?</param>', re.DOTALL),
)
_OPENSOURCE_TAG = _Tags(
    re.compile(
        r"\s*<tool_call:opensource>([^<\n]+)<tool_sep:opensource>(.*?)</tool_call:opensource>",
        re.DOTALL,
    ),
    re.compile(
        r"\s*<arg_key:opensource>([^<\n]+)</arg_key:opensource>\s*"
        r"<arg_value:opensource>\n?(.*?)\n?</arg_value:opensource>",
        re.DOTALL,
    ),
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
