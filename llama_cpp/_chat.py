"""Chat: from messages to a prompt, and from a completion to a chat completion.

This is the one way for every chat of text: :func:`prepare` makes a :class:`ChatRequest` of what was
asked, whoever computes the completion gives it back to :meth:`ChatRequest.completion` or, streamed,
to :meth:`ChatRequest.chunks`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_cpp import _chat_formats, _chat_messages, _harmony, _response_format, _tools
from llama_cpp._chat_logprobs import chat_logprobs, joined, some
from llama_cpp._errors import ValidationError
from llama_cpp._reasoning import opened
from llama_cpp._tool_calls import marks, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Union

    from llama_cpp._chat_formats import ChatFormatterResponse
    from llama_cpp._delta import Delta, Reader
    from llama_cpp._reasoning import Thoughts
    from llama_cpp._tools import Family, Tools
    from llama_cpp.llama import Llama

    Json = dict[str, Any]
    Formatter = Callable[..., ChatFormatterResponse]
    Grammar = Union[Any, str, None]

_MOST_TOP_LOGPROBS = 100
# Chat formats of ours that are named otherwise than the data they use.
_FORMATS = {"functionary": "functionary-v1", "chatml-function-calling": "chatml"}


@dataclass(frozen=True)
class ChatRequest:
    """A chat, ready to be completed."""

    prompt: str
    """The text to complete."""
    added_special: bool
    """Whether the prompt spells its begin token: tokenize it without adding one."""
    stop: tuple[str, ...]
    """Strings that end the answer."""
    stopping_criteria: Any
    """Called with tokens and logits; None where only ``stop`` ends the answer."""
    grammar: Any
    """A ``LlamaGrammar`` or its text for the answer; None where it is free."""
    logprobs: int | None
    """Alternatives per token that the completion has to report; None for no log probabilities."""
    tools: Tools
    """What may be called, and what must be."""
    family: Family
    """How this model writes calls."""
    reasoning: bool = False
    """Whether thoughts are told apart from content."""
    thoughts: Thoughts | None = None
    """Those that the prompt has begun."""

    @property
    def marks(self) -> frozenset[str]:
        """Texts of control tokens that the completion has to spell out for the answer to be read."""
        return marks(self.tools, self.family, reasoning=self.reasoning)

    def reader(self) -> Reader:
        """Return what reads an answer."""
        return reader(self.tools, self.family, reasoning=self.reasoning, thoughts=self.thoughts)

    def tokens(self, llm: Llama) -> list[int]:
        """Return the prompt's token ids.

        Raises:
            ValidationError: the prompt is no Unicode text.
        """
        return llm.tokenize(self.prompt, add_bos=not self.added_special, special=True)

    def completion(self, completion: Mapping[str, Any]) -> Json:
        """Return a completion of the prompt as OpenAI's chat completion.

        Args:
            completion: a whole text completion, as ``create_completion`` returns it.
        """
        choices = []
        for choice in completion["choices"]:
            answer = self.reader()
            deltas = [*answer.push(choice["text"]), *answer.flush()]
            content = "".join(delta.content for delta in deltas)
            reasoning = "".join(delta.reasoning for delta in deltas)
            calls = _whole_calls(deltas)
            message: Json = {"role": "assistant", "content": content}
            if reasoning:
                message["reasoning_content"] = reasoning
            if calls and self.tools.legacy:
                message["function_call"] = calls[0]["function"]
            elif calls:
                message["tool_calls"] = calls
            if calls and not content:
                message["content"] = None
            choices.append(
                {
                    "index": choice["index"],
                    "message": message,
                    "logprobs": chat_logprobs(choice["logprobs"], self.logprobs),
                    "finish_reason": self._finish(choice["finish_reason"], called=bool(calls)),
                }
            )
        return {
            "id": "chat" + completion["id"],
            "object": "chat.completion",
            "created": completion["created"],
            "model": completion["model"],
            "choices": choices,
            "usage": completion["usage"],
        }

    def chunks(self, chunks: Iterable[Mapping[str, Any]]) -> Iterator[Json]:
        """Yield a streamed completion of the prompt as OpenAI's chat completion chunks.

        The first has the role, the last an empty delta and the finish reason. Of each call the
        first part has id and name.

        Args:
            chunks: a streamed text completion, as ``create_completion(stream=True)`` yields it.
        """
        answers: dict[int, _Stream] = {}
        try:
            for chunk in chunks:
                for choice in chunk["choices"]:
                    index = choice["index"]
                    if index not in answers:
                        answers[index] = _Stream(self, chunk, index)
                        yield answers[index].first()
                    yield from answers[index].parts(choice)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _finish(self, reason: str | None, *, called: bool) -> str | None:
        if not called or reason != "stop":
            return reason
        return "function_call" if self.tools.legacy else "tool_calls"


class _Stream:
    """One choice of a streamed answer."""

    def __init__(self, request: ChatRequest, chunk: Mapping[str, Any], index: int) -> None:
        self._request = request
        self._head: Json = {
            "id": "chat" + chunk["id"],
            "object": "chat.completion.chunk",
            "created": chunk["created"],
            "model": chunk["model"],
        }
        self._index = index
        self._reader: Reader = request.reader()
        self._logprobs: Json | None = None
        self._called = False

    def first(self) -> Json:
        """Return the chunk with the role."""
        content = None if self._request.tools.choice == "required" else ""
        return self._chunk({"role": "assistant", "content": content})

    def parts(self, choice: Mapping[str, Any]) -> Iterator[Json]:
        """Yield what a chunk of the completion adds."""
        logprobs = chat_logprobs(choice.get("logprobs"), self._request.logprobs)
        self._logprobs = joined(self._logprobs, logprobs)
        deltas = self._reader.push(choice["text"])
        if choice["finish_reason"] is not None:
            deltas += self._reader.flush()
        for delta in deltas:
            part = self._delta(delta)
            if part is not None:
                yield self._chunk(part)
        if choice["finish_reason"] is not None:
            reason = self._request._finish(choice["finish_reason"], called=self._called)  # noqa: SLF001 - the same module
            yield self._chunk({}, reason)

    def _delta(self, delta: Delta) -> Json | None:
        if delta.reasoning:
            return {"reasoning_content": delta.reasoning}
        if delta.call < 0:
            return {"content": delta.content}
        self._called = True
        function: Json = {"arguments": delta.arguments}
        if delta.name is not None:
            function = {"name": delta.name, **function}
        if self._request.tools.legacy:
            return None if delta.call else {"function_call": function}
        call: Json = {"index": delta.call, "function": function}
        if delta.name is not None:
            call = {"index": delta.call, "id": _call_id(), "type": "function", "function": function}
        return {"tool_calls": [call]}

    def _chunk(self, delta: Json, reason: str | None = None) -> Json:
        logprobs, self._logprobs = self._logprobs, None
        return {
            **self._head,
            "choices": [
                {
                    "index": self._index,
                    "delta": delta,
                    "logprobs": some(logprobs),
                    "finish_reason": reason,
                }
            ],
        }


def prepare(
    llm: Llama,
    messages: object,
    *,
    functions: object = None,
    function_call: object = None,
    tools: object = None,
    tool_choice: object = None,
    response_format: object = None,
    grammar: Grammar = None,
    stop: str | Sequence[str] | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    formatter: Formatter | None = None,
    template_variables: Mapping[str, object] | None = None,
    reasoning: bool = False,
) -> ChatRequest:
    """Check a chat and make its prompt.

    Args:
        llm: the model; what it says about its chats is used where ``formatter`` is None.
        messages: OpenAI's chat messages, text only.
        functions: OpenAI's older way to give tools.
        function_call: its choice: "none", "auto" or ``{"name": …}``.
        tools: ``{"type": "function", "function": {"name": …, "parameters": …}}`` each.
        tool_choice: "none", "auto", "required" or ``{"type": "function", "function": {"name": …}}``.
        response_format: ``{"type": "text" | "json_object" | "json_schema"}``; with a schema under
            "schema" (json_object) or "json_schema" → "schema".
        grammar: of the answer; not together with a response format of JSON or a forced call.
        stop: strings that end the answer, besides those of the format.
        logprobs: report log probabilities.
        top_logprobs: alternatives per token, 0 to 100.
        formatter: makes the prompt.
        template_variables: more variables for the template, such as ``enable_thinking``.
        reasoning: tell thoughts apart from content; not where a grammar leaves no room for them.

    Raises:
        ValidationError: an argument is of the wrong kind, two exclude each other, a schema cannot
            be a grammar, or the template refuses the messages.
        LlamaError: jinja2 is not installed.
    """
    called = _tools.read(
        tools=tools, tool_choice=tool_choice, functions=functions, function_call=function_call
    )
    if formatter is None:
        formatter = formatter_of(llm, tools=bool(called.tools))
    source = getattr(formatter, "source", None)
    source = source if isinstance(source, str) else ""
    family = _tools.family_of(source)
    response = _formatted(
        formatter,
        _variables(messages, called, source, family, template_variables),
        ours=bool(source),
    )
    rules = _response_format.grammar_of(grammar, response_format, called, family)
    return ChatRequest(
        prompt=response.prompt + called.prefill(family),
        added_special=response.added_special,
        stop=_stops(response.stop, stop),
        stopping_criteria=response.stopping_criteria,
        grammar=rules,
        logprobs=_top(logprobs, top_logprobs),
        tools=called,
        family=family,
        reasoning=bool(reasoning) and rules is None,
        thoughts=opened(response.prompt),
    )


def formatter_of(llm: Llama, *, tools: bool) -> Formatter:
    """Return what makes prompts for a model: the format it was loaded with, or its file's template.

    Raises:
        ValidationError: the format answers chats by itself and makes no prompts.
        LlamaError: there is no such format.
    """
    name = getattr(llm, "chat_format", None)
    if name is not None and not name.startswith("chat_template"):
        from llama_cpp import llama_chat_format  # noqa: PLC0415 - imports this module

        handlers = getattr(llm, "_chat_handlers", None) or {}
        handler = handlers.get(name) or llama_chat_format.get_chat_completion_handler(name)
        formatter: Formatter | None = getattr(handler, "formatter", None)
        if formatter is None and getattr(handler, "__module__", None) == llama_chat_format.__name__:
            formatter = _chat_formats.text_formats()[_FORMATS.get(name, name)]
        if formatter is None:
            raise ValidationError(
                f"the chat format {name!r} answers chats itself; use create_chat_completion"
            )
        return formatter
    vocabulary = llm._core.vocabulary  # noqa: SLF001 - the same package
    return _chat_formats.of_model(llm.metadata, vocabulary, name, tools=tools)


def _formatted(formatter: Formatter, variables: Json, *, ours: bool) -> ChatFormatterResponse:
    """Return the prompt; where a template takes no system message, the user says it, as in llama.cpp."""
    try:
        return formatter(**variables)
    except ValidationError:
        conversation = _chat_messages.Conversation(variables["messages"]) if ours else None
        without = None if conversation is None else conversation.without_system()
        if without is None:
            raise
        try:
            return formatter(**{**variables, "messages": without.messages})
        except ValidationError:
            pass
        raise


def _variables(
    messages: object,
    called: Tools,
    source: str,
    family: Family,
    more: Mapping[str, object] | None,
) -> Json:
    """Return what a formatter is called with."""
    if not isinstance(more, (Mapping, type(None))):
        raise ValidationError(f"chat_template_kwargs is {more!r}; it must be a dict of variables")
    variables: Json = dict(more or {})
    if not source:  # a formatter of someone else's takes what was given
        if called.tools:
            variables["tools"] = list(called.tools)
        return {**variables, "messages": messages}
    conversation = _chat_messages.read(messages, source=source)
    if family == "harmony":
        conversation = _chat_messages.Conversation(_harmony.apart(conversation.messages))
    if not _tools.knows_tools(source):
        if called.choice != "none" or any(m.get("tool_calls") for m in conversation.messages):
            conversation = _tools.in_words(conversation, called)
        return {**variables, "messages": conversation.messages}
    if "tool_calls" not in source:
        conversation = _tools.calls_in_words(conversation)
    if called.choice != "none":
        tools = list(called.tools)
        variables["tools"] = _harmony.described(tools) if family == "harmony" else tools
        variables["declarations"] = _tools.declarations(called)
    return {**variables, "messages": conversation.messages}


def _top(logprobs: object, top_logprobs: object) -> int | None:
    if top_logprobs is not None and (
        not isinstance(top_logprobs, int) or not 0 <= top_logprobs <= _MOST_TOP_LOGPROBS
    ):
        raise ValidationError(
            f"top_logprobs is {top_logprobs!r}; choose an integer from 0 to {_MOST_TOP_LOGPROBS}"
        )
    if not logprobs:
        return None
    return 0 if top_logprobs is None else int(top_logprobs)


def _stops(*groups: str | Sequence[str] | None) -> tuple[str, ...]:
    stops: list[str] = []
    for group in groups:
        if not isinstance(group, (str, list, tuple, type(None))):
            raise ValidationError(f"stop is {group!r}; it must be a string or a list of strings")
        stops += [group] if isinstance(group, str) else group or ()
    return tuple(dict.fromkeys(stops))


def _whole_calls(deltas: Iterable[Delta]) -> list[Json]:
    """Return the calls that deltas add up to."""
    calls: dict[int, Json] = {}
    for delta in deltas:
        if delta.call >= 0:
            call = calls.setdefault(
                delta.call,
                {
                    "id": _call_id(),
                    "type": "function",
                    "function": {"name": delta.name, "arguments": ""},
                },
            )
            call["function"]["arguments"] += delta.arguments
    return list(calls.values())


def _call_id() -> str:
    return f"call_{os.urandom(12).hex()}"
