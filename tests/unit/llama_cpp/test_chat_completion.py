"""Chat completions of the tiny model: exact answers, whole and streamed."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama, LlamaError, LlamaGrammar, ValidationError, _chat, _chat_completion
from llama_cpp.llama_chat_format import (
    Jinja2ChatFormatter,
    LlamaChatCompletionHandlerNotFoundException,
    LlamaChatCompletionHandlerRegistry,
    chatml_function_calling,
    functionary_chat_handler,
    functionary_v1_v2_chat_handler,
    get_chat_completion_handler,
    register_chat_format,
)
from tests.tiny.llama import TinyLlama

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.build

HI = [{"role": "user", "content": "hi"}]
GOODBYE = " goodbye, until the long day has come to a quiet end."
TIME = [{"type": "function", "function": {"name": "time"}}]


@pytest.fixture
def chatting(model_file: Path) -> Any:
    """The F32 llama with room for tools in words."""
    with Llama(model_file, n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False) as loaded:
        yield loaded


def content(llm: Llama, messages: Any = HI, **options: Any) -> Any:
    """Answer greedily, whole and streamed; both must agree."""
    whole: Any = llm.create_chat_completion(messages, temperature=0, **options)
    parts: Any = llm.create_chat_completion(messages, temperature=0, stream=True, **options)
    choices = [part["choices"][0] for part in parts]
    text = whole["choices"][0]["message"]["content"]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == text
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert choices[-1]["delta"] == {}
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
    return text


def test_the_model_s_own_template(chatting: Llama) -> None:
    answer: Any = chatting.create_chat_completion(HI, temperature=0, model="m")
    prompt = len(chatting.tokenize("user: hi\nassistant:", add_bos=True, special=True))
    assert answer == {
        "id": answer["id"],
        "object": "chat.completion",
        "created": answer["created"],
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": GOODBYE},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": 6,
            "total_tokens": prompt + 6,
        },
    }
    assert answer["id"].startswith("chatcmpl-")
    assert content(chatting) == GOODBYE


def test_a_conversation(chatting: Llama) -> None:
    talk = [
        {"role": "system", "content": "<up>"},
        *HI,
        {"role": "assistant", "content": GOODBYE},
        {"role": "user", "content": [{"type": "text", "text": "again"}]},
    ]
    assert content(chatting, talk) == GOODBYE.replace("goodbye", "GOODBYE")


def test_the_begin_token_comes_once(chatting: Llama) -> None:
    request = _chat.prepare(chatting, HI)
    assert request.prompt == "<s>user: hi\nassistant:"
    assert request.tokens(chatting) == TinyLlama(name="t").encode("user: hi\nassistant:")
    chatting.chat_format = "vicuna"
    asked = _chat.prepare(chatting, HI)
    assert asked.tokens(chatting)[:2] == chatting.tokenize("A chat", add_bos=True)[:2]


def test_limits_and_stops(chatting: Llama) -> None:
    assert content(chatting, max_tokens=2) == " goo"
    assert content(chatting, stop="until") == " goodbye, "
    assert content(chatting, stop=["day", "nobody"]) == " goodbye, until the long "
    answer: Any = chatting.create_chat_completion(HI, temperature=0, max_tokens=2)
    assert answer["choices"][0]["finish_reason"] == "length"


def test_tools_that_are_not_called(chatting: Llama) -> None:
    answer: Any = chatting.create_chat_completion(HI, tools=TIME, temperature=0)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": GOODBYE}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert content(chatting, tools=TIME) == GOODBYE


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"const": "Rome"}, "days": {"const": 3}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
ROME = {"city": "Rome", "days": 3}


def called(llm: Llama, **options: Any) -> tuple[str, Any]:
    """Answer, whole and streamed, with one call; return its name and arguments."""
    whole: Any = llm.create_chat_completion(HI, temperature=0, max_tokens=80, **options)
    message = whole["choices"][0]["message"]
    parts: Any = llm.create_chat_completion(
        HI, temperature=0, max_tokens=80, stream=True, **options
    )
    choices = [part["choices"][0] for part in parts]
    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    reason = "function_call" if "functions" in options else "tool_calls"
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"] == reason
    assert message["content"] is None
    if reason == "function_call":
        function = message["function_call"]
        deltas = [choice["delta"]["function_call"] for choice in choices[1:-1]]
    else:
        (call,) = message["tool_calls"]
        function = call["function"]
        deltas = [choice["delta"]["tool_calls"][0]["function"] for choice in choices[1:-1]]
    assert deltas[0]["name"] == function["name"]
    assert "".join(delta["arguments"] for delta in deltas) == function["arguments"]
    return function["name"], json.loads(function["arguments"])


def test_a_call_that_is_required(chatting: Llama) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    assert called(chatting, tools=[*TIME, WEATHER], tool_choice=named) == ("get_weather", ROME)
    assert called(chatting, tools=[WEATHER], tool_choice="required") == ("get_weather", ROME)
    functions = [WEATHER["function"]]
    assert called(chatting, functions=functions, function_call={"name": "get_weather"}) == (
        "get_weather",
        ROME,
    )
    other = {**WEATHER, "function": {**WEATHER["function"], "name": "get_climate"}}  # type: ignore[dict-item]
    name, arguments = called(chatting, tools=[WEATHER, other], tool_choice="required")
    assert (name in {"get_weather", "get_climate"}, arguments) == (True, ROME)


@pytest.mark.parametrize(
    "chat_format", ["chatml-function-calling", "functionary-v2", "functionary"]
)
def test_a_call_that_is_required_in_other_formats(chatting: Llama, chat_format: str) -> None:
    chatting.chat_format = chat_format
    assert called(chatting, tools=[WEATHER], tool_choice="required") == ("get_weather", ROME)


def test_a_call_that_is_cut(chatting: Llama) -> None:
    answer: Any = chatting.create_chat_completion(
        HI, tools=[WEATHER], tool_choice="required", temperature=0, max_tokens=1
    )
    assert answer["choices"][0]["finish_reason"] == "length"
    function = answer["choices"][0]["message"]["tool_calls"][0]["function"]
    assert function == {"name": "get_weather", "arguments": "{"}


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object", "schema": WEATHER["function"]["parameters"]},  # type: ignore[index]
        {
            "type": "json_schema",
            "json_schema": {"name": "w", "schema": WEATHER["function"]["parameters"]},  # type: ignore[index]
        },
    ],
)
def test_response_formats(chatting: Llama, response_format: Any) -> None:
    answer: Any = chatting.create_chat_completion(
        HI, response_format=response_format, temperature=0, max_tokens=80
    )
    assert json.loads(answer["choices"][0]["message"]["content"]) == ROME
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_any_json_object(chatting: Llama) -> None:
    assert content(chatting, response_format={"type": "json_object"}, max_tokens=9)[0] == "{"


def test_grammar(chatting: Llama) -> None:
    assert content(chatting, grammar='root ::= "yes"') == "yes"
    assert content(chatting, grammar=LlamaGrammar.from_string('root ::= "no"')) == "no"


def test_logprobs(chatting: Llama) -> None:
    one: Any = chatting.create_chat_completion(
        HI, temperature=0, max_tokens=2, logprobs=True, top_logprobs=2
    )
    tokens = one["choices"][0]["logprobs"]["content"]
    assert [(token["token"], token["bytes"]) for token in tokens] == [
        (" g", [32, 103]),
        ("oo", [111, 111]),
    ]
    for token, other in zip(tokens, (" G", "OO"), strict=True):
        first, second = token["top_logprobs"]
        assert first == {key: token[key] for key in ("token", "logprob", "bytes")}
        assert second["token"] == other
        assert second["logprob"] < first["logprob"] < 0
    parts: Any = chatting.create_chat_completion(
        HI, temperature=0, max_tokens=2, logprobs=True, top_logprobs=2, stream=True
    )
    streamed = [part["choices"][0]["logprobs"] for part in parts]
    assert streamed == [
        None,
        {"content": tokens[:1], "refusal": None},
        {"content": tokens[1:], "refusal": None},
        None,
    ]
    none: Any = chatting.create_chat_completion(HI, temperature=0, max_tokens=1, logprobs=True)
    assert none["choices"][0]["logprobs"]["content"] == [{**tokens[0], "top_logprobs": []}]


def test_tokens_that_stop(chatting: Llama) -> None:
    ends = chatting.tokenize(" goodbye", add_bos=False)[-1:]
    formatter = Jinja2ChatFormatter("{{ messages[0].content }}:", "", "", stop_token_ids=ends)
    answer: Any = formatter.to_chat_handler()(llama=chatting, messages=HI, temperature=0)
    assert answer["choices"][0]["message"]["content"] == " goodbye"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_logits_processors(chatting: Llama) -> None:
    full_stop = chatting.tokenize(".", add_bos=False)[-1]

    def only(ids: Any, scores: Any) -> Any:
        scores[:] = -100.0
        scores[full_stop] = 0.0
        return scores

    assert content(chatting, max_tokens=3, logits_processor=[only]) == "..."
    assert content(chatting, max_tokens=3, logit_bias={full_stop: 100.0}) == "..."


@pytest.mark.parametrize(
    ("chat_format", "prompt"),
    [
        ("chatml", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ("chatml-function-calling", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ("zephyr", "<|user|>\nhi</s>\n<|assistant|>\n"),
        ("chat_template.default", "<s>user: hi\nassistant:"),
        ("chat_template.nowhere", "<s>user: hi\nassistant:"),
        ("mistral-instruct", "<s>[INST] hi [/INST]"),
    ],
)
def test_formats_by_name(chatting: Llama, chat_format: str, prompt: str) -> None:
    chatting.chat_format = chat_format
    request = _chat.prepare(chatting, HI)
    assert request.prompt == prompt
    known = TinyLlama(name="t").expected_text(request.tokens(chatting), 8)
    assert content(chatting, max_tokens=8) == known


def test_handlers_with_tools(chatting: Llama) -> None:
    for handler, name in (
        (functionary_chat_handler, "functionary-v1"),
        (functionary_v1_v2_chat_handler, "functionary-v2"),
        (chatml_function_calling, "chatml"),
    ):
        asked = _chat.prepare(chatting, HI, formatter=get(name), tools=TIME)
        known = TinyLlama(name="t").expected_text(asked.tokens(chatting), 5)
        answer: Any = handler(
            llama=chatting, messages=HI, tools=TIME, max_tokens=5, temperature=0, logit_bias=None
        )
        assert answer["choices"][0]["message"]["content"] == known
    chatting.chat_format = "functionary-v1"
    assert _chat.prepare(chatting, HI).prompt.endswith("user:\nhi<|END_OF_USER|>\nassistant:")
    assert content(chatting) == GOODBYE
    whole: Any = functionary_v1_v2_chat_handler(chatting, HI, temperature=0)
    assert whole["choices"][0]["message"]["content"] == GOODBYE


def get(name: str) -> Any:
    from llama_cpp._chat_formats import text_formats  # noqa: PLC0415 - one use

    return text_formats()[name]


def test_a_format_of_one_s_own(chatting: Llama) -> None:
    formatter = Jinja2ChatFormatter("{{ messages[0].content }}:", eos_token="end", bos_token="")
    register_chat_format("of-a-test")(formatter)
    try:
        chatting.chat_format = "of-a-test"
        assert content(chatting) == " goodbye, until the long day has come to a quiet "
        assert get_chat_completion_handler("of-a-test").formatter is formatter
    finally:
        LlamaChatCompletionHandlerRegistry().unregister_chat_handler("of-a-test")
    with pytest.raises(LlamaChatCompletionHandlerNotFoundException):
        chatting.create_chat_completion(HI)


def test_a_handler_of_one_s_own(chatting: Llama) -> None:
    given: dict[str, Any] = {}

    def handler(**options: Any) -> Any:
        given.update(options)
        return "answer"

    chatting.chat_handler = handler
    found: Any = chatting.create_chat_completion(HI, seed=5)
    assert found == "answer"
    assert given["llama"] is chatting
    assert (given["messages"], given["seed"], given["max_tokens"]) == (HI, 5, None)
    assert "chat_template_kwargs" not in given
    chatting.chat_handler = None
    chatting._chat_handlers = {"mine": handler}  # type: ignore[attr-defined, unused-ignore]
    chatting.chat_format = "mine"
    assert chatting.create_chat_completion(HI, chat_template_kwargs={"x": 1}) == found
    assert given["chat_template_kwargs"] == {"x": 1}
    with pytest.raises(ValidationError) as caught:
        _chat.prepare(chatting, HI)
    assert str(caught.value) == (
        "the chat format 'mine' answers chats itself; use create_chat_completion"
    )


def test_templates_of_a_file(chatting: Llama) -> None:
    def asked(metadata: dict[str, str], name: str | None = None, **options: Any) -> str:
        model: Any = SimpleNamespace(metadata=metadata, _core=chatting._core, chat_format=name)
        return _chat.prepare(model, HI, **options).prompt

    both = {
        "tokenizer.chat_template": "plain",
        "tokenizer.chat_template.tool_use": "{{ tools[0] }}",
    }
    assert asked(both) == "plain"
    assert asked(both, tools=TIME) == "{'type': 'function', 'function': {'name': 'time'}}"
    assert asked(both, "chat_template.tool_use") == ""
    assert asked({}) == "<s>[INST] hi [/INST]"
    with pytest.raises(ValidationError) as caught:
        asked({"tokenizer.chat_template": "{{ raise_exception('no') }}"})
    assert str(caught.value) == "the chat template refuses these messages, line 1: no"


def test_openai_s_types(chatting: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(LlamaError) as caught:
        chatting.create_chat_completion_openai_v1(HI)
    assert str(caught.value) == "OpenAI's types need the package openai: pip install openai"


def test_names(chatting: Llama) -> None:
    assert Llama.create_chat_completion is _chat_completion.create_chat_completion
    assert (
        type(chatting).create_chat_completion_openai_v1.__module__ == "llama_cpp._chat_completion"
    )
