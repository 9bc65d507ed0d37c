"""The engine: prefix reuse, chunks, tickets, and when an answer is over."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llama_cpp import GenerationError, Llama, ValidationError, _engine
from llama_cpp._engine import Answer
from llama_cpp._sampler import Sampler, SamplingParams
from llama_cpp._sequence import shared_length
from llama_cpp._text import PieceTable
from tests.tiny.answers import models
from tests.tiny.llama import TinyLlama

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


# -- tokens sent, drafts, logits of every token, Ctrl-C ------------------------------------------


@pytest.mark.build
def test_sent_tokens_come_before_the_next(llm: Llama, case: tuple[list[int], list[int]]) -> None:
    prompt, expected = case
    stream = llm.generate(prompt[:2], temp=0)
    first = next(stream)
    # as if the model had said the rest of another prompt
    llm_alone = greedy(llm, [*prompt[:2], first, *prompt[2:]], len(expected))
    stream = llm.generate(prompt[:2], temp=0)
    assert next(stream) == first
    found = [stream.send(prompt[2:])]
    found += [next(stream) for _ in expected[1:]]
    assert found == llm_alone
    assert stream.send([5, 6]) is not None
    with pytest.raises(
        ValidationError, match=r"^513 tokens were sent, and the context has room for"
    ):
        stream.send([5] * 513)


@pytest.mark.build
def test_an_id_that_is_sent_is_checked(llm: Llama) -> None:
    stream = llm.generate([1, 5], temp=0)
    next(stream)
    with pytest.raises(ValidationError, match=r"^token 0 has id 320; this model's ids run from 0"):
        stream.send([320])


def wrong(ids: Any) -> list[int]:
    return [5, 6, 7]


def right(ids: Any) -> list[int]:
    """Guess as the model goes on, for three tokens."""
    return tiny_llama().expected_tokens(ids.tolist(), 3)


def tiny_llama() -> TinyLlama:
    model = models()["llama-f32"]
    assert isinstance(model, TinyLlama)
    return model


@pytest.mark.build
@pytest.mark.parametrize("draft", [wrong, right, lambda _ids: []], ids=["wrong", "right", "none"])
@pytest.mark.parametrize("logits_all", [False, True], ids=["", "logits_all"])
def test_drafts_do_not_change_the_answer(
    model_file: Path, case: tuple[list[int], list[int]], draft: Any, logits_all: bool
) -> None:
    prompt, expected = case
    with Llama(model_file, n_threads=1, draft_model=draft, logits_all=logits_all) as llm:
        engine = llm._running()
        stream = llm.generate(prompt, temp=0)
        for index in range(len(expected)):
            assert next(stream) == expected[index]
            # what is only guessed is not counted
            assert llm.n_tokens == len(prompt) + index
        llm.eval([5])
        assert engine.sequence.tokens == [*prompt, *expected[:-1], 5]
        llm.draft_model = None
        assert greedy(llm, prompt, len(expected)) == expected


@pytest.mark.build
def test_tokens_may_be_sent_between_drafts(model_file: Path) -> None:
    with Llama(model_file, n_threads=1, draft_model=right) as llm:
        stream = llm.generate([1, 266], temp=0)
        tokens = [next(stream), next(stream), stream.send([5, 266]), next(stream)]
        assert llm._running().sequence.tokens == [1, 266, *tokens[:2], 5, 266, tokens[2]]
        assert tokens[2:] == tiny_llama().expected_tokens([1, 266, *tokens[:2], 5, 266], 2)


@pytest.mark.build
@pytest.mark.parametrize("room", [1, 2, 3, 4, 5])
def test_drafts_stop_at_the_end_of_the_context(model_file: Path, room: int) -> None:
    with Llama(model_file, n_threads=1, draft_model=right, n_ctx=256) as llm:
        prompt = [1, 266] + [5] * (llm.n_ctx() - 2 - room)
        assert len(list(llm.generate(prompt, temp=0))) == room + 1
        assert llm.n_tokens == llm.n_ctx()


@pytest.mark.build
def test_a_draft_of_no_ids(model_file: Path) -> None:
    returned: Any
    for returned, message in (
        ([999], r"^token 0 has id 999; this model's ids run from"),
        (None, r"^the draft model .* returned NoneType; it must return token ids"),
        (np.array([1.5]), r"^token 0 is .*, not an integer id"),
    ):
        with Llama(model_file, n_threads=1, draft_model=lambda _ids, a=returned: a) as llm:
            stream = llm.generate([1, 5], temp=0)
            next(stream)
            with pytest.raises(ValidationError, match=message):
                next(stream)


@pytest.mark.build
@pytest.mark.parametrize(("n_batch", "most"), [(3, 2**24), (512, 2**24), (512, 700), (512, 1)])
def test_logits_of_every_token(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, n_batch: int, most: int
) -> None:
    monkeypatch.setattr(_engine, "_MOST_LOGITS", most)
    model = tiny_llama()
    tokens = [1, 266, 268, 5, 6, 270]
    with Llama(model_file, n_threads=1, n_batch=n_batch, logits_all=True) as llm:
        for known in (tokens[:4], tokens, [1, 266, 7, 8], [1, 266, 7, 8, 9]):
            llm.reset()
            llm.eval(known[:2])
            llm.eval(known[2:])
            expected = np.array([model.logits(known[: i + 1]) for i in range(len(known))])
            assert np.abs(llm._scores - expected).max() < 0.02
        # a beginning that is shared keeps its rows
        stream = llm.generate([1, 266, 7, 5], temp=0)
        next(stream)
        expected = np.array([model.logits([1, 266, 7, 5][: i + 1]) for i in range(4)])
        assert np.abs(llm._scores - expected).max() < 0.02


@pytest.mark.build
def test_an_eval_may_fill_the_context(llm: Llama) -> None:
    llm.eval([5] * llm.n_ctx())
    assert llm.n_tokens == llm.n_ctx()
    with pytest.raises(ValidationError) as caught:
        llm.eval([5])
    assert str(caught.value) == (
        "the prompt has 513 tokens, the context holds 512: shorten the prompt, or load the model "
        "with n_ctx=513 or more"
    )


@pytest.mark.build
def test_sample_goes_on_where_it_was(llm: Llama, case: tuple[list[int], list[int]]) -> None:
    prompt, expected = case
    llm.eval(prompt)
    found = []
    for _ in expected:
        found.append(llm.sample(temp=0))
        llm.eval(found[-1:])
    assert found == expected
    llm.reset()
    llm.eval([1, 266])
    text = b""
    while not text.endswith(b"!"):
        token = llm.sample(temp=0, grammar='root ::= " no" [a-c] "!"')
        llm.eval([token])
        text += llm.detokenize([token])
    assert text in {b" noa!", b" nob!", b" noc!"}
    # a fixed seed does not mean the same random number each time
    llm.reset()
    llm.eval([1, 5])
    drawn = [llm.sample(temp=5.0, top_k=0, top_p=1.0, min_p=0.0, seed=4) for _ in range(20)]
    assert len(set(drawn)) > 5


@pytest.mark.build
def test_sample_at_a_place(model_file: Path) -> None:
    model = tiny_llama()
    tokens = [1, 266, 5, 268]
    with Llama(model_file, n_threads=1, logits_all=True) as llm:
        llm.eval(tokens)
        for idx in range(4):
            (following,) = model.expected_tokens(tokens[: idx + 1], 1)
            assert llm.sample(temp=0, idx=idx) == following
            assert llm.sample(temp=0, idx=idx - 4) == following
        with pytest.raises(ValidationError, match=r"^idx is 4; 4 tokens are in memory$"):
            llm.sample(temp=0, idx=4)


@pytest.mark.build
def test_sampling_before_anything_was_computed(llm: Llama) -> None:
    with pytest.raises(
        ValidationError, match=r"^no logits: decode a batch with at least one output"
    ):
        llm.sample()


@pytest.mark.build
def test_sampling_from_a_loaded_state(model_file: Path, case: tuple[list[int], list[int]]) -> None:
    prompt, expected = case
    with Llama(model_file, n_threads=1) as first, Llama(model_file, n_threads=1) as second:
        first.eval(prompt)
        second.load_state(first.save_state())
        assert second.sample(temp=0) == expected[0]


@pytest.mark.build
@pytest.mark.skipif(os.name == "nt", reason="signals are sent with kill")
def test_ctrl_c_ends_a_batch(run_python: Callable[..., Any], model_file: Path) -> None:
    # one batch that takes seconds: the signal arrives inside it
    outcome = run_python(
        "import os, signal, sys, threading, time\n"
        "from llama_cpp import Llama\n"
        "llm = Llama(sys.argv[1], n_ctx=32768, n_batch=32768, n_ubatch=512, n_threads=1,\n"
        "            n_threads_batch=1, verbose=False)\n"
        "def press():\n"
        "    time.sleep(0.3)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=press).start()\n"
        "try:\n"
        "    llm.eval([5] * 32000)\n"
        "except KeyboardInterrupt:\n"
        "    context = llm._running().context\n"
        "    last = context._lib.llama_memory_seq_pos_max(context._memory, 0)\n"
        "    print('interrupted', last < 31999)\n"
        "print(llm.create_completion([1, 266], max_tokens=3, temperature=0)['choices'][0]['text'])\n",
        str(model_file),
    )
    assert (outcome.code, outcome.output) == (0, "interrupted True\norning\n")
