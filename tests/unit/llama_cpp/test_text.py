"""Pieces, UTF-8 and stop strings: every way to split a text must give the same text."""

from __future__ import annotations

from itertools import combinations, product
from typing import TypeVar

import pytest

from llama_cpp._text import PieceTable, StopWindow, TextStream

Text = TypeVar("Text", str, bytes)


def splits(text: Text) -> list[list[Text]]:
    """Every way to cut a text into parts."""
    return [[text[a:b] for a, b in zip(edges, edges[1:])] for edges in cut_edges(len(text))]


def cut_edges(length: int) -> list[list[int]]:
    """The edges of the parts, for every way to cut ``length`` items."""
    places = range(1, length)
    cuts = [cut for count in range(length) for cut in combinations(places, count)]
    return [[0, *cut, length] for cut in cuts]


def through_window(parts: list[str], stops: list[str]) -> tuple[str, str | None]:
    window = StopWindow(stops)
    text = "".join(window.push(part) for part in parts) + window.flush()
    return text, window.stopped


@pytest.mark.parametrize(
    ("text", "stops", "expected", "stopped"),
    [
        ("hello", [], "hello", None),
        ("hello", ["x"], "hello", None),
        ("hello", ["llo"], "he", "llo"),
        ("hello", ["hello"], "", "hello"),
        ("hello", ["lloo"], "hello", None),
        ("aabaabaac", ["aabaac"], "aab", "aabaac"),
        ("aaaaaab", ["aab"], "aaaa", "aab"),
        ("abcd", ["b", "abc"], "a", "b"),
        ("abcd", ["bc", "abc"], "", "abc"),
        ("abcd", ["cd", "abx"], "ab", "cd"),
        ("ababab", ["abc", "bb"], "ababab", None),
        ("x\n\nHu: y", ["\n\nHu:"], "x", "\n\nHu:"),
        ("stop stop", ["stop"], "", "stop"),
        ("né🙂né", ["🙂n"], "né", "🙂n"),
    ],
)
def test_every_split_stops_at_the_same_place(
    text: str, stops: list[str], expected: str, stopped: str | None
) -> None:
    for parts in splits(text):
        assert through_window(parts, stops) == (expected, stopped), parts


def test_all_texts_of_two_letters_agree_for_every_split() -> None:
    stops = ["ab", "bba", "aaa"]
    for letters in product("ab", repeat=7):
        text = "".join(letters)
        outcomes = {through_window(parts, stops) for parts in splits(text)}
        assert len(outcomes) == 1, text
        kept, stopped = outcomes.pop()
        assert stopped is not None or kept == text
        assert not any(stop in kept for stop in stops)


def test_window_holds_back_only_what_can_become_a_stop_string() -> None:
    window = StopWindow(["END", "<|x|>"])
    assert window.push("one E") == "one "
    assert window.push("N") == ""
    assert window.push("x") == "ENx"
    assert window.push("<|") == ""
    assert window.push("x|") == ""
    assert window.push(">tail") == ""
    assert window.stopped == "<|x|>"
    assert window.push("more") == ""
    assert window.flush() == ""


def test_window_is_as_long_as_the_longest_stop_string_needs() -> None:
    window = StopWindow(["a" * 1000])
    pushed = "".join(window.push("a" * 100) for _ in range(9))
    assert pushed == ""
    assert window.push("b") == "a" * 900 + "b"


def stream_of(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[str, bool]:
    table = PieceTable(lambda token: pieces[token], lambda token: False)
    stream = TextStream(table, stops)
    text = "".join(stream.push(token) for token in range(len(pieces))) + stream.flush()
    return text, stream.stopped


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("aé🙂z".encode(), "aé🙂z"),
        ("🙂🙂".encode(), "🙂🙂"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xe2\x82x", "\ufffdx"),
        (b"\xf0\x9f\x99", ""),
        (b"ok\xf0\x9f", "ok"),
        (b"\xc0\xaf\xed\xa0\x80", b"\xc0\xaf\xed\xa0\x80".decode("utf-8", "replace")),
        (b"\x80\x80a", "\ufffd\ufffda"),
    ],
)
def test_every_split_of_bytes_decodes_alike(data: bytes, expected: str) -> None:
    for parts in splits(data):
        assert stream_of(parts)[0] == expected, parts


def test_empty_pieces_change_nothing() -> None:
    assert stream_of([b"", b"\xc3", b"", b"\xa9", b""])[0] == "é"


def test_stop_string_across_pieces_and_utf8() -> None:
    for parts in splits("né🙂z!".encode()):
        assert stream_of(parts, stops=("🙂z",)) == ("né", True), parts


def test_held_text_comes_out_at_the_end() -> None:
    assert stream_of([b"one", b" E", b"N"], stops=("END",)) == ("one EN", False)


def test_piece_table_asks_once_per_token() -> None:
    asked = []

    def data_of(token: int) -> bytes:
        asked.append(token)
        return b"\xe2" if token == 1 else b"ok"

    table = PieceTable(data_of, lambda token: token == 2)
    assert [table[i] for i in (0, 1, 0, 2, 1, 2)] == [
        (b"ok", "ok", False),
        (b"\xe2", None, False),
        (b"ok", "ok", False),
        (b"ok", "ok", True),
        (b"\xe2", None, False),
        (b"ok", "ok", True),
    ]
    assert asked == [0, 1, 2]
