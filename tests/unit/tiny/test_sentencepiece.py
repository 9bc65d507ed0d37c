from __future__ import annotations

import pytest

from tests.tiny.answers import TEXTS
from tests.tiny.llama import TinyLlama

MODEL = TinyLlama(name="llama")


def pieces(text: str, *, special: bool = False) -> list[str]:
    tokens = MODEL.encode(text, special=special)
    return [MODEL.vocabulary.pieces[token].text for token in tokens]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ["<s>"], id="empty"),
        pytest.param(" morning", ["<s>", "▁m", "or", "ni", "ng"], id="pairs"),
        pytest.param(" the THE", ["<s>", "▁the", "▁THE"], id="two-merges"),
        pytest.param("the", ["<s>", "<0x74>", "he"], id="no-space"),
        pytest.param("🦙", ["<s>", "🦙"], id="emoji-with-a-piece"),
        pytest.param("🙂", ["<s>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"], id="emoji-in-bytes"),
        pytest.param("é", ["<s>", "<0xC3>", "<0xA9>"], id="accent"),
        pytest.param("<up>▁", ["<s>", "<up>", "▁"], id="marker"),
        pytest.param("</s>", ["<s>", "<0x3C>", "<0x2F>", "<0x73>", "<0x3E>"], id="eos-as-text"),
    ],
)
def test_encode(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_encode_special() -> None:
    assert pieces("<s>or</s>", special=True) == ["<s>", "<s>", "or", "</s>"]
    assert MODEL.encode("or", add_bos=False) == [MODEL.vocabulary.ids["or"]]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text: str) -> None:
    assert MODEL.decode(MODEL.encode(text)).decode() == text


def test_round_trip_of_every_code_point_of_two_planes() -> None:
    # U+2581 is the one character that cannot come back: it is how the vocabulary spells a space.
    text = "".join(chr(c) for c in range(0x20000) if c != 0x2581 and not 0xD800 <= c < 0xE000)
    assert MODEL.decode(MODEL.encode(text)).decode() == text
    assert MODEL.decode(MODEL.encode("\u2581")) == b" "
