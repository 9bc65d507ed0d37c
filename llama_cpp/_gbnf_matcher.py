"""llama.cpp's grammar matcher, modelled: which stacks it holds, and how many ways it walks.

A *stack* is what llama.cpp calls so: the position in a rule that must match next, and the positions
to come back to. Here it is a linked list of interned nodes; node 0 is the empty stack, on which the
text may end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_parser import (
    CHAR,
    CHAR_ALT,
    CHAR_ANY,
    CHAR_NOT,
    CHAR_RANGE_UPPER,
    RULE_REF,
    alternatives,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama_cpp._gbnf_parser import Grammar

EMPTY = 0

# llama.cpp compares each new stack with all others
MOST_STACKS = 10_000

# It walks every way through the grammar for every token of the vocabulary that begins alike, and
# again for every alternative: a token has some characters, a way costs about a microsecond.
MOST_WAYS = 1_000_000
MOST_MOVES = 250_000
WINDOW = 6

_LARGEST_CODE_POINT = 0x10FFFF
# enough for some hundred rules; a larger grammar is looked at near its root
MOST_WORK = 100_000


class Terminal(NamedTuple):
    """What one character must be."""

    ranges: tuple[tuple[int, int], ...]
    """First and last code points."""
    negated: bool
    """Whether it must be none of them."""

    def matches(self, code: int) -> bool:
        """Return whether a code point fits."""
        return self.negated != any(low <= code <= high for low, high in self.ranges)

    def samples(self) -> Iterable[int]:
        """Return some code points, those at which something may change; not all of them fit."""
        for low, high in self.ranges[:8]:
            if self.negated:
                yield from (low - 1, high + 1)
            else:
                yield from (low, high)
        if self.negated:
            yield 0x61


class TooManyStacksError(Exception):
    """One character would lead to more stacks than llama.cpp can hold."""


class Matcher:
    """The stacks of one grammar."""

    def __init__(self, grammar: Grammar) -> None:
        """Lay the rules out as positions."""
        self.grammar = grammar
        # position → a terminal, or a rule id, or None for a token that only the vocabulary knows
        self._items: list[Terminal | int | None] = []
        self._last: list[bool] = []
        # rule → the positions at which its alternatives begin; -1 for an empty one
        self._starts: list[list[int]] = []
        for rule in grammar.rules:
            starts = []
            for sequence in alternatives(rule):
                items = _items(sequence)
                starts.append(len(self._items) if items else -1)
                self._items += items
                self._last += [False] * (len(items) - 1) + [True] * bool(items)
            self._starts.append(starts)
        self._nodes: list[tuple[int, int]] = [(-1, -1)]
        self._interned: dict[tuple[int, int], int] = {}
        self._closures: dict[int, tuple[int, ...]] = {}
        # how many stacks were looked at
        self.work = 0

    def start(self, rule: int | None = None) -> tuple[int, ...]:
        """Return the stacks before the first character, of the whole grammar or one rule."""
        found: dict[int, None] = {}
        for position in self._starts[self.grammar.root if rule is None else rule]:
            node = EMPTY if position < 0 else self._node(position, EMPTY)
            found.update(dict.fromkeys(self._closure(node)))
        return tuple(found)

    def step(self, node: int, code: int) -> tuple[int, ...]:
        """Return the stacks that one stack becomes with a character; none where it does not fit."""
        if node == EMPTY:
            return ()
        position, rest = self._nodes[node]
        item = self._items[position]
        if not isinstance(item, Terminal) or not item.matches(code):
            return ()
        return self._closure(rest if self._last[position] else self._node(position + 1, rest))

    def terminal(self, node: int) -> Terminal | None:
        """Return what must come next on a stack; None at its end or where it is a token."""
        item = self._items[self._nodes[node][0]] if node != EMPTY else None
        return item if isinstance(item, Terminal) else None

    def advance(self, stacks: Iterable[int], code: int) -> tuple[int, ...]:
        """Return the stacks that several become, each once."""
        return tuple(dict.fromkeys(new for node in stacks for new in self.step(node, code)))

    def accepts(self, text: str) -> bool:
        """Return whether the grammar fits the whole text."""
        stacks = self.start()
        for char in text:
            stacks = self.advance(stacks, ord(char))
            if not stacks:
                return False
        return EMPTY in stacks

    def _node(self, position: int, rest: int) -> int:
        key = (position, rest)
        node = self._interned.get(key)
        if node is None:
            node = self._interned[key] = len(self._nodes)
            self._nodes.append(key)
        return node

    def _closure(self, start: int) -> tuple[int, ...]:
        """Return the stacks with a terminal on top that a stack stands for."""
        known = self._closures.get(start)
        if known is not None:
            return known
        seen = {start}
        todo = [start]
        found = []
        while todo:
            node = todo.pop()
            position, rest = self._nodes[node]
            item = self._items[position] if node != EMPTY else None
            if not isinstance(item, int):
                found.append(node)
                continue
            if not self._last[position]:
                rest = self._node(position + 1, rest)
            for begin in self._starts[item]:
                new = rest if begin < 0 else self._node(begin, rest)
                if new not in seen:
                    seen.add(new)
                    todo.append(new)
            if len(seen) > MOST_STACKS:
                raise TooManyStacksError
        self.work += len(seen)
        self._closures[start] = result = tuple(found)
        return result


def _items(sequence: list[tuple[int, int]]) -> list[Terminal | int | None]:
    items: list[Terminal | int | None] = []
    ranges: list[tuple[int, int]] = []
    negated = False

    def end() -> None:
        if ranges:
            items.append(Terminal(tuple(ranges), negated))
            ranges.clear()

    for kind, value in sequence:
        if kind == CHAR_ALT:
            ranges.append((value, value))
        elif kind == CHAR_RANGE_UPPER:
            ranges[-1] = (ranges[-1][0], value)
        else:
            end()
            if kind == RULE_REF:
                items.append(value)
            elif kind == CHAR_ANY:
                items.append(Terminal(((0, _LARGEST_CODE_POINT),), negated=False))
            elif kind in (CHAR, CHAR_NOT):
                negated = kind == CHAR_NOT
                ranges.append((value, value))
            else:
                items.append(None)
    end()
    return items


def refuse_branching(grammar: Grammar) -> None:
    """Refuse a grammar in which a few characters can be matched in too many ways.

    It walks from the root and from the other rules, always to the character that fits in most ways,
    :data:`WINDOW` characters far.

    Raises:
        ValidationError: which rule, and what to write instead.
    """
    matcher = Matcher(grammar)
    order = [grammar.root, *(rule for rule in range(len(grammar.rules)) if rule != grammar.root)]
    for rule in order:
        try:
            _walk(matcher, rule)
        except TooManyStacksError:
            name = grammar.names[rule].partition("_")[0]
            raise ValidationError(
                f"grammar: in rule {name!r} a few characters fit in too many ways, and "
                "llama.cpp follows each: let only one alternative fit a beginning, and write x{0,n} "
                "for many optional x in a row"
            ) from None
        if matcher.work > MOST_WORK:
            return


def _walk(matcher: Matcher, rule: int) -> None:
    """Walk from the beginning of a rule."""
    ways = dict.fromkeys(matcher.start(rule), 1)
    for _ in range(WINDOW):
        terminals = {matcher.terminal(node) for node in ways}
        codes = sorted({code for t in terminals if t is not None for code in list(t.samples())[:2]})
        most = 1 if len(ways) == 1 else 4 if len(ways) < 100 else 2
        best: dict[int, int] = {}
        for code in codes[:most]:
            following: dict[int, int] = {}
            moves = 0
            for node, count in ways.items():
                stacks = matcher.step(node, code)
                moves += len(stacks)
                for new in stacks:
                    following[new] = following.get(new, 0) + count
                if moves > MOST_MOVES:
                    raise TooManyStacksError
            matcher.work += len(ways) + moves
            if sum(following.values()) > MOST_WAYS:
                raise TooManyStacksError
            if sum(following.values()) > sum(best.values()):
                best = following
        ways = best
