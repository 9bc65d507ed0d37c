"""Reads GBNF exactly as llama.cpp's ``llama-grammar.cpp`` does, and says where it cannot.

The same rewriting of groups and repetitions into rules, with the same identifiers and limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

# llama.cpp's MAX_REPETITION_THRESHOLD
MOST_REPETITIONS = 2000

# its parser recurses, and threads may have stacks of some 100 kB
DEEPEST_GROUP = 200

# 8 bytes each there, copied twice
MOST_ELEMENTS = 1_000_000

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_HEX_LENGTH = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"t": 9, "r": 13, "n": 10, "\\": 92, '"': 34, "[": 91, "]": 93, "-": 45}
_LARGEST_UINT32 = 2**32 - 1
_LARGEST_UINT64 = 2**64 - 1

# kinds of elements, llama.cpp's numbers
END, ALT, RULE_REF, CHAR, CHAR_NOT, CHAR_RANGE_UPPER, CHAR_ALT, CHAR_ANY, TOKEN, TOKEN_NOT = range(
    10
)


class Grammar(NamedTuple):
    """A grammar as llama.cpp holds it."""

    names: tuple[str, ...]
    """Rule id → name; ``expr_7`` is one that a group or a repetition in ``expr`` made."""
    rules: tuple[list[tuple[int, int]], ...]
    """Rule id → elements, alternatives separated by ``ALT``, ended by ``END``."""
    root: int
    """The id of the rule to start with."""


def alternatives(rule: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield a rule's alternatives without their ends."""
    start = 0
    for index, (kind, _) in enumerate(rule):
        if kind in (END, ALT):
            yield rule[start:index]
            start = index + 1


def parse(text: str, root: str = "root") -> Grammar:
    """Read a grammar as llama.cpp does, without asking what its matcher makes of it.

    Raises:
        ValidationError: what is wrong, with line and column.
    """
    parser = _Parser(text)
    parser.read()
    if root not in parser.defined:
        names = ", ".join(list(parser.defined)[:8])
        raise ValidationError(
            f"grammar has no rule {root!r}: add `{root} ::= …`, or name one of its rules as the root "
            f"({names}{', …' if len(parser.defined) > 8 else ''})"
        )
    return Grammar(
        names=tuple(parser.symbols),
        rules=tuple(parser.rules[i] for i in range(len(parser.symbols))),
        root=parser.symbols[root],
    )


