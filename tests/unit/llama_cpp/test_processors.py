"""Logits processors and stopping criteria as objects of their own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from llama_cpp import (
    Llama,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteriaList,
    ValidationError,
)
from llama_cpp._processors import TokenBuffer, criteria_of, processors_of

IDS = np.array([1, 5], dtype=np.intc)


def test_processors_run_in_order() -> None:
    scores = np.array([1.0, 2.0], dtype=np.single)
    both = LogitsProcessorList([lambda _ids, s: s + 1, lambda _ids, s: s * 10])
    assert both(IDS, scores).tolist() == [20.0, 30.0]
    assert LogitsProcessorList([])(IDS, scores) is scores


@pytest.mark.parametrize(
    ("answers", "expected"),
    [([], False), ([False, False], False), ([False, True], True), ([True, True], True)],
    ids=str,
)
def test_one_criterion_is_enough(answers: list[bool], expected: bool) -> None:
    members: list[Any] = [lambda _ids, _logits, a=a: a for a in answers]
    criteria = StoppingCriteriaList(members)
    assert criteria(IDS, np.zeros(3, dtype=np.single)) is expected


def test_min_tokens_counts_from_its_first_call() -> None:
    processor = MinTokensLogitsProcessor(2, token_eos=1)
    found = []
    for count in (4, 5, 6, 7):
        scores = np.zeros(3, dtype=np.single)
        found.append(processor(np.arange(count, dtype=np.intc), scores).tolist())
    early, late = [0.0, -math.inf, 0.0], [0.0, 0.0, 0.0]
    assert found == [early, early, late, late]


def test_a_buffer_grows_and_old_views_stay() -> None:
    buffer = TokenBuffer([1, 2])
    views = [buffer.view()]
    for start in range(0, 5000, 7):
        buffer.extend(range(start, start + 7))
        views.append(buffer.view())
    whole = [1, 2, *(t for start in range(0, 5000, 7) for t in range(start, start + 7))]
    assert buffer.view().tolist() == whole
    assert buffer.view().dtype == np.intc
    for index, view in enumerate(views):
        assert view.tolist() == whole[: 2 + 7 * index]
    with pytest.raises(ValueError, match="read-only"):
        views[0][0] = 9


@pytest.mark.parametrize("of", [processors_of, criteria_of])
def test_what_may_be_given(of: Any) -> None:
    def one(_ids: object, _scores: object) -> Any:
        return True

    assert of(None) == ()
    assert of(one) == (one,)
    assert of([one, one]) == (one, one)
    assert of(LogitsProcessorList([one])) == (one,)
    with pytest.raises(ValidationError, match=r"has 7, which cannot be called$"):
        of([one, 7])


@pytest.mark.build
def test_min_tokens_in_an_answer(llm: Llama) -> None:
    # " goodbye, until …." and the end is what follows a colon, after 7 tokens
    short: Any = llm.create_completion("say:", max_tokens=40, temperature=0)
    longer: Any = llm.create_completion(
        "say:",
        max_tokens=40,
        temperature=0,
        logits_processor=LogitsProcessorList([MinTokensLogitsProcessor(20, llm.token_eos())]),
    )
    assert short["choices"][0]["finish_reason"] == "stop"
    assert longer["choices"][0]["text"].startswith(short["choices"][0]["text"])
    assert longer["usage"]["completion_tokens"] >= 20 > short["usage"]["completion_tokens"]


@pytest.mark.build
@pytest.mark.parametrize("callable_is", ["logits_processor", "stopping_criteria"])
def test_an_exception_ends_the_answer_and_nothing_else(llm: Llama, callable_is: str) -> None:
    def fail(ids: Any, scores: Any) -> Any:
        if len(ids) > 8:
            raise KeyError("mine")
        return scores if callable_is == "logits_processor" else False

    before: Any = llm.create_completion("hello", max_tokens=8, temperature=0)
    options: dict[str, Any] = {callable_is: [fail]}
    with pytest.raises(KeyError, match="mine"):
        llm.create_completion("hello", max_tokens=8, temperature=0, **options)
    after: Any = llm.create_completion("hello", max_tokens=8, temperature=0)
    assert after["choices"] == before["choices"]


@pytest.mark.build
def test_criteria_see_the_logits_that_the_token_was_chosen_from(llm: Llama) -> None:
    seen: list[tuple[list[int], int]] = []

    def look(ids: Any, logits: Any) -> bool:
        assert logits.dtype == np.single
        seen.append((ids.tolist(), int(logits.argmax())))
        return len(seen) == 4

    tokens = list(llm.generate([1, 266], temp=0, stopping_criteria=look))
    assert len(tokens) == 4
    assert seen == [([1, 266, *tokens[: i + 1]], tokens[i]) for i in range(4)]
