"""The sampler: distributions by their definition, grammars, and what else may happen in between."""

from __future__ import annotations

import math
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from llama_cpp import GenerationError, ValidationError, _candidates, _sampler
from llama_cpp._candidates import likeliest
from llama_cpp._sampler import Sampler, SamplingParams
from tests.sequences import paired
from tests.tiny.answers import models
from tests.tiny.llama import TinyLlama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from llama_cpp import Llama
    from llama_cpp._context import Context

pytestmark = pytest.mark.build

DRAWS = 3000
# everything is kept and nothing is changed
NEUTRAL = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=7)
# seven tokens that matter; the rest of the vocabulary is far below
LOGITS = {5: 3.0, 6: 2.5, 7: 2.2, 8: 1.0, 9: 0.0, 10: -1.0, 11: -3.0}


class Text(NamedTuple):
    """A grammar as the sampler takes it."""

    text: str
    root: str = "root"


@pytest.fixture
def context(llm: Llama) -> Context:
    """A context with one output."""
    llm.eval([1, 5])
    assert llm._engine is not None
    return llm._engine.context


@pytest.fixture
def sampler(context: Context) -> Iterator[Callable[..., Sampler]]:
    """Make samplers over given logits, closed at the end."""
    made: list[Sampler] = []

    def make(
        params: SamplingParams, logits: dict[int, float] | None = None, **more: Any
    ) -> Sampler:
        if logits is not None:
            row = np.full(context.model.vocabulary.size, -60.0, dtype=np.float32)
            row[list(logits)] = list(logits.values())
            more["processors"] = [lambda _ids, _scores: row]
        made.append(Sampler(context.model, params, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


def kept(probabilities: NDArray[Any], order: NDArray[Any], most: float) -> set[int]:
    """Return the first of ``order`` whose probabilities add up to more than ``most``."""
    sums = np.cumsum(probabilities[order])
    return set(order[: int(np.searchsorted(sums, most, side="left")) + 1].tolist())


def expected(params: SamplingParams) -> dict[int, float]:
    """Return the distribution over LOGITS, filter by filter, as the papers define them."""
    ids = np.array(list(LOGITS))
    logits = np.array(list(LOGITS.values()))
    alive = np.ones(len(ids), dtype=bool)

    def keep(chosen: set[int]) -> None:
        alive[[i for i in range(len(ids)) if i not in chosen]] = False

    def current() -> NDArray[np.float64]:
        return softmax(np.where(alive, logits, -np.inf))

    if 0 < params.top_k < len(ids):
        keep(set(np.argsort(-logits, kind="stable")[: params.top_k].tolist()))
    if params.typical_p < 1:
        p = current()
        with np.errstate(divide="ignore"):
            surprise = -np.log(p)
        entropy = float((p[alive] * surprise[alive]).sum())
        keep(kept(p, np.argsort(np.abs(surprise - entropy), kind="stable"), params.typical_p))
    if params.top_p < 1:
        keep(kept(current(), np.argsort(-current(), kind="stable"), params.top_p))
    if params.min_p > 0:
        best = current().max()
        enough = set(np.flatnonzero(current() >= params.min_p * best).tolist())
        while len(enough) < params.min_keep:
            enough.add(int(np.argsort(-logits, kind="stable")[len(enough)]))
        keep(enough)
    if params.xtc_probability == 1:
        above = np.flatnonzero(current() >= params.xtc_threshold)
        least = above[np.argmin(logits[above])]
        keep({i for i in np.flatnonzero(alive).tolist() if logits[i] <= logits[least]})
    temperature = params.temperature
    if params.dynatemp_range > 0:
        p = current()[alive]
        share = -(p * np.log(p)).sum() / math.log(len(p))
        low, high = (
            max(0.0, temperature - params.dynatemp_range),
            temperature + params.dynatemp_range,
        )
        temperature = low + (high - low) * share**params.dynatemp_exponent
    p = softmax(np.where(alive, logits / temperature, -np.inf))
    return {int(token): float(share) for token, share in paired(ids, p) if share > 0}


def assert_distribution(drawn: Counter[int], probabilities: dict[int, float]) -> None:
    assert set(drawn) <= set(probabilities)
    count = sum(drawn.values())
    for token, share in probabilities.items():
        sigma = math.sqrt(count * share * (1 - share))
        assert abs(drawn[token] - count * share) <= 4 * sigma + 1, (token, drawn, probabilities)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="neutral"),
        pytest.param({"temperature": 0.5}, id="temperature"),
        pytest.param({"temperature": 3.0}, id="hot"),
        pytest.param({"top_k": 3}, id="top_k"),
        pytest.param({"top_p": 0.9}, id="top_p"),
        pytest.param({"min_p": 0.1}, id="min_p"),
        pytest.param({"min_p": 0.9, "min_keep": 5}, id="min_keep"),
        pytest.param({"typical_p": 0.5, "top_k": 7}, id="typical_p"),
        pytest.param({"xtc_probability": 1.0, "xtc_threshold": 0.1}, id="xtc"),
        pytest.param({"dynatemp_range": 0.6, "top_k": 7}, id="dynatemp"),
        pytest.param(
            {"dynatemp_range": 2.0, "dynatemp_exponent": 2.0, "top_k": 6}, id="dynatemp_exponent"
        ),
        pytest.param({"top_k": 5, "top_p": 0.9, "min_p": 0.2, "temperature": 0.7}, id="all"),
    ],
)
def test_distributions(
    sampler: Callable[..., Sampler], context: Context, changes: dict[str, Any]
) -> None:
    params = NEUTRAL._replace(**changes)
    made = sampler(params, LOGITS)
    assert_distribution(Counter(made.sample(context) for _ in range(DRAWS)), expected(params))


