"""Shapes of what goes into :class:`llama_cpp.Llama` and comes out of it: OpenAI's API.

The names are those of OpenAI's specification in its several wordings, so some shapes have two names.
A key that may be missing is in the class with ``total=False``.
"""

# ruff: noqa: UP007, UP045 - evaluated at run time on Python 3.9

from __future__ import annotations

from typing import Any, Literal, Optional, TypedDict, Union

JsonType = Union[None, bool, int, float, str, list[Any], dict[str, Any]]
"""What JSON can say."""

FinishReason = Literal["stop", "length"]
"""Why a text ended: the model or a stop string, or the limit."""

ChatFinishReason = Literal["stop", "length", "tool_calls", "function_call"]
"""Why an answer ended: also because the model calls tools or a function."""

# ---- text completions -----------------------------------------------------------------------------


class CompletionLogprobs(TypedDict):
    """Log probabilities of a text, a list entry per token."""

    text_offset: list[int]
    """Where each token begins, in characters."""
    token_logprobs: list[Optional[float]]
    """None for the first token of a prompt."""
    tokens: list[str]
    top_logprobs: list[Optional[dict[str, float]]]


class CompletionChoice(TypedDict):
    """One answer, or one part of it."""

    text: str
    index: int
    logprobs: Optional[CompletionLogprobs]
    finish_reason: Optional[FinishReason]


