"""Chat formats: the data of ``_chat_formats.json``, and what turns messages into a prompt.

A formatter takes messages and gives a :class:`ChatFormatterResponse`. There are two of ours: a
template that came with a model, and a format of the data file.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llama_cpp._chat_messages import read
from llama_cpp._chat_template import ChatTemplate, SpecialTexts, from_metadata, reads_parts
from llama_cpp._package import package_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Optional, Union

    from llama_cpp._vocabulary import Vocabulary

    Criterion = Callable[[Sequence[int], Any], bool]
    Stop = Optional[Union[str, list[str]]]

# What Hugging Face's rendering passes to every template.
_DEFAULTS = {"add_generation_prompt": True, "tools": None, "documents": None}
_GUESSES = (
    ("chatml", ("<|im_start|>", "<|im_end|>")),
    ("llama-3", ("<|start_header_id|>", "<|eot_id|>")),
    ("gemma", ("<start_of_turn>", "<end_of_turn>")),
    ("openchat", ("GPT4 Correct",)),
    ("zephyr", ("<|user|>", "<|assistant|>", "<|system|>", "eos_token")),
    ("llama-2", ("[INST]", "<<SYS>>")),
    ("mistral-instruct", ("[INST]", "[/INST]")),
    ("vicuna", ("USER:", "ASSISTANT:")),
)


@dataclasses.dataclass
class ChatFormatterResponse:
    """A prompt, and how its answer ends."""

    prompt: str
    """The text for the model."""
    stop: Stop = None
    """Strings that end the answer."""
    stopping_criteria: StopTokens | None = None
    """Called with all tokens and the logits; true ends the answer."""
    added_special: bool = False
    """Whether the prompt spells its begin token, so that tokenizing adds none."""


class StopTokens(list["Criterion"]):
    """Criteria that end an answer at one of several tokens."""

    def __init__(self, tokens: Sequence[int]) -> None:
        """Stop at any of ``tokens``."""
        self.tokens = frozenset(tokens)
        super().__init__([self.__call__])

    def __call__(self, tokens: Sequence[int], logits: object = None) -> bool:  # noqa: ARG002 - the criteria's protocol
        """Say whether the last token is one of them."""
        return len(tokens) > 0 and int(tokens[-1]) in self.tokens


@dataclasses.dataclass(frozen=True)
class TextFormat:
    """A format of the data file: how models of one family were trained."""

    name: str
    source: str
    """The Jinja template; it reads ``messages``, or ``system`` and ``turns``."""
    stop: tuple[str, ...] = ()
    bos: str = ""
    eos: str = ""

    def __call__(self, *, messages: object, **variables: Any) -> ChatFormatterResponse:
        """Render messages.

        Raises:
            ValidationError: the messages are no conversation, or the format refuses them.
            LlamaError: jinja2 is not installed.
        """
        conversation = read(messages, source=self.source).with_names()
        prompt = ChatTemplate(self.source).render(
            {
                **_DEFAULTS,
                **variables,
                "messages": conversation.messages,
                "system": conversation.system,
                "turns": conversation.turns,
                "bos_token": self.bos,
                "eos_token": self.eos,
            }
        )
        return ChatFormatterResponse(
            prompt=prompt,
            stop=list(self.stop),
            added_special=bool(self.bos) and prompt.startswith(self.bos),
        )


class TemplateFormatter:
    """The template of a model's file.

    As in llama.cpp the begin token comes once: where the prompt spells it, tokenizing adds none.
    """

    __slots__ = ("source", "specials")

    def __init__(self, source: str, specials: SpecialTexts) -> None:
        """Render ``source`` with the model's begin and end tokens."""
        self.source = source
        self.specials = specials

    def __call__(self, *, messages: object, **variables: Any) -> ChatFormatterResponse:
        """Render messages.

        Raises:
            ValidationError: the messages are no conversation, or the template refuses or fails.
            LlamaError: jinja2 is not installed.
        """
        bos, eos = self.specials
        prompt = ChatTemplate(self.source).render(
            {
                **_DEFAULTS,
                **variables,
                "messages": readable(messages, self.source),
                "bos_token": bos,
                "eos_token": eos,
            }
        )
        return ChatFormatterResponse(
            prompt=prompt,
            stop=[eos] if eos else [],
            added_special=bool(bos) and prompt.startswith(bos),
        )


def readable(messages: object, source: str) -> list[dict[str, Any]]:
    """Return checked messages as a template reads them: their content as text, or in parts.

    Args:
        messages: OpenAI's chat messages, text only.
        source: of the template.

    Raises:
        ValidationError: something is missing or of the wrong kind; the message says which.
    """
    conversation = read(messages, source=source)
    return (conversation.in_parts() if reads_parts(source) else conversation).messages


@lru_cache(maxsize=1)
def text_formats() -> dict[str, TextFormat]:
    """Return the formats of the data file by name."""
    data = json.loads(package_path("_chat_formats.json").read_text("utf-8"))
    return {
        name: TextFormat(
            name=name,
            source="".join(entry["template"]),
            stop=tuple(entry["stop"]),
            bos=entry.get("bos", ""),
            eos=entry.get("eos", ""),
        )
        for name, entry in data.items()
    }


def guess(metadata: Mapping[str, str]) -> str | None:
    """Return the name of the format whose marks are in a model file's template; None if none's are.

    Args:
        metadata: the model file's key-value pairs.
    """
    template = from_metadata(metadata) or ""
    for name, marks in _GUESSES:
        if all(mark in template for mark in marks):
            return name
    return None


def default_name(metadata: Mapping[str, str]) -> str:
    """Return the name of the chat format that a model has where none is asked for.

    Args:
        metadata: the model file's key-value pairs.

    Returns:
        "chat_template.default" where the file has a template, else "llama-2", as llama-cpp-python
        documents it.
    """
    return "llama-2" if from_metadata(metadata) is None else "chat_template.default"


def of_model(
    metadata: Mapping[str, str], vocabulary: Vocabulary, name: str | None, *, tools: bool
) -> TemplateFormatter | TextFormat:
    """Return what a model's file says about its chats.

    Args:
        metadata: the file's key-value pairs.
        vocabulary: for the texts of begin and end tokens.
        name: of a named template, ``chat_template.<name>``, or None.
        tools: whether tools are given: then a template named ``tool_use`` is preferred.

    Returns:
        The file's template, and llama-2's format where it has none, which is what llama-cpp-python
        documents.
    """
    asked = None if name is None else name.partition(".")[2] or None
    source = from_metadata(metadata, "tool_use") if tools and asked in {None, "default"} else None
    source = source or from_metadata(metadata, asked) or from_metadata(metadata)
    if source is None:
        return text_formats()[default_name(metadata)]
    return TemplateFormatter(source, SpecialTexts.of(vocabulary))
