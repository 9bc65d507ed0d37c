"""Chat handlers by name: what answers a chat, and what makes a prompt of its messages.

Known formats are registered by :mod:`llama_cpp.llama_chat_format`, which has all of these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llama_cpp._chat_completion import complete
from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Union

    from llama_cpp._chat_formats import ChatFormatterResponse
    from llama_cpp.llama import Llama

    Json = dict[str, Any]
    Answer = Union[Json, Iterator[Json]]


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
