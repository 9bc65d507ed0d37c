"""Sampling from parameters, one token at a time, without a chain of samplers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from llama_cpp._token_data import LlamaTokenDataArray

if TYPE_CHECKING:
    import numpy.typing as npt

    from llama_cpp._context_view import LlamaContext


@dataclass
class LlamaSamplingParams:
    """How the next token is chosen."""

    n_prev: int = 64
    """Tokens to remember."""
    n_probs: int = 0
    """Has no effect."""
    top_k: int = 40
    """Keep the k likeliest; 0 or less keeps all."""
    top_p: float = 0.95
    """Keep the likeliest whose probabilities add up to p; 1 keeps all."""
    min_p: float = 0.05
    """Keep those at least this share of the likeliest; 0 keeps all."""
    tfs_z: float = 1.0
    """Has no effect: llama.cpp has no tail-free sampling any more."""
    typical_p: float = 1.0
    """Keep the locally typical ones that add up to p; 1 keeps all."""
    temp: float = 0.8
    """Temperature; 0 or less always takes the likeliest token."""
    penalty_last_n: int = 64
    """How many tokens count as recent; negative means ``n_prev``."""
    penalty_repeat: float = 1.0
    """Divides the positive logits of recent tokens; 1 is neutral."""
    penalty_freq: float = 0.0
    """Taken from a recent token's logit for each of its occurrences."""
    penalty_present: float = 0.0
    """Taken once from a recent token's logit."""
    mirostat: int = 0
    """0 off, 1 Mirostat, 2 Mirostat 2.0; either replaces all filters above."""
    mirostat_tau: float = 5.0
    """Target surprise."""
    mirostat_eta: float = 0.1
    """Learning rate."""
    penalize_nl: bool = True
    """Whether the penalties are for the new-line token, too."""
    grammar: str = ""
    """Has no effect; give :class:`LlamaSamplingContext` one."""
    cfg_negative_prompt: str = ""
    """Has no effect."""
    cfg_scale: float = 1.0
    """Has no effect."""
    logit_bias: dict[int, float] = field(default_factory=dict)
    """Added to logits by token id."""


@dataclass
class LlamaSamplingContext:
    """Chooses tokens and remembers them."""

    params: LlamaSamplingParams = field(default_factory=LlamaSamplingParams)
    mirostat_mu: ctypes.c_float = field(default_factory=ctypes.c_float)
    """Mirostat's state; 0 means twice the target."""
    grammar: Optional[Any] = None  # noqa: UP045 - evaluated at run time on Python 3.9
    """A ``LlamaGrammar``."""
    prev: list[int] = field(default_factory=list)
    """The tokens accepted so far, oldest first, at most ``n_prev``."""
    cur: list[Any] = field(default_factory=list)
    """Has no effect."""

    def reset(self) -> None:
        """Forget all tokens."""
        self.prev = []
        self.cur = []
        self.mirostat_mu = ctypes.c_float()

    def cp(self) -> LlamaSamplingContext:
        """Return a copy that goes on by itself; both share the grammar."""
        return LlamaSamplingContext(
            params=self.params,
            mirostat_mu=ctypes.c_float(self.mirostat_mu.value),
            grammar=self.grammar,
            prev=self.prev.copy(),
            cur=self.cur.copy(),
        )

    def last(self) -> int | None:
        """Return the token accepted last; None where there is none."""
        return self.prev[-1] if self.prev else None

    def prev_str(self, ctx_main: LlamaContext, n: int) -> str:
        """Return the text of the last ``n`` tokens accepted."""
        tokens = self.prev[-n:] if n > 0 else []
        return ctx_main.model.detokenize(tokens).decode("utf-8", "replace")

    def sample(
        self,
        ctx_main: LlamaContext,
        idx: int = 0,
        logits_array: npt.NDArray[Any] | None = None,
    ) -> int:
        """Choose a token; :meth:`accept` remembers it.

        Args:
            ctx_main: the context.
            idx: which output of its last batch to take the logits of.
            logits_array: logits in place of the context's, one per token id.

        Raises:
            ValidationError: there are no logits at that place, or a parameter is out of range.
            GenerationError: nothing can be chosen.
        """
        import numpy as np  # noqa: PLC0415 - import of the package is to be quick

        params = self.params
        size = ctx_main.model.n_vocab()
        with ctx_main.core.lock:
            if logits_array is None:
                logits_array = np.ctypeslib.as_array(ctx_main.get_logits_ith(idx), (size,))
            logits = np.array(logits_array, np.single)
        for token in ctx_main.model.core.vocabulary.check(params.logit_bias):
            logits[token] += params.logit_bias[token]
        candidates = LlamaTokenDataArray(n_vocab=size)
        candidates.copy_logits(logits)
        self._penalize(ctx_main, candidates)
        if self.grammar is not None:
            ctx_main.sample_grammar(candidates, self.grammar)
        if params.temp <= 0:
            return ctx_main.sample_token_greedy(candidates)
        if params.mirostat:
            return self._mirostat(ctx_main, candidates)
        ctx_main.sample_top_k(candidates, params.top_k, 1)
        ctx_main.sample_typical(candidates, params.typical_p, 1)
        ctx_main.sample_top_p(candidates, params.top_p, 1)
        ctx_main.sample_min_p(candidates, params.min_p, 1)
        ctx_main.sample_temp(candidates, params.temp)
        return ctx_main.sample_token(candidates)

    def accept(self, ctx_main: LlamaContext, id: int, apply_grammar: bool) -> None:  # noqa: A002
        """Remember a token.

        Args:
            ctx_main: the context.
            id: the token.
            apply_grammar: whether the grammar goes on by it, too.

        Raises:
            ValidationError: there is no such token, or the grammar does not allow it.
        """
        ctx_main.model.core.vocabulary.check((id,))
        if apply_grammar and self.grammar is not None:
            ctx_main.grammar_accept_token(self.grammar, id)
        self.prev.append(id)
        del self.prev[: max(len(self.prev) - self.params.n_prev, 0)]

    def _penalize(self, ctx_main: LlamaContext, candidates: LlamaTokenDataArray) -> None:
        params = self.params
        last_n = params.n_prev if params.penalty_last_n < 0 else params.penalty_last_n
        nl = ctx_main.model.token_nl()
        spared = None
        if not params.penalize_nl and nl >= 0:
            spared = float(candidates.candidates_data["logit"][nl])
        ctx_main.sample_repetition_penalties(
            candidates,
            self.prev,
            last_n,
            params.penalty_repeat,
            params.penalty_freq,
            params.penalty_present,
        )
        if spared is not None:
            candidates.candidates_data["logit"][nl] = spared

    def _mirostat(self, ctx_main: LlamaContext, candidates: LlamaTokenDataArray) -> int:
        params, mu = self.params, self.mirostat_mu
        if mu.value == 0:
            mu.value = 2 * params.mirostat_tau
        ctx_main.sample_temp(candidates, params.temp)
        tau, eta = params.mirostat_tau, params.mirostat_eta
        if params.mirostat == 1:
            return ctx_main.sample_token_mirostat(candidates, tau, eta, 100, mu)
        return ctx_main.sample_token_mirostat_v2(candidates, tau, eta, mu)
