"""Regular expressions of JSON schemas (ECMA-262) as automata.

What no automaton can express (look-around, back references, word boundaries) is refused.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple, NoReturn, Union

from llama_cpp import _automaton
from llama_cpp._automaton import ANY, Automaton, Ranges
from llama_cpp._errors import ValidationError

_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = (
    *((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_LINE_ENDS: Ranges = ((10, 10), (13, 13), (0x2028, 0x2029))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_CATEGORIES = {
    "Letter": "L",
    "Lowercase_Letter": "Ll",
    "Uppercase_Letter": "Lu",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Punctuation": "P",
    "punct": "P",
    "Symbol": "S",
    "Separator": "Z",
    "Space_Separator": "Zs",
}

MOST_NODES = 20_000
_DEEPEST = 60


class Chars(NamedTuple):
    """One character of some."""

    ranges: Ranges


class Anchor(NamedTuple):
    """The beginning or the end of the text."""

    end: bool


class Sequence(NamedTuple):
    """One after another."""

    parts: tuple[Node, ...]


class Choice(NamedTuple):
    """One or another."""

    parts: tuple[Node, ...]


class Repeat(NamedTuple):
    """The same some times."""

    part: Node
    least: int
    most: int | None


Node = Union[Chars, Anchor, Sequence, Choice, Repeat]


@lru_cache(maxsize=256)
def automaton(pattern: str, dotall: bool = False) -> Automaton:
    """Return the texts in which a pattern is found somewhere.

    Raises:
        ValidationError: it is no regular expression, or not expressible; without the place.
    """
    return _determined(parse(pattern, dotall=dotall), searched=True)


@lru_cache(maxsize=256)
def whole(pattern: str) -> Automaton:
    """Return the texts that a pattern describes from beginning to end."""
    return _determined(parse(pattern, dotall=False), searched=False)


def parse(pattern: str, *, dotall: bool) -> Node:
    """Read a regular expression.

    Raises:
        ValidationError: it is none, or not expressible.
    """
    reader = _Reader(pattern, dotall=dotall)
    node = reader.choice(0)
    if reader.position < len(pattern):
        reader.fail("')' without '('")
    return node


class _Reader:
    def __init__(self, pattern: str, *, dotall: bool) -> None:
        self.pattern = pattern
        self.position = 0
        self.dot = ANY if dotall else _automaton.complement(_LINE_ENDS)

    def fail(self, what: str) -> NoReturn:
        shown = self.pattern if len(self.pattern) <= 80 else f"{self.pattern[:77]}..."
        raise ValidationError(f"{shown!r}, character {self.position + 1}: {what}")

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self, text: str) -> bool:
        if self.pattern.startswith(text, self.position):
            self.position += len(text)
            return True
        return False

    def choice(self, depth: int) -> Node:
        if depth > _DEEPEST:
            self.fail(f"groups are nested more than {_DEEPEST} deep")
        parts = [self.sequence(depth)]
        while self.take("|"):
            parts.append(self.sequence(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, part: Node) -> Node:
        begin = self.position
        least, most = 1, 1
        bounds: tuple[int, int | None] | None = None
        if self.take("*"):
            bounds = (0, None)
        elif self.take("+"):
            bounds = (1, None)
        elif self.take("?"):
            bounds = (0, 1)
        elif self.peek() == "{":
            bounds = self.counted()
        if bounds is None:
            return part
        least, most_or_none = bounds
        if isinstance(part, Anchor):
            self.position = begin
            self.fail("an anchor cannot be repeated")
        self.take("?")
        if self.peek() and self.peek() in "*+?":
            self.fail("nothing stands before this that could be repeated")
        del most
        return Repeat(part, least, most_or_none)

    def counted(self) -> tuple[int, int | None] | None:
        end = self.pattern.find("}", self.position)
        first, comma, second = self.pattern[self.position + 1 : end].partition(",")
        if end < 0 or not first.isdecimal() or not (second.isdecimal() or not second):
            self.fail("'{' is no repetition: write \\{ for the character")
        self.position = end + 1
        least = int(first)
        most = least if not comma else int(second) if second else None
        if most is not None and most < least:
            self.fail("the repetition has its larger number first")
        if max(least, most or 0) > MOST_NODES:
            self.fail(f"more than {MOST_NODES} repetitions")
        return least, most

    def atom(self, depth: int) -> Node:
        char = self.peek()
        if char == "(":
            return self.group(depth)
        if char == "[":
            return Chars(self.set())
        if char == "\\":
            if self.pattern[self.position + 1 : self.position + 2] in ("b", "B"):
                self.fail("word boundaries cannot be expressed in a grammar")
            return Chars(self.escape(inside=False))
        if char in "*+?":
            self.fail("nothing stands before this that could be repeated")
        self.position += 1
        if char == "^":
            return Anchor(end=False)
        if char == "$":
            return Anchor(end=True)
        if char == ".":
            return Chars(self.dot)
        return Chars(((ord(char), ord(char)),))

    def group(self, depth: int) -> Node:
        begin = self.position
        self.position += 1
        if self.take("?"):
            if self.take("<") and self.peek() not in ("=", "!"):
                end = self.pattern.find(">", self.position)
                if end < 0:
                    self.fail("the group's name has no end")
                self.position = end + 1
            elif not self.take(":"):
                self.position = begin
                self.fail("look-ahead, look-behind and flags cannot be expressed in a grammar")
        node = self.choice(depth + 1)
        if not self.take(")"):
            self.position = begin
            self.fail("'(' without ')'")
        return node

    def escape(self, *, inside: bool) -> Ranges:
        self.position += 1
        char = self.peek()
        self.position += 1
        if not char:
            self.position -= 2
            self.fail("nothing follows the backslash")
        if char in "dws":
            return _CLASSES[char]
        if char in "DWS":
            return _automaton.complement(_CLASSES[char.lower()])
        if char in "pP":
            return self.category(negated=char == "P")
        code = self.code(char, inside=inside)
        return ((code, code),)

    def code(self, char: str, *, inside: bool) -> int:
        if char in _CONTROLS and not (char == "0" and self.peek().isdecimal()):
            return _CONTROLS[char]
        if char == "b" and inside:
            return 8
        if char == "x":
            return self.hexadecimal(2)
        if char == "u":
            if self.take("{"):
                end = self.pattern.find("}", self.position)
                code = self.hexadecimal(max(end - self.position, 1))
                self.position += 1
                return code
            code = self.hexadecimal(4)
            if 0xD800 <= code < 0xDC00 and self.take("\\u"):
                low = self.hexadecimal(4)
                return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            return code
        if char == "c" and self.peek().isalpha():
            self.position += 1
            return ord(self.pattern[self.position - 1]) % 32
        if char.isdecimal() or char == "k":
            self.position -= 2
            self.fail("back references cannot be expressed in a grammar")
        if char.isascii() and char.isalpha():
            self.position -= 2
            self.fail(f"unknown escape \\{char}")
        return ord(char)

    def hexadecimal(self, digits: int) -> int:
        text = self.pattern[self.position : self.position + digits]
        try:
            code = int(text, 16) if len(text) == digits and text.isalnum() else -1
        except ValueError:
            code = -1
        if not 0 <= code <= _automaton.LARGEST:
            self.fail(f"{digits} hexadecimal digits are expected")
        self.position += digits
        return code

    def category(self, *, negated: bool) -> Ranges:
        end = self.pattern.find("}", self.position)
        name = self.pattern[self.position + 1 : end]
        name = name.rpartition("=")[2]
        ranges = _category(_CATEGORIES.get(name, name)) if self.peek() == "{" and end > 0 else ()
        if not ranges:
            self.fail("only general categories are known after \\p, such as \\p{L} and \\p{Nd}")
        self.position = end + 1
        return _automaton.complement(ranges) if negated else ranges

    def set(self) -> Ranges:
        begin = self.position
        self.position += 1
        negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]":
            if not self.peek():
                self.position = begin
                self.fail("'[' without ']'")
            first = self.member()
            if self.peek() == "-" and self.pattern[self.position + 1 : self.position + 2] not in (
                "]",
                "",
            ):
                self.position += 1
                last = self.member()
                if len(first) == 1 == len(last) and first[0][0] <= last[0][1]:
                    ranges.append((first[0][0], last[0][1]))
                else:
                    self.fail("a range ends before it begins, or has a class at one end")
            else:
                ranges.extend(first)
        self.position += 1
        return _automaton.complement(ranges) if negated else _automaton.normalized(ranges)

    def member(self) -> Ranges:
        if self.peek() == "\\":
            return self.escape(inside=True)
        code = ord(self.peek())
        self.position += 1
        return ((code, code),)


def _category(name: str) -> Ranges:
    return (
        _automaton.normalized(
            span
            for known, spans in _categories().items()
            if known.startswith(name)
            for span in spans
        )
        if 1 <= len(name) <= 2
        else ()
    )


@lru_cache(maxsize=1)
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Return the code points of each general category, in one pass over Unicode."""
    found: dict[str, list[tuple[int, int]]] = {}
    start, before = 0, unicodedata.category("\0")
    for code in range(1, _automaton.LARGEST + 2):
        name = unicodedata.category(chr(code)) if code <= _automaton.LARGEST else ""
        if name != before:
            found.setdefault(before, []).append((start, code - 1))
            start, before = code, name
    return found


