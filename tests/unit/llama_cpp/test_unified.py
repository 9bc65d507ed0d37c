"""Families of models, and how they are told to think."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import ValidationError
from llama_cpp._families import FAMILIES, family_of, switch_of
from llama_cpp._sampler import SamplingParams
from llama_cpp.unified import UnifiedLLM
from tests.tiny.llama import CHAT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GREEDY = SamplingParams(temperature=0)
ARCHITECTURE, BASENAME, NAME = "general.architecture", "general.basename", "general.name"
TEMPLATE = "tokenizer.chat_template"


@pytest.mark.parametrize(
    ("metadata", "path", "name"),
    [
        pytest.param({ARCHITECTURE: "qwen3"}, "x.gguf", "qwen3", id="architecture"),
        pytest.param({ARCHITECTURE: "qwen3moe"}, "x.gguf", "qwen3", id="its variant"),
        pytest.param({ARCHITECTURE: "qwen3vl"}, "x.gguf", "qwen3", id="with vision"),
        pytest.param({ARCHITECTURE: "gpt-oss"}, "x.gguf", "gpt-oss", id="gpt-oss"),
        pytest.param({ARCHITECTURE: "gemma3n"}, "x.gguf", "gemma", id="gemma"),
        pytest.param({ARCHITECTURE: "phi3"}, "x.gguf", "phi", id="phi"),
        pytest.param({ARCHITECTURE: "deepseek2"}, "x.gguf", "deepseek", id="deepseek"),
        pytest.param({ARCHITECTURE: "mistral3"}, "x.gguf", "mistral", id="mistral 3"),
        pytest.param({ARCHITECTURE: "glm4moe"}, "x.gguf", "glm", id="glm"),
        pytest.param({ARCHITECTURE: "granitehybrid"}, "x.gguf", "granite", id="granite"),
        pytest.param({ARCHITECTURE: "cohere2"}, "x.gguf", "command", id="cohere"),
        pytest.param({ARCHITECTURE: "llama4"}, "x.gguf", "llama", id="llama 4"),
        pytest.param(
            {ARCHITECTURE: "gemma3", NAME: "My Llama Story"},
            "qwen3.gguf",
            "gemma",
            id="not by name",
        ),
        pytest.param(
            {ARCHITECTURE: "llama", BASENAME: "Mistral"}, "llama.gguf", "mistral", id="basename"
        ),
        pytest.param(
            {ARCHITECTURE: "llama", NAME: "Meta Llama 3.1 8B"}, "phi-4.gguf", "llama", id="name"
        ),
        pytest.param(
            {ARCHITECTURE: "llama"}, "/m/Mixtral-8x7B.Q4_0.gguf", "mistral", id="file name"
        ),
        pytest.param({ARCHITECTURE: "llama"}, "/qwen3/x.gguf", "llama", id="not the folder"),
        pytest.param(
            {ARCHITECTURE: "qwen2", NAME: "DeepSeek R1 Distill Qwen 7B"},
            "x.gguf",
            "deepseek",
            id="distilled",
        ),
        pytest.param({ARCHITECTURE: "qwen2"}, "x.gguf", "qwen2", id="qwen2"),
        pytest.param({ARCHITECTURE: "qwen2"}, "QwQ-32B.gguf", "qwq", id="qwq"),
        pytest.param({}, "Qwen3-30B-A3B-Instruct-2507-Q4_K_S.gguf", "qwen3", id="path alone"),
        pytest.param({ARCHITECTURE: "mamba"}, "x.gguf", "generic", id="another"),
    ],
)
def test_families(metadata: dict[str, str], path: str, name: str) -> None:
    assert family_of(metadata, path).name == name


QWEN3 = {ARCHITECTURE: "qwen3"}
THINKS = "{%- if enable_thinking is defined and enable_thinking is false %}"


@pytest.mark.parametrize(
    ("metadata", "path", "kind", "name"),
    [
        pytest.param(
            {**QWEN3, TEMPLATE: THINKS}, "Qwen3-8B.gguf", "variable", "enable_thinking", id="hybrid"
        ),
        pytest.param({**QWEN3, TEMPLATE: "x"}, "Qwen3-8B.gguf", "never", "", id="no variable"),
        pytest.param(
            {**QWEN3, TEMPLATE: "x"}, "Qwen3-4B-Thinking-2507.gguf", "always", "", id="thinking"
        ),
        pytest.param(
            {**QWEN3, NAME: "Qwen3 4B Instruct 2507"}, "x.gguf", "never", "", id="instruct"
        ),
        pytest.param(QWEN3, "Qwen3-8B.gguf", "words", "", id="no template"),
        pytest.param(
            {ARCHITECTURE: "gpt-oss", TEMPLATE: "{{ reasoning_effort }}"},
            "x.gguf",
            "variable",
            "reasoning_effort",
            id="effort",
        ),
        pytest.param(
            {ARCHITECTURE: "gpt-oss"}, "x.gguf", "variable", "reasoning_effort", id="effort, bare"
        ),
        pytest.param(
            {ARCHITECTURE: "deepseek2", TEMPLATE: "{% if not thinking is defined %}"},
            "DeepSeek-V3.1.gguf",
            "variable",
            "thinking",
            id="deepseek 3.1",
        ),
        pytest.param(
            {ARCHITECTURE: "llama", TEMPLATE: "x", NAME: "DeepSeek_R1_Distill"},
            "x.gguf",
            "always",
            "",
            id="r1",
        ),
        pytest.param(
            {ARCHITECTURE: "granite", TEMPLATE: "{%- if thinking %}"},
            "x.gguf",
            "variable",
            "thinking",
            id="granite",
        ),
        pytest.param(
            {ARCHITECTURE: "llama", TEMPLATE: "thinking is {% if x.thinking == 'thinking' %} fun"},
            "x.gguf",
            "never",
            "",
            id="a word that looks like it",
        ),
        pytest.param({ARCHITECTURE: "gemma3", TEMPLATE: "x"}, "x.gguf", "never", "", id="gemma"),
        pytest.param({ARCHITECTURE: "llama"}, "x.gguf", "never", "", id="llama"),
    ],
)
def test_switches(metadata: dict[str, str], path: str, kind: str, name: str) -> None:
    switch = switch_of(family_of(metadata, path), metadata, path)
    assert (switch.kind, switch.name) == (kind, name)


def test_names_of_families_are_unique() -> None:
    names = [family.name for family in FAMILIES]
    assert sorted(set(names)) == sorted(names)


LEVELS = (
    "thinking is 'much'; choose True, False or None, or 'low', 'medium' or 'high' for a model with "
    "levels"
)
TAIL = "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"


@pytest.fixture
def model_with(model_file: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Write the tiny model with another end of its chat template, under another name."""

    def write(tail: str, name: str) -> Path:
        assert CHAT_TEMPLATE.endswith(TAIL)
        room = len(TAIL) - len(tail) - len("{##}")
        data = model_file.read_bytes()
        assert data.count(TAIL.encode()) == 1
        path = tmp_path / name
        path.write_bytes(data.replace(TAIL.encode(), f"{tail}{{#{'-' * room}#}}".encode()))
        return path

    return write


