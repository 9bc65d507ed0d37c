"""Chat completions of the tiny model: exact answers, whole and streamed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
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
from llama_cpp.llama_types import CreateChatCompletionResponse, CreateChatCompletionStreamResponse
from llama_cpp.pool import LlamaPool
from tests.sequences import paired
from tests.tiny.llama import TinyLlama
from tests.tiny.vocabulary import EOS, LONG_PIECE, Vocabulary, vocabulary

if TYPE_CHECKING:
    from pathlib import Path
    from typing import assert_type
else:

    def assert_type(value: object, _kind: object) -> object:
        """Stand in for that of Python 3.11: what it says is for the type checker."""
        return value


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


def test_no_unicode(chatting: Llama) -> None:
    with pytest.raises(ValidationError, match="has a lone surrogate at character 9"):
        chatting.create_chat_completion([{"role": "user", "content": "\ud800"}])


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


def test_calls_that_the_model_chooses(chatting: Llama) -> None:
    text = 'So: <tool_call>{"name": "time", "arguments": {}}</tool_call>'
    script = [*chatting.tokenize(text, add_bos=False), chatting.token_eos()]

    def speak(length: int) -> Any:
        def processor(ids: Any, scores: Any) -> Any:
            scores[:] = -100.0
            scores[script[len(ids) - length]] = 100.0
            return scores

        return [processor]

    length = len(_chat.prepare(chatting, HI, tools=TIME).tokens(chatting))
    options: Any = {"tools": TIME, "temperature": 0, "logits_processor": speak(length)}
    whole: Any = chatting.create_chat_completion(HI, **options)
    choice = whole["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "So:"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "time", "arguments": "{}"}
    parts: Any = chatting.create_chat_completion(HI, stream=True, **options)
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert "".join(delta.get("content") or "" for delta in deltas) == "So:"
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call["function"] for call in calls] == [
        {"name": "time", "arguments": ""},
        {"arguments": "{}"},
    ]


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
    for token, other in paired(tokens, (" G", "OO")):
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


class Marking(TinyLlama):
    """The tiny model with two control tokens of other texts in place of two pieces."""

    def __init__(self, *texts: str) -> None:
        super().__init__(name="marking")
        object.__setattr__(self, "texts", dict(paired(("🦙", LONG_PIECE), texts)))

    @property
    def vocabulary(self) -> Vocabulary:
        texts: dict[str, str] = self.__dict__["texts"]
        words = vocabulary()
        pieces = tuple(
            dataclasses.replace(piece, text=texts[piece.text], kind="control")
            if piece.text in texts
            else piece
            for piece in words.pieces
        )
        return dataclasses.replace(words, pieces=pieces)


def says(llm: Llama, text: str, *, special: bool = True) -> Any:
    """Return a logits processor that has a model say a text."""
    tokens = [*llm.tokenize(text.encode(), add_bos=False, special=special), EOS]
    starts: list[int] = []

    def force(input_ids: Any, scores: Any) -> Any:
        starts.append(len(input_ids))
        token = tokens[len(input_ids) - starts[0]]
        forced = scores * 0 - 1e9
        forced[token] = 0
        return forced

    return force


def said(llm: Llama, text: str, messages: Any = HI, **options: Any) -> Any:
    """Have a model answer with a text, whole and streamed; return the message, both agreeing."""
    whole: Any = llm.create_chat_completion(
        messages, temperature=0, logits_processor=says(llm, text), **options
    )
    parts: Any = llm.create_chat_completion(
        messages, temperature=0, logits_processor=says(llm, text), stream=True, **options
    )
    choices = [part["choices"][0] for part in parts]
    message = whole["choices"][0]["message"]
    for key in ("content", "reasoning_content"):
        told = "".join(choice["delta"].get(key) or "" for choice in choices)
        assert told == (message.get(key) or "")
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert [call["function"]["name"] for call in calls if "id" in call] == [
        call["function"]["name"] for call in message.get("tool_calls", ())
    ]
    assert "".join(call["function"]["arguments"] for call in calls) == "".join(
        call["function"]["arguments"] for call in message.get("tool_calls", ())
    )
    assert choices[-1]["finish_reason"] == whole["choices"][0]["finish_reason"]
    message.pop("role")
    for call in message.get("tool_calls", ()):
        del call["id"]
    return message


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (("<|python_tag|>", "<|other|>"), '<|python_tag|>{"name": "time", "parameters": {}}'),
        (
            ("<tool_call>", "</tool_call>"),
            '<tool_call>{"name": "time", "arguments": {}}</tool_call>',
        ),
        (("[TOOL_CALLS]", "[ARGS]"), "[TOOL_CALLS]time[ARGS]{}"),
        (
            ("<|tool_call_start|>", "<|tool_call_end|>"),
            "<|tool_call_start|>[time()]<|tool_call_end|>",
        ),
    ],
)
def test_calls_between_control_tokens(tmp_path: Path, marks: tuple[str, str], text: str) -> None:
    path = tmp_path / "marking.gguf"
    Marking(*marks).write(path)
    with Llama(path, n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False) as llm:
        assert len(llm.tokenize(marks[0].encode(), add_bos=False, special=True)) == 1
        assert said(llm, "I look. " + text, tools=TIME) == {
            "content": "I look.",
            "tool_calls": [{"type": "function", "function": {"name": "time", "arguments": "{}"}}],
        }
        # nothing can be called: control tokens are no text
        hidden = text.replace(marks[0], "").replace(marks[1], "")
        assert said(llm, text) == {"content": hidden}


def test_calls_between_control_tokens_in_a_pool(tmp_path: Path) -> None:
    path = tmp_path / "marking.gguf"
    Marking("<tool_call>", "</tool_call>").write(path)
    text = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
    with (
        Llama(path, n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False) as llm,
        LlamaPool(path, 1, n_ctx=2048, n_threads=1, n_threads_batch=1) as pool,
    ):
        for stream in (False, True):
            answer = pool.sync.create_chat_completion(
                HI, tools=TIME, logits_processor=says(llm, text), stream=stream
            )
            choices = [part["choices"][0] for part in (answer if stream else [answer])]
            told = [choice.get("message") or choice["delta"] for choice in choices]
            calls = [call["function"] for each in told for call in each.get("tool_calls", ())]
            assert calls[0]["name"] == "time"
            assert "".join(call["arguments"] for call in calls) == "{}"
            assert choices[-1]["finish_reason"] == "tool_calls"


def test_control_tokens_and_log_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "marking.gguf"
    Marking("<|python_tag|>", "<|other|>").write(path)
    with Llama(path, n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False) as llm:
        text = "a<|other|><|python_tag|>b"
        for spelled, expected, offsets in (
            ((), "ab", [2, 3, 3, 3]),
            (["<|python_tag|>"], "a<|python_tag|>b", [2, 3, 3, 17]),
        ):
            answer: Any = llm.create_completion(
                "go", logprobs=0, echo=True, logits_processor=says(llm, text), spelled=spelled
            )
            (choice,) = answer["choices"]
            assert choice["text"] == "go" + expected
            assert choice["logprobs"]["tokens"][-4:] == ["a", "<|other|>", "<|python_tag|>", "b"]
            assert choice["logprobs"]["text_offset"][-4:] == offsets
        for wrong in ("<|other|>", [3]):
            with pytest.raises(ValidationError, match="it must be texts of tokens"):
                llm.create_completion("go", spelled=wrong)  # type: ignore[arg-type]


def test_thoughts_apart(chatting: Llama) -> None:
    text = "<think>\nWell <b>.\n</think>\n\nYes. <think>No.</think>"
    assert said(chatting, text) == {"content": text}
    assert said(chatting, text, reasoning_content=True) == {
        "reasoning_content": "Well <b>.",
        "content": "Yes. <think>No.</think>",
    }
    call = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
    assert said(chatting, f"<think>Hm.</think>{call}", tools=TIME, reasoning_content=True) == {
        "reasoning_content": "Hm.",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "time", "arguments": "{}"}}],
    }


def test_thoughts_that_the_template_begins(tmp_path: Path) -> None:
    path = tmp_path / "marking.gguf"
    Marking("<think>", "</think>").write(path)
    with Llama(path, n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False) as llm:
        assert said(llm, "<think>Hm.</think>Yes.", reasoning_content=True) == {
            "reasoning_content": "Hm.",
            "content": "Yes.",
        }
        llm.metadata["tokenizer.chat_template"] = (
            "{% for message in messages %}{{ message.content }}{% endfor %}<think>\n"
        )
        assert said(llm, "Hm.</think>Yes.", reasoning_content=True) == {
            "reasoning_content": "Hm.",
            "content": "Yes.",
        }
        answer: Any = llm.create_chat_completion(
            HI, response_format={"type": "json_object", "schema": {"const": 1}}, temperature=0,
            reasoning_content=True,
        )  # fmt: skip
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "1"}


IN_PARTS = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: "
    "{% for part in message.content %}{{ part.text }}{% endfor %}{{ '\\n' }}{% endfor %}assistant:"
)


@pytest.mark.parametrize(
    "template", [IN_PARTS, IN_PARTS.replace("message.content", "message.content[:1]")]
)
def test_a_template_that_reads_parts(chatting: Llama, template: str) -> None:
    talk = [{"role": "system", "content": "<up>"}, *HI, {"role": "assistant", "content": None}, *HI]
    plain = _chat.prepare(chatting, talk).prompt
    assert plain == "<s>system: <up>\nuser: hi\nassistant: \nuser: hi\nassistant:"
    chatting.metadata["tokenizer.chat_template"] = template
    assert _chat.prepare(chatting, talk).prompt == plain
    assert content(chatting, talk) == GOODBYE.replace("goodbye", "GOODBYE")
    formatter = Jinja2ChatFormatter(template, eos_token="</s>", bos_token="<s>")
    assert formatter(messages=talk).prompt == plain
    assert _chat.prepare(chatting, talk, formatter=formatter).prompt == plain


def test_a_default_that_nobody_can_change(chatting: Llama) -> None:
    given: list[Any] = []

    def handler(*, stop: Any, **options: Any) -> Any:
        given.append(list(stop))
        stop.append("no")
        return {}

    chatting.chat_handler = handler
    for _ in range(2):
        chatting.create_chat_completion(HI)
    stops = ["yes"]
    chatting.create_chat_completion(HI, stop=stops)
    assert given == [[], [], ["yes"]]
    assert stops == ["yes"]


def test_bytes_of_tokens_that_are_no_text(chatting: Llama) -> None:
    text = "a🙂é."
    answer: Any = chatting.create_chat_completion(
        HI, logprobs=True, top_logprobs=1, logits_processor=says(chatting, text)
    )
    assert answer["choices"][0]["message"]["content"] == text
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(token["bytes"]) for token in tokens) == text.encode()
    assert tokens[1]["token"] == "bytes:\\xf0"
    assert tokens[1]["bytes"] == [0xF0]


def test_types(chatting: Llama) -> None:
    whole = chatting.create_chat_completion(HI, max_tokens=1, temperature=0)
    assert_type(whole, CreateChatCompletionResponse)
    assert whole["choices"][0]["message"]["content"] == " g"
    parts = chatting.create_chat_completion(HI, max_tokens=1, temperature=0, stream=True)
    assert_type(parts, Iterator[CreateChatCompletionStreamResponse])
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None, None, "length"]


@pytest.mark.parametrize("name", ["chatml", "chatml-function-calling", "functionary"])
def test_thoughts_apart_whatever_the_format(chatting: Llama, name: str) -> None:
    chatting.chat_format = name
    assert said(chatting, "<think>Hm.</think>Yes.", reasoning_content=True) == {
        "reasoning_content": "Hm.",
        "content": "Yes.",
    }