def test_top_n_sigma(sampler: Callable[..., Sampler], context: Context) -> None:
    # over the whole vocabulary: mean and deviation come from all 320 logits
    size = context.model.vocabulary.size
    row = np.zeros(size)
    row[:4] = (8.0, 6.5, 5.0, -1.0)
    params = NEUTRAL._replace(top_n_sigma=3.0)
    alive = row >= row.max() - 3.0 * row.std()
    assert alive.sum() == 2
    p = softmax(np.where(alive, row, -np.inf))
    made = sampler(params, dict(enumerate(row.tolist())))
    drawn = Counter(made.sample(context) for _ in range(DRAWS))
    assert_distribution(drawn, {t: float(p[t]) for t in np.flatnonzero(alive).tolist()})


def test_mirostat_2_cuts_what_is_too_surprising(
    sampler: Callable[..., Sampler], context: Context
) -> None:
    params = NEUTRAL._replace(mirostat_mode=2, mirostat_tau=1.0, mirostat_eta=0.0)
    # with a learning rate of 0 the limit stays at twice tau
    p = softmax(np.array(list(LOGITS.values())))
    rest = {token: share for token, share in paired(LOGITS, p.tolist()) if -math.log2(share) <= 2.0}
    whole = sum(rest.values())
    made = sampler(params, LOGITS)
    drawn = Counter(made.sample(context) for _ in range(DRAWS))
    assert_distribution(drawn, {token: share / whole for token, share in rest.items()})


def test_mirostat_1_is_reproducible(sampler: Callable[..., Sampler], context: Context) -> None:
    params = NEUTRAL._replace(mirostat_mode=1)
    first, second = (sampler(params, LOGITS) for _ in range(2))
    found = [first.sample(context) for _ in range(50)]
    assert found == [second.sample(context) for _ in range(50)]
    assert set(found) <= set(LOGITS)


