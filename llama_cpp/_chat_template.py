"""Chat templates: from messages to the prompt that a model was trained on.

A template is a Jinja program inside the model's file. It comes from somewhere else and is treated
so: it runs in a sandbox with limits (:mod:`llama_cpp._template_bounds`), and whatever goes wrong in
it is a :class:`~llama_cpp.ValidationError` that names the line.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import jinja2

    from llama_cpp._template_bounds import BoundedEnvironment
    from llama_cpp._vocabulary import Vocabulary

DEFAULT = "tokenizer.chat_template"
_LONGEST_SOURCE = 2**20
_FILENAME = "<chat template>"


class ChatTemplate:
    """A compiled template.

    The environment is Hugging Face's: blocks trimmed, ``break`` and ``continue``,
    ``raise_exception``, ``strftime_now``, ``tojson`` without HTML escapes, ``{% generation %}``
    ignored.
    """

    __slots__ = ("_template", "source")

    def __init__(self, source: str) -> None:
        """Compile ``source``.

        Raises:
            ValidationError: it is no Jinja template; the message says where.
            LlamaError: jinja2 is not installed.
        """
        self.source = source
        self._template = _compiled(source)

    def render(self, variables: Mapping[str, object]) -> str:
        """Return the prompt.

        Args:
            variables: what the template reads: ``messages``, ``tools``, ``add_generation_prompt``,
                ``bos_token``, ``eos_token`` and whatever else it knows.

        Raises:
            ValidationError: the template refuses the messages, fails, runs for too long or makes
                too much text.
        """
        from llama_cpp._template_bounds import bounded  # noqa: PLC0415 - imports jinja2

        parts = []
        size = 0
        try:
            with bounded() as budget:
                for part in self._template.generate(variables):
                    parts.append(part)
                    size += len(part)
                    budget.check(size)
        except Exception as error:
            raise _failure(error) from error
        return "".join(parts)


class SpecialTexts(NamedTuple):
    """Begin and end tokens as templates spell them; empty where a model has none."""

    bos: str
    eos: str

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> SpecialTexts:
        """Read them from a model."""
        return cls(
            *(
                vocabulary.piece(token, special=True).decode("utf-8", "replace")
                if token >= 0
                else ""
                for token in (vocabulary.bos, vocabulary.eos)
            )
        )


def from_metadata(metadata: Mapping[str, str], name: str | None = None) -> str | None:
    """Return a template's source from a model file's metadata; None where there is none.

    Args:
        metadata: the file's key-value pairs.
        name: of a named template, such as ``tool_use``; None or "default" is the unnamed one.
    """
    key = DEFAULT if name in {None, "default"} else f"{DEFAULT}.{name}"
    return metadata.get(key)


@lru_cache(maxsize=64)
def reads_parts(source: str) -> bool:
    """Return whether a template leaves out content that is text, and takes it in parts."""
    words = "words that no template has"
    shown = []
    for content in (words, [{"type": "text", "text": words}]):
        variables = {
            "messages": [{"role": "user", "content": content}],
            "add_generation_prompt": True,
            "bos_token": "",
            "eos_token": "",
        }
        try:
            shown.append(words in ChatTemplate(source).render(variables))
        except ValidationError:
            shown.append(False)
    return shown == [False, True]


@lru_cache(maxsize=1)
def _environment() -> BoundedEnvironment:
    try:
        from llama_cpp._template_bounds import BoundedEnvironment  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise LlamaError(
            f"chat templates need the package {error.name}: pip install jinja2"
        ) from error
    return BoundedEnvironment()


@lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    if not isinstance(source, str):
        raise ValidationError(f"a chat template is text, not {type(source).__name__}")
    if len(source) > _LONGEST_SOURCE:
        raise ValidationError(
            f"the chat template has {len(source)} characters; {_LONGEST_SOURCE} are allowed"
        )
    environment = _environment()
    from llama_cpp._template_bounds import bounded  # noqa: PLC0415 - imports jinja2

    try:
        with bounded():
            code = environment.compile(source, filename=_FILENAME)
            return environment.template_class.from_code(environment, code, environment.globals)
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> ValidationError:
    """Say what went wrong in a template, and where."""
    import jinja2  # noqa: PLC0415 - declared, but only needed here

    line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
    if line is None:
        line = _line(error.__traceback__)
    where = "" if line is None else f", line {line}"
    if type(error) is jinja2.TemplateError:
        return ValidationError(f"the chat template refuses these messages{where}: {error}")
    what = str(error) or "no more is known"
    if isinstance(error, RecursionError):
        what = "it nests or calls itself too deeply"
    elif isinstance(error, MemoryError):
        what = "it is too large for the memory"
    elif not isinstance(error, jinja2.TemplateError):
        what = f"{type(error).__name__}: {what}"
    return ValidationError(
        f"the chat template fails{where}: {what} (choose another with chat_format=…)"
    )


def _line(trace: TracebackType | None) -> int | None:
    """Return the deepest line of the template in a traceback."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILENAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
