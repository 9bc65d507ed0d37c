"""Regular expressions as automata: Python's re agrees where the two languages do."""

from __future__ import annotations

import random
import re

import pytest

from llama_cpp import _json_pattern
from llama_cpp._errors import ValidationError

# each is the same in ECMA-262 and in Python, but for $, which is \Z there
PATTERNS = (
    *("^[a-z]{2,5}$", "a", "^a|b$", "(^a|b)c?$", "^(?:[0-3]{3}-)?x\\d+$", "[^abc]+$", "^$", ""),
    *("a*b", "^(foo|bar)+$", "x$|^y", "^[a-c_$][a-c0-3_]*$", "(a|b)*abb", "^a{2,}$", "^.b?$"),
    *("^(a|b|)c$", "^(?<name>a+)b$", "a+?b", "^\\W\\S\\D$", "^[\\d\\-f]+$", "^\\x61\\u0062$"),
)


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p])
def test_search(pattern: str) -> None:
    choice = random.Random(20261121)
    automaton = _json_pattern.automaton(pattern)
    python = re.compile(
        pattern.replace("(?<", "(?P<").replace("$", "\\Z")
        if "_$" not in pattern
        else pattern.removesuffix("$") + "\\Z",
        re.ASCII,
    )
    for _ in range(400):
        text = "".join(choice.choice("abcxy013-f_or$ ") for _ in range(choice.randint(0, 7)))
        assert automaton.accepts(text) == bool(python.search(text)), text


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        pytest.param("^.$", "é", "\u2028", id="a dot is no line end"),
        pytest.param("^\\s$", "\ufeff", "x", id="white space of ECMA"),
        pytest.param("^\\d$", "7", "߀", id="digits are ASCII"),
        pytest.param("^\\w$", "_", "é", id="words are ASCII"),
        pytest.param("^\\p{L}\\p{Lu}\\P{Nd}$", "éÉx", "ééx", id="categories"),
        pytest.param("^\\p{Letter}$", "日", "1", id="long names of categories"),
        pytest.param("^\\u{1F600}$", "😀", "u", id="code points"),
        pytest.param("^\\uD83D\\uDE00$", "😀", "x", id="surrogate pairs"),
        pytest.param("^\\cJ[\\b]\\0$", "\n\b\0", "JbO", id="controls"),
        pytest.param("^\\/\\-\\.$", "/-.", "/-x", id="escaped signs"),
        pytest.param("^[^]$", "x", "", id="a class of anything"),
    ],
)
def test_ecma(pattern: str, good: str, bad: str) -> None:
    automaton = _json_pattern.automaton(pattern)
    assert (automaton.accepts(good), automaton.accepts(bad)) == (True, False)


def test_an_anchor_in_the_middle_never_fits() -> None:
    assert _json_pattern.automaton("a^b").is_empty


def test_whole() -> None:
    automaton = _json_pattern.whole("a|bc")
    assert [automaton.accepts(text) for text in ("a", "bc", "xa", "bcx")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)b", "'(?=a)b', character 1: look-ahead, look-behind and flags cannot be expressed in a grammar"),
        ("a(?<!b)", "'a(?<!b)', character 2: look-ahead, look-behind and flags cannot be expressed in a grammar"),
        ("(a)\\1", "'(a)\\\\1', character 4: back references cannot be expressed in a grammar"),
        ("\\bword", "'\\\\bword', character 1: word boundaries cannot be expressed in a grammar"),
        ("(a", "'(a', character 1: '(' without ')'"),
        ("a)", "'a)', character 2: ')' without '('"),
        ("[a", "'[a', character 1: '[' without ']'"),
        ("[b-a]", "'[b-a]', character 5: a range ends before it begins, or has a class at one end"),
        ("*a", "'*a', character 1: nothing stands before this that could be repeated"),
        ("a**", "'a**', character 3: nothing stands before this that could be repeated"),
        ("a{2,1}", "'a{2,1}', character 7: the repetition has its larger number first"),
        ("a{", "'a{', character 2: '{' is no repetition: write \\{ for the character"),
        ("\\", "'\\\\', character 1: nothing follows the backslash"),
        ("\\y", "'\\\\y', character 1: unknown escape \\y"),
        ("\\xZZ", "'\\\\xZZ', character 3: 2 hexadecimal digits are expected"),
        ("\\p{Script=Greek}", "'\\\\p{Script=Greek}', character 3: only general categories are known after \\p, such as \\p{L} and \\p{Nd}"),
        ("^*", "'^*', character 2: an anchor cannot be repeated"),
        ("(" * 100, f"'{'(' * 77}...', character 62: groups are nested more than 60 deep"),
    ],
)  # fmt: skip
def test_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _json_pattern.automaton(pattern)
    assert str(caught.value) == message


def test_too_large() -> None:
    with pytest.raises(ValidationError, match="it repeats too much"):
        _json_pattern.automaton("((a{200}){200})")
    with pytest.raises(ValidationError, match="it takes more than 5000 states to follow"):
        _json_pattern.automaton("(a|b)*a(a|b){20}$")
