"""Choosing the next token: a chain of llama.cpp's own samplers, built from parameters."""

from __future__ import annotations

import math
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llama_cpp import _abi, _library, _log
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._candidates import Candidates, likeliest
from llama_cpp._chain import links
from llama_cpp._errors import GenerationError, LlamaError, ValidationError
from llama_cpp._handle import Handle
from llama_cpp._model import _Owner
from llama_cpp._processors import TokenBuffer, best_of, process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from llama_cpp._context import Context
    from llama_cpp._model import Model
    from llama_cpp._processors import LogitsProcessor
    from llama_cpp._vocabulary import Vocabulary

# Logits divided by less than this overflow float32, and the choice among infinities is arbitrary.
_COLDEST = 1e-6

_MIROSTAT_MODES = (0, 1, 2)

# llama_sampler_init_dry's MAX_CHAR_LEN, and the buffers of llama_sampler_init_infill
_LONGEST_BREAK = 40
_LONGEST_FOR_INFILL = 512
_MOST_FOR_INFILL = 1000

_LARGEST_FLOAT32 = 3.4028234663852886e38
# so many times more tokens than are needed are looked at first for what a grammar allows
_LIKELY = 16
# penalties and DRY keep an array of this many tokens for "the whole context" at most
_FARTHEST = 2**20

# a grammar's strings, character classes and comments; a "<" elsewhere names a token
_NOT_TOKENS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*')


class Grammar(Protocol):
    """What the sampler needs to know of a :class:`llama_cpp.LlamaGrammar`."""

    @property
    def text(self) -> str:
        """GBNF that ``_gbnf.check`` has passed."""
        ...

    @property
    def root(self) -> str:
        """The rule that a whole answer matches."""
        ...


