"""What clients read of a :class:`llama_cpp.Llama` beside its methods: tokens, logits, pointers.

Arrays are copies made when they are asked for; writing to one changes nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from llama_cpp import _library
from llama_cpp._arguments import check_integer
from llama_cpp._sequence import shared_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from llama_cpp import _abi
    from llama_cpp._engine import Engine
    from llama_cpp._internals import LlamaBatch, LlamaContext, LlamaModel
    from llama_cpp.llama import Llama
    from llama_cpp.llama_tokenizer import LlamaTokenizer

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.intc]


class Views:
    """The core's objects by llama-cpp-python's internal names, made when they are asked for."""

    def __init__(self) -> None:
        """Start with none."""
        self.model: LlamaModel | None = None
        self.context: LlamaContext | None = None
        self.batch: LlamaBatch | None = None


class TokenCount(int):
    """How many tokens the context remembers; called with a text, how many that has."""

    _llm: Llama

    def __call__(self, text: str | bytes, add_bos: bool = True, special: bool = True) -> int:
        """Return the number of tokens of ``text``.

        Args:
            text: a string, or UTF-8 bytes.
            add_bos: count the begin (and end) tokens that the model asks for.
            special: read control tokens spelled in the text as such.
        """
        return len(self._llm.tokenize(text, add_bos, special))

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """Pickle the number alone."""
        return int, (int(self),)


def n_tokens(self: Llama) -> TokenCount:
    """Tokens in the context's memory; ``llm.n_tokens("text")`` counts those of a text.

    Setting it to a smaller number forgets the tokens after that.
    """
    found = TokenCount(0 if self._engine is None else len(self._engine.sequence.tokens))
    found._llm = self  # noqa: SLF001 - its own
    _ = self._core.handle.pointer
    return found


def set_n_tokens(self: Llama, number: int) -> None:
    """Forget what comes after the first ``number`` tokens.

    Raises:
        ValidationError: it is more than the context remembers.
    """
    engine = self._running()
    with engine.context.lock:
        tokens = list(engine.sequence.tokens)
        check_integer("n_tokens", number, 0, len(tokens))
        if number == len(tokens):
            return
        engine.take_over()
        # the token after those that stay is never looked at
        if engine.sequence.keep_prefix([*tokens[:number], tokens[number]]) < number:
            # a recurrent state, or a window, cannot go back
            engine.append(tokens[:number])


def model(self: Llama) -> int:
    """The native ``struct llama_model *`` as a number."""
    return self._core.handle.pointer


def ctx(self: Llama) -> int:
    """The native ``struct llama_context *`` as a number."""
    return self._running().context.handle.pointer


def model_view(self: Llama) -> LlamaModel:
    """The model by llama-cpp-python's internal names."""
    if self._views.model is None:
        from llama_cpp._internals import LlamaModel  # noqa: PLC0415 - few need it

        self._views.model = LlamaModel.view(self._core, verbose=self.verbose)
    return self._views.model


def context_view(self: Llama) -> LlamaContext:
    """The context by llama-cpp-python's internal names.

    What is changed in its memory from there is computed again when it is needed.
    """
    engine = self._running()
    if self._views.context is None:
        from llama_cpp._internals import LlamaContext  # noqa: PLC0415 - few need it

        self._views.context = LlamaContext.view(
            engine.context, model_view(self), verbose=self.verbose, changed=engine.sequence.distrust
        )
    return self._views.context


def batch_view(self: Llama) -> LlamaBatch:
    """A batch of ``n_batch`` tokens by llama-cpp-python's internal names."""
    context = self._running().context
    if self._views.batch is None:
        from llama_cpp._internals import LlamaBatch  # noqa: PLC0415 - few need it

        self._views.batch = LlamaBatch(
            n_tokens=context.n_batch, embd=0, n_seq_max=context.n_seq_max, verbose=self.verbose
        )
    return self._views.batch


def model_params(self: Llama) -> _abi.llama_model_params:
    """The ``struct llama_model_params`` that the model was loaded with."""
    return self._core.native


def context_params(self: Llama) -> _abi.llama_context_params:
    """The ``struct llama_context_params`` that the context was made with."""
    return self._running().context.native


def n_batch(self: Llama) -> int:
    """Most tokens per decode call."""
    return self._running().context.n_batch


def n_threads(self: Llama) -> int:
    """Threads for one token at a time."""
    return int(context_params(self).n_threads)


def n_threads_batch(self: Llama) -> int:
    """Threads for prompts."""
    return int(context_params(self).n_threads_batch)