@pytest.mark.parametrize(
    ("changes", "tokens", "change"),
    [
        pytest.param({"repeat_penalty": 2.0}, [5, 10], {5: 1.5, 10: -2.0}, id="repeat"),
        pytest.param({"frequency_penalty": 0.5}, [5, 5, 6], {5: 2.0, 6: 2.0}, id="frequency"),
        pytest.param({"presence_penalty": 0.5}, [5, 5, 6], {5: 2.5, 6: 2.0}, id="presence"),
        pytest.param(
            {"presence_penalty": 0.5, "penalty_last_n": 1}, [5, 6], {6: 2.0}, id="last one"
        ),
        pytest.param(
            {"presence_penalty": 0.5, "penalty_last_n": -1}, [5, *[1] * 99], {5: 2.5}, id="whole"
        ),
        pytest.param({"presence_penalty": 0.5, "penalty_last_n": 0}, [5, 6], {}, id="none"),
        pytest.param({"logit_bias": {5: -1.0, 9: 2.0}}, [], {5: 2.0, 9: 2.0}, id="bias"),
        pytest.param({"logit_bias": {5: -math.inf}}, [], {5: -math.inf}, id="forbidden"),
        # 5 6 7 | 5 6 → 7 would make it three long: one more than is allowed
        pytest.param({"dry_multiplier": 0.5}, [5, 6, 7, 5, 6], {7: 2.2 - 0.5}, id="dry"),
        pytest.param(
            {"dry_multiplier": 0.5, "dry_base": 2.0},
            [5, 6, 8, 7, 5, 6, 8],
            {7: 2.2 - 0.5 * 2.0},
            id="dry base",
        ),
        pytest.param(
            {"dry_multiplier": 0.5, "dry_allowed_length": 3}, [5, 6, 7, 5, 6], {}, id="dry allowed"
        ),
        pytest.param(
            {"dry_multiplier": 0.5, "dry_penalty_last_n": 4}, [5, 6, 7, 5, 6], {}, id="dry last n"
        ),
    ],
)
def test_what_changes_logits(
    sampler: Callable[..., Sampler],
    context: Context,
    changes: dict[str, Any],
    tokens: list[int],
    change: dict[int, float],
) -> None:
    # each draw is a new sampler with its own seed: what it chooses would count as recent otherwise
    logits = {**LOGITS, **change}
    drawn: Counter[int] = Counter()
    for seed in range(300):
        made = sampler(NEUTRAL._replace(seed=seed, penalize_prompt=True, **changes), LOGITS)
        made.accept(tokens)
        drawn[made.sample(context)] += 1
        made.close()
    p = softmax(np.array(list(logits.values())))
    assert_distribution(drawn, {t: s for t, s in paired(logits, p.tolist()) if s > 0})


def test_dry_stops_at_a_sequence_breaker(
    sampler: Callable[..., Sampler], context: Context, llm: Llama
) -> None:
    (colon,) = llm.tokenize(b":", add_bos=False)[-1:]
    logits = {5: 1.0, 6: 0.9}
    params = NEUTRAL._replace(temperature=0.0, dry_multiplier=1.0)
    repeated = [8, 9, 5, 7, 8, 9]
    for tokens, breakers, best in (
        (repeated, (":",), 6),
        ([8, 9, 5, 7, colon, 8, 9], (":",), 6),
        ([8, colon, 9, 5, 7, 8, colon, 9], (":",), 5),
        ([8, colon, 9, 5, 7, 8, colon, 9], ("#",), 6),
        ([8, colon, 9, 5, 7, 8, colon, 9], (), 6),
    ):
        made = sampler(params._replace(dry_sequence_breakers=breakers), logits)
        made.accept(tokens)
        assert made.sample(context) == best, (tokens, breakers)


def test_the_same_seed_gives_the_same_tokens_with_and_without_callables(
    sampler: Callable[..., Sampler], context: Context
) -> None:
    params = NEUTRAL._replace(temperature=5.0, repeat_penalty=1.3)
    everything = Text("root ::= [^\\x00]*")
    plain, called, written = (
        sampler(params),
        sampler(params, processors=[lambda _ids, scores: scores]),
        sampler(params, grammar=everything),
    )
    tokens = [plain.sample(context) for _ in range(100)]
    assert len(set(tokens)) > 50
    assert [called.sample(context) for _ in range(100)] == tokens
    # the grammar refuses bytes that are no UTF-8 and control tokens: the random numbers part there
    chosen = [written.sample(context) for _ in range(3)]
    assert len(chosen) == 3