class SamplingParams(NamedTuple):
    """How the next token is chosen; what is at its neutral value costs nothing."""

    temperature: float = 0.8
    """0 or less always takes the likeliest token."""
    top_k: int = 40
    """Keep the k likeliest; 0 or less keeps all."""
    top_p: float = 0.95
    """Keep the likeliest whose probabilities add up to p; 1 keeps all."""
    min_p: float = 0.05
    """Keep those at least this share of the likeliest; 0 keeps all."""
    typical_p: float = 1.0
    """Keep the locally typical ones that add up to p; 1 keeps all."""
    repeat_penalty: float = 1.0
    """Divides the positive logits of recent tokens; 1 is neutral."""
    frequency_penalty: float = 0.0
    """Taken from a recent token's logit for each of its occurrences."""
    presence_penalty: float = 0.0
    """Taken once from a recent token's logit."""
    penalty_last_n: int = 64
    """How many tokens count as recent; -1 is the whole context."""
    mirostat_mode: int = 0
    """0 off, 1 Mirostat, 2 Mirostat 2.0; either replaces all filters above."""
    mirostat_tau: float = 5.0
    """Target surprise."""
    mirostat_eta: float = 0.1
    """Learning rate."""
    seed: int = _abi.LLAMA_DEFAULT_SEED
    """The default draws a seed."""
    logit_bias: Mapping[int, float] = MappingProxyType({})
    """Added to logits by token id; minus infinity forbids a token."""
    top_n_sigma: float = -1.0
    """Keep those within so many standard deviations of the likeliest logit; 0 or less keeps all."""
    xtc_probability: float = 0.0
    """How often the likeliest tokens are left out ("exclude top choices"); 0 is never."""
    xtc_threshold: float = 0.1
    """XTC leaves out all but the least likely of the tokens above this; over 0.5 it does nothing."""
    dynatemp_range: float = 0.0
    """The temperature follows the entropy within this distance of ``temperature``; 0 is fixed."""
    dynatemp_exponent: float = 1.0
    """How entropy becomes temperature."""
    dry_multiplier: float = 0.0
    """Strength of DRY ("don't repeat yourself"), which punishes repeated sequences; 0 is off."""
    dry_base: float = 1.75
    """DRY's penalty grows by this factor with each token of a repetition."""
    dry_allowed_length: int = 2
    """Repetitions up to this many tokens cost nothing."""
    dry_penalty_last_n: int = -1
    """How many tokens DRY looks back; -1 is the whole context, 0 turns it off."""
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    """Texts over which DRY sees no repetition."""
    min_keep: int = 1
    """The fewest tokens that top_p, min_p, typical_p and XTC leave."""
    infill: bool = False
    """Add llama.cpp's sampler for fill-in-the-middle, which ends early; it needs a ``top_k``."""
    penalize_prompt: bool = False
    """Count the prompt's tokens as recent, too, as llama.cpp's server does; with DRY they always do."""

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < _COLDEST

    @property
    def penalizes(self) -> bool:
        """Whether recent tokens matter."""
        return self.penalty_last_n != 0 and (
            self.repeat_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        )

    @property
    def dry(self) -> bool:
        """Whether repeated sequences matter."""
        return self.dry_multiplier > 0 and self.dry_penalty_last_n != 0

    def check(self, vocabulary: Vocabulary) -> None:
        """Raise :class:`ValidationError` for what makes no distribution or aborts in llama.cpp."""
        for name in ("temperature", "frequency_penalty", "presence_penalty"):
            check_number(name, getattr(self, name), -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        for name in ("top_p", "min_p", "typical_p", "xtc_probability", "xtc_threshold"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("repeat_penalty", self.repeat_penalty, 1e-6, 1e6)
        check_number("mirostat_tau", self.mirostat_tau, 1e-6, 1e6)
        check_number("mirostat_eta", self.mirostat_eta, 0, 1e6)
        check_integer("top_k", self.top_k, -(2**31), 2**31 - 1)
        check_integer("penalty_last_n", self.penalty_last_n, -1, 2**20)
        check_integer("min_keep", self.min_keep, 0, 2**31 - 1)
        check_number("top_n_sigma", self.top_n_sigma, -1e6, 1e6)
        check_number("dynatemp_range", self.dynatemp_range, 0, 1e6)
        check_number("dynatemp_exponent", self.dynatemp_exponent, 0, 1e3)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        if self.mirostat_mode not in _MIROSTAT_MODES:
            raise ValidationError(f"mirostat_mode is {self.mirostat_mode!r}; choose 0, 1 or 2")
        self._check_dry(vocabulary)
        if self.infill:
            self._check_infill(vocabulary)
        vocabulary.check(self.logit_bias)
        for token, bias in self.logit_bias.items():
            if bias != -math.inf:
                check_number(f"logit_bias[{token}]", bias, -1e9, 1e9)
        forbidden = sum(bias == -math.inf for bias in self.logit_bias.values())
        if forbidden >= vocabulary.size:
            raise ValidationError("logit_bias forbids every token")

    def _check_dry(self, vocabulary: Vocabulary) -> None:
        check_number("dry_multiplier", self.dry_multiplier, 0, 1e6)
        check_number("dry_base", self.dry_base, 1, 1e6)
        check_integer("dry_allowed_length", self.dry_allowed_length, 0, 2**20)
        check_integer("dry_penalty_last_n", self.dry_penalty_last_n, -1, 2**20)
        if isinstance(self.dry_sequence_breakers, (str, bytes)):
            raise ValidationError(
                f"dry_sequence_breakers is {self.dry_sequence_breakers!r}; give a list of strings"
            )
        for text in self.dry_sequence_breakers:
            if not _fits(text):
                raise ValidationError(
                    f"dry_sequence_breakers has {text!r}; choose strings of 1 to "
                    f"{_LONGEST_BREAK} bytes without NUL"
                )
        if self.dry and vocabulary.type == _abi.LLAMA_VOCAB_TYPE_NONE:
            raise ValidationError("dry_multiplier needs a model with a tokenizer; set it to 0")

    def _check_infill(self, vocabulary: Vocabulary) -> None:
        # llama.cpp compares all pairs of candidates, asserts that there is a token to end with, and
        # throws over a piece that is longer than its buffer
        check_integer("top_k (with infill)", self.top_k, 1, _MOST_FOR_INFILL)
        if max(vocabulary.eot, vocabulary.eos) < 0:
            raise ValidationError(
                "infill needs a model with a token to end with; this one has none"
            )
        if vocabulary.longest_piece > _LONGEST_FOR_INFILL:
            raise ValidationError(
                f"infill takes pieces of up to {_LONGEST_FOR_INFILL} bytes; this model has one of "
                f"{vocabulary.longest_piece}"
            )


class Sampler(_Owner):
    """A chain of samplers with its own state (random numbers, recent tokens, place in a grammar).

    Used by one generation under its context's lock.
    """

    def __init__(
        self,
        model: Model,
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        processors: Sequence[LogitsProcessor] = (),
        n_ctx: int | None = None,
    ) -> None:
        """Build the chain, in the order of llama.cpp's own ``common_sampler``.

        Args:
            model: whose tokens are chosen.
            params: how.
            grammar: what the answer must look like; None for anything.
            processors: called with the tokens so far and the logits, before anything else.
            n_ctx: how far back "the whole context" is, in tokens; None is the model's training
                length.

        Raises:
            ValidationError: a parameter is out of range, or llama.cpp refuses the grammar.
        """
        self._vocabulary = vocabulary = model.vocabulary
        params.check(vocabulary)
        self.params = params
        self._lib = lib = _library.load()
        self._sample = lib.llama_sampler_sample
        self._accept = lib.llama_sampler_accept
        settings = lib.llama_sampler_chain_default_params()
        settings.no_perf = True
        back = min(model.n_ctx_train if n_ctx is None else n_ctx, _FARTHEST)
        made: list[int] = []

        def free(_chain: int) -> None:
            for pointer in made:
                lib.llama_sampler_free(pointer)

        with model.handle.lock:
            _ = model.handle.pointer
            self._chain = _made(lib.llama_sampler_chain_init(settings))
            made.append(self._chain)
            self._handle = Handle("sampler", self._chain, free, model.handle)
            self._handle.close_with(self)
            try:
                for sampler in links(lib, params, vocabulary, back):
                    lib.llama_sampler_chain_add(self._chain, _made(sampler))
                self._grammar: int | None = None
                if grammar is not None:
                    self._grammar = self._parse(grammar)
                    made.append(self._grammar)
            except BaseException:
                self._handle.close()
                raise
        self._back = _looks_back(params, back)
        self._processors = tuple(processors)
        self._enough = _enough(params, vocabulary)
        self._takes_best = self._enough == 1 and params.greedy
        self._hidden = vocabulary.hidden if grammar is not None else frozenset()
        self._history = TokenBuffer() if self._processors else None
        self._candidates = (
            Candidates(lib, vocabulary.size)
            if self._grammar is not None or self._processors
            else None
        )

    def accept(self, tokens: Sequence[int]) -> None:
        """Let it know tokens that it did not choose: the prompt, or what follows it.

        A grammar is for what is chosen here, and does not see them.

        Args:
            tokens: checked ids; negative numbers stand for media, and do not count.
        """
        if self._history is not None:
            self._history.extend([token for token in tokens if token >= 0])
        if not self._back:
            return
        with self._handle.lock:
            pointer = self._handle.pointer
            for token in tokens[-self._back :]:
                if token >= 0:
                    self._accept(pointer, token)

    def sample(self, context: Context, index: int = -1, tokens: Sequence[int] | None = None) -> int:
        """Choose a token from an output of the context's last batch, and remember it.

        Args:
            context: where the logits are.
            index: as for :meth:`Context.output_index`.
            tokens: what logits processors get as the tokens so far; None for those that
                :meth:`accept` and this method have seen.

        Raises:
            GenerationError: nothing can be chosen: the grammar allows no token of the vocabulary,
                or everything is forbidden.
            ValidationError: a logits processor returned something else than scores.
            Exception: whatever a logits processor raises.
        """
        # the model's close() frees samplers before contexts, and waits for this lock alone
        with context.lock, self._handle.lock:
            pointer = self._handle.pointer
            if self._candidates is None:
                if context.held_logits is None:
                    return self._sample(
                        pointer, context.handle.pointer, context.output_index(index)
                    )
                # of a loaded state: llama.cpp's own sampling does not know them
                self._candidates = Candidates(self._lib, self._vocabulary.size)
            token = self._choose(self._candidates, context.logits_view(index), tokens)
            # once, and for the token that counts: the first choice may have been refused
            self._accept(pointer, token)
            if self._grammar is not None:
                self._accept(self._grammar, token)
            if self._history is not None:
                self._history.extend((token,))
            return token

    def _choose(
        self,
        candidates: Candidates,
        logits: NDArray[np.float32],
        tokens: Sequence[int] | None,
    ) -> int:
        best: int | None = None
        if self._history is not None:
            history = self._history if tokens is None else TokenBuffer(tokens)
            # a copy: the callable may keep it, and the logits stay the model's own
            logits = process(self._processors, history.view(), logits.copy())
            # it may have closed this sampler
            _ = self._handle.pointer
            best = best_of(logits)
        token = self._first(candidates, logits, best)
        grammar = self._grammar
        if grammar is not None and (
            token is None or token in self._hidden or not candidates.allows(grammar, token)
        ):
            # llama.cpp's common_sampler_sample: only now pay for asking about more than one token
            if not self._keep_likely(candidates, logits, grammar):
                candidates.fill(logits)
                candidates.drop(self._hidden)
                candidates.apply(grammar)
                if not candidates.compact():
                    raise GenerationError(
                        "the grammar allows no token of this model's vocabulary here: widen the "
                        "grammar by what the vocabulary can spell"
                    )
            candidates.apply(self._chain)
            token = candidates.selected
            # the sampler for fill-in-the-middle may put an ending token in the place of all others
            if token is not None and not candidates.allows(grammar, token):
                token = None
        if token is None:
            raise GenerationError(
                "no token is left to choose: logit_bias, the model's own suppressed tokens and the "
                "grammar or the logits processors forbid all of them together"
            )
        return token

    def _first(
        self, candidates: Candidates, logits: NDArray[np.float32], best: int | None
    ) -> int | None:
        """Return the chain's choice without the grammar; None where nothing can be chosen."""
        if self._takes_best:
            # what llama.cpp's greedy sampler does, without an array of all candidates
            token = int(logits.argmax()) if best is None else best
            return token if logits[token] > -math.inf else None
        likely = likeliest(logits, self._enough) if self._enough else None
        if likely is None:
            candidates.fill(logits)
        else:
            candidates.fill_with(likely, logits)
        candidates.apply(self._chain)
        return candidates.selected

    def _keep_likely(
        self, candidates: Candidates, logits: NDArray[np.float32], grammar: int
    ) -> bool:
        """Keep what the grammar allows of the likeliest tokens; return whether that is enough.

        Of a large vocabulary that takes a small part of the time that asking about all tokens does.
        """
        ids = likeliest(logits, _LIKELY * max(self._enough, _LIKELY)) if self._enough else None
        if ids is None:
            return False
        if self._hidden:
            ids = ids[[token not in self._hidden for token in ids.tolist()]]
        candidates.fill_with(ids, logits)
        candidates.apply(grammar)
        return candidates.compact() >= self._enough

    def _parse(self, grammar: Grammar) -> int:
        if self._vocabulary.type == _abi.LLAMA_VOCAB_TYPE_NONE:
            raise ValidationError("a grammar needs a model with a tokenizer; this one has none")
        if "<" in _NOT_TOKENS.sub("", grammar.text):
            # llama.cpp allows a token whose first characters match before the place of another
            # token, and throws when it is chosen
            raise ValidationError(
                "the grammar names a token of the vocabulary (<…>), with which llama.cpp can end "
                "the process: write it as text"
            )
        _log.clear()
        pointer = self._lib.llama_sampler_init_grammar(
            self._vocabulary.pointer, grammar.text.encode(), grammar.root.encode()
        )
        if pointer is None:
            raise ValidationError(
                f"llama.cpp refuses the grammar with the root {grammar.root!r}",
                log=_log.complaints(),
            )
        return pointer


def _made(sampler: int | None) -> int:
    if sampler is None:
        raise LlamaError("llama.cpp could not make a sampler")
    return sampler


def _enough(params: SamplingParams, vocabulary: Vocabulary) -> int:
    """Return how many of the likeliest tokens decide what is chosen; 0 where all have a say."""
    if (
        params.logit_bias
        or vocabulary.suppressed
        or params.penalizes
        or params.dry
        or (params.mirostat_mode and not params.greedy)
    ):
        return 0
    if params.greedy:
        return 1
    return max(params.top_k, 0) if params.top_n_sigma <= 0 else 0


def _looks_back(params: SamplingParams, n_ctx: int) -> int:
    """Return how many of the last tokens the chain wants to know."""
    lengths = [0]
    if params.penalizes and params.penalize_prompt:
        lengths.append(params.penalty_last_n)
    if params.dry:
        lengths.append(params.dry_penalty_last_n)
    return max(n_ctx if length < 0 else length for length in lengths)


def _fits(text: object) -> bool:
    """Whether llama.cpp takes a sequence breaker whole: it cuts long ones, and C ends at a NUL."""
    if not isinstance(text, str) or not text or "\0" in text:
        return False
    try:
        return len(text.encode()) <= _LONGEST_BREAK
    except UnicodeEncodeError:
        return False
