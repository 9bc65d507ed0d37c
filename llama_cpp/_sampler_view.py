"""A chain of samplers by the names of llama-cpp-python's internals."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi, _choice, _library
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._custom_sampler import CustomSampler, made_sampler
from llama_cpp._errors import GenerationError, LlamaError, ValidationError
from llama_cpp._grammar_state import GrammarState, TriggeredGrammar
from llama_cpp._handle import Handle
from llama_cpp._token_data import LlamaTokenDataArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from ctypes import _Pointer
    from typing import Any

    from llama_cpp._context_view import LlamaContext
    from llama_cpp._model import Model
    from llama_cpp._model_view import LlamaModel

    DataArrayPointer = _Pointer[_abi.llama_token_data_array]

_INT32_MAX = 2**31 - 1
_SEEDS = (0, 2**32 - 1)
_LARGEST_FLOAT32 = 3.4028234663852886e38
# llama_sampler_init_dry's MAX_CHAR_LEN; llama_sampler_init_infill's buffer, and all pairs compared
_LONGEST_BREAK = 40
_LONGEST_FOR_INFILL = 512
_MOST_FOR_INFILL = 1000


class LlamaSampler:
    """A chain of llama.cpp's samplers, filled by the methods ``add_…`` and used in that order.

    Grammars come first, wherever they were added. The last one added has to choose: greedy, dist or
    a mirostat.

    Attributes:
        custom_samplers: those of :meth:`add_custom`.
    """

    def __init__(self) -> None:
        """Begin an empty chain."""
        lib = _library.load()
        settings = lib.llama_sampler_chain_default_params()
        settings.no_perf = True
        self._start(made_sampler(lib.llama_sampler_chain_init(settings)), [], [])

    def _start(self, chain: int, custom: list[CustomSampler], models: Sequence[Model]) -> None:
        self._lib = lib = _library.load()
        self.custom_samplers = custom
        self._guards: list[tuple[Model, Handle]] = []
        self._grammars: list[GrammarState | TriggeredGrammar] = []
        self._chooses = False
        self._fewest: int | None = None
        self._array: LlamaTokenDataArray | None = None
        own = self._guards

        def free(pointer: int) -> None:
            lib.llama_sampler_free(pointer)
            custom.clear()
            for model, guard in own:
                model.handle.children.pop(guard, None)

        self._handle = Handle("sampler", chain, free)
        self._handle.close_with(self)
        for model in models:
            self._outlived_by(model)

    @property
    def sampler(self) -> int:
        """The native ``struct llama_sampler *``."""
        return self._handle.pointer

    # -- adding --------------------------------------------------------------------------------

    def add_greedy(self) -> None:
        """Choose the likeliest."""
        self._add(self._lib.llama_sampler_init_greedy(), chooses=True)

    def add_dist(self, seed: int) -> None:
        """Choose by the probabilities.

        Args:
            seed: of the draws; ``LLAMA_DEFAULT_SEED`` draws one.
        """
        check_integer("seed", seed, *_SEEDS)
        self._add(self._lib.llama_sampler_init_dist(seed), chooses=True)

    def add_softmax(self) -> None:
        """Sort by probability, likeliest first."""
        self._add(self._lib.llama_sampler_init_top_k(_INT32_MAX))

    def add_top_k(self, k: int) -> None:
        """Keep the ``k`` likeliest; 0 or less keeps all."""
        check_integer("k", k, -_INT32_MAX, _INT32_MAX)
        self._add(self._lib.llama_sampler_init_top_k(k))
        if k > 0:
            self._fewest = k if self._fewest is None else min(k, self._fewest)

    def add_top_p(self, p: float, min_keep: int = 1) -> None:
        """Keep the likeliest whose probabilities add up to ``p``, but at least ``min_keep``."""
        _choice.check_share("p", p, min_keep)
        self._add(self._lib.llama_sampler_init_top_p(p, min_keep))

    def add_min_p(self, p: float, min_keep: int = 1) -> None:
        """Keep those at least ``p`` times as likely as the likeliest, but at least ``min_keep``."""
        _choice.check_share("p", p, min_keep)
        self._add(self._lib.llama_sampler_init_min_p(p, min_keep))

    def add_typical(self, p: float, min_keep: int = 1) -> None:
        """Keep the locally typical ones that add up to ``p``, but at least ``min_keep``."""
        _choice.check_share("p", p, min_keep)
        self._add(self._lib.llama_sampler_init_typical(p, min_keep))

    def add_temp(self, temp: float) -> None:
        """Divide the logits by ``temp``; 0 or less leaves the likeliest alone."""
        _check_float("temp", temp)
        self._add(self._lib.llama_sampler_init_temp(temp))

    def add_temp_ext(self, t: float, delta: float, exponent: float) -> None:
        """Divide the logits by a temperature that follows the entropy.

        Args:
            t: its middle.
            delta: how far it goes up and down.
            exponent: how entropy becomes temperature.
        """
        _check_float("t", t)
        check_number("delta", delta, 0, 1e6)
        check_number("exponent", exponent, 0, 1e3)
        self._add(self._lib.llama_sampler_init_temp_ext(t, delta, exponent))

    def add_xtc(self, p: float, t: float, min_keep: int, seed: int) -> None:
        """Leave out the likeliest now and then.

        Args:
            p: how often.
            t: all but the least likely of the tokens above this are left out.
            min_keep: the fewest to keep.
            seed: of the draws.
        """
        _choice.check_share("p", p, min_keep)
        check_number("t", t, 0, 1)
        check_integer("seed", seed, *_SEEDS)
        self._add(self._lib.llama_sampler_init_xtc(p, t, min_keep, seed))

    def add_top_n_sigma(self, n: float) -> None:
        """Keep those within ``n`` standard deviations of the largest logit; 0 or less keeps all."""
        check_number("n", n, -1e6, 1e6)
        self._add(self._lib.llama_sampler_init_top_n_sigma(n))

    def add_mirostat(self, n_vocab: int, seed: int, tau: float, eta: float, m: int) -> None:
        """Choose by Mirostat.

        Args:
            n_vocab: the number of token ids.
            seed: of the draws.
            tau: target surprise.
            eta: learning rate.
            m: how many candidates its estimate looks at.
        """
        check_integer("n_vocab", n_vocab, 1, _INT32_MAX)
        check_integer("seed", seed, *_SEEDS)
        check_integer("m", m, 2, _INT32_MAX)
        _choice.check_mirostat(tau, eta)
        self._add(self._lib.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, m), chooses=True)

    def add_mirostat_v2(self, seed: int, tau: float, eta: float) -> None:
        """Choose by Mirostat 2.0; arguments as for :meth:`add_mirostat`."""
        check_integer("seed", seed, *_SEEDS)
        _choice.check_mirostat(tau, eta)
        self._add(self._lib.llama_sampler_init_mirostat_v2(seed, tau, eta), chooses=True)

    def add_penalties(
        self,
        n_vocab: int,
        penalty_last_n: int,
        penalty_repeat: float,
        penalty_freq: float,
        penalty_present: float,
    ) -> None:
        """Lower the logits of recent tokens.

        Args:
            n_vocab: the number of token ids.
            penalty_last_n: how many tokens count as recent; 0 is none.
            penalty_repeat: divides positive logits; 1 is neutral.
            penalty_freq: taken for each occurrence.
            penalty_present: taken once.
        """
        check_integer("n_vocab", n_vocab, 1, _INT32_MAX)
        _choice.check_penalties(penalty_last_n, penalty_repeat, penalty_freq, penalty_present)
        self._add(
            self._lib.llama_sampler_init_penalties(
                n_vocab, penalty_last_n, penalty_repeat, penalty_freq, penalty_present
            )
        )

    def add_dry(
        self,
        model: LlamaModel,
        dry_multiplier: float,
        dry_base: float,
        dry_allowed_length: int,
        dry_penalty_last_n: int,
        seq_breakers: Sequence[str],
    ) -> None:
        """Punish repeated sequences ("don't repeat yourself").

        Args:
            model: whose tokens are chosen.
            dry_multiplier: strength; 0 is off.
            dry_base: the penalty grows by this factor with each token of a repetition.
            dry_allowed_length: repetitions up to this many tokens cost nothing.
            dry_penalty_last_n: how many tokens it looks back; 0 is off, -1 the model's training
                length.
            seq_breakers: texts over which it sees no repetition, at most 40 bytes each.
        """
        check_number("dry_multiplier", dry_multiplier, 0, 1e6)
        check_number("dry_base", dry_base, 1, 1e6)
        check_integer("dry_allowed_length", dry_allowed_length, 0, _choice.FARTHEST)
        check_integer("dry_penalty_last_n", dry_penalty_last_n, -1, _choice.FARTHEST)
        breakers = [_breaker(text) for text in seq_breakers]
        core = model.core
        if core.vocabulary.type == _abi.LLAMA_VOCAB_TYPE_NONE:
            raise ValidationError("DRY needs a model with a tokenizer; this one has none")
        back = dry_penalty_last_n
        if back < 0:
            back = min(core.n_ctx_train, _choice.FARTHEST)
        self._outlived_by(core)
        self._add(
            self._lib.llama_sampler_init_dry(
                core.vocabulary.pointer,
                dry_multiplier,
                dry_base,
                dry_allowed_length,
                back,
                (ctypes.c_char_p * len(breakers))(*breakers),
                len(breakers),
            )
        )

    def add_infill(self, model: LlamaModel) -> None:
        """Choose well where a gap is filled, and end early; after ``add_top_k`` and ``add_top_p``.

        Raises:
            ValidationError: there is no ``add_top_k`` of at most 1000 before it, or the model has no
                token to end with, or one with a piece of more than 512 bytes.
        """
        vocabulary = model.core.vocabulary
        if self._fewest is None or self._fewest > _MOST_FOR_INFILL:
            raise ValidationError(
                f"infill compares all candidates with each other: call add_top_k() with at most "
                f"{_MOST_FOR_INFILL} before it"
            )
        if max(vocabulary.eot, vocabulary.eos) < 0:
            raise ValidationError("infill needs a model with a token to end with; this has none")
        longest = max(len(vocabulary.pieces[token].data) for token in range(vocabulary.size))
        if longest > _LONGEST_FOR_INFILL:
            raise ValidationError(
                f"infill takes pieces of up to {_LONGEST_FOR_INFILL} bytes; this model has one of "
                f"{longest}"
            )
        self._outlived_by(model.core)
        self._add(self._lib.llama_sampler_init_infill(vocabulary.pointer))

    def add_logit_bias(self, n_vocab: int, logit_bias: Mapping[int, float]) -> None:
        """Add to logits.

        Args:
            n_vocab: the number of token ids.
            logit_bias: by token id; minus infinity forbids a token.
        """
        check_integer("n_vocab", n_vocab, 1, _INT32_MAX)
        for token, bias in logit_bias.items():
            check_integer("a token id in logit_bias", token, 0, n_vocab - 1)
            if bias != float("-inf"):
                check_number(f"logit_bias[{token}]", bias, -1e9, 1e9)
        array = (_abi.llama_logit_bias * max(len(logit_bias), 1))(
            *(_abi.llama_logit_bias(token, bias) for token, bias in logit_bias.items())
        )
        self._add(self._lib.llama_sampler_init_logit_bias(n_vocab, len(logit_bias), array))

    def add_grammar(self, model: LlamaModel, grammar: Any) -> None:
        """Let only what a grammar allows be chosen.

        Args:
            model: whose tokens are chosen.
            grammar: a ``LlamaGrammar``, or GBNF with a rule ``root``.

        Raises:
            ValidationError: llama.cpp cannot use the grammar.
        """
        _ = self._handle.pointer
        self._grammars.append(GrammarState(model.core, grammar))

    def add_grammar_lazy_patterns(
        self,
        model: LlamaModel,
        grammar: Any,
        trigger_patterns: Sequence[str],
        trigger_tokens: Sequence[int],
    ) -> None:
        """Let only what a grammar allows be chosen, from a token on or where a pattern matches.

        Args:
            model: whose tokens are chosen.
            grammar: a ``LlamaGrammar``, or GBNF with a rule ``root``.
            trigger_patterns: regular expressions, matched from the beginning of the answer; the
                grammar then begins with the first group that took part, or with the match.
            trigger_tokens: ids; the grammar begins with such a token.

        Raises:
            ValidationError: llama.cpp cannot use the grammar, or there is no good trigger.
        """
        _ = self._handle.pointer
        self._grammars.append(
            TriggeredGrammar(model.core, grammar, trigger_patterns, trigger_tokens)
        )

    def add_custom(self, apply_func: Callable[[DataArrayPointer], object]) -> None:
        """Let a function of Python change the candidates; see :class:`CustomSampler`."""
        custom = CustomSampler(apply_func)
        _ = self._handle.pointer
        self.custom_samplers.append(custom)
        self._add(custom.get_sampler())

    # -- using ---------------------------------------------------------------------------------

    def get_seed(self) -> int:
        """Return the seed of the chain's draws; ``LLAMA_DEFAULT_SEED`` where nothing is drawn."""
        with self._handle.lock:
            return self._lib.llama_sampler_get_seed(self._handle.pointer)

    def sample(self, ctx: LlamaContext, idx: int = -1) -> int:
        """Choose a token from an output of the context's last batch, and remember it.

        Args:
            ctx: where the logits are.
            idx: a token's place in the last batch; or negative, from the end of the outputs.

        Raises:
            ValidationError: there are no logits at that place, or no sampler chooses.
            GenerationError: nothing can be chosen, such as where a grammar allows no token.
            Exception: what a custom sampler raises.
        """
        import numpy as np  # noqa: PLC0415 - import of the package is to be quick

        core = ctx.core
        size = core.model.vocabulary.size
        with core.lock, self._handle.lock:
            pointer = self._handle.pointer
            if not self._chooses:
                raise ValidationError(
                    "no sampler of the chain chooses: add_greedy(), add_dist() or a mirostat last"
                )
            array = self._array
            if array is None or array.n_vocab != size:
                array = self._array = LlamaTokenDataArray(n_vocab=size)
            array.copy_logits(np.ctypeslib.as_array(ctx.get_logits_ith(idx), (size,)))
            for grammar in self._grammars:
                grammar.apply(array)
            _refuse_nothing(array)
            with core.handle.calling_back(), self._handle.calling_back():
                array.apply(pointer)
            self._reraise()
            token = _selected(array)
            self.accept(token)
            return token

    def accept(self, token: int) -> None:
        """Remember a token: for penalties, DRY and grammars.

        Raises:
            ValidationError: a grammar does not allow it.
        """
        check_integer("token", token, 0, _INT32_MAX)
        with self._handle.lock:
            pointer = self._handle.pointer
            for grammar in self._grammars:
                grammar.accept(token)
            self._lib.llama_sampler_accept(pointer, token)

    def reset(self) -> None:
        """Forget all tokens, and begin the draws and the grammars again."""
        with self._handle.lock:
            self._lib.llama_sampler_reset(self._handle.pointer)
            for grammar in self._grammars:
                grammar.reset()

    def clone(self) -> LlamaSampler:
        """Return a chain with the same samplers in the same state.

        Raises:
            LlamaError: there is a grammar in it, whose state cannot be copied.
        """
        if self._grammars:
            raise LlamaError("a chain with a grammar cannot be copied; make another one")
        made = LlamaSampler.__new__(LlamaSampler)
        with self._handle.lock:
            pointer = made_sampler(self._lib.llama_sampler_clone(self._handle.pointer))
            models = [model for model, _ in self._guards]
            made._start(pointer, list(self.custom_samplers), models)  # noqa: SLF001 - its own
            made._chooses, made._fewest = self._chooses, self._fewest  # noqa: SLF001
        return made

    def close(self) -> None:
        """Free it; does nothing the second time."""
        self._handle.close()
        for grammar in self._grammars:
            grammar.close()

    # -- inside --------------------------------------------------------------------------------

    def _add(self, sampler: int | None, *, chooses: bool = False) -> None:
        pointer = made_sampler(sampler)
        with self._handle.lock:
            try:
                chain = self._handle.pointer
                self._handle.refuse_in_callback("changed")
            except LlamaError:
                self._lib.llama_sampler_free(pointer)
                raise
            self._lib.llama_sampler_chain_add(chain, pointer)
            self._chooses = chooses

    def _outlived_by(self, model: Model) -> None:
        """See that the chain is freed before the model whose vocabulary it reads."""
        chain = self._handle
        if any(known is model for known, _ in self._guards):
            return
        with model.handle.lock:
            guard = Handle("sampler", model.handle.pointer, lambda _: chain.close(), model.handle)
        self._guards.append((model, guard))

    def _reraise(self) -> None:
        for custom in self.custom_samplers:
            if custom.raised is not None:
                error, custom.raised = custom.raised, None
                raise error


def _check_float(name: str, value: float) -> None:
    check_number(name, value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)


def _breaker(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    if not 0 < len(data) <= _LONGEST_BREAK or b"\0" in data:
        raise ValidationError(
            f"seq_breakers has {text!r}; choose texts of 1 to {_LONGEST_BREAK} bytes without NUL"
        )
    return data


def _refuse_nothing(array: LlamaTokenDataArray) -> None:
    if not (array.left["logit"] > float("-inf")).any():
        raise GenerationError(
            "nothing can be chosen: the grammar allows no token of the vocabulary"
        )


def _selected(array: LlamaTokenDataArray) -> int:
    records, place = array.left, array.candidates.selected
    if not 0 <= place < len(records) or not records["logit"][place] > float("-inf"):
        raise GenerationError("nothing can be chosen: every token is refused")
    token = int(records["id"][place])
    if not 0 <= token < array.n_vocab:
        raise ValidationError(f"a custom sampler left token {token} of {array.n_vocab}")
    return token
