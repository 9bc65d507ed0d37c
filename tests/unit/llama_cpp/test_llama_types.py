"""The shapes of requests and answers."""

from __future__ import annotations

import typing
from typing import Any

import pytest

import llama_cpp
from llama_cpp import llama_types

SHAPES: dict[str, Any] = {
    name: value
    for name, value in vars(llama_types).items()
    if isinstance(value, type) and issubclass(value, dict) and not name.startswith("_")
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_hints_can_be_evaluated(name: str) -> None:
    hints = typing.get_type_hints(SHAPES[name])
    assert set(hints) == SHAPES[name].__required_keys__ | SHAPES[name].__optional_keys__


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_package_has_it_too(name: str) -> None:
    assert getattr(llama_cpp, name) is SHAPES[name]


def test_what_may_be_missing() -> None:
    assert llama_types.CompletionChunk.__optional_keys__ == {"usage"}
    assert llama_types.ChatCompletionTool.__optional_keys__ == frozenset()
    assert llama_types.ChatCompletionResponseMessage.__optional_keys__ == {
        "tool_calls",
        "function_call",
        "reasoning_content",
    }
