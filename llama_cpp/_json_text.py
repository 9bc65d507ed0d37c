"""Writes GBNF: literals, character classes, automata, repetitions, and the rules that they need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llama_cpp._automaton import ANY
from llama_cpp._gbnf_parser import MOST_REPETITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llama_cpp._automaton import Automaton, Ranges

_BLOCK = 1000
# what has a short escape, and what has none
_SHORT = tuple(map(ord, '"\\\b\f\n\r\t'))
_CONTROLS = tuple(code for code in range(0x20) if code not in _SHORT)
_DEEPEST = 12

# An answer cannot be blanks alone: white space is one blank, or a line break and an indentation.
BUILTIN = {
    "ws": r'(" " | "\n" [ \t]{0,20})?',
    "char": (
        r'[^"\\\x00-\x1F\uD800-\uDFFF] | "\\" (["\\/bfnrt] | "u" (hex-start [0-9a-fA-F]{2} | '
        r'[dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}))'
    ),
    # the shortest way to write what must not stand in a string as it is
    "escaped": r'"\\" (["\\bfnrt] | "u00" ("0" [0-7bBeEfF] | "1" [0-9a-fA-F]))',
    "hex-start": "[0-9abcefABCEF] [0-9a-fA-F] | [dD] [0-7]",
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,19})',
    "number": 'integer ("." [0-9]{1,20})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "object": '"{" ws (member ("," ws member)* ws)? "}"',
    "member": 'string ":" ws value',
    "array": '"[" ws (value ("," ws value)* ws)? "]"',
    "value": 'object | array | string | number | boolean | "null"',
}


def literal(text: str) -> str:
    """Return a GBNF literal."""
    return '"' + "".join(_escaped(ord(char), '"\\') for char in text) + '"'


def _escaped(code: int, special: str) -> str:
    if chr(code) in special:
        return f"\\{chr(code)}"
    if 0x20 <= code < 0x7F:
        return chr(code)
    if code == 10:
        return "\\n"
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _class_character(code: int) -> str:
    return "\\x5E" if code == 0x5E else _escaped(code, "\\[]-")


def character_class(ranges: Ranges) -> str:
    """Return a GBNF character class, or a literal of one character."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return literal(chr(ranges[0][0]))
    parts = []
    for low, high in ranges:
        first, last = _class_character(low), _class_character(high)
        parts.append(first if low == high else f"{first}{'' if high == low + 1 else '-'}{last}")
    return f"[{''.join(parts)}]"


def negated_class(characters: Iterable[str]) -> str:
    """Return a GBNF class of all characters but some."""
    return f"[^{''.join(_class_character(ord(char)) for char in sorted(characters))}]"


def string_characters(ranges: Ranges) -> str:
    """Return the GBNF of one character inside a JSON string, escaped as JSON needs it."""
    if ranges == ANY:
        return "char"
    plain = []
    escapes = []
    for low, high in ranges:
        for first, last in ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF)):
            if max(low, first) <= min(high, last):
                plain.append((max(low, first), min(high, last)))
        escapes += [code for code in (*range(0x20), 0x22, 0x5C) if low <= code <= high]
    atoms = [character_class(tuple(plain))] if plain else []
    if len(escapes) == len(_SHORT) + len(_CONTROLS):
        atoms += ["escaped"]
    else:
        atoms += [literal(json.dumps(chr(code))[1:-1]) for code in escapes]
    return atoms[0] if len(atoms) == 1 else f"({' | '.join(atoms)})" if atoms else "[]"


