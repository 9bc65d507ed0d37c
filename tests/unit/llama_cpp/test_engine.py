"""The engine: prefix reuse, chunks, tickets, and when an answer is over."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import GenerationError, Llama, ValidationError
from llama_cpp._engine import Answer, shared_length
from llama_cpp._sampler import Sampler, SamplingParams
from llama_cpp._text import PieceTable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

WORDS = [b"one", b" two", b" three", b"<end>"]


def answer(tokens: Sequence[int], *, stops: Sequence[str] = (), limit: int = 99) -> tuple[Any, ...]:
    """Push tokens until the answer is over; return its text, reason and count."""
    table = PieceTable(lambda token: WORDS[token], lambda token: token == 3)
    running = Answer(table, stops=stops, limit=limit)
    text = ""
    for token in tokens:
        text += running.push(token)
        if running.finish_reason:
            break
    return text, running.finish_reason, running.n_tokens


@pytest.mark.parametrize(
    ("tokens", "stops", "limit", "expected"),
    [
        pytest.param([0, 1], [], 99, ("one two", None, 2), id="runs"),
        pytest.param([0, 3], [], 99, ("one", "stop", 1), id="the model ends"),
        pytest.param([0, 1, 2], [], 2, ("one two", "length", 2), id="limit"),
        pytest.param([0, 1, 2], ["e tw"], 99, ("on", "stop", 2), id="stop string"),
        pytest.param([0, 1, 2], ["o thr"], 3, ("one tw", "stop", 3), id="stop at the limit"),
        pytest.param([0, 1, 2], ["o nothing"], 2, ("one two", "length", 2), id="held at the limit"),
        pytest.param([0, 1, 3], ["two!"], 99, ("one two", "stop", 2), id="held at the end"),
    ],
)
def test_answers(
    tokens: list[int], stops: list[str], limit: int, expected: tuple[object, ...]
) -> None:
    assert answer(tokens, stops=stops, limit=limit) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([], [1], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2], [1, 3], 1),
        ([5], [6], 0),
    ],
)
def test_shared_length(left: list[int], right: list[int], expected: int) -> None:
    assert shared_length(left, right) == expected


def greedy(llm: Llama, prompt: Sequence[int], count: int) -> list[int]:
    stream = llm.generate(prompt, temp=0)
    return [next(stream) for _ in range(count)]


@pytest.fixture
def case(answers: dict[str, Any]) -> tuple[list[int], list[int]]:
    """A prompt and the tokens that must follow, the longest there is."""
    longest = max(answers["llama-f32"]["greedy"], key=lambda g: len(g["prompt"]))
    return longest["prompt"], longest["tokens"]


@pytest.mark.build
@pytest.mark.parametrize("n_batch", [1, 2, 3, 7, 512])
def test_long_prompts_go_in_parts(
    model_file: Path, case: tuple[list[int], list[int]], n_batch: int
) -> None:
    prompt, expected = case
    with Llama(model_file, n_threads=1, n_batch=n_batch) as llm:
        assert greedy(llm, prompt, len(expected)) == expected


@pytest.mark.build
def test_a_shared_beginning_is_not_computed_again(
    llm: Llama, case: tuple[list[int], list[int]]
) -> None:
    prompt, expected = case
    engine = llm._engine
    assert engine is not None
    assert engine.prefill(prompt) == 0
    assert engine.prefill(prompt) == len(prompt) - 1
    assert engine.prefill([*prompt, *expected[:3]]) == len(prompt)
    assert engine.prefill(prompt) == len(prompt) - 1
    assert engine.sequence.tokens == prompt
    assert greedy(llm, prompt, len(expected)) == expected
    assert greedy(llm, prompt[:1], 1)
    assert greedy(llm, prompt, len(expected)) == expected


@pytest.mark.build
def test_answers_do_not_depend_on_what_was_asked_before(
    model_file: Path, answers: dict[str, Any]
) -> None:
    cases = answers["llama-f32"]["greedy"]
    with Llama(model_file, n_threads=1) as llm:
        for first in cases:
            for second in cases:
                greedy(llm, first["prompt"], 5)
                found = greedy(llm, second["prompt"], len(second["tokens"]))
                assert found == second["tokens"], (first["prompt"], second["prompt"])


@pytest.mark.build
def test_an_exception_in_the_middle_leaves_no_foreign_cache(
    llm: Llama, case: tuple[list[int], list[int]]
) -> None:
    prompt, expected = case
    engine = llm._engine
    assert engine is not None
    engine.prefill(prompt)
    # what an interrupted decode leaves: computed tokens that the mirror does not know
    engine.context.clear()
    engine.sequence.begin()
    assert engine.prefill(prompt) == 0
    assert greedy(llm, prompt, len(expected)) == expected


@pytest.mark.build
def test_a_newer_stream_ends_the_older(llm: Llama) -> None:
    older = llm.create_completion("hello", stream=True, max_tokens=50, temperature=0)
    next(older)
    newer = llm.create_completion(" morning", stream=True, max_tokens=8, temperature=0)
    first = next(newer)["choices"][0]["text"]
    with pytest.raises(GenerationError) as caught:
        next(older)
    assert str(caught.value) == (
        "this stream was ended: another generation on the same model object has begun since and "
        "owns its cache; finish one stream before the next, or use one object per stream"
    )
    text = first + "".join(chunk["choices"][0]["text"] for chunk in newer)
    whole = llm.create_completion(" morning", max_tokens=8, temperature=0)
    assert text == whole["choices"][0]["text"]


@pytest.mark.build
@pytest.mark.parametrize("other", ["embed", "eval", "reset", "completion"])
def test_other_uses_end_a_stream_too(model_file: Path, other: str) -> None:
    with Llama(model_file, n_threads=1, embedding=True) as llm:
        stream = llm.generate([1], temp=0)
        next(stream)
        uses: dict[str, Callable[[], object]] = {
            "embed": lambda: llm.embed("x"),
            "eval": lambda: llm.eval([5]),
            "reset": llm.reset,
            "completion": lambda: llm.create_completion([1], max_tokens=1),
        }
        uses[other]()
        with pytest.raises(GenerationError, match=r"^this stream was ended: "):
            next(stream)


@pytest.mark.build
def test_the_context_fills_up(llm: Llama) -> None:
    done = llm.create_completion([5], max_tokens=None, temperature=0, logit_bias={2: -1e9})
    assert done["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": llm.n_ctx(),
        "total_tokens": llm.n_ctx() + 1,
    }
    assert done["choices"][0]["finish_reason"] == "length"
    assert llm.n_tokens == llm.n_ctx()


@pytest.mark.build
def test_a_prompt_longer_than_the_context(llm: Llama) -> None:
    for count in (512, 513, 5000):
        with pytest.raises(ValidationError) as caught:
            llm.create_completion([5] * count)
        assert str(caught.value) == (
            f"the prompt has {count} tokens, the context holds 512 with at least one for the answer: "
            f"shorten the prompt, or load the model with n_ctx={count + 1} or more"
        )
    assert llm.create_completion([5] * 511, max_tokens=1)["usage"]["prompt_tokens"] == 511


@pytest.mark.build
def test_an_empty_prompt(llm: Llama) -> None:
    with pytest.raises(ValidationError) as caught:
        llm.create_completion([])
    assert str(caught.value) == "the prompt has no tokens: give some text, or a begin token"


@pytest.mark.build
def test_generate_goes_on_from_memory_when_not_reset(
    llm: Llama, case: tuple[list[int], list[int]]
) -> None:
    prompt, expected = case
    llm.eval(prompt[:-1])
    stream = llm.generate(prompt[-1:], temp=0, reset=False)
    assert [next(stream) for _ in expected] == expected


@pytest.mark.build
def test_samplers_are_closed_with_their_stream(llm: Llama) -> None:
    model = llm._core
    engine = llm._engine
    assert engine is not None

    def stream(sampler: Sampler) -> Generator[str]:
        assert engine is not None
        return engine.stream([1], sampler, Answer(model.vocabulary.pieces, stops=(), limit=9))

    finished, dropped = (Sampler(model, SamplingParams(temperature=0)) for _ in range(2))
    assert "".join(stream(finished))
    assert finished.closed
    running = stream(dropped)
    next(running)
    assert not dropped.closed
    running.close()
    assert dropped.closed


@pytest.mark.build
def test_four_threads_on_one_object_take_turns(llm: Llama, answers: dict[str, Any]) -> None:
    cases = answers["llama-f32"]["greedy"]
    wrong: list[object] = []

    def work(offset: int) -> None:
        for i in range(len(cases)):
            case = cases[(i + offset) % len(cases)]
            done = llm.create_completion(
                case["prompt"], max_tokens=len(case["tokens"]), temperature=0
            )
            if done["choices"][0]["text"] != case["text"]:
                wrong.append((case, done))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.build
def test_four_threads_on_four_objects(model_file: Path, answers: dict[str, Any]) -> None:
    cases = answers["llama-f32"]["greedy"]
    wrong: list[object] = []

    def work() -> None:
        with Llama(model_file, n_threads=1) as own:
            for case in cases:
                done = own.create_completion(
                    case["prompt"], max_tokens=len(case["tokens"]), temperature=0
                )
                if done["choices"][0]["text"] != case["text"]:
                    wrong.append((case, done))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
