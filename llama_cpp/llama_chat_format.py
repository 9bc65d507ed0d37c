"""Chat formats and chat handlers by name: the compatible interface over :mod:`llama_cpp._chat`.

A *formatter* makes a prompt of messages; a *handler* answers a chat. Formatters of known families are
data (``_chat_formats.json``); a handler is made of each. Both can be registered under a name, which
is then a ``chat_format`` of :class:`llama_cpp.Llama`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_cpp import _chat_formats
from llama_cpp._chat_completion import complete
from llama_cpp._chat_formats import ChatFormatterResponse, text_formats
from llama_cpp._chat_formatters import (
    Jinja2ChatFormatter,
    hf_autotokenizer_to_chat_completion_handler,
    hf_autotokenizer_to_chat_formatter,
    hf_tokenizer_config_to_chat_completion_handler,
    hf_tokenizer_config_to_chat_formatter,
)
from llama_cpp._chat_handlers import (
    ChatFormatter,
    FormatterHandler,
    LlamaChatCompletionHandler,
    LlamaChatCompletionHandlerNotFoundException,
    LlamaChatCompletionHandlerRegistry,
    Singleton,
    chat_formatter_to_chat_completion_handler,
    get_chat_completion_handler,
    register_chat_completion_handler,
    register_chat_format,
)
from llama_cpp._log import suppress_stdout_stderr
from llama_cpp._media import MediaPolicy
from llama_cpp._vision import MTMDChatHandler
from llama_cpp._vision_families import (
    Gemma4ChatHandler,
    Llama3VisionAlpha,
    Llama3VisionAlphaChatHandler,
    Llava15ChatHandler,
    Llava16ChatHandler,
    MiniCPMv26ChatHandler,
    MoondreamChatHandler,
    NanoLlavaChatHandler,
    ObsidianChatHandler,
    Qwen3VLChatHandler,
    Qwen25VLChatHandler,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Union

    from llama_cpp.llama import Llama

    Json = dict[str, Any]
    Answer = Union[Json, Iterator[Json]]

__all__ = [
    "CHATML_BOS_TOKEN",
    "CHATML_CHAT_TEMPLATE",
    "CHATML_EOS_TOKEN",
    "LLAMA3_INSTRUCT_CHAT_TEMPLATE",
    "MISTRAL_INSTRUCT_BOS_TOKEN",
    "MISTRAL_INSTRUCT_CHAT_TEMPLATE",
    "MISTRAL_INSTRUCT_EOS_TOKEN",
    "MIXTRAL_INSTRUCT_CHAT_TEMPLATE",
    "ChatFormatter",
    "ChatFormatterResponse",
    "FormatterHandler",
    "Gemma4ChatHandler",
    "Jinja2ChatFormatter",
    "Llama3VisionAlpha",
    "Llama3VisionAlphaChatHandler",
    "LlamaChatCompletionHandler",
    "LlamaChatCompletionHandlerNotFoundException",
    "LlamaChatCompletionHandlerRegistry",
    "Llava15ChatHandler",
    "Llava16ChatHandler",
    "MTMDChatHandler",
    "MediaPolicy",
    "MiniCPMv26ChatHandler",
    "MoondreamChatHandler",
    "NanoLlavaChatHandler",
    "ObsidianChatHandler",
    "Qwen3VLChatHandler",
    "Qwen25VLChatHandler",
    "Singleton",
    "chat_formatter_to_chat_completion_handler",
    "chatml_function_calling",
    "format",
    "format_alpaca",
    "format_baichuan",
    "format_baichuan2",
    "format_chatglm3",
    "format_chatml",
    "format_gemma",
    "format_intel",
    "format_llama2",
    "format_llama3",
    "format_mistral_instruct",
    "format_mistrallite",
    "format_oasst_llama",
    "format_open_orca",
    "format_openbuddy",
    "format_openchat",
    "format_phind",
    "format_pygmalion",
    "format_qwen",
    "format_redpajama_incite",
    "format_saiga",
    "format_snoozy",
    "format_zephyr",
    "functionary_chat_handler",
    "functionary_v1_v2_chat_handler",
    "get_chat_completion_handler",
    "guess_chat_format_from_gguf_metadata",
    "hf_autotokenizer_to_chat_completion_handler",
    "hf_autotokenizer_to_chat_formatter",
    "hf_tokenizer_config_to_chat_completion_handler",
    "hf_tokenizer_config_to_chat_formatter",
    "register_chat_completion_handler",
    "register_chat_format",
    "suppress_stdout_stderr",
]

CHATML_CHAT_TEMPLATE = text_formats()["chatml"].source
"""The template of ChatML's models, as their tokenizer configurations have it."""
CHATML_BOS_TOKEN = "<s>"  # noqa: S105 - no password
CHATML_EOS_TOKEN = "<|im_end|>"  # noqa: S105
MISTRAL_INSTRUCT_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
"""The template of Mistral-7B-Instruct."""
MISTRAL_INSTRUCT_BOS_TOKEN = "<s>"  # noqa: S105
MISTRAL_INSTRUCT_EOS_TOKEN = "</s>"  # noqa: S105
MIXTRAL_INSTRUCT_CHAT_TEMPLATE = MISTRAL_INSTRUCT_CHAT_TEMPLATE.replace(
    "{{ message['content'] + eos_token }}", "{{ message['content'] + eos_token + ' ' }}"
)
"""The template of Mixtral-8x7B-Instruct: a space comes after each answer."""
LLAMA3_INSTRUCT_CHAT_TEMPLATE = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
"""The template of Meta-Llama-3-8B-Instruct."""


