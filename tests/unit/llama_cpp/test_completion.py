"""Text completion: every parameter, whole and in parts, with exact answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llama_cpp import Llama, ValidationError
from llama_cpp.llama_cache import LlamaRAMCache
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from tests.sequences import paired
from tests.tiny.answers import models
from tests.tiny.llama import TinyLlama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.build

STORY = " lifts the fog 🙂 and river birds hum morning sun lifts the fog 🙂 and"


def tiny_llama() -> TinyLlama:
    model = models()["llama-f32"]
    assert isinstance(model, TinyLlama)
    return model


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = logits - logits.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def joined(chunks: Sequence[Any]) -> dict[str, Any]:
    """Put the parts of a streamed answer together."""
    whole: dict[str, Any] = {"text": "", "logprobs": None, "finish_reason": None}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert whole["finish_reason"] is None
        whole["text"] += choice["text"]
        whole["finish_reason"] = choice["finish_reason"]
        if choice["logprobs"] is not None:
            found = whole["logprobs"] or {key: [] for key in choice["logprobs"]}
            whole["logprobs"] = {key: found[key] + choice["logprobs"][key] for key in found}
    return whole


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quantisation", ["f32", "f16", "q8_0", "q4_0"])
def test_known_answers(tiny: Path, answers: dict[str, Any], quantisation: str) -> None:
    name = f"llama-{quantisation}"
    with Llama(tiny / f"{name}.gguf", n_threads=1) as llm:
        for case in answers[name]["greedy"]:
            given: dict[str, Any] = {"max_tokens": len(case["tokens"]), "temperature": 0.0}
            done = llm.create_completion(case["prompt"], **given)
            assert done["choices"][0]["text"] == case["text"]
            if case["prompt_text"] is not None:
                again = llm(case["prompt_text"], stream=True, **given)
                assert joined(list(again))["text"] == case["text"]


def test_the_whole_shape(llm: Llama) -> None:
    done: Any = llm.create_completion(" morning sun", max_tokens=3, temperature=0.0, model="tiny")
    assert done["id"].startswith("cmpl-")
    assert done["created"] > 1_700_000_000
    done["id"], done["created"] = "", 0
    assert done == {
        "id": "",
        "object": "text_completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"text": " lifts", "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@pytest.mark.parametrize(
    ("given", "text", "reason"),
    [
        pytest.param({"max_tokens": 11}, " lifts the fog 🙂", "length", id="length"),
        pytest.param({"max_tokens": 10}, " lifts the fog ", "length", id="half a character"),
        pytest.param({"stop": ["fog"]}, " lifts the ", "stop", id="stop"),
        pytest.param({"stop": "river"}, " lifts the fog 🙂 and ", "stop", id="one stop"),
        pytest.param({"stop": []}, STORY, "length", id="no stop"),
        pytest.param({"stop": None}, STORY, "length", id="stop is None"),
        pytest.param(
            {"stop": ["🙂"], "echo": True}, " morning sun lifts the fog ", "stop", id="echo"
        ),
        pytest.param({"logit_bias": {"2": 1e9}}, "", "stop", id="bias of digits"),
        pytest.param({"logit_bias": {2: 1e9}}, "", "stop", id="bias"),
        pytest.param({"grammar": 'root ::= " lifts" " a"'}, " lifts a", "stop", id="grammar"),
        pytest.param(
            {"stopping_criteria": lambda ids, _logits: len(ids) >= 11},
            " lifts the",
            "stop",
            id="criterion",
        ),
        pytest.param({"tfs_z": 0.5}, STORY, "length", id="tfs_z does nothing"),
        pytest.param({"seed": -1}, STORY, "length", id="any seed"),
    ],
)
def test_what_ends_an_answer(llm: Llama, given: dict[str, Any], text: str, reason: str) -> None:
    options = {"max_tokens": 40, "temperature": 0.0, **given}
    whole = llm.create_completion(" morning sun", **options)["choices"][0]
    streamed = joined(list(llm.create_completion(" morning sun", stream=True, **options)))
    assert (whole["text"], whole["finish_reason"]) == (text, reason)
    assert (streamed["text"], streamed["finish_reason"]) == (whole["text"], reason)


def test_max_tokens_of_nothing_fills_the_context(llm: Llama) -> None:
    for nothing in (None, 0, -1):
        done: Any = llm.create_completion(
            [5], max_tokens=nothing, temperature=0, logit_bias={2: -math.inf}
        )
        assert done["usage"]["completion_tokens"] == llm.n_ctx()
        assert done["choices"][0]["finish_reason"] == "length"


def test_all_parameters_by_place(llm: Llama) -> None:
    # from suffix to stop
    done: Any = llm(" morning", None, 5, 0.0, 0.95, 0.05, 1.0, 1, True, ["lift"])
    assert done["choices"][0]["text"] == " morning sun "
    assert done["choices"][0]["logprobs"]["tokens"] == [" m", "or", "ni", "ng", " s", "un", " l"]


def test_sampled_answers_are_reproducible(llm: Llama) -> None:
    options: dict[str, Any] = {
        "max_tokens": 30,
        "temperature": 2.0,
        "seed": 5,
        "dry_multiplier": 0.1,
    }
    first: Any = llm.create_completion("hello", **options)
    again: Any = llm.create_completion("hello", **options)
    other: Any = llm.create_completion("hello", **{**options, "seed": 6})
    assert first["choices"] == again["choices"]
    assert first["choices"] != other["choices"]


def uniform(seed: int) -> Iterator[float]:
    """Yield what C++'s ``uniform_real_distribution<double>`` makes of ``mt19937(seed)``."""
    generator = np.random.MT19937()
    # as the C++ standard seeds it
    generator._legacy_seeding(seed)
    while True:
        low, high = int(generator.random_raw()), int(generator.random_raw())
        yield (low + high * 2**32) / 2**64


