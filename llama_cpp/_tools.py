"""The tools of a request: what may be called, what must be, and how a model is told.

Models were trained on different ways to write a call. A template shows which one its model knows; a
model whose template knows no tools is told in words, and asked for the commonest way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from llama_cpp._chat_messages import Conversation
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    Json = dict[str, Any]

Family = Literal[
    "hermes", "llama", "mistral", "mistral-args", "functionary-v1", "functionary-v2",
    "functionary-v3", "function-tag", "harmony",
]  # fmt: skip
"""How calls are written; :func:`family_of` finds it in a template."""

_NAME = re.compile(r"[a-zA-Z0-9_.\-:/]{1,128}")
_EVERY_OBJECT: Json = {"type": "object"}

_MARKS: tuple[tuple[Family, tuple[str, ...]], ...] = (
    ("functionary-v2", ("<|from|>", "<|recipient|>", "<|content|>")),
    ("functionary-v3", (">>>all",)),
    ("functionary-v3", ("'>>>'",)),
    ("harmony", ("<|start|>assistant", "<|channel|>", "<|message|>")),
    ("functionary-v1", ("<|START_OF_FUNCTION_CALL|>",)),
    ("hermes", ("<tool_call>",)),
    ("mistral-args", ("[TOOL_CALLS]", "[ARGS]")),
    ("mistral", ("[TOOL_CALLS]",)),
    ("function-tag", ("<function=",)),
    ("llama", ("<|python_tag|>",)),
    ("llama", ('"parameters": ',)),
)
# How the beginning of a forced call is written: with the name, and without.
_NAMED: dict[Family, str] = {
    "hermes": '<tool_call>\n{{"name": {json}, "arguments": ',
    "llama": '{{"name": {json}, "parameters": ',
    "mistral": '[TOOL_CALLS][{{"name": {json}, "arguments": ',
    "mistral-args": "[TOOL_CALLS]{name}[ARGS]",
    "functionary-v1": "\n<|START_OF_FUNCTION_CALL|>{name}:\n",
    "functionary-v2": "{name}\n<|content|>",
    "functionary-v3": "{name}\n",
    "function-tag": "<function={name}>",
    "harmony": "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>",
}
_ANY: dict[Family, str] = {"hermes": "<tool_call>\n", "mistral": "[TOOL_CALLS]["}

_INSTRUCTIONS = """\
You may call functions to answer. These are their signatures, each with a JSON schema of its \
parameters:
<tools>
{tools}
</tools>
To call one, write its name and its arguments as JSON between these tags, once for each call:
<tool_call>
{{"name": "the function's name", "arguments": {{"a parameter": "its value"}}}}
</tool_call>
Otherwise answer in plain text."""


class Tools(NamedTuple):
    """The tools of one request."""

    tools: tuple[Json, ...] = ()
    """As OpenAI writes them: ``{"type": "function", "function": {…}}``."""
    choice: Literal["none", "auto", "required"] = "none"
    legacy: bool = False
    """Whether they came as ``functions``: then the answer has a ``function_call``."""

    @property
    def schemas(self) -> dict[str, Json]:
        """The schema of each tool's arguments by the tool's name."""
        return {
            tool["function"]["name"]: tool["function"].get("parameters") or _EVERY_OBJECT
            for tool in self.tools
        }

    @property
    def callable(self) -> dict[str, Json]:
        """The same of those that may be called: none where that was ruled out."""
        return {} if self.choice == "none" else self.schemas

    @property
    def forced(self) -> str | None:
        """The one tool that must be called; None if there is none or a choice."""
        if self.choice != "required" or len(self.tools) != 1:
            return None
        name: str = self.tools[0]["function"]["name"]
        return name

    def prefill(self, family: Family) -> str:
        """Return how an answer that must be a call begins; it becomes part of the prompt."""
        name = self.forced
        if self.choice != "required":
            return ""
        if name is None:
            return _ANY.get(family, "")
        return _NAMED[family].format(name=name, json=json.dumps(name, ensure_ascii=False))

    def answer_schema(self, family: Family) -> Json | None:
        """Return the JSON schema of what follows the prefill; None where the answer is free."""
        if self.choice != "required":
            return None
        name = self.forced
        if name is not None:
            return self.schemas[name]
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"name": {"const": name}, arguments_key(family): schema},
                    "required": ["name", arguments_key(family)],
                    "additionalProperties": False,
                }
                for name, schema in self.schemas.items()
            ]
        }


def arguments_key(family: Family) -> str:
    """Return what a family calls the arguments in a JSON call."""
    return "parameters" if family == "llama" else "arguments"


def family_of(source: str) -> Family:
    """Return the way to write calls that a template's source shows; Hermes' where none."""
    for family, marks in _MARKS:
        if all(mark in source for mark in marks):
            return family
    return "hermes"


def knows_tools(source: str) -> bool:
    """Say whether a template renders tools itself."""
    return re.search(r"\btools\b", source) is not None or "declarations" in source


def read(
    *,
    tools: object = None,
    tool_choice: object = None,
    functions: object = None,
    function_call: object = None,
) -> Tools:
    """Check the tools of a request, given in OpenAI's newer or older way.

    Raises:
        ValidationError: a tool has no name, two have one, the choice names none of them, or both
            ways are used at once.
    """
    legacy = functions is not None
    if legacy and tools is not None:
        raise ValidationError("give tools or functions, not both")
    if legacy:
        functions = _sequence("functions", functions)
        given = [{"type": "function", "function": function} for function in functions]
        choice = function_call
        if isinstance(function_call, Mapping):
            choice = {"type": "function", "function": function_call}
        label, choice_label = "function", "function_call"
    else:
        given = [] if tools is None else _sequence("tools", tools)
        choice, label, choice_label = tool_choice, "tool", "tool_choice"
    checked = tuple(_tool(tool, f"{label} {index}") for index, tool in enumerate(given))
    names = [tool["function"]["name"] for tool in checked]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"two {label}s are named {name!r}")
    return _chosen(Tools(checked, "auto" if checked else "none", legacy), choice, choice_label)


def _chosen(tools: Tools, choice: object, label: str) -> Tools:
    """Return the tools with what was chosen."""
    if choice == "none":
        return tools._replace(choice="none")
    if choice in (None, "auto"):
        return tools
    if not tools.tools:
        raise ValidationError(f"{label} is {choice!r}, but there is nothing to call")
    if choice in ("required", "any"):
        return tools._replace(choice="required")
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise ValidationError(
            f'{label} is {choice!r}; choose "none", "auto", "required" or '
            '{"type": "function", "function": {"name": …}}'
        )
    chosen = tuple(tool for tool in tools.tools if tool["function"]["name"] == name)
    if not chosen:
        names = ", ".join(tools.schemas)
        raise ValidationError(f"{label} names {name!r}; choose from {names}")
    return tools._replace(tools=chosen, choice="required")


def _sequence(name: str, value: object) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise ValidationError(f"{name} is {type(value).__name__}; it must be a list")
    return list(value)


def _tool(tool: object, where: str) -> Json:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or not isinstance(function, Mapping):
        raise ValidationError(
            f'{where} is {tool!r}; it must be {{"type": "function", "function": {{"name": …}}}}'
        )
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValidationError(
            f"{where} has name {name!r}; a name is 1 to 128 letters, digits, '_', '-', '.', ':' or '/'"
        )
    parameters = function.get("parameters")
    if not isinstance(parameters, (Mapping, type(None))):
        raise ValidationError(f"{where} has parameters {parameters!r}; they must be a JSON schema")
    try:
        copied: Json = json.loads(json.dumps(dict(tool)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValidationError(f"{where} is no JSON: {error}") from error
    copied.setdefault("type", "function")
    return copied


def calls_in_words(conversation: Conversation) -> Conversation:
    """Show earlier calls as text, for a template that shows none."""
    messages = []
    for message in conversation.messages:
        calls = message.get("tool_calls")
        if calls:
            parts = [message["content"], *map(written, calls)]
            text = "\n".join(part for part in parts if part)
            messages.append({"role": "assistant", "content": text})
        else:
            messages.append(message)
    return Conversation(messages)


def in_words(conversation: Conversation, tools: Tools) -> Conversation:
    """Tell a model whose template knows no tools about them, and show earlier calls as text."""
    messages = []
    for message in calls_in_words(conversation).messages:
        if message["role"] in {"tool", "function"}:
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            messages.append({"role": "user", "content": text})
        else:
            messages.append(message)
    said = Conversation(messages)
    if tools.choice == "none":
        return said
    signatures = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools.tools)
    return said.with_system(_INSTRUCTIONS.format(tools=signatures))


def written(call: Json) -> str:
    """Return a call in Hermes' way."""
    function = call["function"]
    name = json.dumps(function["name"], ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {function["arguments"]}}}\n</tool_call>'


