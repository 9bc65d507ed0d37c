"""gpt-oss's way: requests to its own template, and answers that go back into it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ci import paths
from llama_cpp import Llama, ValidationError, _chat
from llama_cpp._harmony import apart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.build

HI = {"role": "user", "content": "hi"}
TIME: Any = {"type": "function", "function": {"name": "time", "description": "Tell the time"}}
CALL = {"id": "c", "type": "function", "function": {"name": "time", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "noon"}
THOUGHT = "<|channel|>analysis<|message|>So.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>Yes."


@pytest.fixture
def oss(model_file: Path) -> Iterator[Llama]:
    """The tiny model with gpt-oss's template."""
    template = paths.TREE / "models" / "templates" / "openai-gpt-oss-120b.jinja"
    if not template.is_file():
        pytest.fail(f"{template} is missing: run `nox -s vendor`")
    with Llama(model_file, n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False) as llm:
        llm.metadata["tokenizer.chat_template"] = template.read_text("utf-8")
        yield llm


def test_a_conversation_goes_on(oss: Llama) -> None:
    said = {"role": "assistant", "content": THOUGHT + FINAL}
    prompt = _chat.prepare(oss, [HI, said, HI]).prompt
    assert prompt.endswith(
        "<|start|>user<|message|>hi<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|end|>"
        "<|start|>user<|message|>hi<|end|><|start|>assistant"
    )


@pytest.mark.parametrize(
    "said",
    [
        {"content": THOUGHT},
        {"content": None, "reasoning_content": "So."},
        {"content": None, "thinking": "So."},
        {"content": "So."},
    ],
)
def test_a_conversation_with_calls_goes_on(oss: Llama, said: Any) -> None:
    called = {"role": "assistant", **said, "tool_calls": [CALL]}
    prompt = _chat.prepare(oss, [HI, called, RESULT], tools=[TIME]).prompt
    assert prompt.endswith(
        "<|start|>assistant<|channel|>analysis<|message|>So.<|end|><|start|>assistant "
        "to=functions.time<|channel|>commentary json<|message|>{}<|call|><|start|>functions.time "
        'to=assistant<|channel|>commentary<|message|>"noon"<|end|><|start|>assistant'
    )


def test_a_call_that_is_required(oss: Llama) -> None:
    request = _chat.prepare(oss, [HI], tools=[TIME], tool_choice="required")
    assert request.prompt.endswith(
        "<|start|>assistant<|channel|>commentary to=functions.time <|constrain|>json<|message|>"
    )
    tool = {**TIME, "function": {**TIME["function"], "parameters": {"enum": [{"a": 1}]}}}
    answer: Any = oss.create_chat_completion(
        [HI], tools=[tool], tool_choice="required", temperature=0, reasoning_content=True
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "time"
    assert json.loads(call["function"]["arguments"]) == {"a": 1}


def test_a_tool_without_a_description(oss: Llama) -> None:
    tool = {"type": "function", "function": {"name": "time"}}
    prompt = _chat.prepare(oss, [HI], tools=[tool]).prompt
    assert "namespace functions {\n\n// \ntype time = () => any;" in prompt


def test_thoughts_of_earlier_answers() -> None:
    assert apart(
        [
            HI,
            {"role": "assistant", "content": THOUGHT + FINAL, "thinking": "mine"},
            {"role": "assistant", "content": "Yes."},
            {"role": "assistant", "content": "Look.", "thinking": "So.", "tool_calls": [CALL]},
        ]
    ) == [
        HI,
        {"role": "assistant", "content": "Yes.", "thinking": "mine"},
        {"role": "assistant", "content": "Yes."},
        {"role": "assistant", "content": "", "thinking": "So.\nLook.", "tool_calls": [CALL]},
    ]
    with pytest.raises(ValidationError, match="an assistant's thinking is 3; it must be text"):
        apart([{"role": "assistant", "content": "", "reasoning_content": 3}])