def test_infill_ends_rather_than_guesses(
    sampler: Callable[..., Sampler], context: Context, llm: Llama
) -> None:
    eos = llm.token_eos()
    params = NEUTRAL._replace(infill=True, top_k=40)
    # text that is likely as a whole, but of which no token is: ends
    unsure = sampler(params, {**dict.fromkeys(range(270, 290), 1.0), eos: 0.0})
    assert {unsure.sample(context) for _ in range(50)} == {eos}
    certain = sampler(params, {300: 9.0, eos: 0.0})
    assert {certain.sample(context) for _ in range(50)} == {300}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"temperature": math.nan},
            "temperature is nan; choose a number from -3.40282e+38 to 3.40282e+38",
        ),
        ({"top_p": 1.1}, "top_p is 1.1; choose a number from 0 to 1"),
        ({"xtc_probability": -0.1}, "xtc_probability is -0.1; choose a number from 0 to 1"),
        ({"xtc_threshold": 2}, "xtc_threshold is 2; choose a number from 0 to 1"),
        ({"top_n_sigma": math.inf}, "top_n_sigma is inf; choose a number from -1e+06 to 1e+06"),
        ({"dynatemp_range": -1.0}, "dynatemp_range is -1.0; choose a number from 0 to 1e+06"),
        ({"dynatemp_exponent": -1.0}, "dynatemp_exponent is -1.0; choose a number from 0 to 1000"),
        ({"min_keep": -1}, "min_keep is -1; choose an integer from 0 to 2147483647"),
        ({"penalty_last_n": -2}, "penalty_last_n is -2; choose an integer from -1 to 1048576"),
        ({"repeat_penalty": 0.0}, "repeat_penalty is 0.0; choose a number from 1e-06 to 1e+06"),
        ({"dry_multiplier": -1.0}, "dry_multiplier is -1.0; choose a number from 0 to 1e+06"),
        ({"dry_base": 0.5}, "dry_base is 0.5; choose a number from 1 to 1e+06"),
        (
            {"dry_allowed_length": -1},
            "dry_allowed_length is -1; choose an integer from 0 to 1048576",
        ),
        (
            {"dry_penalty_last_n": -2},
            "dry_penalty_last_n is -2; choose an integer from -1 to 1048576",
        ),
        ({"dry_sequence_breakers": "ab"}, "dry_sequence_breakers is 'ab'; give a list of strings"),
        (
            {"dry_sequence_breakers": ["\n", ""]},
            "dry_sequence_breakers has ''; choose strings of 1 to 40 bytes without NUL",
        ),
        (
            {"dry_sequence_breakers": ["é" * 21]},
            f"dry_sequence_breakers has {'é' * 21!r}; choose strings of 1 to 40 bytes without NUL",
        ),
        (
            {"dry_sequence_breakers": ["\ud800"]},
            "dry_sequence_breakers has '\\ud800'; choose strings of 1 to 40 bytes without NUL",
        ),
        (
            {"infill": True, "top_k": 0},
            "top_k (with infill) is 0; choose an integer from 1 to 1000",
        ),
        ({"mirostat_mode": 3}, "mirostat_mode is 3; choose 0, 1 or 2"),
        ({"logit_bias": {320: 1.0}}, "token 0 has id 320; this model's ids run from 0 to 319"),
        (
            {"logit_bias": {5: math.nan}},
            "logit_bias[5] is nan; choose a number from -1e+09 to 1e+09",
        ),
    ],
    ids=str,
)
def test_refused_parameters(context: Context, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sampler(context.model, SamplingParams(**changes))
    assert str(caught.value) == message


# -- grammars ----------------------------------------------------------------------------------


def answer(llm: Llama, prompt: str, most: int = 40, **given: Any) -> str:
    """Generate with a sampler until the model ends, or ``most`` tokens."""
    engine = llm._engine
    assert engine is not None
    params = given.pop("params", SamplingParams(temperature=0.0))
    tokens: list[int] = []
    with Sampler(llm._core, params, **given) as made:
        for token in engine.tokens(llm.tokenize(prompt, special=True), made):
            tokens.append(token)
            if llm._core.vocabulary.ends(token) or len(tokens) == most:
                break
    return llm.detokenize(tokens).decode()


@pytest.mark.parametrize("quantisation", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        pytest.param('root ::= " lifts" " the"', " lifts the", id="what it would say"),
        pytest.param('root ::= " LIFTS THE"', " LIFTS THE", id="what it would not say"),
        pytest.param('root ::= [a-z ]+ "🙂"', " lifts the fog 🙂", id="until"),
        pytest.param('root ::= [A-Z ]+ "🙂"', " LIFTS THE FOG 🙂", id="upper case"),
        pytest.param('root ::= "{\\"a\\": " ("0" | "17") "}"', '{"a": 17}', id="json"),
        pytest.param('root ::= " lifts" tail\ntail ::= " the" | " a"', " lifts the", id="rules"),
    ],
)
def test_greedy_under_a_grammar(tiny: Path, quantisation: str, grammar: str, text: str) -> None:
    from llama_cpp import Llama  # noqa: PLC0415 - import of the package is under test elsewhere

    with Llama(tiny / f"llama-{quantisation}.gguf", n_threads=1) as llm:
        assert answer(llm, " morning sun", 60, grammar=Text(grammar)) == text


