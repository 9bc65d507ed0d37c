"""The templates of real models, as llama.cpp's sources have them: rendered as elsewhere, calls read back."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ci import paths
from llama_cpp import _chat_messages, _template_bounds, _tool_calls, _tools
from llama_cpp._chat_template import ChatTemplate

pytestmark = pytest.mark.build

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Where"}},
            "required": ["city"],
        },
    },
}
CALL = {
    "id": "call12345",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
USER = {"role": "user", "content": "Weather?"}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "sunny"}
TALK = [USER, {"role": "assistant", "content": "Sunny."}, {"role": "user", "content": "Why?"}]

# Templates for tools only, and those that Jinja's own sandbox does not render: lists that are
# appended to, and a generator as JSON.
WITHOUT_REFERENCE = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "Kimi-K2-Instruct",
    "Kimi-K2-Thinking",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "fireworks-ai-llama-3-firefunction-v2",
    "llama-cpp-deepseek-r1",
}
# Ways to write calls that are not read: what these models say stays content.
NOT_READ = {"Kimi-K3", "muse-glimmer"}
ENDS = re.compile(r"(<[^<>\s]*>|\[e~\[)\s*$")


def templates() -> dict[str, str]:
    folder = paths.TREE / "models" / "templates"
    if not folder.is_dir():
        pytest.fail(f"{folder} is missing: run `nox -s vendor`")
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.jinja"))}


def common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def variables(messages: list[Any], tools: Any, *, generate: bool = True) -> dict[str, Any]:
    return {
        "messages": _chat_messages.read(messages).messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": generate,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }


def test_rendering() -> None:
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_template_bounds.IgnoreGenerationTags, "jinja2.ext.loopcontrols"],
    )
    plain.filters["tojson"] = _template_bounds.to_json
    plain.globals["raise_exception"] = _template_bounds.raise_exception
    plain.globals["strftime_now"] = _template_bounds.strftime_now
    without = set()
    for name, source in templates().items():
        reference = plain.from_string(source)
        for given in (
            variables(TALK, None),
            variables([USER, CALLED, RESULT], [TOOL]),
        ):
            try:
                expected = reference.render(given)
            except (jinja2.TemplateError, TypeError):
                without.add(name)
            else:
                assert ChatTemplate(source).render(given) == expected, name
    assert without == WITHOUT_REFERENCE | {"google-gemma-2-2b-it"}


def test_calls_read_back() -> None:
    tools = _tools.read(tools=[TOOL])
    not_read = set()
    for name, source in templates().items():
        if not _tools.knows_tools(source) or "tool_calls" not in source:
            continue
        before = ChatTemplate(source).render(variables([USER], [TOOL]))
        after = ChatTemplate(source).render(variables([USER, CALLED], [TOOL], generate=False))
        start = common(before, after)
        start -= len(re.search(r"(<[^<>\s]*)?$", after[:start])[0])  # type: ignore[index]
        text = ENDS.sub("", after[start:]) if not after.endswith("</tool_call>") else after[start:]
        answer = _tool_calls.reader(tools, _tools.family_of(source))
        deltas = [*answer.push(text), *answer.flush()]
        calls = [delta for delta in deltas if delta.call == 0]
        if not calls:
            not_read.add(name)
            assert "".join(delta.content for delta in deltas) == text
            continue
        assert calls[0].name == "get_weather"
        assert "".join(delta.arguments for delta in calls).strip() == '{"city": "Paris"}', name
    assert not_read == NOT_READ
