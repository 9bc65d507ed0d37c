"""Families of models: how to know one, and how to tell it to think or not. Data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Union

if TYPE_CHECKING:
    from collections.abc import Mapping

Thinking = Union[bool, Literal["low", "medium", "high"]]

# Architectures that models of several families have: their names say more.
_SHARED = frozenset({"llama", "qwen2"})


@dataclass(frozen=True)
class Switch:
    """How a model is told to think or not.

    Attributes:
        kind: "variable" of the chat template, "words" at the end of the last message, "always" for
            models that cannot stop thinking, "never" for those that cannot begin.
        name: the variable's.
        on: its value, or the words, for thinking.
        off: the same for not thinking.
        levels: whether "low", "medium" and "high" are values of the variable, too.
        template: what the chat template of such a model matches; None where it has no template.
        model: what the names of such a model match.
    """

    kind: Literal["variable", "words", "always", "never"]
    name: str = ""
    on: str | bool = True
    off: str | bool = False
    levels: bool = False
    template: str | None = ""
    model: str = ""


@dataclass(frozen=True)
class Family:
    """Models of one maker that are used alike.

    Attributes:
        name: the family's.
        architectures: its own ``general.architecture``, as patterns of the whole.
        names: what ``general.basename``, ``general.name`` or the file's name match.
        switches: ways to think that others do not have; the first that fits counts.
    """

    name: str
    architectures: str
    names: str
    switches: tuple[Switch, ...] = ()


_ENABLE = Switch("variable", "enable_thinking", template=r"\benable_thinking\b")
_EFFORT = Switch(
    "variable", "reasoning_effort", "high", "low", levels=True, template=r"\breasoning_effort\b"
)
_VARIABLE = Switch("variable", "thinking", template=r"\{%[^%]*(?<![\w.'\"])thinking(?![\w'\"])")
_NEVER = Switch("never", template=r"")
_NEVER_BARE = Switch("never", template=None)

# Templates say it themselves, whoever made the model.
_COMMON = (_ENABLE, _EFFORT, _VARIABLE, _NEVER, _NEVER_BARE)

FAMILIES = (
    Family(
        "gpt-oss",
        r"gpt-oss",
        r"gpt[-_ ]?oss",
        (Switch("variable", "reasoning_effort", "high", "low", levels=True, template=None),),
    ),
    Family(
        "deepseek",
        r"deepseek\d*",
        r"deepseek",
        (Switch("always", model=r"\br1\b"), Switch("always", template=None, model=r"\br1\b")),
    ),
    Family(
        "qwen3",
        r"qwen3\w*",
        r"qwen[-_ ]?3",
        (
            _ENABLE,
            Switch("always", model=r"thinking"),
            Switch("always", template=None, model=r"thinking"),
            Switch("never", template=None, model=r"2507|instruct|coder"),
            Switch("words", on="/think", off="/no_think", template=None),
        ),
    ),
    Family(
        "qwq",
        r"qwq",
        r"qwq",
        (Switch("always"), Switch("always", template=None)),
    ),
    Family("qwen2", r"qwen2\w*", r"qwen[-_ ]?2"),
    Family("gemma", r"gemma\w*", r"gemma"),
    Family(
        "mistral",
        r"mistral\w*",
        r"mi[sx]tral|ministral|magistral|devstral|codestral",
        (
            Switch("always", model=r"magistral"),
            Switch("always", template=None, model=r"magistral"),
        ),
    ),
    Family(
        "phi",
        r"phi\w*",
        r"\bphi[-_ ]?\d",
        (Switch("always", model=r"reasoning"), Switch("always", template=None, model=r"reasoning")),
    ),
    Family("glm", r"(?:chat)?glm\w*", r"\bglm[-_ ]?\d"),
    Family("granite", r"granite\w*", r"granite"),
    Family("smollm", r"smollm\w*", r"smollm"),
    Family("command", r"command-r|cohere\w*", r"command[-_ ]?[ar]\b"),
    Family("llama", r"llama\w*", r"llama"),
)
OTHER = Family("generic", r"", r"")


def family_of(metadata: Mapping[str, str], file_name: str) -> Family:
    """Return a model's family: by what its file says, then by the file's name.

    Args:
        metadata: of the GGUF file.
        file_name: the name, with or without folders.
    """
    architecture = metadata.get("general.architecture", "").lower()
    own = next((f for f in FAMILIES if re.fullmatch(f.architectures, architecture)), None)
    if own is not None and architecture not in _SHARED:
        return own
    for text in (
        metadata.get("general.basename", ""),
        metadata.get("general.name", ""),
        re.split(r"[\\/]", file_name)[-1],
    ):
        for family in FAMILIES:
            if re.search(family.names, text.lower()):
                return family
    return own or OTHER


def switch_of(family: Family, metadata: Mapping[str, str], file_name: str) -> Switch:
    """Return how a model of a family is told to think; arguments as for :func:`family_of`."""
    template = metadata.get("tokenizer.chat_template")
    keys = ("general.basename", "general.name", "general.finetune")
    names = " ".join([*(metadata.get(key, "") for key in keys), file_name]).lower()
    # a name's words may be joined by what counts as part of a word
    names = names.replace("_", "-")
    for switch in (*family.switches, *_COMMON):
        if (switch.template is None) != (template is None):
            continue
        fits = template is None or re.search(switch.template or "", template) is not None
        if fits and re.search(switch.model, names):
            return switch
    return _NEVER