def declarations(tools: Tools) -> str:
    """Return the tools as functionary's models read them: declarations in TypeScript's manner."""
    lines = [
        "// Supported function definitions that should be called when necessary.",
        "namespace functions {",
        "",
    ]
    for tool in tools.tools:
        function = tool["function"]
        properties = (function.get("parameters") or {}).get("properties")
        lines.append(f"// {function.get('description', '')}")
        if properties:
            lines += [f"type {function['name']} = (_: {{", *_properties(properties, 0)]
            lines += ["}) => any;", ""]
        else:
            lines += [f"type {function['name']} = () => any;", ""]
    return "\n".join([*lines, "} // namespace functions"])


def _properties(properties: Mapping[str, Any], depth: int) -> list[str]:
    indent = "    " * depth
    lines = []
    for name, schema in properties.items():
        if not isinstance(schema, Mapping):
            continue
        if schema.get("description"):
            lines.append(f"{indent}// {str(schema['description']).rstrip('.')}.")
        kind = _kind(schema, depth).split("\n")
        lines += [f"{indent}{name}: {kind[0]}", *kind[1:]]
        lines[-1] += ","
    return lines


def _kind(schema: Mapping[str, Any], depth: int) -> str:
    """Return a schema's type as TypeScript spells it."""
    if isinstance(schema.get("enum"), list):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " | ".join(map(str, kind))
    if kind == "object" and isinstance(schema.get("properties"), Mapping):
        inside = _properties(schema["properties"], depth + 1)
        return "\n".join(["{", *inside, "    " * depth + "}"])
    if kind == "array":
        items = schema.get("items")
        return f"{_kind(items, depth)}[]" if isinstance(items, Mapping) and items else "[]"
    return "number" if kind in {"integer", "float"} else str(kind)
