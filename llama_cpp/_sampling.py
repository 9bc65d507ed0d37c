"""From the arguments of a call to what samples: parameters, grammar, the application's callables."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from llama_cpp import _abi
from llama_cpp._errors import ValidationError
from llama_cpp._processors import processors_of
from llama_cpp._sampler import Sampler, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Union

    from llama_cpp._processors import Processors
    from llama_cpp._sampler import Grammar
    from llama_cpp.llama import Llama

    Bias = Mapping[Union[int, str], float]

_ANY_SEED = -1


class MoreSampling(TypedDict, total=False):
    """What a call may choose beside the parameters it names; :class:`SamplingParams` explains them."""

    penalty_last_n: int
    top_n_sigma: float
    xtc_probability: float
    xtc_threshold: float
    dynatemp_range: float
    dynatemp_exponent: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    min_keep: int
    infill: bool
    penalize_prompt: bool


_MORE = frozenset(MoreSampling.__annotations__)


def parameters(
    self: Llama,
    more: Mapping[str, object],
    *,
    seed: int | None,
    logit_bias: Bias | None,
    **given: object,
) -> SamplingParams:
    """Return the checked parameters of one call.

    Args:
        self: whose defaults are for what is not given.
        more: a :class:`MoreSampling`.
        seed: of this call; None is the object's, -1 draws one.
        logit_bias: by token id, which may be spelled as a string as in JSON.
        given: parameters by their names.

    Raises:
        ValidationError: one is out of range.
        TypeError: one has a name that nothing knows.
    """
    for name in more:
        if name not in _MORE:
            raise TypeError(f"unexpected keyword argument {name!r}")
    if seed is not None:
        given["seed"] = _abi.LLAMA_DEFAULT_SEED if seed == _ANY_SEED else seed
    if logit_bias is not None:
        given["logit_bias"] = {_token(token): bias for token, bias in logit_bias.items()}
    params = self._defaults._replace(**given, **more)  # type: ignore[arg-type]
    params.check(self._core.vocabulary)
    return params


def sampler(
    self: Llama,
    params: SamplingParams,
    grammar: Grammar | str | None,
    logits_processor: Processors | None,
) -> Sampler:
    """Return what chooses the tokens of one call; to be closed.

    Raises:
        ValidationError: the grammar or a processor cannot be used.
    """
    return Sampler(
        self._core,
        params,
        grammar=_grammar(grammar),
        processors=processors_of(logits_processor),
        n_ctx=self._running().context.n_ctx_seq,
    )


def _grammar(grammar: Grammar | str | None) -> Grammar | None:
    if grammar is None:
        return None
    from llama_cpp.llama_grammar import LlamaGrammar  # noqa: PLC0415 - few calls have one

    if isinstance(grammar, LlamaGrammar):
        return grammar
    if isinstance(grammar, str):
        return LlamaGrammar.from_string(grammar, verbose=False)
    raise ValidationError(f"grammar is {grammar!r}; give a LlamaGrammar, or GBNF as a string")


def _token(token: int | str) -> int:
    if isinstance(token, str):
        try:
            return int(token)
        except ValueError:
            raise ValidationError(f"logit_bias has the key {token!r}; keys are token ids") from None
    return token