class Rules:
    """The rules of a grammar in the making; equal bodies become one rule."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._by_body: dict[str, str] = {}
        self._taken: set[str] = {"root", *BUILTIN}

    def reserve(self, hint: str) -> str:
        """Return a name of its own for a rule that comes later."""
        base = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in hint).split())
        base = base[:40].strip("-") or "rule"
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}-{count}"
        self._taken.add(name)
        return name

    def define(self, name: str, body: str) -> None:
        """Give a reserved rule its body."""
        self._bodies[name] = body
        self._by_body.setdefault(body, name)

    def named(self, hint: str, body: str) -> str:
        """Return the name of a rule with a body; a new one where there is none."""
        known = self._by_body.get(body)
        if known is not None:
            return known
        name = self.reserve(hint)
        self.define(name, body)
        return name

    def text(self, root: str) -> str:
        """Return the grammar: the root and what it needs, in order of use."""
        bodies = {"root": root}
        todo = ["root"]
        for name in todo:
            for used in _names(bodies[name]):
                if used not in bodies:
                    bodies[used] = self._bodies.get(used) or BUILTIN[used]
                    todo.append(used)
        return "\n".join(f"{name} ::= {body}" for name, body in bodies.items()) + "\n"


def _names(body: str) -> list[str]:
    """Return the rules that a body names."""
    names = []
    position = 0
    while position < len(body):
        char = body[position]
        if char in '"[':
            close = '"' if char == '"' else "]"
            position += 1
            while body[position] != close:
                position += 2 if body[position] == "\\" else 1
        elif char == "{":
            position = body.index("}", position)
        elif char.isalnum():
            end = position
            while end < len(body) and (body[end].isalnum() or body[end] == "-"):
                end += 1
            names.append(body[position:end])
            position = end
            continue
        position += 1
    return names


def repeated(rules: Rules, item: str, least: int, most: int | None, hint: str) -> str:
    """Return an item some times; the item is a name or a class, nothing that needs parentheses."""
    parts = []
    if least > _BLOCK:
        block = rules.named(hint, f"{item}{{{_BLOCK}}}")
        parts.append(f"{block}{{{least // _BLOCK}}}")
        if most is not None:
            most -= least // _BLOCK * _BLOCK
        least %= _BLOCK
    if most is None:
        parts.append(
            f"{item}*" if least == 0 else f"{item}+" if least == 1 else f"{item}{{{least},}}"
        )
    elif most <= MOST_REPETITIONS:
        parts.append(
            f"{item}{{{least}}}"
            if least == most
            else f"{item}?"
            if most == 1
            else f"{item}{{{least},{most}}}"
        )
    else:
        if least:
            parts.append(f"{item}{{{least}}}")
        whole, rest = divmod(most - least, _BLOCK)
        block = rules.named(hint, f"{item}{{{_BLOCK}}}")
        some = rules.named(hint, f"{item}{{0,{_BLOCK - 1}}}")
        last = rules.named(hint, f"{item}{{0,{rest}}}") if rest else ""
        for _ in range(whole):
            last = rules.named(hint, f"{block} {last} | {some}".replace("  ", " "))
        parts.append(last)
    return " ".join(parts)


def automaton_text(
    automaton: Automaton, characters: Callable[[Ranges], str], rules: Rules, hint: str
) -> str:
    """Return the GBNF of an automaton's texts; what is a choice stands in parentheses.

    Args:
        automaton: minimized, and not empty.
        characters: how one character of some is written.
        rules: where states that are reached in several ways become rules.
        hint: what those rules are called.
    """
    return _AutomatonText(automaton, characters, rules, hint).state(0)


class _AutomatonText:
    def __init__(
        self,
        automaton: Automaton,
        characters: Callable[[Ranges], str],
        rules: Rules,
        hint: str,
    ) -> None:
        self.automaton = automaton
        self.characters = characters
        self.rules = rules
        self.hint = hint
        self.targets: list[dict[int, list[tuple[int, int]]]] = []
        ways = [1] + [0] * (len(automaton.moves) - 1)
        for state, moves in enumerate(automaton.moves):
            by_target: dict[int, list[tuple[int, int]]] = {}
            for low, high, target in moves:
                by_target.setdefault(target, []).append((low, high))
            self.targets.append(by_target)
            for target in by_target:
                ways[target] += target != state
        self.chains: dict[int, int] = {}
        for state in range(len(automaton.moves)):
            self.measure(state)
        # what is short is written as often as it is needed
        self.shared = {s for s, count in enumerate(ways) if count > 1 and not self.is_short(s)}
        self.names: dict[int, str] = {}
        self.todo: list[int] = []

    def measure(self, state: int) -> None:
        """Note how many more characters of the same kind may follow a state, where that is all."""
        path = []
        while state not in self.chains and state in self.automaton.accepting:
            path.append(state)
            if len(self.targets[state]) != 1 or state in self.targets[state]:
                break
            state = next(iter(self.targets[state]))
        for before in reversed(path):
            ways = self.targets[before]
            if not ways:
                self.chains[before] = 0
                continue
            target, ranges = next(iter(ways.items()))
            length = self.chains.get(target)
            alike = length == 0 or list(self.targets[target].values()) == [ranges]
            if len(ways) == 1 and length is not None and alike and length < MOST_REPETITIONS:
                self.chains[before] = length + 1

    def is_short(self, state: int) -> bool:
        """Return whether all ways lead back to a state, or to ends."""
        return state in self.chains or all(
            target == state or not self.automaton.moves[target] for target in self.targets[state]
        )

    def state(self, start: int) -> str:
        text = self.name(start) if start in self.shared else self.body(start, 0)
        while self.todo:
            state = self.todo.pop()
            self.rules.define(self.names[state], self.body(state, 0) or '""')
        return text

    def name(self, state: int) -> str:
        if state not in self.names:
            self.names[state] = self.rules.reserve(self.hint)
            self.todo.append(state)
        return self.names[state]

    def body(self, state: int, depth: int) -> str:
        pieces: list[str] = []
        while True:
            ways = dict(self.targets[state])
            loop = ways.pop(state, None)
            if loop is not None:
                pieces.append(f"{self.characters(tuple(loop))}*")
            accepting = state in self.automaton.accepting
            if not ways:
                break
            if state in self.chains and loop is None:
                one = self.characters(tuple(next(iter(ways.values()))))
                most = self.chains[state]
                pieces.append(f"{_atom(one)}{'?' if most == 1 else f'{{0,{most}}}'}")
                break
            if accepting or len(ways) > 1:
                choices = [
                    self.sequence([self.characters(tuple(ranges)), self.follow(target, depth + 1)])
                    for target, ranges in ways.items()
                ]
                text = choices[0] if len(choices) == 1 else " | ".join(choices)
                pieces.append(f"{_atom(text)}{'?' if accepting else ''}")
                break
            state, ranges = next(iter(ways.items()))
            pieces.append(self.characters(tuple(ranges)))
            if state in self.shared:
                pieces.append(self.name(state))
                break
        return self.sequence(pieces)

    def follow(self, state: int, depth: int) -> str:
        if state in self.shared or (depth > _DEEPEST and self.automaton.moves[state]):
            return self.name(state)
        return self.body(state, depth)

    def sequence(self, pieces: list[str]) -> str:
        """Join pieces: literals with literals, and equal ones into a repetition."""
        joined: list[list[str | int]] = []
        for piece in pieces:
            if not piece:
                continue
            last = joined[-1] if joined else None
            if last is not None and last[0] == piece and piece[0] in "[(c":
                last[1] = int(last[1]) + 1
            elif last is not None and _is_literal(str(last[0])) and _is_literal(piece):
                last[0] = str(last[0])[:-1] + piece[1:]
            else:
                joined.append([piece, 1])
        return " ".join(
            str(piece) if count == 1 else f"{piece}{{{count}}}" for piece, count in joined
        )


def _atom(text: str) -> str:
    """Return text that can be repeated."""
    is_class = text[0] == "[" and text.find("]") == len(text) - 1
    return text if is_class or text.isalnum() else f"({text})"


def _is_literal(piece: str) -> bool:
    """Return whether a piece is one literal and nothing else."""
    if len(piece) < 2 or piece[0] != '"' or piece[-1] != '"':
        return False
    position = 1
    while piece[position] != '"':
        position += 2 if piece[position] == "\\" else 1
    return position == len(piece) - 1
