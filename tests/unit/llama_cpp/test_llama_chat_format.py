"""Chat formats: the prompts of the families' cards, and the compatible interface by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_cpp import LlamaError, ValidationError, llama_chat_format
from llama_cpp._chat_formats import default_name, text_formats
from llama_cpp.llama_chat_format import (
    CHATML_BOS_TOKEN,
    CHATML_CHAT_TEMPLATE,
    CHATML_EOS_TOKEN,
    LLAMA3_INSTRUCT_CHAT_TEMPLATE,
    MISTRAL_INSTRUCT_BOS_TOKEN,
    MISTRAL_INSTRUCT_CHAT_TEMPLATE,
    MISTRAL_INSTRUCT_EOS_TOKEN,
    MIXTRAL_INSTRUCT_CHAT_TEMPLATE,
    ChatFormatterResponse,
    Jinja2ChatFormatter,
    LlamaChatCompletionHandlerNotFoundException,
    LlamaChatCompletionHandlerRegistry,
    get_chat_completion_handler,
    guess_chat_format_from_gguf_metadata,
    hf_autotokenizer_to_chat_formatter,
    hf_tokenizer_config_to_chat_completion_handler,
    hf_tokenizer_config_to_chat_formatter,
    register_chat_completion_handler,
    register_chat_format,
    suppress_stdout_stderr,
)

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Why?"},
]
FUNCTIONS = {
    "format_llama2": "llama-2",
    "format_llama3": "llama-3",
    "format_alpaca": "alpaca",
    "format_qwen": "qwen",
    "format": "vicuna",
    "format_oasst_llama": "oasst_llama",
    "format_baichuan2": "baichuan-2",
    "format_baichuan": "baichuan",
    "format_openbuddy": "openbuddy",
    "format_redpajama_incite": "redpajama-incite",
    "format_snoozy": "snoozy",
    "format_phind": "phind",
    "format_intel": "intel",
    "format_open_orca": "open-orca",
    "format_mistrallite": "mistrallite",
    "format_zephyr": "zephyr",
    "format_pygmalion": "pygmalion",
    "format_chatml": "chatml",
    "format_mistral_instruct": "mistral-instruct",
    "format_chatglm3": "chatglm3",
    "format_openchat": "openchat",
    "format_saiga": "saiga",
    "format_gemma": "gemma",
}
# Of each format the prompt of the whole talk, and that of its first question without a system.
PROMPTS: dict[str, tuple[str, str]] = {
    "llama-2": (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Why? [/INST]",
        "<s>[INST] Hi [/INST]",
    ),
    "llama-3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "alpaca": (
        "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nWhy?\n\n### Response:\n",
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nHi\n\n### Response:\n",
    ),
    "qwen": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "vicuna": (
        "Be brief. USER: Hi ASSISTANT: Hello</s>USER: Why? ASSISTANT:",
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. USER: Hi ASSISTANT:",
    ),
    "oasst_llama": (
        "<|system|>Be brief.</s><|prompter|>Hi</s><|assistant|>Hello</s><|prompter|>Why?</s><|assistant|>",
        "<|prompter|>Hi</s><|assistant|>",
    ),
    "baichuan-2": (
        "Be brief.<reserved_106>Hi<reserved_107>Hello<reserved_106>Why?<reserved_107>",
        "<reserved_106>Hi<reserved_107>",
    ),
    "baichuan": (
        "Be brief.<reserved_102>Hi<reserved_103>Hello<reserved_102>Why?<reserved_103>",
        "<reserved_102>Hi<reserved_103>",
    ),
    "openbuddy": (
        "Be brief.\nUser: Hi\nAssistant: Hello\nUser: Why?\nAssistant:",
        "Consider a conversation between User (a human) and Assistant (named Buddy).\nBuddy is an INTP-T, a friendly, intelligent and multilingual AI assistant, by OpenBuddy team. GitHub: https://github.com/OpenBuddy/OpenBuddy\nBuddy cannot access the Internet.\nBuddy can fluently speak the user's language (e.g. English, Chinese).\nBuddy can generate poems, stories, code, essays, songs, parodies, and more.\nBuddy possesses vast knowledge about the world, history, and culture.\nBuddy's responses are always safe, creative, high-quality, human-like, and interesting.\nBuddy strictly refuses to discuss political, NSFW, or other unsafe topics.\n\nUser: Hi.\nAssistant: Hi, I'm Buddy, your AI assistant. How can I help you today?\nUser: Hi\nAssistant:",
    ),
    "redpajama-incite": (
        "Be brief.\n<human>: Hi\n<bot>: Hello\n<human>: Why?\n<bot>:",
        "<human>: Hi\n<bot>:",
    ),
    "snoozy": (
        "### Instruction:\nBe brief.\n### Prompt:\nHi\n### Response:\nHello\n### Prompt:\nWhy?\n### Response:\n",
        "### Instruction:\nThe prompt below is a question to answer, a task to complete, or a conversation to respond to; decide which and write an appropriate response.\n### Prompt:\nHi\n### Response:\n",
    ),
    "phind": (
        "### System Prompt\nBe brief.\n\n### User Message\nHi\n\n### Assistant\nHello\n\n### User Message\nWhy?\n\n### Assistant\n",
        "### System Prompt\nYou are an intelligent programming assistant.\n\n### User Message\nHi\n\n### Assistant\n",
    ),
    "intel": (
        "### System:\nBe brief.\n### User:\nHi\n### Assistant:\nHello\n### User:\nWhy?\n### Assistant:\n",
        "### User:\nHi\n### Assistant:\n",
    ),
    "open-orca": (
        "Be brief.<|end_of_turn|>\nUser: Hi<|end_of_turn|>\nAssistant: Hello<|end_of_turn|>\nUser: Why?<|end_of_turn|>\nAssistant: ",
        "You are a helpful assistant. Please answer truthfully and write out your thinking step by step to be sure you get the right answer. If you make a mistake or encounter an error in your thinking, say so out loud and attempt to correct it.<|end_of_turn|>\nUser: Hi<|end_of_turn|>\nAssistant: ",
    ),
    "mistrallite": (
        "<|system|>Be brief.</s><|prompter|>Hi</s><|assistant|>Hello</s><|prompter|>Why?</s><|assistant|>",
        "<|prompter|>Hi</s><|assistant|>",
    ),
    "zephyr": (
        "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello</s>\n<|user|>\nWhy?</s>\n<|assistant|>\n",
        "<|user|>\nHi</s>\n<|assistant|>\n",
    ),
    "pygmalion": (
        "<|system|>Be brief.<|user|>Hi<|model|>Hello<|user|>Why?<|model|>",
        "<|user|>Hi<|model|>",
    ),
    "chatml": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    ),
    "mistral-instruct": (
        "<s>[INST] Be brief.\n\nHi [/INST]Hello</s>[INST] Why? [/INST]",
        "<s>[INST] Hi [/INST]",
    ),
    "chatglm3": (
        "<|system|>\n Be brief.<|user|>\n Hi<|assistant|>\n Hello<|user|>\n Why?<|assistant|>",
        "<|user|>\n Hi<|assistant|>",
    ),
    "openchat": (
        "Be brief.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant: Hello<|end_of_turn|>GPT4 Correct User: Why?<|end_of_turn|>GPT4 Correct Assistant:",
        "GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:",
    ),
    "saiga": (
        "<s>system\nBe brief.</s><s>user\nHi</s><s>bot\nHello</s><s>user\nWhy?</s><s>bot\n",
        "<s>system\nТы — Сайга, русскоязычный автоматический ассистент. Ты разговариваешь с людьми и помогаешь им.</s><s>user\nHi</s><s>bot\n",
    ),
    "gemma": (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    ),
    "functionary-v1": (
        "system:\n// Supported function definitions that should be called when necessary.\nnamespace functions {\n\n} // namespace functions<|END_OF_SYSTEM|>\nsystem:\nBe brief.<|END_OF_SYSTEM|>\nuser:\nHi<|END_OF_USER|>\nassistant:\nHello<|END_OF_ASSISTANT|>\nuser:\nWhy?<|END_OF_USER|>\nassistant:",
        "system:\n// Supported function definitions that should be called when necessary.\nnamespace functions {\n\n} // namespace functions<|END_OF_SYSTEM|>\nsystem:\nA chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. The assistant calls functions with appropriate input when necessary<|END_OF_SYSTEM|>\nuser:\nHi<|END_OF_USER|>\nassistant:",
    ),
    "functionary-v2": (
        "<|from|>system\n<|recipient|>all\n<|content|>// Supported function definitions that should be called when necessary.\nnamespace functions {\n\n} // namespace functions\n<|from|>system\n<|recipient|>all\n<|content|>Be brief.\n<|from|>user\n<|recipient|>all\n<|content|>Hi\n<|from|>assistant\n<|recipient|>all\n<|content|>Hello<|stop|>\n<|from|>user\n<|recipient|>all\n<|content|>Why?\n<|from|>assistant\n<|recipient|>",
        "<|from|>system\n<|recipient|>all\n<|content|>// Supported function definitions that should be called when necessary.\nnamespace functions {\n\n} // namespace functions\n<|from|>system\n<|recipient|>all\n<|content|>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. The assistant calls functions with appropriate input when necessary\n<|from|>user\n<|recipient|>all\n<|content|>Hi\n<|from|>assistant\n<|recipient|>",
    ),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(name: str) -> None:
    text_format = text_formats()[name]
    talk, question = PROMPTS[name]
    assert text_format(messages=TALK).prompt == talk
    assert text_format(messages=TALK[1:2]).prompt == question


def test_every_format_is_tested_and_has_a_function() -> None:
    assert set(PROMPTS) == set(text_formats())
    assert {*FUNCTIONS.values(), "functionary-v1", "functionary-v2"} == set(PROMPTS)


@pytest.mark.parametrize(("function", "name"), FUNCTIONS.items())
def test_functions(function: str, name: str) -> None:
    formatter = getattr(llama_chat_format, function)
    response = formatter(TALK, tools=None)
    assert response.prompt == PROMPTS[name][0]
    assert response.stop == list(text_formats()[name].stop)
    assert response.added_special == response.prompt.startswith(("<s>", "<bos>", "<|begin_of"))
    assert response.stopping_criteria is None
    assert formatter.__name__ == function
    handler = get_chat_completion_handler(name)
    assert handler.formatter(messages=TALK).prompt == PROMPTS[name][0]


def test_what_a_system_says_later_is_not_lost() -> None:
    later = [TALK[1], {"role": "system", "content": "In rhyme."}, TALK[3]]
    for text_format in text_formats().values():
        assert "In rhyme." in text_format(messages=later).prompt


def test_the_data_file() -> None:
    data = json.loads(Path(llama_chat_format.__file__).with_name("_chat_formats.json").read_text())
    for entry in data.values():
        assert set(entry) <= {"source", "bos", "eos", "stop", "template"}
        assert entry["source"].startswith("https://")


# -- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "bos", "eos", "expected"),
    [
        (
            CHATML_CHAT_TEMPLATE,
            CHATML_BOS_TOKEN,
            CHATML_EOS_TOKEN,
            (
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
                "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
            ),
        ),
        (
            MISTRAL_INSTRUCT_CHAT_TEMPLATE,
            MISTRAL_INSTRUCT_BOS_TOKEN,
            MISTRAL_INSTRUCT_EOS_TOKEN,
            "<s>[INST] Hi [/INST]Hello</s>[INST] Why? [/INST]",
        ),
        (
            MIXTRAL_INSTRUCT_CHAT_TEMPLATE,
            "<s>",
            "</s>",
            "<s>[INST] Hi [/INST]Hello</s> [INST] Why? [/INST]",
        ),
        (
            LLAMA3_INSTRUCT_CHAT_TEMPLATE,
            "<|begin_of_text|>",
            "<|eot_id|>",
            (
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
        ),
    ],
    ids=["chatml", "mistral", "mixtral", "llama-3"],
)
def test_constants(template: str, bos: str, eos: str, expected: str) -> None:
    formatter = Jinja2ChatFormatter(template, eos, bos)
    assert formatter(messages=TALK[1:]) == ChatFormatterResponse(
        prompt=expected, stop=[eos], stopping_criteria=None, added_special=True
    )


def test_jinja2_formatter() -> None:
    formatter = Jinja2ChatFormatter(
        template="{{ bos_token }}{{ tools | length }}{{ tool_choice }}{{ x }}"
        "{% if add_generation_prompt %}go{% endif %}",
        eos_token="</s>",
        bos_token="<s>",
        add_generation_prompt=False,
        stop_token_ids=[7, 2],
    )
    response = formatter(messages=TALK, tools=[{}], tool_choice="auto", x="!")
    assert response.prompt == "<s>1auto!"
    criteria: Any = response.stopping_criteria
    assert criteria([1, 2], None)
    assert not criteria([2, 1], None)
    assert not criteria([], None)
    assert [criterion([7], None) for criterion in criteria] == [True]
    assert formatter.to_chat_handler().formatter is formatter


def test_jinja2_formatter_s_parts() -> None:
    assert Jinja2ChatFormatter.tojson({"a": "<ü>"}) == '{"a": "<ü>"}'
    assert Jinja2ChatFormatter.tojson([1, 2], indent=1, separators=(";", ":")) == "[\n 1;\n 2\n]"
    assert Jinja2ChatFormatter.strftime_now("%%") == "%"
    import jinja2  # noqa: PLC0415 - what is under test takes one

    extension = Jinja2ChatFormatter.IgnoreGenerationTags(jinja2.Environment())
    assert extension.tags == {"generation"}


def test_a_tokenizer_s_configuration() -> None:
    config = {
        "chat_template": CHATML_CHAT_TEMPLATE,
        "bos_token": "<s>",
        "eos_token": {"content": "<|im_end|>"},
    }
    prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert hf_tokenizer_config_to_chat_formatter(config)(messages=TALK[1:2]).prompt == prompt
    handler = hf_tokenizer_config_to_chat_completion_handler(config, add_generation_prompt=False)
    assert handler.formatter(messages=TALK[1:2]).prompt == "<|im_start|>user\nHi<|im_end|>\n"
    named = {**config, "chat_template": [{"name": "default", "template": "a"}]}
    assert hf_tokenizer_config_to_chat_formatter(named)(messages=TALK).prompt == "a"
    for key, what in {
        "chat_template": "the tokenizer's chat_template is None; it must be text",
        "bos_token": "the tokenizer's bos_token is None; it must be text",
        "eos_token": "the tokenizer's eos_token is None; it must be text",
    }.items():
        with pytest.raises(ValidationError) as caught:
            hf_tokenizer_config_to_chat_formatter({**config, key: None})
        assert str(caught.value) == what


def test_a_tokenizer_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LlamaError) as caught:
        hf_autotokenizer_to_chat_formatter("a/b")
    assert str(caught.value) == (
        "a Hugging Face tokenizer needs the package transformers: pip install transformers"
    )


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    from llama_cpp import _chat_template  # noqa: PLC0415 - its caches are emptied here

    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "llama_cpp._template_bounds", raising=False)
    monkeypatch.setattr(_chat_template, "_environment", _chat_template._environment.__wrapped__)
    with pytest.raises(LlamaError) as caught:
        Jinja2ChatFormatter("without jinja2", "", "")
    assert str(caught.value) == "chat templates need the package jinja2: pip install jinja2"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (CHATML_CHAT_TEMPLATE, "chatml"),
        (LLAMA3_INSTRUCT_CHAT_TEMPLATE, "llama-3"),
        (MISTRAL_INSTRUCT_CHAT_TEMPLATE, "mistral-instruct"),
        (MIXTRAL_INSTRUCT_CHAT_TEMPLATE, "mistral-instruct"),
        (text_formats()["gemma"].source, "gemma"),
        (text_formats()["vicuna"].source, "vicuna"),
        (text_formats()["openchat"].source, "openchat"),
        (text_formats()["llama-2"].source, "llama-2"),
        ("something else", None),
    ],
)
def test_guess(template: str, name: str | None) -> None:
    metadata = {"tokenizer.chat_template": template}
    assert guess_chat_format_from_gguf_metadata(metadata) == name
    assert guess_chat_format_from_gguf_metadata({}) is None


def test_the_name_of_a_model_s_own_format() -> None:
    assert default_name({}) == "llama-2"
    assert default_name({"tokenizer.chat_template": ""}) == "chat_template.default"


# -- the registry ---------------------------------------------------------------------------------


def test_registry() -> None:
    registry = LlamaChatCompletionHandlerRegistry()
    assert registry is LlamaChatCompletionHandlerRegistry()

    @register_chat_completion_handler("of-a-test")
    def handler(**options: Any) -> Any:
        return options

    try:
        assert get_chat_completion_handler("of-a-test") is handler
        assert registry.get_chat_completion_handler_by_name("of-a-test") is handler
        with pytest.raises(ValidationError) as caught:
            register_chat_format("of-a-test")(handler)
        assert str(caught.value) == (
            "there is a chat format 'of-a-test' already; pass overwrite=True to replace it"
        )
        registry.register_chat_completion_handler("of-a-test", len, overwrite=True)
        assert get_chat_completion_handler("of-a-test") is len
    finally:
        registry.unregister_chat_handler("of-a-test")
    with pytest.raises(ValidationError, match=r"^there is no chat format 'of-a-test'$"):
        registry.unregister_chat_handler("of-a-test")
    with pytest.raises(LlamaChatCompletionHandlerNotFoundException) as missing:
        get_chat_completion_handler("of-a-test")
    assert str(missing.value) == (
        "there is no chat format 'of-a-test'; choose from alpaca, baichuan, baichuan-2, chatglm3, "
        "chatml, chatml-function-calling, functionary, functionary-v1, functionary-v2, gemma, "
        "intel, llama-2, llama-3, mistral-instruct, mistrallite, oasst_llama, open-orca, "
        "openbuddy, openchat, phind, pygmalion, qwen, redpajama-incite, saiga, snoozy, vicuna, "
        "zephyr"
    )


def test_nothing_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with suppress_stdout_stderr(disable=False):
        print("out")
        print("error", file=sys.stderr)
    assert capfd.readouterr() == ("out\n", "error\n")