def guess_chat_format_from_gguf_metadata(metadata: Mapping[str, str]) -> str | None:
    """Return the chat format whose marks are in a model file's template; None if none's are."""
    return _chat_formats.guess(metadata)


# -- the formats of the data file ---------------------------------------------------------------


def _format(name: str, function: str) -> Callable[..., ChatFormatterResponse]:
    def format_messages(messages: Any, **kwargs: Any) -> ChatFormatterResponse:
        return text_formats()[name](messages=messages, **kwargs)

    format_messages.__name__ = format_messages.__qualname__ = function
    format_messages.__doc__ = f"""Return the prompt of the chat format ``{name}``.

    Raises:
        ValidationError: the messages are no conversation, or the format refuses them.
    """
    return format_messages


format_llama2 = _format("llama-2", "format_llama2")
format_llama3 = _format("llama-3", "format_llama3")
format_alpaca = _format("alpaca", "format_alpaca")
format_qwen = _format("qwen", "format_qwen")
format = _format("vicuna", "format")  # noqa: A001 - the compatible name
format_oasst_llama = _format("oasst_llama", "format_oasst_llama")
format_baichuan2 = _format("baichuan-2", "format_baichuan2")
format_baichuan = _format("baichuan", "format_baichuan")
format_openbuddy = _format("openbuddy", "format_openbuddy")
format_redpajama_incite = _format("redpajama-incite", "format_redpajama_incite")
format_snoozy = _format("snoozy", "format_snoozy")
format_phind = _format("phind", "format_phind")
format_intel = _format("intel", "format_intel")
format_open_orca = _format("open-orca", "format_open_orca")
format_mistrallite = _format("mistrallite", "format_mistrallite")
format_zephyr = _format("zephyr", "format_zephyr")
format_pygmalion = _format("pygmalion", "format_pygmalion")
format_chatml = _format("chatml", "format_chatml")
format_mistral_instruct = _format("mistral-instruct", "format_mistral_instruct")
format_chatglm3 = _format("chatglm3", "format_chatglm3")
format_openchat = _format("openchat", "format_openchat")
format_saiga = _format("saiga", "format_saiga")
format_gemma = _format("gemma", "format_gemma")

for _text_format in text_formats().values():
    if not _text_format.name.startswith("functionary"):
        register_chat_format(_text_format.name)(_text_format)


# -- handlers with tools ------------------------------------------------------------------------


def _answer(name: str, given: Json) -> Answer:
    """Answer with a format of the data file; ``given`` are a function's own parameters."""
    llama, messages, more = given.pop("llama"), given.pop("messages"), given.pop("kwargs")
    return complete(llama, messages, text_formats()[name], **given, **more)


@register_chat_completion_handler("functionary")
def functionary_chat_handler(
    llama: Llama,
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
    stop: str | Sequence[str] | None = (),
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repeat_penalty: float = 1.1,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logits_processor: Any = None,
    grammar: Any = None,
    **kwargs: Any,
) -> Answer:
    """Answer as functionary's first models do; parameters as of ``create_chat_completion``."""
    return _answer("functionary-v1", dict(locals()))


@register_chat_completion_handler("functionary-v1")
@register_chat_completion_handler("functionary-v2")
def functionary_v1_v2_chat_handler(
    llama: Llama,
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
    stop: str | Sequence[str] | None = (),
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repeat_penalty: float = 1.1,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logits_processor: Any = None,
    grammar: Any = None,
    **kwargs: Any,
) -> Answer:
    """Answer as functionary's models do, of version 1 where the chat format says so, else of 2.

    Parameters as of ``create_chat_completion``.
    """
    first = getattr(llama, "chat_format", None) == "functionary-v1"
    given = dict(locals())
    del given["first"]
    return _answer("functionary-v1" if first else "functionary-v2", given)


@register_chat_completion_handler("chatml-function-calling")
def chatml_function_calling(
    llama: Llama,
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
    stop: str | Sequence[str] | None = (),
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repeat_penalty: float = 1.1,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logits_processor: Any = None,
    grammar: Any = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    **kwargs: Any,
) -> Answer:
    """Answer in ChatML with the tools described in words; parameters as of ``create_chat_completion``."""
    return _answer("chatml", dict(locals()))
