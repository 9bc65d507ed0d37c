"""Plain text generation, and sessions that go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import GenerationError, Llama, ValidationError
from llama_cpp._sampler import SamplingParams
from llama_cpp._session import generate_stream, generate_text

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.build

GREEDY = SamplingParams(temperature=0)


def test_known_answers(llm: Llama, answers: dict[str, Any]) -> None:
    for case in answers["llama-f32"]["greedy"]:
        if (prompt := case["prompt_text"]) is None:
            continue
        count = len(case["tokens"])
        assert generate_text(llm, prompt, count, GREEDY) == case["text"]
        assert generate_text(llm, case["prompt"], count, GREEDY) == case["text"]
        assert "".join(generate_stream(llm, prompt, count, GREEDY)) == case["text"]
        parts = generate_text(llm, prompt, count, GREEDY, stream=True)
        assert "".join(parts) == case["text"]


def test_a_session_goes_on_after_the_last_token(llm: Llama) -> None:
    whole = generate_text(llm, "<up> morning", 30, GREEDY)
    for cut in (1, 5, 20):
        first = generate_text(llm, "<up> morning", cut, GREEDY)
        assert llm._engine is not None
        computed = len(llm._engine.sequence.tokens)
        rest = generate_text(llm, "", 30 - cut, GREEDY, reset_kv_cache=False)
        assert first + rest == whole
        assert len(llm._engine.sequence.tokens) == computed + 30 - cut


def test_a_session_adds_no_second_begin_token(llm: Llama) -> None:
    generate_text(llm, "<up>", 3, GREEDY)
    assert generate_text(llm, "<down><down> birds", 4, GREEDY, reset_kv_cache=False) == " hum mor"
    assert llm._engine is not None
    assert list(llm._engine.sequence.tokens).count(1) == 1
    # the upper case of before would win over one "<down>"
    assert generate_text(llm, "<down> birds", 4, GREEDY) == " hum mor"
    llm.reset()
    assert generate_text(llm, " birds", 4, GREEDY, reset_kv_cache=False) == " hum mor"
    assert llm._engine.sequence.tokens[0] == 1


def test_what_came_between_is_in_the_session(llm: Llama) -> None:
    generate_text(llm, "hello", 3, GREEDY)
    llm.create_completion("<up> birds", max_tokens=4, temperature=0)
    # the last token of that answer is not in memory, and the one of the first must not be added
    assert llm._engine is not None
    before = list(llm._engine.sequence.tokens)
    generate_text(llm, ":", 1, GREEDY, reset_kv_cache=False)
    assert list(llm._engine.sequence.tokens)[: len(before)] == before
    assert len(llm._engine.sequence.tokens) == len(before) + len(llm.tokenize(":", add_bos=False))


def test_a_stream_left_early(llm: Llama) -> None:
    stream = generate_stream(llm, " morning", 30, GREEDY)
    assert next(stream) == " s"
    assert llm._engine is not None
    computed = len(llm._engine.sequence.tokens)
    stream.close()  # type: ignore[attr-defined]
    assert len(llm._engine.sequence.tokens) == computed
    assert generate_text(llm, "", 1, GREEDY, reset_kv_cache=False) == "un"


def test_a_newer_call_ends_an_older_stream(llm: Llama) -> None:
    stream = generate_stream(llm, " morning", 30, GREEDY)
    next(stream)
    generate_text(llm, "hello", 1, GREEDY)
    with pytest.raises(GenerationError, match="this stream was ended"):
        next(stream)


def test_stop_strings_and_the_end_of_the_context(model_file: Path) -> None:
    with Llama(model_file, n_ctx=256, n_threads=1) as llm:
        assert generate_text(llm, " morning", 40, GREEDY, stop="and") == " sun lifts the fog 🙂 "
        assert generate_text(llm, " morning", 40, GREEDY, stop=["lifts", "sun"]) == " "
        assert generate_text(llm, "the end:", None, GREEDY).startswith(" goodbye, until the long")
        text = generate_text(llm, " morning", None, GREEDY)
        assert len(llm.tokenize(" morning" + text)) == 257
        with pytest.raises(ValidationError, match="the prompt has 257 tokens, the context holds"):
            generate_text(llm, "x", None, GREEDY, reset_kv_cache=False)


def test_defaults_are_the_objects(model_file: Path) -> None:
    with Llama(model_file, n_threads=1, seed=7) as llm:
        texts = {generate_text(llm, "hello", 20) for _ in range(3)}
        warm = SamplingParams(temperature=0.8, seed=7)
        assert texts == {generate_text(llm, "hello", 20, warm)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            {"max_tokens": 0},
            "max_tokens is 0; choose an integer from 1 to 2147483647",
            id="no tokens",
        ),
        pytest.param(
            {"max_tokens": "9"},
            "max_tokens is '9'; choose an integer from 1 to 2147483647",
            id="no number",
        ),
        pytest.param(
            {"stop": [""]}, "stop has ''; stop strings are strings and not empty", id="empty stop"
        ),
        pytest.param(
            {"sampling": SamplingParams(top_p=2)},
            "top_p is 2; choose a number from 0 to 1",
            id="sampling",
        ),
        pytest.param(
            {"prompt": [1, 999]},
            "token 1 has id 999; this model's ids run from 0 to 319",
            id="ids",
        ),
        pytest.param(
            {"grammar": 5}, "grammar is a int; give a LlamaGrammar or its text", id="grammar"
        ),
    ],
)
def test_refused(llm: Llama, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        generate_text(llm, **{"prompt": "hello", **arguments})
    assert str(caught.value) == message
