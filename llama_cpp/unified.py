"""One way to use models of many families: the file says which one it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from llama_cpp import _chat
from llama_cpp._errors import ValidationError
from llama_cpp._families import FAMILIES, Family, Switch, Thinking, family_of, switch_of
from llama_cpp._session import check_grammar, generate_text
from llama_cpp.llama import Llama

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from llama_cpp._sampler import SamplingParams
    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["FAMILIES", "Family", "Switch", "Thinking", "UnifiedLLM"]

_DEFAULT_MAX_TOKENS = 512
_LEVELS = ("low", "medium", "high")


class UnifiedLLM:
    """A chat model of any family, asked in plain text.

    Attributes:
        llm: the loaded model.
        family: Qwen3, Gemma, Mistral, GPT-OSS, Phi, DeepSeek, Llama …, by what the file says
            (architecture, name), then by its path.
        switch: how it is told to think, by its chat template, then by its name.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        family: str | None = None,
        config: LlamaConfig | None = None,
        **arguments: Any,
    ) -> None:
        """Load a model.

        Args:
            model_path: a GGUF file; for a split model its first part.
            family: the name of one of ``FAMILIES``, where the file does not say it right.
            config: how to load it.
            **arguments: as for :class:`llama_cpp.Llama`; they win over ``config``.

        Raises:
            ModelLoadError: a file is missing, damaged, too new, or refused by llama.cpp.
            ValidationError: there is no such family, or an argument is out of range.
        """
        chosen = next((each for each in FAMILIES if each.name == family), None)
        if family is not None and chosen is None:
            known = ", ".join(each.name for each in FAMILIES)
            raise ValidationError(f"there is no family {family!r}; choose one of {known}")
        self.llm = Llama(model_path, config=config, **arguments)
        metadata, name = self.llm.metadata, os.fspath(model_path)
        self.family = chosen or family_of(metadata, name)
        self.switch = switch_of(self.family, metadata, name)

    # -- answers -------------------------------------------------------------------------------

    @overload
    def generate(
        self,
        prompt: str,
        max_tokens: int | None = ...,
        *,
        thinking: Thinking | None = ...,
        system: str | None = ...,
        sampling: SamplingParams | None = ...,
        stream: Literal[False] = ...,
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str,
        max_tokens: int | None = ...,
        *,
        thinking: Thinking | None = ...,
        system: str | None = ...,
        sampling: SamplingParams | None = ...,
        stream: Literal[True],
        stop: str | Sequence[str] | None = ...,
        grammar: LlamaGrammar | str | None = ...,
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: str,
        max_tokens: int | None = _DEFAULT_MAX_TOKENS,
        *,
        thinking: Thinking | None = None,
        system: str | None = None,
        sampling: SamplingParams | None = None,
        stream: bool = False,
        stop: str | Sequence[str] | None = None,
        grammar: LlamaGrammar | str | None = None,
    ) -> str | Iterator[str]:
        """Return the model's answer to a message.

        Args:
            prompt: what the user says.
            max_tokens: most tokens of the answer; None fills the context.
            thinking: whether to think first; None leaves it to the model. Models with levels (GPT-OSS)
                also take "low", "medium" and "high".
            system: what the model is told before.
            sampling: how tokens are chosen; None is the object's own default.
            stream: return an iterator over the parts of the text as they are made.
            stop: strings that end the answer, besides those of the model.
            grammar: a :class:`llama_cpp.LlamaGrammar` or its text, which the whole answer matches.

        Returns:
            The answer as the model writes it, thoughts included; or an iterator of its parts.

        Raises:
            ValidationError: the model cannot think, or not stop thinking; an argument is out of
                range; or the prompt does not fit the context.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        said, variables = self._told(messages, thinking)
        request = _chat.prepare(
            self.llm,
            said,
            stop=stop,
            grammar=check_grammar(grammar),
            template_variables=variables,
        )
        return generate_text(
            self.llm,
            request.tokens(self.llm),
            max_tokens,
            sampling,
            stream=stream,
            stop=request.stop,
            grammar=request.grammar,
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        thinking: Thinking | None = None,
        **arguments: Any,
    ) -> Any:
        """Answer a conversation in OpenAI's shapes.

        Args:
            messages: ``{"role": …, "content": …}`` each.
            thinking: as for :meth:`generate`.
            **arguments: as for :meth:`llama_cpp.Llama.create_chat_completion`.

        Returns:
            What that method returns: a chat completion, or with ``stream=True`` an iterator of chunks.

        Raises:
            ValidationError: the model cannot think, or not stop thinking; or an argument is out of
                range.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        said, variables = self._told(messages, thinking)
        if variables:
            variables.update(arguments.pop("chat_template_kwargs", None) or {})
            arguments["chat_template_kwargs"] = variables
        return self.llm.create_chat_completion(said, **arguments)

    def kv_cache_clear(self) -> None:
        """Forget everything that was said."""
        self.llm.reset()

    def _told(
        self, messages: Sequence[Mapping[str, Any]], thinking: Thinking | None
    ) -> tuple[list[Any], dict[str, object]]:
        """Return the messages and the template's variables that tell the model to think or not."""
        said: list[Any] = list(messages)
        switch = self.switch
        if thinking is None:
            return said, {}
        if not isinstance(thinking, bool) and thinking not in _LEVELS:
            raise ValidationError(
                f"thinking is {thinking!r}; choose True, False or None, or 'low', 'medium' or 'high' "
                "for a model with levels"
            )
        what = f"{os.path.basename(self.llm.model_path)} ({self.family.name})"  # noqa: PTH119
        if not isinstance(thinking, bool) and not switch.levels:
            raise ValidationError(f"{what} has no levels of thinking; choose True, False or None")
        if switch.kind == "never" and thinking:
            raise ValidationError(f"{what} does not think; leave out thinking")
        if switch.kind == "always" and not thinking:
            raise ValidationError(f"{what} always thinks; leave out thinking")
        if switch.kind == "variable":
            value = thinking if switch.levels and not isinstance(thinking, bool) else None
            return said, {switch.name: value or (switch.on if thinking else switch.off)}
        if switch.kind == "words":
            _append(said, str(switch.on if thinking else switch.off))
        return said, {}

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the model; does nothing the second time."""
        self.llm.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Return the path and the family."""
        return f"<UnifiedLLM {self.llm.model_path!r} of {self.family.name}>"


def _append(messages: list[Any], words: str) -> None:
    """Add words to the last message of the user; ``messages`` changes, its members do not."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.get("role") == "user":
            content = message.get("content") or ""
            more: Any = f"{content} {words}"
            if not isinstance(content, str):
                more = [*content, {"type": "text", "text": words}]
            messages[index] = {**message, "content": more}
            return