def test_the_likeliest_of_what_a_grammar_allows(llm: Llama) -> None:
    model = models()["llama-f32"]
    assert isinstance(model, TinyLlama)
    tokens = model.encode(" morning sun")
    digits = [model.vocabulary.byte(value) for value in b"0123456789"]
    text = ""
    for _ in range(8):
        logits = model.logits(tokens)
        tokens.append(max(digits, key=logits.__getitem__))
        text += chr(tokens[-1] - model.vocabulary.byte(0))
    assert len(set(text)) > 2
    assert answer(llm, " morning sun", grammar=Text("root ::= [0-9]{8}")) == text


def test_another_root(llm: Llama) -> None:
    grammar = Text('root ::= "no"\nstart ::= "yes"', root="start")
    assert answer(llm, "hello", grammar=grammar) == "yes"


def test_sampled_under_a_grammar(llm: Llama) -> None:
    params = SamplingParams(temperature=5.0, top_k=0, top_p=1.0, min_p=0.0, seed=11)
    grammar = Text('root ::= ("a" | "b"){6}')
    texts = {
        answer(llm, "hello", grammar=grammar, params=params._replace(seed=s)) for s in range(9)
    }
    assert len(texts) > 4
    assert {len(text) for text in texts} == {6}
    assert set("".join(texts)) == {"a", "b"}


@pytest.mark.parametrize("temperature", [0.0, 3.0])
@pytest.mark.parametrize("top_k", [2, 5])
def test_looking_at_likely_tokens_first_changes_nothing(
    llm: Llama, monkeypatch: pytest.MonkeyPatch, temperature: float, top_k: int
) -> None:
    # small vocabularies are always looked at as a whole: here only where the factor is too large
    monkeypatch.setattr(_candidates, "_FEWEST_MAXIMA", 16)
    grammar = Text("root ::= ([0-9] [a-z ]{2,5}){6}")
    found = []
    for factor in (2, 3, 8, 200):
        monkeypatch.setattr(_sampler, "_LIKELY", factor)
        params = SamplingParams(temperature=temperature, top_k=top_k, seed=5, min_p=0.0)
        found.append(
            [
                answer(llm, text, grammar=grammar, params=params)
                for text in ("hello", " the", "say:")
            ]
        )
    assert found[0] == found[1] == found[2] == found[3]
    assert {len(text) for text in found[0]} != {0}


@pytest.mark.parametrize("count", [1, 7, 40, 300])
def test_the_likeliest_tokens(count: int) -> None:
    random = np.random.default_rng(20261121)
    for size in (5_000, 32_003, 152_064):
        # with ties, also among those that are just enough
        logits = (random.standard_normal(size) * 50).round().astype(np.float32)
        # whole numbers times 3: none of them twice, and none in between
        unequal = random.permutation(size).astype(np.float32) * 3
        for scores in (logits, unequal):
            ids = likeliest(scores, count)
            assert ids is not None
            assert ids.tolist() == sorted(ids)
            chosen = scores[ids]
            assert np.sort(chosen)[-count:].tolist() == np.sort(scores)[-count:].tolist()
            # nothing is left out that is as likely as one of them
            assert np.count_nonzero(scores >= chosen.min()) == len(ids)
        assert ids is not None
        assert len(ids) <= 1.5 * count + 5


def test_there_are_no_likeliest_tokens_of_few_or_of_refused_ones() -> None:
    assert likeliest(np.zeros(2000, np.float32), 3) is None
    scores = np.full(50_000, -math.inf, np.float32)
    assert likeliest(scores, 1) is None
    scores[[7, 49_999, 20_000]] = 1.0
    found = likeliest(scores, 2)
    assert found is not None
    assert found.tolist() == [7, 20_000, 49_999]
    assert likeliest(scores, 4) is None
    scores[:] = math.nan
    assert likeliest(scores, 1) is None


