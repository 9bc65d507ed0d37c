"""Chat formats and chat handlers by name: the compatible interface over :mod:`llama_cpp._chat`.

A *formatter* makes a prompt of messages; a *handler* answers a chat. Formatters of known families are
data (``_chat_formats.json``); a handler is made of each. Both can be registered under a name, which
is then a ``chat_format`` of :class:`llama_cpp.Llama`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llama_cpp import _chat_formats
from llama_cpp._chat_completion import complete
from llama_cpp._chat_formats import ChatFormatterResponse, StopTokens, readable, text_formats
from llama_cpp._chat_template import ChatTemplate
from llama_cpp._errors import LlamaError, ValidationError
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


class LlamaChatCompletionHandler(Protocol):
    """Answers a chat; parameters as of ``Llama.create_chat_completion``."""

    def __call__(
        self,
        *,
        llama: Llama,
        messages: Sequence[Any],
        functions: Sequence[Any] | None = None,
        function_call: Any = None,
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        stream: bool = False,
        stop: str | Sequence[str] | None = (),
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.1,
        model: str | None = None,
        logit_bias: Mapping[Any, float] | None = None,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        logits_processor: Any = None,
        grammar: Any = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        **kwargs: Any,
    ) -> Answer:
        """Return a chat completion, or an iterator of its chunks."""


class ChatFormatter(Protocol):
    """Makes a prompt of messages."""

    def __call__(self, *, messages: Any, **kwargs: Any) -> ChatFormatterResponse:
        """Return the prompt; keywords are ``tools`` and variables of a template."""


_Handler = TypeVar("_Handler", bound="Callable[..., Any]")


class Singleton:
    """A class with one object."""

    _instance: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG004 - of subclasses
        """Return the one object of the class."""
        if cls.__dict__.get("_instance") is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __init__(self) -> None:
        """Do nothing, each time the class is called."""


class LlamaChatCompletionHandlerNotFoundException(ValidationError):  # noqa: N818 - the compatible name
    """There is no chat format of that name."""


class LlamaChatCompletionHandlerRegistry(Singleton):
    """The handlers by name."""

    _chat_handlers: dict[str, Any] = {}  # noqa: RUF012 - one object, one registry

    def register_chat_completion_handler(
        self, name: str, chat_handler: Callable[..., Any], overwrite: bool = False
    ) -> None:
        """Register a handler.

        Raises:
            ValidationError: the name is taken and ``overwrite`` is False.
        """
        if not overwrite and name in self._chat_handlers:
            raise ValidationError(
                f"there is a chat format {name!r} already; pass overwrite=True to replace it"
            )
        self._chat_handlers[name] = chat_handler

    def unregister_chat_handler(self, name: str) -> None:
        """Forget a handler.

        Raises:
            ValidationError: there is none of that name.
        """
        if name not in self._chat_handlers:
            raise ValidationError(f"there is no chat format {name!r}")
        del self._chat_handlers[name]

    def get_chat_completion_handler_by_name(self, name: str) -> Any:
        """Return a handler.

        Raises:
            LlamaChatCompletionHandlerNotFoundException: there is none of that name.
        """
        try:
            return self._chat_handlers[name]
        except KeyError:
            raise LlamaChatCompletionHandlerNotFoundException(
                f"there is no chat format {name!r}; choose from "
                f"{', '.join(sorted(self._chat_handlers))}"
            ) from None


def get_chat_completion_handler(name: str) -> Any:
    """Return the handler of a chat format.

    Raises:
        LlamaChatCompletionHandlerNotFoundException: there is none of that name.
    """
    return LlamaChatCompletionHandlerRegistry().get_chat_completion_handler_by_name(name)


def register_chat_completion_handler(name: str) -> Callable[[_Handler], _Handler]:
    """Return a decorator that registers a handler.

    Raises:
        ValidationError: the name is taken.
    """

    def decorate(handler: _Handler) -> _Handler:
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(name, handler)
        return handler

    return decorate


def register_chat_format(name: str) -> Callable[[_Handler], _Handler]:
    """Return a decorator that registers a formatter as a chat format.

    Raises:
        ValidationError: the name is taken.
    """

    def decorate(formatter: _Handler) -> _Handler:
        LlamaChatCompletionHandlerRegistry().register_chat_completion_handler(
            name, chat_formatter_to_chat_completion_handler(formatter)
        )
        return formatter

    return decorate


class FormatterHandler:
    """A handler that answers by text completion of a formatter's prompt."""

    def __init__(self, formatter: ChatFormatter) -> None:
        """Answer chats with prompts of ``formatter``."""
        self.formatter = formatter

    def __call__(self, *, llama: Llama, messages: Any, **options: Any) -> Answer:
        """Answer a chat; options as of ``Llama.create_chat_completion``.

        Raises:
            ValidationError: an argument is refused.
            GenerationError: llama.cpp failed.
        """
        return complete(llama, messages, self.formatter, **options)


def chat_formatter_to_chat_completion_handler(chat_formatter: ChatFormatter) -> FormatterHandler:
    """Return a handler that answers by text completion of a formatter's prompt."""
    return FormatterHandler(chat_formatter)


# -- formatters -------------------------------------------------------------------------------