def input_ids(self: Llama) -> Ids:
    """The tokens in memory, shape ``(n_ctx,)``; zeros after the first ``n_tokens``."""
    import numpy as np  # noqa: PLC0415 - few need it

    engine = self._running()
    ids = np.zeros(max(engine.context.n_ctx, len(engine.sequence.tokens)), np.intc)
    known = known_input_ids(self)
    ids[: len(known)] = known
    ids.flags.writeable = False
    return ids


def known_input_ids(self: Llama) -> Ids:
    """The tokens in memory, shape ``(n_tokens,)``."""
    import numpy as np  # noqa: PLC0415

    ids = np.array(self._running().sequence.tokens, np.intc)
    ids.flags.writeable = False
    return ids


def eval_tokens(self: Llama) -> deque[int]:
    """The tokens in memory."""
    engine = self._running()
    return deque(engine.sequence.tokens, maxlen=engine.context.n_ctx)


def eval_logits(self: Llama) -> deque[list[float]]:
    """The logits of the tokens in memory with ``logits_all``, else of the last one alone."""
    engine = self._running()
    rows: list[list[float]] = known_scores(self).tolist()
    if not self._logits_all:
        return deque(rows[-1:], maxlen=1)
    return deque(rows, maxlen=engine.context.n_ctx)


def scores(self: Llama) -> Floats:
    """Logits, shape ``(n_ctx, n_vocab)``: row i is what token i of the memory says of the next one.

    Without ``logits_all`` only the last token's row is there, in its place; the others are zeros.
    """
    import numpy as np  # noqa: PLC0415

    engine = self._running()
    known = known_scores(self)
    found = np.zeros((max(engine.context.n_ctx, len(known)), self.n_vocab()), np.float32)
    found[: len(known)] = known
    found.flags.writeable = False
    return found


def known_scores(self: Llama) -> Floats:
    """The rows of :attr:`scores` for the tokens in memory, shape ``(n_tokens, n_vocab)``."""
    import numpy as np  # noqa: PLC0415

    engine = self._running()
    with engine.context.lock:
        found = np.zeros((len(engine.sequence.tokens), self.n_vocab()), np.float32)
        for position, row in _rows(engine):
            if 0 <= position < len(found):
                found[position] = row
    found.flags.writeable = False
    return found


def _rows(engine: Engine) -> list[tuple[int, Sequence[float] | Floats]]:
    context, tokens = engine.context, engine.sequence.tokens
    if engine.rows is not None:
        known = engine.rows.known(tokens)
        return list(enumerate(known, len(tokens) - len(known)))
    return [(len(tokens) - 1, context.logits(engine.output))] if context.has_outputs else []


def perf(self: Llama) -> dict[str, float]:
    """Return what llama.cpp has measured since the context was made, or :func:`perf_reset`.

    Returns:
        ``t_load_ms``, ``t_p_eval_ms`` (prompts), ``t_eval_ms`` (single tokens), all in
        milliseconds; ``n_p_eval`` and ``n_eval``, the tokens of each; ``n_reused``, how often a
        graph was used again; ``t_start_ms``, when it began. Zeros with ``no_perf=True``.
    """
    context = self._running().context
    with context.lock:
        # llama.cpp counts what was computed when it is waited for
        _library.load().llama_synchronize(context.handle.pointer)
        found = _library.load().llama_perf_context(context.handle.pointer)
    return {name: getattr(found, name) for name, *_ in found._fields_}


def perf_reset(self: Llama) -> None:
    """Measure anew from now on."""
    context = self._running().context
    with context.lock:
        _library.load().llama_perf_context_reset(context.handle.pointer)


def tokenizer(self: Llama) -> LlamaTokenizer:
    """Return the tokenizer as an object of its own."""
    from llama_cpp.llama_tokenizer import LlamaTokenizer  # noqa: PLC0415 - imports this module

    return LlamaTokenizer(self)


def tokenizer_(self: Llama) -> Any:
    """The tokenizer that the object was made with, or the model's own."""
    return tokenizer(self) if self._tokenizer is None else self._tokenizer


def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    return shared_length(a, b)


def logits_to_logprobs(logits: Any, axis: int = -1) -> Floats:
    """Return the natural logarithms of the probabilities that ``logits`` stand for.

    Args:
        logits: an array, or what numpy makes one of.
        axis: the dimension that runs over the tokens.

    Returns:
        An array of float32 of the same shape.
    """
    import numpy as np  # noqa: PLC0415

    values = np.asarray(logits, np.float32)
    shifted = values - np.max(values, axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        found: Floats = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return found
