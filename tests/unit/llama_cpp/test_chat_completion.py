"""Chat completions of the tiny model: exact answers, whole and streamed."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama, LlamaError, ValidationError, _chat, _chat_completion
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