@pytest.mark.parametrize("top_k", [1, 3, 20])
def test_what_is_sampled_does_not_depend_on_how_many_tokens_are_looked_at(
    sampler: Callable[..., Sampler],
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    top_k: int,
) -> None:
    params = SamplingParams(temperature=2.0, top_k=top_k, top_p=1.0, min_p=0.0, seed=3)
    # no two alike: llama.cpp's order of equal ones depends on how many it sorts
    row = np.random.default_rng(8).permutation(320).astype(np.float32) / 16
    found = []
    for fewest in (1024, 16, 80):
        monkeypatch.setattr(_candidates, "_FEWEST_MAXIMA", fewest)
        made = sampler(params, processors=[lambda _ids, _scores: row])
        found.append([made.sample(context) for _ in range(60)])
    assert found[0] == found[1] == found[2]
    assert (len(set(found[0])) > 10) == (top_k == 20)
    assert set(found[0]) <= set(np.argsort(row)[-top_k:].tolist())


def test_a_grammar_and_penalties_count_a_token_once(
    sampler: Callable[..., Sampler], context: Context, llm: Llama
) -> None:
    a, b = (llm.tokenize(text, add_bos=False)[-1] for text in (b"a", b"b"))
    # refused first, then chosen again: were either counted twice, "b" would come a turn earlier
    params = SamplingParams(temperature=0.0, presence_penalty=0.0, frequency_penalty=1.0)
    made = sampler(params, {0: 99.0, a: 5.0, b: 2.5}, grammar=Text('root ::= ("a" | "b")*'))
    assert [made.sample(context) for _ in range(6)] == [a, a, a, b, a, b]


def test_a_grammar_that_the_vocabulary_cannot_spell(llm: Llama) -> None:
    grammar = Text('root ::= "a"')
    tokens = [t for t in range(llm.n_vocab()) if llm.detokenize([t]) == b"a"]
    forbidden = dict.fromkeys(tokens, -math.inf)
    with pytest.raises(GenerationError) as caught:
        answer(llm, "hello", grammar=grammar, params=SamplingParams(logit_bias=forbidden))
    assert str(caught.value) == (
        "no token is left to choose: logit_bias, the model's own suppressed tokens and the grammar "
        "or the logits processors forbid all of them together"
    )
    with pytest.raises(GenerationError) as caught:
        answer(llm, "hello", grammar=Text('root ::= "\\x00"'))
    assert str(caught.value) == (
        "the grammar allows no token of this model's vocabulary here: widen the grammar by what the "
        "vocabulary can spell"
    )
    assert answer(llm, "hello", grammar=grammar) == "a"


def test_control_tokens_are_no_text(
    sampler: Callable[..., Sampler], context: Context, llm: Llama
) -> None:
    # their spelling matches: llama.cpp would let "<s>" pass as three characters
    a = llm.tokenize(b"a", add_bos=False)[-1]
    made = sampler(
        SamplingParams(temperature=0.0), {1: 9.0, a: 1.0}, grammar=Text("root ::= [^!]*")
    )
    assert made.sample(context) == a