@pytest.mark.build
def test_a_variable_switches_thinking(model_with: Callable[[str, str], Path]) -> None:
    # "<up>" makes the answer upper case
    path = model_with("{% if enable_thinking %}<up>{% endif %} birds", "x.gguf")
    with UnifiedLLM(path, n_threads=1, family="qwen3") as llm:
        assert (llm.family.name, llm.switch.kind) == ("qwen3", "variable")
        assert repr(llm) == f"<UnifiedLLM {str(path)!r} of qwen3>"
        plain = llm.generate("birds", 6, sampling=GREEDY)
        assert plain == " hum morning"
        assert plain == llm.generate("birds", 6, sampling=GREEDY, thinking=False)
        thought = llm.generate("birds", 6, sampling=GREEDY, thinking=True)
        assert thought == plain.upper() != plain
        parts = llm.generate("birds", 6, sampling=GREEDY, thinking=True, stream=True)
        assert "".join(parts) == thought
        told = llm.generate("birds", 6, sampling=GREEDY, thinking=False, system="<up>")
        assert told == thought

        def chat(**more: Any) -> str:
            messages = [{"role": "user", "content": "birds"}]
            answer = llm.chat(messages, temperature=0, max_tokens=6, **more)
            return str(answer["choices"][0]["message"]["content"])

        assert chat() == chat(thinking=False) == plain
        assert chat(thinking=True) == thought
        assert chat(thinking=False, chat_template_kwargs={"enable_thinking": True}) == thought
        llm.kv_cache_clear()
        assert llm.llm.n_tokens == 0


@pytest.mark.build
def test_levels(model_with: Callable[[str, str], Path]) -> None:
    path = model_with("{%if reasoning_effort=='high'%}<up>{%endif%} birds", "x.gguf")
    with UnifiedLLM(path, n_threads=1) as llm:
        plain = llm.generate("birds", 6, sampling=GREEDY)
        for thinking, expected in (
            ("low", plain),
            ("medium", plain),
            (False, plain),
            ("high", plain.upper()),
            (True, plain.upper()),
        ):
            found = llm.generate("birds", 6, sampling=GREEDY, thinking=thinking)  # type: ignore[arg-type]
            assert found == expected


@pytest.mark.build
def test_what_cannot_be(model_with: Callable[[str, str], Path]) -> None:
    with UnifiedLLM(model_with("{{'assistant:'}}", "gemma.gguf"), n_threads=1) as llm:
        assert llm.generate("birds", 1, sampling=GREEDY, thinking=False)
        with pytest.raises(ValidationError) as caught:
            llm.generate("birds", thinking=True)
    assert str(caught.value) == "gemma.gguf (llama) does not think; leave out thinking"


@pytest.mark.build
def test_refused(model_file: Path) -> None:
    with UnifiedLLM(model_file, n_threads=1, family="qwq") as llm:
        for thinking, message in (
            (False, "llama-f32.gguf (qwq) always thinks; leave out thinking"),
            ("low", "llama-f32.gguf (qwq) has no levels of thinking; choose True, False or None"),
            ("much", LEVELS),
        ):
            with pytest.raises(ValidationError) as caught:
                llm.generate("birds", 1, thinking=thinking)  # type: ignore[arg-type]
            assert str(caught.value) == message
        assert llm.generate("birds", 1, sampling=GREEDY, thinking=True)
    with pytest.raises(ValidationError, match="there is no family 'bard'; choose one of gpt-oss,"):
        UnifiedLLM(model_file, family="bard")


@pytest.mark.build
def test_words(model_file: Path) -> None:
    with UnifiedLLM(model_file, n_threads=1) as llm:
        llm.switch = switch_of(family_of(QWEN3, ""), QWEN3, "")
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ]
        said, variables = llm._told(messages, True)
        assert variables == {}
        assert said[:2] == messages[:2]
        assert said[2]["content"] == [
            {"type": "text", "text": "three"},
            {"type": "text", "text": "/think"},
        ]
        assert llm._told(messages[:1], False)[0] == [{"role": "user", "content": "one /no_think"}]
        assert messages[2] == {"role": "user", "content": [{"type": "text", "text": "three"}]}
