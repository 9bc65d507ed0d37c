"""docs/guides.md: every question of the guides has an answer, and a test shows it."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from llama_cpp._doctor.findings import FINDINGS

ROOT = Path(__file__).resolve().parents[2]

# what the three guides ask: their sections, their questions, their notes
QUESTIONS = {
    "Windows guide": [
        "W-background",
        "W-why",
        "W-prerequisites",
        "W-1",
        "W-2",
        "W-3",
        "W-4-windows",
        "W-4-linux",
        "W-4-architectures",
        "W-4-spaces",
        "W-4-macos",
        "W-4-cpu",
        "W-5",
        "W-6",
        "W-wheels",
        *(f"W-Q{number}" for number in range(1, 15)),
    ],
    # its section 9 is the notes
    "CUDA build guide": [
        *(f"C-{number}" for number in range(1, 9)),
        *(f"C-N{number}" for number in range(1, 5)),
    ],
    "CUDA 12.8 guide": [
        "D-prerequisites",
        *(f"D-{number}" for number in range(1, 7)),
        "D-T1",
        "D-T2",
    ],
}


class Row(NamedTuple):
    guide: str
    id: str
    question: str
    answer: str
    findings: tuple[str, ...]
    messages: tuple[str, ...]
    tests: tuple[str, ...]


def guides() -> str:
    return (ROOT / "docs/guides.md").read_text("utf-8")


@cache
def rows() -> tuple[Row, ...]:
    found = []
    guide = ""
    for line in guides().splitlines():
        if line.startswith("## "):
            guide = line[3:]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 6 and re.fullmatch(r"[WCD]-[\w-]+", cells[0]):
            codes = [tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[3:]]
            found.append(Row(guide, cells[0], cells[1], cells[2], *codes))
    return tuple(found)


def test_every_question_is_there_once_and_in_order() -> None:
    assert [(row.guide, row.id) for row in rows()] == [
        (guide, question) for guide, questions in QUESTIONS.items() for question in questions
    ]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_every_row_has_an_answer_and_a_test(row: Row) -> None:
    assert row.question
    assert row.answer
    assert row.tests
    assert [each for each in row.findings if each not in FINDINGS] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_the_tests_exist(row: Row) -> None:
    for name in row.tests:
        found = re.fullmatch(r"(test_\w+\.py)::(test_\w+)(?:\[([\w.-]+)\])?", name)
        assert found, name
        texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(found[1])]
        there = [text for text in texts if f"\ndef {found[2]}(" in text]
        assert there, f"{name}: no such test"
        if found[3]:
            assert any(f'"{found[3]}"' in text for text in there), f"{name}: no such case"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_the_messages_are_the_builds(row: Row) -> None:
    files = [ROOT / "CMakeLists.txt", *sorted((ROOT / "cmake").glob("*.cmake"))]
    text = "\n".join(path.read_text("utf-8") for path in files)
    assert [message for message in row.messages if message not in text] == []


def test_every_finding_is_listed() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", guides(), re.MULTILINE)
    assert listed == list(FINDINGS.items()), "write it as llama_cpp/_doctor/findings.py has it"


def test_this_version_has_no_server() -> None:
    # when it comes, the rows that say so have to change
    assert importlib.util.find_spec("llama_cpp.server") is None


@pytest.mark.parametrize(
    "name", ["MTMDChatHandler", "Qwen3VLChatHandler", "Qwen25VLChatHandler", "Llava15ChatHandler"]
)
def test_chat_handlers_can_be_imported(name: str) -> None:
    assert callable(getattr(importlib.import_module("llama_cpp.llama_chat_format"), name))