class Jinja2ChatFormatter(ChatFormatter):
    """A formatter of one template."""

    def __init__(
        self,
        template: str,
        eos_token: str,
        bos_token: str,
        add_generation_prompt: bool = True,
        stop_token_ids: list[int] | None = None,
    ) -> None:
        """Compile a template.

        Args:
            template: Jinja, as Hugging Face's chat templates.
            eos_token: end token as the template spells it; ends answers.
            bos_token: begin token as the template spells it.
            add_generation_prompt: end the prompt with the beginning of an answer.
            stop_token_ids: tokens that end an answer, too.

        Raises:
            ValidationError: it is no template.
            LlamaError: jinja2 is not installed.
        """
        self.template = template
        self.source = template
        self.eos_token = eos_token
        self.bos_token = bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = None if stop_token_ids is None else set(stop_token_ids)
        self._template = ChatTemplate(template)

    @staticmethod
    def IgnoreGenerationTags(environment: Any) -> Any:  # noqa: N802 - the compatible name
        """Return the Jinja extension that ignores ``{% generation %}`` tags."""
        from llama_cpp import _template_bounds  # noqa: PLC0415 - imports jinja2

        return _template_bounds.IgnoreGenerationTags(environment)

    @staticmethod
    def strftime_now(f: str) -> str:
        """Return the local time as text."""
        from llama_cpp import _template_bounds  # noqa: PLC0415 - imports jinja2

        return _template_bounds.strftime_now(f)

    @staticmethod
    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Return JSON without HTML's escapes."""
        from llama_cpp import _template_bounds  # noqa: PLC0415 - imports jinja2

        return _template_bounds.to_json(x, ensure_ascii, indent, separators, sort_keys)

    def __call__(
        self,
        *,
        messages: Any,
        functions: Any = None,
        function_call: Any = None,
        tools: Any = None,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> ChatFormatterResponse:
        """Render messages; the prompt is whole: it spells its begin token if it has one.

        Raises:
            ValidationError: the messages are no conversation, or the template refuses or fails.
        """
        prompt = self._template.render(
            {
                "add_generation_prompt": self.add_generation_prompt,
                "functions": functions,
                "function_call": function_call,
                "tools": tools,
                "tool_choice": tool_choice,
                "documents": None,
                **kwargs,
                "messages": readable(messages, self.template),
                "bos_token": self.bos_token,
                "eos_token": self.eos_token,
            }
        )
        ends = self.stop_token_ids
        return ChatFormatterResponse(
            prompt=prompt,
            stop=[self.eos_token] if self.eos_token else [],
            stopping_criteria=None if ends is None else StopTokens(sorted(ends)),
            added_special=True,
        )

    def to_chat_handler(self) -> FormatterHandler:
        """Return a handler that answers by text completion of the prompt."""
        return chat_formatter_to_chat_completion_handler(self)


def hf_tokenizer_config_to_chat_formatter(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> Jinja2ChatFormatter:
    """Return a formatter of what Hugging Face's ``tokenizer_config.json`` says.

    Args:
        tokenizer_config: with "chat_template" (text, or a list of named ones), "bos_token" and
            "eos_token" (text, or ``{"content": text}``).
        add_generation_prompt: end the prompt with the beginning of an answer.

    Raises:
        ValidationError: one of the three is missing or of the wrong kind, or it is no template.
    """
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    if not isinstance(template, str):
        raise ValidationError(f"the tokenizer's chat_template is {template!r}; it must be text")
    tokens = {}
    for key in ("bos_token", "eos_token"):
        token = tokenizer_config.get(key)
        token = token.get("content") if isinstance(token, dict) else token
        if not isinstance(token, str):
            raise ValidationError(f"the tokenizer's {key} is {token!r}; it must be text")
        tokens[key] = token
    return Jinja2ChatFormatter(
        template, tokens["eos_token"], tokens["bos_token"], add_generation_prompt
    )


def hf_tokenizer_config_to_chat_completion_handler(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> FormatterHandler:
    """Return a handler of what Hugging Face's ``tokenizer_config.json`` says.

    Raises:
        ValidationError: as of :func:`hf_tokenizer_config_to_chat_formatter`.
    """
    return chat_formatter_to_chat_completion_handler(
        hf_tokenizer_config_to_chat_formatter(tokenizer_config, add_generation_prompt)
    )


def hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path: str) -> ChatFormatter:
    """Return a formatter that asks the tokenizer of a Hugging Face model.

    Raises:
        LlamaError: the package ``transformers`` is not installed.
    """
    try:
        from transformers import AutoTokenizer  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - optional
    except ImportError as error:
        raise LlamaError(
            "a Hugging Face tokenizer needs the package transformers: pip install transformers"
        ) from error
    tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path)

    def format_messages(*, messages: Any, **kwargs: Any) -> ChatFormatterResponse:
        prompt = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **kwargs
        )
        return ChatFormatterResponse(prompt=prompt, stop=[tokenizer.eos_token], added_special=True)

    return format_messages


def hf_autotokenizer_to_chat_completion_handler(
    pretrained_model_name_or_path: str,
) -> FormatterHandler:
    """Return a handler that asks the tokenizer of a Hugging Face model for prompts.

    Raises:
        LlamaError: the package ``transformers`` is not installed.
    """
    return chat_formatter_to_chat_completion_handler(
        hf_autotokenizer_to_chat_formatter(pretrained_model_name_or_path)
    )


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
