"""Deterministic automata over characters: what strings, keys and numbers of a schema may be.

Patterns, lengths and lists of words meet here: their intersection and difference are automata again,
and an automaton is a grammar in which one character decides each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LARGEST = 0x10FFFF
ANY = ((0, LARGEST),)

MOST_STATES = 5000

S = TypeVar("S")
T = TypeVar("T")

Ranges = tuple[tuple[int, int], ...]


class Automaton(NamedTuple):
    """States are numbers, 0 is where a text begins; what has no transition is refused."""

    moves: tuple[tuple[tuple[int, int, int], ...], ...]
    """State → (first code point, last, next state), sorted and disjoint."""
    accepting: frozenset[int]
    """States in which a text may end."""

    @property
    def is_empty(self) -> bool:
        """Whether it accepts no text."""
        return not self.accepting

    def accepts(self, text: str) -> bool:
        """Return whether a text is one of its own."""
        state = 0
        for char in text:
            code = ord(char)
            following = next((t for low, high, t in self.moves[state] if low <= code <= high), None)
            if following is None:
                return False
            state = following
        return state in self.accepting


EMPTY = Automaton(moves=((),), accepting=frozenset())
ALL = Automaton(moves=(((0, LARGEST, 0),),), accepting=frozenset({0}))


def normalized(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges sorted and joined."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def complement(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the code points that are in none of the ranges."""
    gaps = []
    after = 0
    for low, high in normalized(ranges):
        if low > after:
            gaps.append((after, low - 1))
        after = high + 1
    if after <= LARGEST:
        gaps.append((after, LARGEST))
    return tuple(gaps)


def lengths(least: int, most: int | None) -> Automaton:
    """Return the texts of some numbers of characters."""
    last = least if most is None else most
    _check_size(last + 1)
    moves: list[tuple[tuple[int, int, int], ...]] = [
        ((0, LARGEST, state + 1),) for state in range(last)
    ]
    moves.append(((0, LARGEST, last),) if most is None else ())
    return Automaton(tuple(moves), frozenset(range(least, last + 1)))


def words(texts: Iterable[str]) -> Automaton:
    """Return exactly these texts."""
    moves: list[dict[int, int]] = [{}]
    accepting = set()
    for text in texts:
        state = 0
        for char in text:
            if ord(char) not in moves[state]:
                moves[state][ord(char)] = len(moves)
                moves.append({})
            state = moves[state][ord(char)]
        accepting.add(state)
    return minimized(
        Automaton(
            tuple(tuple((c, c, t) for c, t in sorted(targets.items())) for targets in moves),
            frozenset(accepting),
        )
    )


def both(first: Automaton, second: Automaton) -> Automaton:
    """Return the texts of two automata at once."""
    return _product(first, second, lambda a, b: a and b)


def either(first: Automaton, second: Automaton) -> Automaton:
    """Return the texts of one or the other."""
    return _product(first, second, lambda a, b: a or b)


def without(first: Automaton, second: Automaton) -> Automaton:
    """Return the texts of the first that are none of the second's."""
    return _product(first, second, lambda a, b: a and not b)


def _product(
    first: Automaton, second: Automaton, accepts: Callable[[bool, bool], bool]
) -> Automaton:
    def following(pair: tuple[int, int]) -> list[tuple[int, int, tuple[int, int]]]:
        one = first.moves[pair[0]] if pair[0] >= 0 else ()
        two = second.moves[pair[1]] if pair[1] >= 0 else ()
        targets = []
        for low, high, reached in segments(
            [(low, high, (0, t)) for low, high, t in one]
            + [(low, high, (1, t)) for low, high, t in two]
        ):
            by_side = dict(reached)
            targets.append((low, high, (by_side.get(0, -1), by_side.get(1, -1))))
        return targets

    return explored(
        (0, 0),
        following,
        lambda pair: accepts(pair[0] in first.accepting, pair[1] in second.accepting),
    )


def segments(moves: Iterable[tuple[int, int, T]]) -> list[tuple[int, int, tuple[T, ...]]]:
    """Cut overlapping ranges where one begins or ends; return what is reached by each piece."""
    moves = list(moves)
    edges = sorted({low for low, _, _ in moves} | {high + 1 for _, high, _ in moves})
    starts: dict[int, list[T]] = {}
    ends: dict[int, list[T]] = {}
    for low, high, target in moves:
        starts.setdefault(low, []).append(target)
        ends.setdefault(high + 1, []).append(target)
    active: dict[T, int] = {}
    pieces = []
    for index, edge in enumerate(edges[:-1]):
        for target in ends.get(edge, ()):
            active[target] -= 1
            if not active[target]:
                del active[target]
        for target in starts.get(edge, ()):
            active[target] = active.get(target, 0) + 1
        if active:
            pieces.append((edge, edges[index + 1] - 1, tuple(active)))
    return pieces


