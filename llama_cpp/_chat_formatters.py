"""Chat formatters of a template or of a Hugging Face tokenizer.

:mod:`llama_cpp.llama_chat_format` has all of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_cpp._chat_formats import ChatFormatterResponse, StopTokens, readable
from llama_cpp._chat_handlers import ChatFormatter, chat_formatter_to_chat_completion_handler
from llama_cpp._chat_template import ChatTemplate
from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_cpp._chat_handlers import FormatterHandler


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