class _Network:
    """A nondeterministic automaton: Thompson's, with edges that only the text's ends may take."""

    def __init__(self) -> None:
        self.free: list[list[int]] = []
        self.at_start: list[list[int]] = []
        self.at_end: list[list[int]] = []
        self.moves: list[list[tuple[int, int, int]]] = []

    def node(self) -> int:
        if len(self.free) > MOST_NODES:
            raise _automaton.TooLargeError("it repeats too much")
        for edges in (self.free, self.at_start, self.at_end):
            edges.append([])
        self.moves.append([])
        return len(self.free) - 1

    def add(self, part: Node, begin: int) -> int:
        """Add what follows ``begin``; return where it ends."""
        if isinstance(part, Chars):
            end = self.node()
            self.moves[begin] += [(low, high, end) for low, high in part.ranges]
            return end
        if isinstance(part, Anchor):
            end = self.node()
            (self.at_end if part.end else self.at_start)[begin].append(end)
            return end
        if isinstance(part, Sequence):
            for inner in part.parts:
                begin = self.add(inner, begin)
            return begin
        if isinstance(part, Choice):
            end = self.node()
            for inner in part.parts:
                start = self.node()
                self.free[begin].append(start)
                self.free[self.add(inner, start)].append(end)
            return end
        for _ in range(part.least):
            begin = self.add(part.part, begin)
        if part.most is None:
            loop = self.node()
            self.free[begin].append(loop)
            self.free[self.add(part.part, loop)].append(loop)
            end = self.node()
            self.free[loop].append(end)
            return end
        end = self.node()
        for _ in range(part.most - part.least):
            self.free[begin].append(end)
            begin = self.add(part.part, begin)
        self.free[begin].append(end)
        return end

    def closure(
        self, nodes: list[int], *, start: bool = False, end: bool = False
    ) -> frozenset[int]:
        found = set(nodes)
        todo = list(nodes)
        while todo:
            node = todo.pop()
            reached = list(self.free[node])
            if start:
                reached += self.at_start[node]
            if end:
                reached += self.at_end[node]
            for following in reached:
                if following not in found:
                    found.add(following)
                    todo.append(following)
        return frozenset(found)


def _determined(node: Node, *, searched: bool) -> Automaton:
    network = _Network()
    first = network.node()
    if searched:
        node = Sequence((Repeat(Chars(ANY), 0, None), node, Repeat(Chars(ANY), 0, None)))
    final = network.add(node, first)

    def following(
        state: tuple[bool, frozenset[int]],
    ) -> list[tuple[int, int, tuple[bool, frozenset[int]]]]:
        moves = [move for n in sorted(state[1]) for move in network.moves[n]]
        return [
            (low, high, (False, network.closure(list(reached))))
            for low, high, reached in _automaton.segments(moves)
        ]

    def accepts(state: tuple[bool, frozenset[int]]) -> bool:
        return final in network.closure(sorted(state[1]), start=state[0], end=True)

    return _automaton.explored((True, network.closure([first], start=True)), following, accepts)