class CompletionUsage(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(TypedDict):
    """A whole answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    """Seconds since 1970."""
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


class _CompletionChunk(TypedDict):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]


class CompletionChunk(_CompletionChunk, total=False):
    """A part of a streamed answer; the last one has a ``finish_reason``."""

    usage: CompletionUsage


CreateCompletionResponse = Completion
CreateCompletionStreamResponse = CompletionChunk

# ---- embeddings -----------------------------------------------------------------------------------


class EmbeddingUsage(TypedDict):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """The embedding of one text."""

    index: int
    object: str
    embedding: Union[list[float], list[list[float]]]
    """``n_embd()`` floats; without pooling that many per token."""


EmbeddingData = Embedding


class CreateEmbeddingResponse(TypedDict):
    """The embeddings of one or several texts."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


# ---- chat: what is asked ----------------------------------------------------------------------------


class ChatCompletionRequestMessageContentPartText(TypedDict):
    """Text in a message of several parts."""

    type: Literal["text"]
    text: str


class _ImageUrl(TypedDict):
    url: str


class ChatCompletionRequestMessageContentPartImageImageUrl(_ImageUrl, total=False):
    """Where an image is."""

    detail: Literal["auto", "low", "high"]


class ChatCompletionRequestMessageContentPartImage(TypedDict):
    """An image in a message of several parts; a bare string is its URL."""

    type: Literal["image_url"]
    image_url: Union[str, ChatCompletionRequestMessageContentPartImageImageUrl]


ChatCompletionRequestMessageContentPart = Union[
    ChatCompletionRequestMessageContentPartText, ChatCompletionRequestMessageContentPartImage
]
"""A part of a user's message."""


class ChatCompletionRequestSystemMessage(TypedDict):
    """What the model is told to be."""

    role: Literal["system"]
    content: Optional[str]


class ChatCompletionRequestUserMessage(TypedDict):
    """What the user says: text, or text and images."""

    role: Literal["user"]
    content: Optional[Union[str, list[ChatCompletionRequestMessageContentPart]]]


class ChatCompletionMessageToolCallFunction(TypedDict):
    """The function that a tool call names."""

    name: str
    arguments: str
    """JSON text."""


class ChatCompletionMessageToolCall(TypedDict):
    """A call of a tool by the model."""

    id: str
    type: Literal["function"]
    function: ChatCompletionMessageToolCallFunction


ChatCompletionMessageToolCalls = list[ChatCompletionMessageToolCall]
"""The calls of one message."""


class ChatCompletionRequestAssistantMessageFunctionCall(TypedDict):
    """A function call in an earlier answer."""

    name: str
    arguments: str


class _AssistantMessage(TypedDict):
    role: Literal["assistant"]


class ChatCompletionRequestAssistantMessage(_AssistantMessage, total=False):
    """An earlier answer."""

    content: Optional[str]
    tool_calls: list[ChatCompletionMessageToolCall]
    function_call: ChatCompletionRequestAssistantMessageFunctionCall


class ChatCompletionRequestToolMessage(TypedDict):
    """What a tool answered."""

    role: Literal["tool"]
    content: Optional[str]
    tool_call_id: str


class ChatCompletionRequestFunctionMessage(TypedDict):
    """What a function answered."""

    role: Literal["function"]
    content: Optional[str]
    name: str


ChatCompletionRequestMessage = Union[
    ChatCompletionRequestSystemMessage,
    ChatCompletionRequestUserMessage,
    ChatCompletionRequestAssistantMessage,
    ChatCompletionRequestToolMessage,
    ChatCompletionRequestFunctionMessage,
]
"""A message of a conversation."""

ChatCompletionFunctionParameters = dict[str, JsonType]
"""A JSON schema."""


class _Function(TypedDict):
    name: str
    parameters: ChatCompletionFunctionParameters


class ChatCompletionFunction(_Function, total=False):
    """A function that the model may call."""

    description: str


ChatCompletionFunctions = ChatCompletionFunction
ChatCompletionResponseFunction = ChatCompletionFunction
ChatCompletionToolFunction = ChatCompletionFunction


class ChatCompletionTool(TypedDict):
    """A tool that the model may call."""

    type: Literal["function"]
    function: ChatCompletionToolFunction


class ChatCompletionRequestFunctionCallOption(TypedDict):
    """The function that the model has to call."""

    name: str


ChatCompletionFunctionCallOption = ChatCompletionRequestFunctionCallOption
ChatCompletionRequestFunctionCall = Union[
    Literal["none", "auto"], ChatCompletionRequestFunctionCallOption
]
"""Whether, or which function, to call."""


class ChatCompletionNamedToolChoiceFunction(TypedDict):
    """The name of a tool."""

    name: str


class ChatCompletionNamedToolChoice(TypedDict):
    """The tool that the model has to call."""

    type: Literal["function"]
    function: ChatCompletionNamedToolChoiceFunction


ChatCompletionToolChoiceOption = Union[
    Literal["none", "auto", "required"], ChatCompletionNamedToolChoice
]
"""Whether, or which tool, to call."""


class _ResponseFormat(TypedDict):
    type: Literal["text", "json_object", "json_schema"]


class ChatCompletionRequestResponseFormat(_ResponseFormat, total=False):
    """What an answer has to be: text, JSON, or JSON of a schema."""

    schema: JsonType
    """A JSON schema, with ``json_object``."""
    json_schema: JsonType
    """OpenAI's way, with ``json_schema``: ``{"name": …, "schema": …}``."""


# ---- chat: what is answered -------------------------------------------------------------------------


class ChatCompletionTopLogprobToken(TypedDict):
    """A token that could have been taken."""

    token: str
    logprob: float
    bytes: Optional[list[int]]


class ChatCompletionLogprobToken(ChatCompletionTopLogprobToken):
    """A token of the answer."""

    top_logprobs: list[ChatCompletionTopLogprobToken]


class ChatCompletionLogprobs(TypedDict):
    """Log probabilities of an answer, an entry per token."""

    content: Optional[list[ChatCompletionLogprobToken]]
    refusal: Optional[list[ChatCompletionLogprobToken]]


class ChatCompletionResponseFunctionCall(TypedDict):
    """A function call in an answer."""

    name: str
    arguments: str
    """JSON text."""


ChatCompletionFunctionCall = ChatCompletionResponseFunctionCall


class _ResponseMessage(TypedDict):
    role: Literal["assistant", "function"]
    content: Optional[str]


class ChatCompletionResponseMessage(_ResponseMessage, total=False):
    """An answer's message."""

    tool_calls: list[ChatCompletionMessageToolCall]
    function_call: ChatCompletionResponseFunctionCall
    reasoning_content: str


ChatCompletionMessage = ChatCompletionResponseMessage


class ChatCompletionResponseChoice(TypedDict):
    """One answer."""

    index: int
    message: ChatCompletionResponseMessage
    logprobs: Optional[ChatCompletionLogprobs]
    finish_reason: Optional[ChatFinishReason]


ChatCompletionChoice = ChatCompletionResponseChoice


class CreateChatCompletionResponse(TypedDict):
    """A whole answer of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    """Seconds since 1970."""
    model: str
    choices: list[ChatCompletionResponseChoice]
    usage: CompletionUsage


ChatCompletion = CreateChatCompletionResponse

# ---- chat: what is streamed -------------------------------------------------------------------------


class ChatCompletionMessageToolCallChunkFunction(TypedDict):
    """A part of a tool call's function."""

    name: Optional[str]
    """In the call's first part."""
    arguments: str


class _ToolCallChunk(TypedDict):
    index: int
    """Which of the answer's calls this is a part of."""


class ChatCompletionMessageToolCallChunk(_ToolCallChunk, total=False):
    """A part of a tool call."""

    id: Optional[str]
    type: Literal["function"]
    function: ChatCompletionMessageToolCallChunkFunction


class ChatCompletionStreamResponseDeltaEmpty(TypedDict):
    """What the last part of an answer adds."""


class ChatCompletionStreamResponseDeltaFunctionCall(TypedDict):
    """A part of a function call."""

    name: str
    arguments: str


class ChatCompletionStreamResponseDelta(TypedDict, total=False):
    """What one part adds to an answer."""

    role: Literal["assistant"]
    content: Optional[str]
    function_call: Optional[ChatCompletionStreamResponseDeltaFunctionCall]
    tool_calls: Optional[list[ChatCompletionMessageToolCallChunk]]
    reasoning_content: str


class ChatCompletionStreamResponseChoice(TypedDict):
    """One part of an answer."""

    index: int
    delta: Union[ChatCompletionStreamResponseDelta, ChatCompletionStreamResponseDeltaEmpty]
    finish_reason: Optional[ChatFinishReason]
    logprobs: Optional[ChatCompletionLogprobs]


class CreateChatCompletionStreamResponse(TypedDict):
    """A part of a streamed answer; the last one has a ``finish_reason``."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatCompletionStreamResponseChoice]


ChatCompletionChunkDelta = ChatCompletionStreamResponseDelta
ChatCompletionChunkDeltaEmpty = ChatCompletionStreamResponseDeltaEmpty
ChatCompletionChunkChoice = ChatCompletionStreamResponseChoice
ChatCompletionChunk = CreateChatCompletionStreamResponse
ChatCompletionStreamResponse = CreateChatCompletionStreamResponse