def explored(
    start: S,
    following: Callable[[S], list[tuple[int, int, S]]],
    accepts: Callable[[S], bool],
) -> Automaton:
    """Return the automaton of all states that are reached from one, minimized.

    Args:
        start: a hashable state.
        following: state → (first code point, last, state) …, disjoint.
        accepts: whether a text may end in a state.
    """
    numbers = {start: 0}
    order = [start]
    moves = []
    for state in order:
        out = []
        for low, high, target in following(state):
            if target not in numbers:
                numbers[target] = len(order)
                order.append(target)
                _check_size(len(order))
            out.append((low, high, numbers[target]))
        moves.append(tuple(sorted(out)))
    accepting = frozenset(numbers[state] for state in order if accepts(state))
    return minimized(Automaton(tuple(moves), accepting))


def _check_size(states: int) -> None:
    if states > MOST_STATES:
        raise TooLargeError(f"it takes more than {MOST_STATES} states to follow")


class TooLargeError(ValidationError):
    """An automaton has too many states."""


def minimized(automaton: Automaton) -> Automaton:
    """Return the smallest automaton of the same texts, its states in order of first use."""
    useful = _useful(automaton)
    alive = set(useful)
    if 0 not in alive:
        return EMPTY
    moves = [
        [move for move in out if move[2] in alive] if state in alive else []
        for state, out in enumerate(automaton.moves)
    ]
    group = _grouped_from_the_ends(automaton, moves, useful)
    if group is None:
        group = _grouped_in_rounds(automaton, moves, useful)
    representative: dict[int, int] = {}
    for state in useful:
        representative.setdefault(group[state], state)
    numbers = {group[0]: 0}
    order = [group[0]]
    result = []
    for name in order:
        out = _joined((low, high, group[t]) for low, high, t in moves[representative[name]])
        for _, _, target in out:
            if target not in numbers:
                numbers[target] = len(order)
                order.append(target)
        result.append(tuple((low, high, numbers[target]) for low, high, target in out))
    accepting = frozenset(
        numbers[name] for name in order if representative[name] in automaton.accepting
    )
    return Automaton(tuple(result), accepting)


def _grouped_from_the_ends(
    automaton: Automaton, moves: list[list[tuple[int, int, int]]], useful: list[int]
) -> list[int] | None:
    """Return which states are alike, in linear time; None where a loop has several states."""
    before: dict[int, set[int]] = {}
    waiting = {}
    for state in useful:
        targets = {target for _, _, target in moves[state]} - {state}
        waiting[state] = len(targets)
        for target in targets:
            before.setdefault(target, set()).add(state)
    todo = [state for state in useful if not waiting[state]]
    group = [-1] * len(moves)
    known: dict[object, int] = {}
    for state in todo:
        accepts = state in automaton.accepting
        following = [(low, high, -1 if t == state else group[t]) for low, high, t in moves[state]]
        key = (accepts, _joined(following))
        alike = known.get(key, state)
        # what leads to a state may be that state, where that leads back to itself
        for own in sorted({group[t] for _, _, t in moves[state] if t != state}):
            looped = [(low, high, -1 if name == own else name) for low, high, name in following]
            if known.get((accepts, _joined(looped))) == own:
                alike = own
        group[state] = known[key] = alike
        for other in before.get(state, ()):
            waiting[other] -= 1
            if not waiting[other]:
                todo.append(other)
    return group if len(todo) == len(useful) else None


def _grouped_in_rounds(
    automaton: Automaton, moves: list[list[tuple[int, int, int]]], useful: list[int]
) -> list[int]:
    """Return which states are alike (Moore)."""
    group = [int(state in automaton.accepting) for state in range(len(moves))]
    count = 0
    while True:
        keys: dict[object, int] = {}
        new = [0] * len(moves)
        for state in useful:
            key = (group[state], _joined((low, high, group[t]) for low, high, t in moves[state]))
            new[state] = keys.setdefault(key, len(keys))
        group = new
        if len(keys) == count:
            return group
        count = len(keys)


def _joined(moves: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    joined: list[tuple[int, int, int]] = []
    for low, high, target in moves:
        if joined and joined[-1][2] == target and joined[-1][1] + 1 == low:
            joined[-1] = (joined[-1][0], high, target)
        else:
            joined.append((low, high, target))
    return tuple(joined)


def _useful(automaton: Automaton) -> list[int]:
    """Return the states from which a text can still end, and that are reached, sorted."""
    reached = {0}
    todo = [0]
    before: dict[int, list[int]] = {}
    while todo:
        state = todo.pop()
        for _, _, target in automaton.moves[state]:
            before.setdefault(target, []).append(state)
            if target not in reached:
                reached.add(target)
                todo.append(target)
    ending = set(automaton.accepting & reached)
    todo = list(ending)
    while todo:
        for state in before.get(todo.pop(), ()):
            if state not in ending:
                ending.add(state)
                todo.append(state)
    return sorted(ending)
