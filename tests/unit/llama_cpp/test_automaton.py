"""Automata: minimal, closed under and, or, but not; checked against sets of all short texts."""

from __future__ import annotations

import itertools
import random

import pytest

from llama_cpp import _automaton
from llama_cpp._automaton import Automaton, TooLargeError

SHORT = ["".join(t) for n in range(6) for t in itertools.product("ab", repeat=n)]


def texts(automaton: Automaton) -> set[str]:
    return {text for text in SHORT if automaton.accepts(text)}


def drawn(choice: random.Random, *, loops: bool) -> Automaton:
    """Return a random automaton over a and b; without loops of several states if so asked."""
    states = choice.randint(1, 6)
    moves = [
        tuple(
            (ord(c), ord(c), choice.randint(0 if loops else state, states - 1))
            for c in "ab"
            if choice.random() < 0.7
        )
        for state in range(states)
    ]
    accepting = frozenset(state for state in range(states) if choice.random() < 0.4)
    return Automaton(tuple(moves), accepting)


@pytest.mark.parametrize("loops", [False, True])
def test_operations(loops: bool) -> None:
    choice = random.Random(20261121)
    for _ in range(300):
        first, second = (drawn(choice, loops=loops) for _ in range(2))
        assert texts(_automaton.minimized(first)) == texts(first)
        assert texts(_automaton.both(first, second)) == texts(first) & texts(second)
        assert texts(_automaton.either(first, second)) == texts(first) | texts(second)
        assert texts(_automaton.without(first, second)) == texts(first) - texts(second)


@pytest.mark.parametrize("loops", [False, True])
def test_minimal_ones_are_equal_when_their_texts_are(loops: bool) -> None:
    choice = random.Random(20261121)
    for _ in range(300):
        drew = drawn(choice, loops=loops)
        again = _automaton.without(_automaton.ALL, _automaton.without(_automaton.ALL, drew))
        assert _automaton.minimized(drew) == again


def test_words() -> None:
    automaton = _automaton.words(["ab", "abb", "bb", ""])
    assert texts(automaton) == {"ab", "abb", "bb", ""}
    assert _automaton.words([]) == _automaton.EMPTY
    assert _automaton.EMPTY.is_empty


@pytest.mark.parametrize(
    ("least", "most", "count"), [(0, None, 63), (0, 0, 1), (2, 3, 12), (5, None, 32)]
)
def test_lengths(least: int, most: int | None, count: int) -> None:
    assert len(texts(_automaton.lengths(least, most))) == count


def test_too_large() -> None:
    with pytest.raises(TooLargeError, match="it takes more than 5000 states to follow"):
        _automaton.lengths(0, 5000)


def test_complement() -> None:
    assert _automaton.complement([(98, 99), (97, 97)]) == ((0, 96), (100, 0x10FFFF))
    assert _automaton.complement(_automaton.ANY) == ()
