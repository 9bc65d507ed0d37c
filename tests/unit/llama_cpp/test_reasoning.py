"""Thoughts told apart from content, in pieces of every kind."""

from __future__ import annotations

import pytest

from llama_cpp._delta import Delta
from llama_cpp._reasoning import THOUGHTS, Thoughts, opened
from llama_cpp._tool_calls import marks, reader
from llama_cpp._tools import Tools, read

THINK = THOUGHTS[0]
NONE = Tools()
TOOLS = read(tools=[{"type": "function", "function": {"name": "time"}}])


def split(
    text: str, tools: Tools = NONE, thoughts: Thoughts | None = None, family: str = "hermes"
) -> tuple[str, str, int]:
    """Return thoughts, content and the number of calls; the same however the text comes."""
    answers = set()
    for size in (len(text) or 1, 1, 2, 3, 7):
        made = reader(tools, family, reasoning=True, thoughts=thoughts)  # type: ignore[arg-type]
        deltas: list[Delta] = []
        for at in range(0, len(text), size):
            deltas += made.push(text[at : at + size])
        deltas += made.flush()
        assert all(any(delta) for delta in deltas)
        answers.add(
            (
                "".join(delta.reasoning for delta in deltas),
                "".join(delta.content for delta in deltas),
                sum(delta.name is not None for delta in deltas),
            )
        )
    (answer,) = answers
    return answer


@pytest.mark.parametrize("thoughts", THOUGHTS)
def test_every_way(thoughts: Thoughts) -> None:
    text = f"{thoughts.opens}\nSo < that\n is.\n{thoughts.closes}\n\nYes.\n"
    assert split(text) == ("So < that\n is.", "Yes.\n", 0)
    rest = text.removeprefix(thoughts.opens)
    assert split(rest, thoughts=thoughts) == ("So < that\n is.", "Yes.\n", 0)
    assert opened(f"Go!\n{thoughts.opens}\n") == thoughts
    assert opened(f"Go!\n{thoughts.opens}\n{thoughts.closes}") is None


@pytest.mark.parametrize(
    "text", ["", "Yes.", " <thin", "\n\n", "Yes <think>no</think>", "</think>", " a"]
)
def test_no_thoughts(text: str) -> None:
    assert split(text) == ("", text, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think></think>", ("", "", 0)),
        ("<think>\n\n</think>\n\nYes.", ("", "Yes.", 0)),
        ("<think>So", ("So", "", 0)),
        ("<think>So </thin", ("So </thin", "", 0)),
        ("<think>", ("", "", 0)),
        ("<think>So</think> \n", ("So", "", 0)),
    ],
)
def test_thoughts_that_are_cut_or_empty(text: str, expected: tuple[str, str, int]) -> None:
    assert split(text) == expected
    assert split(text.removeprefix("<think>"), thoughts=THINK) == expected


def test_calls_after_thoughts() -> None:
    call = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
    assert split(f"<think>{call}</think>\n{call}", TOOLS) == (call, "", 1)
    assert split('<think>So</think>{"name": "time", "arguments": {}}', TOOLS) == ("So", "", 1)
    assert split("<think>So</think>[time()]", TOOLS) == ("So", "", 1)


def test_gpt_oss() -> None:
    text = (
        "<|channel|>analysis<|message|>So.<|end|><|start|>assistant<|channel|>analysis<|message|>"
        "And.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>"
        "assistant<|channel|>commentary to=functions.time <|constrain|>json<|message|>{}<|call|>"
    )
    assert split(text, TOOLS, family="harmony") == ("So.\nAnd.", "I look.", 1)
    assert split(text + "<|start|>assistant<|channel|>final<|message|>Done.", TOOLS, family="harmony") == (
        "So.\nAnd.", "I look.\nDone.", 1,
    )  # fmt: skip
    start = text.rindex("<|start|>")
    assert split(text, TOOLS._replace(choice="none"), family="harmony") == (
        "So.\nAnd.", "I look." + text[start:], 0,
    )  # fmt: skip
    assert split("<|channel|>final<|message|>Yes.<|return|>", family="harmony") == ("", "Yes.", 0)
    assert split("Yes.", family="harmony") == ("", "Yes.", 0)


def test_what_has_to_be_seen() -> None:
    assert marks(Tools(), "hermes") == frozenset()
    assert marks(Tools(), "harmony") == frozenset()
    assert marks(TOOLS._replace(choice="required"), "hermes", reasoning=True) == frozenset()
    assert marks(Tools(), "hermes", reasoning=True) == {
        *(mark for each in THOUGHTS for mark in each),
        "<|channel>",
    }
    assert {"<tool_call>", "</tool_call>", "[ARGS]"} < marks(TOOLS, "hermes")
    assert marks(TOOLS, "functionary-v2") == {"<|from|>", "<|recipient|>", "<|content|>"}
    assert {"<|channel|>", "<|end|>"} < marks(Tools(), "harmony", reasoning=True)
    assert "Action: ```json" not in marks(TOOLS, "hermes")
