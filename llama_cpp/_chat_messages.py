"""A conversation as it comes in: checked, and in the shape that templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    Message = dict[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
"""Who can speak in OpenAI's interface; a template may know others."""
_SYSTEM = frozenset({"system", "developer"})


class Arguments(dict[str, Any]):
    """Arguments of an earlier tool call: an object for templates, JSON text where one prints it.

    Half of the models' templates read ``arguments`` as the object, the other half as its text.
    """

    def __init__(self, text: str) -> None:
        """Parse the JSON text of an object."""
        super().__init__(json.loads(text, strict=False))
        self._text = text

    def __str__(self) -> str:
        """Return the text as it came."""
        return self._text

    def __add__(self, other: object) -> str:
        return self._text + str(other)

    def __radd__(self, other: object) -> str:
        return str(other) + self._text


class Conversation(NamedTuple):
    """Checked messages."""

    messages: list[Message]
    """All of them; content is text, "" where there was none."""

    @property
    def system(self) -> str:
        """What all system messages say."""
        return "\n".join(m["content"] for m in self.messages if m["role"] in _SYSTEM)

    @property
    def turns(self) -> list[Message]:
        """The messages that are no system messages."""
        return [m for m in self.messages if m["role"] not in _SYSTEM]

    def with_names(self) -> Conversation:
        """Return the conversation with the name of its tool in each tool's answer."""
        names: dict[object, str] = {}
        messages = []
        for message in self.messages:
            for call in message.get("tool_calls", ()):
                names[call.get("id")] = call["function"]["name"]
            name = names.get(message.get("tool_call_id"))
            if message["role"] == "tool" and name is not None:
                messages.append({"name": name, **message})
            else:
                messages.append(message)
        return Conversation(messages)

    def without_system(self) -> Conversation | None:
        """Return the conversation with the system's words in front of the user's first ones.

        Returns:
            None where there is no system message, or no user to say it.
        """
        turns = self.turns
        said = self.system
        for index, message in enumerate(turns):
            if said and message["role"] == "user":
                text = f"{said}\n\n{message['content']}"
                turns[index] = {**message, "content": text}
                return Conversation(turns)
        return None

    def in_parts(self) -> Conversation:
        """Return the conversation with a part of text for each content."""
        return Conversation(
            [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in self.messages]
        )

    def with_system(self, text: str) -> Conversation:
        """Return the conversation with ``text`` added to what the system says first."""
        if self.messages and self.messages[0]["role"] in _SYSTEM:
            first, *rest = self.messages
            said = f"{first['content']}\n\n{text}" if first["content"] else text
            return Conversation([{**first, "content": said}, *rest])
        return Conversation([{"role": "system", "content": text}, *self.messages])


def read(messages: object, *, source: str = "") -> Conversation:
    """Check messages.

    Args:
        messages: OpenAI's chat messages. Content is text, None, or a list of parts of which all are
            text: an image needs a chat handler.
        source: of the template that will render them: the roles that it names are allowed, too.

    Raises:
        ValidationError: something is missing or of the wrong kind; the message says which.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ValidationError(
            f"messages is {type(messages).__name__}; it must be a list of "
            '{"role": …, "content": …}'
        )
    if not messages:
        raise ValidationError("messages is empty; give at least one message")
    return Conversation([_message(m, index, source) for index, m in enumerate(messages)])


def _message(message: object, index: int, source: str) -> Message:
    where = f"message {index}"
    if not isinstance(message, Mapping):
        raise ValidationError(
            f'{where} is {type(message).__name__}; it must be {{"role": …, "content": …}}'
        )
    role = message.get("role")
    if not isinstance(role, str) or (
        role not in ROLES and f"'{role}'" not in source and f'"{role}"' not in source
    ):
        raise ValidationError(f"{where} has role {role!r}; choose from {', '.join(sorted(ROLES))}")
    checked = dict(message)
    if role == "developer" and role not in source:
        checked["role"] = "system"  # OpenAI's newer name for it
    calls = _calls(message, where)
    if calls:
        checked["tool_calls"] = calls
        checked.pop("function_call", None)
    elif "tool_calls" in checked:
        del checked["tool_calls"]
    checked["content"] = _content(message, where)
    if role in {"tool", "function"}:
        for key in ("name", "tool_call_id"):
            if not isinstance(message.get(key), (str, type(None))):
                raise ValidationError(f"{where} has {key} {message[key]!r}; it must be text")
    return checked


def _content(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if content is None:
        spoken_by_model = message["role"] == "assistant"
        if not spoken_by_model and "content" not in message:
            raise ValidationError(f"{where} has no content")
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise ValidationError(
            f"{where} has content of type {type(content).__name__}; it must be text or a list of parts"
        )
    return "\n".join(_part(part, f"{where}, part {n}") for n, part in enumerate(content))


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or not isinstance(kind, str):
        raise ValidationError(f'{where} is {part!r}; it must be {{"type": "text", "text": …}}')
    if kind != "text":
        raise ValidationError(
            f"{where} is of type {kind!r}, and this chat takes text only; load the model with a "
            "chat_handler for its projector, such as MTMDChatHandler(clip_model_path=…)"
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise ValidationError(f"{where} has text {text!r}; it must be text")
    return text


def _calls(message: Mapping[str, Any], where: str) -> list[Message]:
    """Return the tool calls of an earlier answer; a function call is one."""
    calls = message.get("tool_calls")
    if calls is None:
        function = message.get("function_call")
        calls = [] if function is None else [{"function": function}]
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        raise ValidationError(f"{where} has tool_calls {calls!r}; it must be a list")
    checked = []
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(call, Mapping) or not isinstance(function, Mapping):
            raise ValidationError(f"{where}, tool call {number} is {call!r}; it needs a function")
        if not isinstance(name, str):
            raise ValidationError(f"{where}, tool call {number} has function name {name!r}")
        arguments = _arguments(function.get("arguments", "{}"), f"{where}, tool call {number}")
        checked.append(
            {"type": "function", **call, "function": {"name": name, "arguments": arguments}}
        )
    return checked


def _arguments(arguments: object, where: str) -> object:
    if isinstance(arguments, Arguments):
        return arguments
    if isinstance(arguments, Mapping):
        try:
            arguments = json.dumps(arguments, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ValidationError(f"{where} has arguments that are no JSON: {error}") from error
    if not isinstance(arguments, str):
        raise ValidationError(f"{where} has arguments {arguments!r}; they must be JSON text")
    try:
        return Arguments(arguments)
    except (ValueError, TypeError, RecursionError):
        return arguments  # what a model said in a conversation stays as it is
