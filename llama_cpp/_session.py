"""Plain text in, plain text out, and sessions that go on where the last answer ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload
from weakref import WeakKeyDictionary

from llama_cpp._arguments import check_integer
from llama_cpp._engine import Answer
from llama_cpp._errors import ValidationError
from llama_cpp._sampler import Sampler, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_cpp._engine import Engine
    from llama_cpp.llama import Llama
    from llama_cpp.llama_grammar import LlamaGrammar

DEFAULT_MAX_TOKENS = 128
_UNBOUNDED = 2**31 - 1

# The last token of an answer is chosen but never computed, so it is not in memory. Here it waits for
# a continuation, with the ticket of its generation: any other use of the context makes it stale.
_last: WeakKeyDictionary[Engine, tuple[int, list[int]]] = WeakKeyDictionary()


@overload
def generate_text(
    self: Llama,
    prompt: str | Sequence[int],
    max_tokens: int | None = ...,
    sampling: SamplingParams | None = ...,
    stream: Literal[False] = ...,
    reset_kv_cache: bool = ...,
    stop: str | Sequence[str] | None = ...,
    grammar: LlamaGrammar | str | None = ...,
) -> str: ...


@overload
def generate_text(
    self: Llama,
    prompt: str | Sequence[int],
    max_tokens: int | None = ...,
    sampling: SamplingParams | None = ...,
    *,
    stream: Literal[True],
    reset_kv_cache: bool = ...,
    stop: str | Sequence[str] | None = ...,
    grammar: LlamaGrammar | str | None = ...,
) -> Iterator[str]: ...


@overload
def generate_text(
    self: Llama,
    prompt: str | Sequence[int],
    max_tokens: int | None = ...,
    sampling: SamplingParams | None = ...,
    stream: bool = ...,
    reset_kv_cache: bool = ...,
    stop: str | Sequence[str] | None = ...,
    grammar: LlamaGrammar | str | None = ...,
) -> str | Iterator[str]: ...


def generate_text(
    self: Llama,
    prompt: str | Sequence[int],
    max_tokens: int | None = DEFAULT_MAX_TOKENS,
    sampling: SamplingParams | None = None,
    stream: bool = False,
    reset_kv_cache: bool = True,
    stop: str | Sequence[str] | None = None,
    grammar: LlamaGrammar | str | None = None,
) -> str | Iterator[str]:
    """Return the text that follows a prompt.

    Args:
        prompt: text, in which control tokens are read as such; or token ids taken as they are.
        max_tokens: most tokens of the answer; None fills the context.
        sampling: how tokens are chosen; None is the object's own default.
        stream: return an iterator over the parts of the text, each as soon as it is certain.
        reset_kv_cache: False puts the prompt after everything that is in memory, the last answer
            included, instead of in its place: a session goes on without computing it again.
        stop: strings that end the answer; they are not part of it.
        grammar: a :class:`llama_cpp.LlamaGrammar` or its text, which the whole answer matches.

    Returns:
        The answer without the prompt, or an iterator of its parts.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    engine = self._running()
    params = self._defaults if sampling is None else sampling
    params.check(self._core.vocabulary)
    answer = Answer(
        self._core.vocabulary.pieces, stops=check_stops(stop), limit=check_limit(max_tokens)
    )
    rules = check_grammar(grammar)
    if not isinstance(prompt, str):
        prompt = self._core.vocabulary.check(prompt)
    parts = _parts(self, engine, prompt, params, rules, answer, reset=reset_kv_cache)
    if stream:
        return parts
    with engine.context.lock:
        return "".join(parts)


def generate_stream(
    self: Llama,
    prompt: str | Sequence[int],
    max_tokens: int | None = DEFAULT_MAX_TOKENS,
    sampling: SamplingParams | None = None,
    reset_kv_cache: bool = True,
    stop: str | Sequence[str] | None = None,
    grammar: LlamaGrammar | str | None = None,
) -> Iterator[str]:
    """Yield the text that follows a prompt, each part as soon as it is certain.

    Leaving the loop early ends the computation. Arguments and errors are those of
    :func:`generate_text`.

    Args:
        prompt: text, in which control tokens are read as such; or token ids taken as they are.
        max_tokens: most tokens of the answer; None fills the context.
        sampling: how tokens are chosen; None is the object's own default.
        reset_kv_cache: False goes on after what is in memory.
        stop: strings that end the answer; they are not part of it.
        grammar: a :class:`llama_cpp.LlamaGrammar` or its text, which the whole answer matches.

    Raises:
        ValidationError: an argument is out of range, or the prompt does not fit the context.
        GenerationError: llama.cpp failed, or another generation has taken the context over.
    """
    return generate_text(
        self,
        prompt,
        max_tokens,
        sampling,
        stream=True,
        reset_kv_cache=reset_kv_cache,
        stop=stop,
        grammar=grammar,
    )


def check_limit(max_tokens: int | None) -> int:
    """Return the most tokens of an answer.

    Raises:
        ValidationError: it is neither None nor at least 1.
    """
    if max_tokens is None:
        return _UNBOUNDED
    check_integer("max_tokens", max_tokens, 1, _UNBOUNDED)
    return max_tokens


def check_stops(stop: str | Sequence[str] | None) -> list[str]:
    """Return the stop strings as a list.

    Raises:
        ValidationError: one is empty or no string.
    """
    stops = [] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise ValidationError(f"stop has {text!r}; stop strings are strings and not empty")
    return stops


def check_grammar(grammar: LlamaGrammar | str | None) -> LlamaGrammar | None:
    """Return a grammar that llama.cpp can use.

    Raises:
        ValidationError: it is none; the message says where and why.
    """
    if grammar is None:
        return None
    from llama_cpp.llama_grammar import LlamaGrammar  # noqa: PLC0415 - few use one

    if isinstance(grammar, str):
        return LlamaGrammar.from_string(grammar)
    if not isinstance(grammar, LlamaGrammar):
        raise ValidationError(
            f"grammar is a {type(grammar).__name__}; give a LlamaGrammar or its text"
        )
    return grammar


def _parts(
    self: Llama,
    engine: Engine,
    prompt: str | Sequence[int],
    params: SamplingParams,
    grammar: LlamaGrammar | None,
    answer: Answer,
    *,
    reset: bool,
) -> Iterator[str]:
    n_ctx = engine.context.n_ctx_seq
    with Sampler(self._core, params, grammar=grammar, n_ctx=n_ctx) as sampler:
        with engine.context.lock:
            before = [] if reset else _memory(engine)
            ids = prompt
            if isinstance(prompt, str):
                ids = self.tokenize(prompt, add_bos=not before, special=True)
            tokens = engine.tokens([*before, *ids], sampler)
            token = next(tokens)
            ticket = engine.ticket
        pieces = self._core.vocabulary.pieces
        while True:
            text = answer.push(token)
            if not pieces[token].ends:
                _last[engine] = (ticket, [token])
            if text:
                yield text
            if answer.finish_reason is not None:
                return
            _last.pop(engine, None)
            try:
                token = next(tokens)
            except StopIteration:
                break
        if text := answer.finish("length"):
            yield text


def _memory(engine: Engine) -> list[int]:
    """Return all tokens of the session so far."""
    ticket, rest = _last.get(engine, (0, []))
    return [*engine.sequence.tokens, *(rest if ticket == engine.ticket else ())]