class _Parser:
    """llama_grammar_parser over a str: beyond ASCII only literals, classes and comments may go."""

    def __init__(self, text: str) -> None:
        self.text = text + "\0"
        self.symbols: dict[str, int] = {}
        self.rules: dict[int, list[tuple[int, int]]] = {}
        self.defined: dict[str, None] = {}
        self._seen: dict[int, int] = {}
        self._depth = 0
        self._elements = 0
        if "\0" in text:
            self.fail(text.index("\0"), "a NUL character, where llama.cpp would stop reading")
        for index, char in enumerate(text):
            if "\ud800" <= char <= "\udfff":
                self.fail(index, f"a lone surrogate (U+{ord(char):04X}), which is no character")

    def fail(self, position: int, what: str) -> NoReturn:
        line = self.text.count("\n", 0, position) + 1
        column = position - (self.text.rfind("\n", 0, position) + 1) + 1
        raise ValidationError(f"grammar, line {line}, column {column}: {what}")

    def read(self) -> None:
        position = self._space(0, newline=True)
        if self.text[position] == "\0":
            raise ValidationError(
                "the grammar is empty: it needs a rule, such as `root ::= [a-z]+`"
            )
        while self.text[position] != "\0":
            position = self._rule(position)
        for name, symbol in self.symbols.items():
            if symbol not in self.rules:
                self.fail(
                    self._seen[symbol],
                    f"rule {name!r} is not defined: add `{name} ::= …`, or correct the name",
                )

    def _here(self, position: int) -> str:
        char = self.text[position]
        return "the end of the grammar" if char == "\0" else repr(char)

    def _space(self, position: int, *, newline: bool) -> int:
        text = self.text
        while True:
            char = text[position]
            if char == "#":
                while text[position] not in "\r\n\0":
                    position += 1
            elif char in " \t" or (newline and char in "\r\n"):
                position += 1
            else:
                return position

    def _span(self, position: int, allowed: frozenset[str]) -> int:
        while self.text[position] in allowed:
            position += 1
        return position

    def _symbol(self, name: str, position: int) -> int:
        symbol = self.symbols.setdefault(name, len(self.symbols))
        self._seen.setdefault(symbol, position)
        return symbol

    def _generated(self, rule: str) -> int:
        symbol = len(self.symbols)
        self.symbols[f"{rule}_{symbol}"] = symbol
        return symbol

    def _add(self, position: int, rule: list[tuple[int, int]], symbol: int) -> None:
        self._count(position, len(rule))
        self.rules[symbol] = rule

    def _count(self, position: int, elements: int) -> None:
        self._elements += elements
        if self._elements > MOST_ELEMENTS:
            self.fail(
                position,
                f"the grammar grows beyond {MOST_ELEMENTS} elements: shorten literals or repetitions",
            )

    def _rule(self, start: int) -> int:
        end = self._span(start, _WORD)
        if end == start:
            hint = (
                "; alternatives continue on the next line only inside parentheses, or after a `|` "
                "at the end of a line"
                if self.text[start] == "|"
                else ""
            )
            self.fail(
                start,
                f"the name of a rule is expected (letters, digits, hyphens), not {self._here(start)}"
                f"{hint}",
            )
        name = self.text[start:end]
        position = self._space(end, newline=False)
        if not self.text.startswith("::=", position):
            hint = "; names have hyphens, no underscores" if self.text[position] == "_" else ""
            self.fail(
                position, f"'::=' is expected after {name!r}, not {self._here(position)}{hint}"
            )
        symbol = self._symbol(name, start)
        self.defined[name] = None
        position = self._space(position + 3, newline=True)
        position = self._alternatives(position, name, symbol, nested=False)
        char = self.text[position]
        if char == "\r":
            position += 2 if self.text[position + 1] == "\n" else 1
        elif char == "\n":
            position += 1
        elif char != "\0":
            hint = {
                "_": "; names have hyphens, no underscores",
                ":": "; the rule before it has nothing after its '::='",
                ")": "; no '(' is open",
                "'": "; literals are in double quotes",
            }.get(char, "")
            self.fail(position, f"unexpected {self._here(position)} in rule {name!r}{hint}")
        return self._space(position, newline=True)

    def _alternatives(self, position: int, name: str, symbol: int, *, nested: bool) -> int:
        rule: list[tuple[int, int]] = []
        position = self._sequence(position, name, rule, nested=nested)
        while self.text[position] == "|":
            rule.append((ALT, 0))
            position = self._space(position + 1, newline=True)
            position = self._sequence(position, name, rule, nested=nested)
        rule.append((END, 0))
        self._add(position, rule, symbol)
        return position

    def _sequence(
        self, position: int, name: str, rule: list[tuple[int, int]], *, nested: bool
    ) -> int:
        text = self.text
        # where the item begins that a repetition would repeat, and the rules that made it
        item, made = len(rule), 1
        while True:
            char = text[position]
            start = position
            if char in "*+?{" and char != "\0":
                position, least, most = self._repetition(position, nested=nested)
                made = self._repeat(start, name, rule, item, made, least, most)
                continue
            before, made = len(rule), 1
            if char == '"':
                position = self._literal(position, rule)
            elif char == "[":
                position = self._class(position, rule)
            elif char in "<!":
                position = self._token(position, rule)
            elif char in _WORD:
                position = self._span(position, _WORD)
                rule.append((RULE_REF, self._symbol(text[start:position], start)))
            elif char == "(":
                symbols = len(self.symbols)
                position = self._group(position, name, rule)
                made = max(1, len(self.symbols) - symbols)
            elif char == ".":
                rule.append((CHAR_ANY, 0))
                position += 1
            else:
                return position
            item = before
            position = self._space(position, newline=nested)

    def _group(self, start: int, name: str, rule: list[tuple[int, int]]) -> int:
        self._depth += 1
        if self._depth > DEEPEST_GROUP:
            self.fail(
                start,
                f"more than {DEEPEST_GROUP} parentheses are open: give inner groups rules of their "
                "own",
            )
        position = self._space(start + 1, newline=True)
        symbol = self._generated(name)
        position = self._alternatives(position, name, symbol, nested=True)
        rule.append((RULE_REF, symbol))
        if self.text[position] != ")":
            self.fail(
                position,
                f"')' is expected for the '(' {self._place(start)}, not {self._here(position)}",
            )
        self._depth -= 1
        return position + 1

    def _place(self, position: int) -> str:
        line = self.text.count("\n", 0, position) + 1
        return f"of line {line}, column {position - self.text.rfind(chr(10), 0, position)}"

    def _char(self, position: int) -> tuple[int, int]:
        """Return one character of a literal or class, and where the next one is."""
        char = self.text[position]
        if char != "\\":
            return ord(char), position + 1
        escape = self.text[position + 1]
        length = _HEX_LENGTH.get(escape)
        if length is not None:
            digits = self.text[position + 2 : position + 2 + length]
            if len(digits) < length or not _HEX.issuperset(digits):
                self.fail(
                    position, f"\\{escape} is followed by exactly {length} hexadecimal digits"
                )
            return int(digits, 16), position + 2 + length
        code = _ESCAPES.get(escape)
        if code is None:
            shown = "" if escape == "\0" else escape
            self.fail(
                position,
                f'unknown escape \\{shown}: there are \\n \\r \\t \\\\ \\" \\[ \\] \\- \\xHH \\uHHHH '
                "\\UHHHHHHHH",
            )
        return code, position + 2

    def _literal(self, start: int, rule: list[tuple[int, int]]) -> int:
        position = start + 1
        while self.text[position] != '"':
            if self.text[position] == "\0":
                self.fail(start, 'this literal has no closing "')
            code, position = self._char(position)
            rule.append((CHAR, code))
        return position + 1

    def _class(self, start: int, rule: list[tuple[int, int]]) -> int:
        position = start + 1
        kind = CHAR
        if self.text[position] == "^":
            kind = CHAR_NOT
            position += 1
        while self.text[position] != "]":
            if self.text[position] == "\0":
                self.fail(start, "this character class has no closing ]")
            begin = position
            code, position = self._char(position)
            rule.append((kind, code))
            kind = CHAR_ALT
            if self.text[position] == "-" and self.text[position + 1] != "]":
                if self.text[position + 1] == "\0":
                    self.fail(start, "this character class has no closing ]")
                upper, position = self._char(position + 1)
                if upper < code:
                    self.fail(
                        begin,
                        f"the range {self.text[begin:position]} is empty, since it ends before it "
                        "begins: swap its ends, or write \\- for a hyphen",
                    )
                rule.append((CHAR_RANGE_UPPER, upper))
        return position + 1

    def _token(self, start: int, rule: list[tuple[int, int]]) -> int:
        text = self.text
        kind, position = (TOKEN_NOT, start + 1) if text[start] == "!" else (TOKEN, start)
        if text[position] != "<":
            self.fail(position, f"'<' is expected after '!', not {self._here(position)}")
        if text[position + 1] == "[":
            end = self._span(position + 2, _DIGITS)
            if end == position + 2 or not text.startswith("]>", end):
                self.fail(position, "a token is written <[id]>, with a number, or <text>")
            digits = text[position + 2 : end]
            if len(digits) > 20 or int(digits) > _LARGEST_UINT32:
                self.fail(position, f"token id {digits[:24]} does not fit 32 bits")
            rule.append((kind, int(digits)))
            return end + 2
        end = text.find(">", position)
        if end < 0:
            self.fail(position, "this token has no closing >")
        # which id that is only the model's vocabulary says
        rule.append((kind, _LARGEST_UINT32))
        return end + 1

    def _repetition(self, start: int, *, nested: bool) -> tuple[int, int, int | None]:
        """Return where a repetition ends, its least and its most."""
        char = self.text[start]
        position = self._space(start + 1, newline=nested)
        if char != "{":
            return position, int(char == "+"), 1 if char == "?" else None
        least, position = self._integer(position, nested=nested)
        most: int | None = least
        if self.text[position] == ",":
            position = self._space(position + 1, newline=nested)
            most = None
            if self.text[position] in _DIGITS:
                most, position = self._integer(position, nested=nested)
        if self.text[position] != "}":
            self.fail(
                position,
                f"a repetition is {{m}}, {{m,}} or {{m,n}}; '}}' is expected, not "
                f"{self._here(position)}",
            )
        position = self._space(position + 1, newline=nested)
        if least > MOST_REPETITIONS:
            self.fail(
                start,
                f"{least} repetitions are more than llama.cpp's {MOST_REPETITIONS}: write a large one "
                "as a product, (x{1000}){5}",
            )
        if most is not None and most < least:
            self.fail(start, f"{{{least},{most}}} has its larger number first: swap them")
        # llama.cpp takes a larger one for "any number"
        return position, least, None if most is not None and most > MOST_REPETITIONS else most

    def _integer(self, start: int, *, nested: bool) -> tuple[int, int]:
        end = self._span(start, _DIGITS)
        if end == start:
            self.fail(start, f"a number is expected in {{m,n}}, not {self._here(start)}")
        if end - start > 20 or int(self.text[start:end]) > _LARGEST_UINT64:
            self.fail(start, f"the number {self.text[start:end][:24]} does not fit 64 bits")
        return int(self.text[start:end]), self._space(end, newline=nested)

    def _repeat(
        self,
        start: int,
        name: str,
        rule: list[tuple[int, int]],
        item: int,
        made: int,
        least: int,
        most: int | None,
    ) -> int:
        """Rewrite the item as llama.cpp does; return the rules that make the repetition.

        S{m,n} → S S S (m times) S'(n-m), where S'(x) ::= S S'(x-1) | and S'(1) ::= S | ;
        S{m,} → S S S (m times) S', where S' ::= S S' | .
        """
        if item == len(rule):
            self.fail(start, f"nothing stands before {self.text[start]!r} that could be repeated")
        times = most or least or 1
        if made * times > MOST_REPETITIONS:
            self.fail(
                start,
                f"llama.cpp refuses a repetition that makes {made * times} rules (at most "
                f"{MOST_REPETITIONS}): repeat less, or give what is repeated a rule of its own",
            )
        repeated = rule[item:]
        if least == 0:
            del rule[item:]
        else:
            self._count(start, len(repeated) * (least - 1))
            rule.extend(repeated * (least - 1))
        last = 0
        for index in range(1 if most is None else most - least):
            symbol = self._generated(name)
            body = list(repeated)
            if index or most is None:
                body.append((RULE_REF, symbol if most is None else last))
            body += [(ALT, 0), (END, 0)]
            self._add(start, body, symbol)
            last = symbol
        if most is None or most > least:
            rule.append((RULE_REF, last))
        return made * times
