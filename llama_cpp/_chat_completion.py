"""``Llama.create_chat_completion``: who answers a chat, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast, overload

from llama_cpp import _chat
from llama_cpp._errors import LlamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Union

    from llama_cpp._chat import Formatter
    from llama_cpp.llama import Llama
    from llama_cpp.llama_types import (
        CreateChatCompletionResponse,
        CreateChatCompletionStreamResponse,
    )

    Json = dict[str, Any]
    Answer = Union[Json, Iterator[Json]]
    TypedAnswer = Union[CreateChatCompletionResponse, Iterator[CreateChatCompletionStreamResponse]]


@overload
def create_chat_completion(
    self: Llama,
    messages: Sequence[Any],
    functions: Sequence[Any] | None = ...,
    function_call: Any = ...,
    tools: Sequence[Any] | None = ...,
    tool_choice: Any = ...,
    temperature: float = ...,
    top_p: float = ...,
    top_k: int = ...,
    min_p: float = ...,
    typical_p: float = ...,
    stream: Literal[False] = ...,
    stop: str | Sequence[str] | None = ...,
    seed: int | None = ...,
    response_format: Mapping[str, Any] | None = ...,
    max_tokens: int | None = ...,
    presence_penalty: float = ...,
    frequency_penalty: float = ...,
    repeat_penalty: float = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    logits_processor: Any = ...,
    grammar: Any = ...,
    logit_bias: Mapping[Any, float] | None = ...,
    logprobs: bool | None = ...,
    top_logprobs: int | None = ...,
    *,
    chat_template_kwargs: Mapping[str, object] | None = ...,
    reasoning_content: bool = ...,
) -> CreateChatCompletionResponse: ...


@overload
def create_chat_completion(
    self: Llama,
    messages: Sequence[Any],
    functions: Sequence[Any] | None = ...,
    function_call: Any = ...,
    tools: Sequence[Any] | None = ...,
    tool_choice: Any = ...,
    temperature: float = ...,
    top_p: float = ...,
    top_k: int = ...,
    min_p: float = ...,
    typical_p: float = ...,
    *,
    stream: Literal[True],
    stop: str | Sequence[str] | None = ...,
    seed: int | None = ...,
    response_format: Mapping[str, Any] | None = ...,
    max_tokens: int | None = ...,
    presence_penalty: float = ...,
    frequency_penalty: float = ...,
    repeat_penalty: float = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    logits_processor: Any = ...,
    grammar: Any = ...,
    logit_bias: Mapping[Any, float] | None = ...,
    logprobs: bool | None = ...,
    top_logprobs: int | None = ...,
    chat_template_kwargs: Mapping[str, object] | None = ...,
    reasoning_content: bool = ...,
) -> Iterator[CreateChatCompletionStreamResponse]: ...


@overload
def create_chat_completion(
    self: Llama,
    messages: Sequence[Any],
    functions: Sequence[Any] | None = ...,
    function_call: Any = ...,
    tools: Sequence[Any] | None = ...,
    tool_choice: Any = ...,
    temperature: float = ...,
    top_p: float = ...,
    top_k: int = ...,
    min_p: float = ...,
    typical_p: float = ...,
    stream: bool = ...,
    stop: str | Sequence[str] | None = ...,
    seed: int | None = ...,
    response_format: Mapping[str, Any] | None = ...,
    max_tokens: int | None = ...,
    presence_penalty: float = ...,
    frequency_penalty: float = ...,
    repeat_penalty: float = ...,
    tfs_z: float = ...,
    mirostat_mode: int = ...,
    mirostat_tau: float = ...,
    mirostat_eta: float = ...,
    model: str | None = ...,
    logits_processor: Any = ...,
    grammar: Any = ...,
    logit_bias: Mapping[Any, float] | None = ...,
    logprobs: bool | None = ...,
    top_logprobs: int | None = ...,
    *,
    chat_template_kwargs: Mapping[str, object] | None = ...,
    reasoning_content: bool = ...,
) -> TypedAnswer: ...


def create_chat_completion(
    self: Llama,
    messages: Sequence[Any],
    functions: Sequence[Any] | None = None,
    function_call: Any = None,
    tools: Sequence[Any] | None = None,
    tool_choice: Any = None,
    temperature: float = 0.2,
    top_p: float = 0.95,
    top_k: int = 40,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    stream: bool = False,
    stop: str | Sequence[str] | None = [],
    seed: int | None = None,
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logits_processor: Any = None,
    grammar: Any = None,
    logit_bias: Mapping[Any, float] | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    *,
    chat_template_kwargs: Mapping[str, object] | None = None,
    reasoning_content: bool = False,
) -> TypedAnswer:
    """Answer a chat, in OpenAI's shapes.

    The prompt is made by ``chat_handler``, else by the format ``chat_format``, else by the template
    in the model's file, else by llama-2's format.

    Args:
        self: the model.
        messages: ``{"role": …, "content": …}`` each; images need a chat handler.
        functions: OpenAI's older way to give tools.
        function_call: "none", "auto" or ``{"name": …}``.
        tools: functions that the model may call. Any model can: where its template knows no tools
            they are described in words.
        tool_choice: "none", "auto", "required" or ``{"type": "function", "function": {"name": …}}``;
            a call that is required is made by a grammar of the tool's parameters.
        temperature: 0 always takes the likeliest token.
        top_p: keep the likeliest whose probabilities add up to p.
        top_k: keep the k likeliest.
        min_p: keep those at least this share of the likeliest.
        typical_p: keep the locally typical ones.
        stream: return an iterator of parts.
        stop: strings that end the answer; they are not part of it.
        seed: of this call; None is the object's.
        response_format: ``{"type": "json_object"}``, ``{"type": "json_object", "schema": …}`` or
            ``{"type": "json_schema", "json_schema": {"schema": …}}``.
        max_tokens: most tokens of the answer; None fills the context.
        presence_penalty: taken from logits once.
        frequency_penalty: taken from logits per occurrence.
        repeat_penalty: divides the logits of recent tokens.
        tfs_z: without effect: llama.cpp has no tail-free sampling any more.
        mirostat_mode: 0, 1 or 2.
        mirostat_tau: target surprise.
        mirostat_eta: learning rate.
        model: name to report; None is the path.
        logits_processor: called with tokens and logits before each token is chosen.
        grammar: a ``LlamaGrammar`` or its text that the answer must match.
        logit_bias: added to logits by token id.
        logprobs: report log probabilities.
        top_logprobs: alternatives per token.
        chat_template_kwargs: more variables for the template, such as ``enable_thinking``.
        reasoning_content: put the thoughts that a model writes first (``<think>…</think>``,
            gpt-oss's channel "analysis" …) under this key of the message instead of in its content.

    Returns:
        A chat completion, or an iterator of chat completion chunks.

    Raises:
        ValidationError: a message, tool or other argument is not as described, or the template
            refuses the messages.
        LlamaError: a package that is needed is not installed, or there is no such chat format.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    options: Json = {
        "functions": functions,
        "function_call": function_call,
        "tools": tools,
        "tool_choice": tool_choice,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "typical_p": typical_p,
        "stream": stream,
        "stop": [*stop] if isinstance(stop, list) else stop,  # a handler may add to it
        "seed": seed,
        "response_format": response_format,
        "max_tokens": max_tokens,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "repeat_penalty": repeat_penalty,
        "tfs_z": tfs_z,
        "mirostat_mode": mirostat_mode,
        "mirostat_tau": mirostat_tau,
        "mirostat_eta": mirostat_eta,
        "model": model,
        "logits_processor": logits_processor,
        "grammar": grammar,
        "logit_bias": logit_bias,
        "logprobs": logprobs,
        "top_logprobs": top_logprobs,
    }
    if chat_template_kwargs is not None:
        options["chat_template_kwargs"] = chat_template_kwargs
    if reasoning_content:
        options["reasoning_content"] = True
    handler = _handler(self)
    if handler is None:
        return cast("TypedAnswer", complete(self, messages, None, **options))
    return cast("TypedAnswer", handler(llama=self, messages=messages, **options))


def create_chat_completion_openai_v1(self: Llama, *args: Any, **kwargs: Any) -> Any:
    """Answer a chat in the types of the package ``openai``.

    Takes what :func:`create_chat_completion` takes.

    Returns:
        An ``openai.types.chat.ChatCompletion``, or an iterator of ``ChatCompletionChunk``.

    Raises:
        LlamaError: the package ``openai`` is not installed.
    """
    try:
        from openai.types.chat import (  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - optional
            ChatCompletion,
            ChatCompletionChunk,
        )
    except ImportError as error:
        raise LlamaError("OpenAI's types need the package openai: pip install openai") from error
    answer: Any = create_chat_completion(self, *args, **kwargs)
    if isinstance(answer, dict):
        return ChatCompletion(**answer)
    return (ChatCompletionChunk(**chunk) for chunk in answer)


def complete(
    llm: Llama,
    messages: object,
    formatter: Formatter | None,
    *,
    functions: object = None,
    function_call: object = None,
    tools: object = None,
    tool_choice: object = None,
    response_format: object = None,
    grammar: Any = None,
    stop: str | Sequence[str] | None = (),
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    chat_template_kwargs: Mapping[str, object] | None = None,
    reasoning_content: bool = False,
    stream: bool = False,
    tfs_z: float = 1.0,  # noqa: ARG001 - accepted, without effect
    **sampling: Any,
) -> Answer:
    """Answer a chat of text.

    Args:
        llm: the model.
        messages: as of :func:`create_chat_completion`, like all that follows.
        formatter: makes the prompt; None takes what the model says.
        functions: see there.
        function_call: see there.
        tools: see there.
        tool_choice: see there.
        response_format: see there.
        grammar: see there.
        stop: see there.
        logprobs: see there.
        top_logprobs: see there.
        chat_template_kwargs: see there.
        reasoning_content: see there.
        stream: see there.
        tfs_z: without effect.
        **sampling: for ``create_completion``.

    Raises:
        ValidationError: as of :func:`create_chat_completion`, like the others.
    """
    request = _chat.prepare(
        llm,
        messages,
        functions=functions,
        function_call=function_call,
        tools=tools,
        tool_choice=tool_choice,
        response_format=response_format,
        grammar=grammar,
        stop=stop,
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        formatter=formatter,
        template_variables=chat_template_kwargs,
        reasoning=reasoning_content,
    )
    given = {
        **sampling,
        "grammar": request.grammar,
        "logprobs": request.logprobs,
        "stopping_criteria": request.stopping_criteria,
        "spelled": request.marks or None,
    }
    # None is create_completion's own default of all of them but max_tokens.
    options = {k: v for k, v in given.items() if v is not None or k == "max_tokens"}
    create: Callable[..., Any] = llm.create_completion
    completion = create(
        prompt=request.tokens(llm), stop=list(request.stop), stream=stream, **options
    )
    return request.chunks(completion) if stream else request.completion(completion)


def _handler(llm: Llama) -> Callable[..., Any] | None:
    """Return who answers a model's chats; None where its file says it all."""
    handler = getattr(llm, "chat_handler", None)
    if handler is not None:
        return handler  # type: ignore[no-any-return]
    name = getattr(llm, "chat_format", None)
    handlers = getattr(llm, "_chat_handlers", None) or {}
    if name in handlers:
        return handlers[name]  # type: ignore[no-any-return]
    if name is None or name.startswith("chat_template"):
        return None
    from llama_cpp import llama_chat_format  # noqa: PLC0415 - imports this module

    found: Callable[..., Any] = llama_chat_format.get_chat_completion_handler(name)
    return found