def drawn(prompt: list[int], count: int, *, seed: int, temperature: float, top_k: int) -> list[int]:
    """Return the tokens that must be drawn: the likeliest first, until the random share is reached."""
    model, tokens, shares = tiny_llama(), list(prompt), uniform(seed)
    for _ in range(count):
        logits = model.logits(tokens)
        best = np.argsort(-logits, kind="stable")[:top_k]
        sums = np.cumsum(np.exp((logits[best] - logits[best[0]]) / temperature))
        tokens.append(int(best[np.searchsorted(sums, sums[-1] * next(shares))]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("quantisation", ["f32", "f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sampled_answers_by_definition(tiny: Path, quantisation: str, seed: int) -> None:
    prompt = [1, 266, 268, 270, 272]
    expected = drawn(prompt, 24, seed=seed, temperature=1.5, top_k=2)
    assert len(set(expected) - set(tiny_llama().expected_tokens(prompt, 24))) > 3
    with Llama(tiny / f"llama-{quantisation}.gguf", n_threads=1) as llm:
        options: dict[str, Any] = {"top_k": 2, "top_p": 1.0, "min_p": 0.0, "seed": seed}
        stream = llm.generate(prompt, temp=1.5, **options)
        assert [next(stream) for _ in expected] == expected


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"logprobs": -1}, ValidationError, "logprobs is -1; choose an integer from 0 to 320"),
        ({"logprobs": "2"}, ValidationError, "logprobs is '2'; choose an integer from 0 to 320"),
        (
            {"logit_bias": {"a": 1}},
            ValidationError,
            "logit_bias has the key 'a'; keys are token ids",
        ),
        ({"grammar": 5}, ValidationError, "grammar is 5; give a LlamaGrammar, or GBNF as a string"),
        (
            {"logits_processor": [None]},
            ValidationError,
            "logits_processor has None, which cannot be called",
        ),
        (
            {"stopping_criteria": 5},
            ValidationError,
            "stopping_criteria has 5, which cannot be called",
        ),
        (
            {"xtc_probability": 2},
            ValidationError,
            "xtc_probability is 2; choose a number from 0 to 1",
        ),
        ({"top_q": 2}, TypeError, "unexpected keyword argument 'top_q'"),
    ],
    ids=str,
)
def test_refused_arguments(
    llm: Llama, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        llm.create_completion("hello", **given)
    assert str(caught.value) == message


# -- log probabilities -------------------------------------------------------------------------


def expected_logprobs(tokens: list[int], first: int, count: int) -> list[tuple[float, list[int]]]:
    """Return what the definition says of ``tokens[first:]``: log probability, the likeliest."""
    model = tiny_llama()
    result = []
    for index in range(first, len(tokens)):
        shares = log_softmax(model.logits(tokens[:index]))
        result.append((float(shares[tokens[index]]), np.argsort(-shares)[:count].tolist()))
    return result


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("logits_all", [False, True], ids=["", "logits_all"])
def test_logprobs_of_prompt_and_answer(model_file: Path, stream: bool, logits_all: bool) -> None:
    prompt = [1, 266, 268, 270, 272]
    with Llama(model_file, n_threads=1, n_batch=2, logits_all=logits_all) as llm:
        options: dict[str, Any] = {"max_tokens": 6, "temperature": 0.0, "logprobs": 2, "echo": True}
        llm.eval(prompt[:3])
        done: Any = llm.create_completion(prompt, stream=stream, **options)
        choice = joined(list(done)) if stream else done["choices"][0]
        answer = llm.tokenize(choice["text"].encode())
        found = choice["logprobs"]
        assert choice["text"] == " morning sun lifts the"
        assert found["tokens"] == [" m", "or", "ni", "ng", " s", "un", " l", "if", "ts", " the"]
        assert found["text_offset"] == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
        pieces = llm._core.vocabulary.pieces
        expected = expected_logprobs(answer, 1, 2)
        assert found["token_logprobs"] == pytest.approx([own for own, _ in expected], abs=2e-3)
        assert [list(top) for top in found["top_logprobs"]] == [
            [pieces[token].text for token in top] for _, top in expected
        ]


def test_logprobs_of_nothing_before(llm: Llama) -> None:
    done: Any = llm.create_completion(
        [266, 268], max_tokens=1, temperature=0, logprobs=0, echo=True
    )
    found = done["choices"][0]["logprobs"]
    assert found["tokens"] == [" m", "or", "ni"]
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert found["top_logprobs"][1:] == [
        {token: value} for token, value in paired(found["tokens"][1:], found["token_logprobs"][1:])
    ]


def test_logprobs_are_the_models_own(llm: Llama) -> None:
    plain: Any = llm.create_completion("hello", max_tokens=5, temperature=0, logprobs=2)
    changed: Any = llm.create_completion(
        "hello",
        max_tokens=5,
        temperature=3.0,
        logprobs=2,
        repeat_penalty=1.5,
        logits_processor=[lambda _ids, scores: scores * 5],
        grammar="root ::= [ a-z🙂]*",
        top_k=1,
    )
    assert changed["choices"][0]["text"] == plain["choices"][0]["text"]
    assert changed["choices"][0]["logprobs"] == plain["choices"][0]["logprobs"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_logprobs_end_where_the_text_does(llm: Llama, stream: bool) -> None:
    options: dict[str, Any] = {"max_tokens": 30, "temperature": 0.0, "logprobs": 1}
    done: Any = llm.create_completion(" morning sun", stop=["g 🙂"], stream=stream, **options)
    choice = joined(list(done)) if stream else done["choices"][0]
    assert choice["text"] == " lifts the fo"
    # "og" is partly in it
    assert choice["logprobs"]["tokens"] == [" l", "if", "ts", " the", " f", "og"]
    assert choice["logprobs"]["text_offset"] == [0, 2, 4, 6, 10, 12]


# -- speculative decoding, caches, infill -----------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_drafts_change_nothing_but_the_work(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    counts = []
    texts = []
    for draft in (None, LlamaPromptLookupDecoding(num_pred_tokens=8)):
        with Llama(model_file, n_threads=1, draft_model=draft) as llm:
            engine = llm._running()
            decode = engine.context.decode
            calls: list[int] = []

            def counted(
                batch: Any, *, decode: Any = decode, calls: Any = calls, **more: Any
            ) -> None:
                calls.append(len(batch))
                decode(batch, **more)

            monkeypatch.setattr(engine.context, "decode", counted)
            done: Any = llm.create_completion(
                " morning sun", max_tokens=120, temperature=temperature, seed=3, logprobs=1
            )
            texts.append((done["choices"][0]["text"], done["usage"]))
            counts.append(len(calls))
    assert texts[0] == texts[1]
    assert texts[0][1]["completion_tokens"] == 120
    assert counts[0] == 120
    assert counts[1] < (60 if temperature == 0 else 120)


def test_a_cache_brings_back_what_was_computed(
    model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LlamaRAMCache()
    prompt = [1, *range(262, 302)]
    with Llama(model_file, n_threads=1) as first, Llama(model_file, n_threads=1) as second:
        expected = first.create_completion(prompt, max_tokens=8, temperature=0)
        first.set_cache(cache)
        second.set_cache(cache)
        first.create_completion(prompt, max_tokens=8, temperature=0)
        assert list(cache.cache_state) == [tuple(first._running().sequence.tokens)]
        computed: list[int] = []
        engine = second._running()
        keep = engine.sequence.keep_prefix

        def kept(ids: Any, *more: Any) -> int:
            computed.append(keep(ids, *more))
            return computed[-1]

        monkeypatch.setattr(engine.sequence, "keep_prefix", kept)
        again = second.create_completion(prompt, max_tokens=8, temperature=0)
        assert again["choices"] == expected["choices"]
        assert computed == [len(prompt) - 1]
        chunks = list(second.create_completion([1, 5], max_tokens=2, temperature=0, stream=True))
        assert joined(chunks)["finish_reason"] == "length"
        assert len(cache.cache_state) == 2


def test_infill_puts_the_parts_in_order(llm: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = llm._core.vocabulary
    # no tiny model has such tokens; any will do to see the order
    for name, token in (("fim_prefix", 100), ("fim_suffix", 101), ("fim_middle", 102)):
        monkeypatch.setattr(vocabulary, name, token)
    before, after = (llm.tokenize(text, add_bos=False) for text in (" morning", " birds"))
    seen: list[list[int]] = []

    def look(ids: Any, scores: Any) -> Any:
        seen.append(ids.tolist())
        return scores

    for spm in (False, True):
        llm.spm_infill = spm
        llm.create_completion(" morning", " birds", max_tokens=1, logits_processor=look)
    assert seen == [
        [1, 100, *before, 101, *after, 102],
        [1, 101, *after, 100, *before, 102],
    ]