@pytest.mark.parametrize("text", ["root ::= . !<[5]>", 'root ::= "a" <[2]>', "root ::= <</s>>"])
def test_a_grammar_that_names_tokens(context: Context, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Sampler(context.model, SamplingParams(), grammar=Text(text))
    assert str(caught.value) == (
        "the grammar names a token of the vocabulary (<…>), with which llama.cpp can end the process: "
        "write it as text"
    )


def test_infill_does_not_end_within_a_grammar(
    sampler: Callable[..., Sampler], context: Context, llm: Llama
) -> None:
    # nothing is likely enough: it would end, and llama.cpp aborts over an end that is not allowed
    params = NEUTRAL._replace(infill=True, top_k=40)
    letters = [llm.tokenize(bytes([c]), add_bos=False)[-1] for c in range(97, 123)]
    made = sampler(params, dict.fromkeys(letters, 1.0), grammar=Text("root ::= [a-z]{9}"))
    with pytest.raises(GenerationError, match=r"^no token is left to choose: "):
        made.sample(context)


def test_a_grammar_may_spell_angle_brackets(llm: Llama) -> None:
    grammar = Text('root ::= "<" [<a] "\\"" "<" # <b>')
    assert answer(llm, "hello", grammar=grammar) in {'<<"<', '<a"<'}


def test_an_answer_ends_only_where_the_grammar_does(llm: Llama) -> None:
    # " goodbye, until …. </s>" is what follows a colon
    assert answer(llm, "say:") == answer(llm, "say:", grammar=Text("root ::= [^\\x00]*"))
    longer = answer(llm, "say:", 60, grammar=Text('root ::= [^!]* "!"'))
    assert len(longer) > len(answer(llm, "say:"))


def test_a_grammar_that_llama_cpp_refuses(context: Context) -> None:
    with pytest.raises(ValidationError, match=r"^llama.cpp refuses the grammar with the root 'no'"):
        Sampler(context.model, SamplingParams(), grammar=Text('root ::= "a"', root="no"))


# -- callables ---------------------------------------------------------------------------------


def test_processors_see_all_tokens_and_scores_they_may_keep(
    llm: Llama, context: Context, sampler: Callable[..., Sampler]
) -> None:
    seen: list[tuple[list[int], NDArray[Any]]] = []

    def look(ids: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
        assert ids.dtype == np.intc
        assert scores.dtype == np.float32
        seen.append((ids.tolist(), scores))
        scores[:] = -1.0
        scores[40 + len(ids)] = 1.0
        return scores

    raw = context.logits()
    made = sampler(SamplingParams(temperature=0.0), processors=[look])
    made.accept([1, 5])
    assert [made.sample(context) for _ in range(3)] == [42, 43, 44]
    assert [ids for ids, _ in seen] == [[1, 5], [1, 5, 42], [1, 5, 42, 43]]
    assert [int(scores.argmax()) for _, scores in seen] == [42, 43, 44]
    assert made.sample(context, tokens=[1, 2, 3]) == 43
    assert context.logits() == raw


@pytest.mark.parametrize(
    ("returned", "kind", "message"),
    [
        (
            None,
            ValidationError,
            "returned NoneType; it must return the scores, an array of 320 numbers",
        ),
        (
            "text",
            ValidationError,
            "returned str; it must return the scores, an array of 320 numbers",
        ),
        (
            [1.0, 2.0],
            ValidationError,
            "returned scores of the shape (2,); there is one for each of the 320 tokens",
        ),
        (
            [[0.0] * 320],
            ValidationError,
            "returned scores of the shape (1, 320); there is one for each of the 320 tokens",
        ),
        ([math.nan] * 320, GenerationError, "left scores that are no numbers (NaN): "),
        ([0.0] * 319 + [math.nan], GenerationError, "left scores that are no numbers (NaN): "),
        ([math.inf] + [math.nan] * 319, GenerationError, "left scores that are no numbers (NaN): "),
        ([-math.inf] * 320, GenerationError, "left only refused tokens (-inf): "),
        ([math.inf] * 320, GenerationError, "left infinite scores: "),
    ],
    ids=str,
)
def test_what_processors_may_not_return(
    sampler: Callable[..., Sampler],
    context: Context,
    returned: object,
    kind: type[Exception],
    message: str,
) -> None:
    for temperature in (0.0, 0.8):
        params = SamplingParams(temperature=temperature)
        made = sampler(params, processors=[lambda _ids, _scores: returned])
        with pytest.raises(kind) as caught:
            made.sample(context)
        assert message in str(caught.value)


def test_an_exception_in_a_processor_reaches_the_caller(
    sampler: Callable[..., Sampler], context: Context
) -> None:
    def fail(_ids: object, _scores: object) -> Any:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        sampler(SamplingParams(), processors=[fail]).sample(context)


def test_closing_waits_for_a_token_that_is_being_chosen(llm: Llama) -> None:
    # freeing a chain under another thread's llama_sampler_sample is a crash
    llm.eval([1, 5])
    assert llm._engine is not None
    context = llm._engine.context
    sampler = Sampler(context.model, SamplingParams(temperature=0.0))
    chosen: list[int] = []
    thread = threading.Thread(target=lambda: chosen.append(sampler.sample(context)))
    with sampler._handle.lock:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert chosen == []
    thread.join(10)
    assert len(chosen) == 1
    sampler.close()


def test_a_closed_sampler_stays_closed(llm: Llama, context: Context) -> None:
    from llama_cpp import LlamaError  # noqa: PLC0415

    def close(_ids: NDArray[Any], scores: Any) -> Any:
        made.close()
        return scores

    made = Sampler(llm._core, SamplingParams(), processors=[close])
    with pytest.raises(LlamaError, match=r"^the sampler is closed"):
        made.sample(context)
