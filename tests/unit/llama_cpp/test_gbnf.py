"""Grammars that llama.cpp cannot use are refused with a place and a cure; all others pass."""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_cpp import _gbnf
from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_matcher import Matcher
from llama_cpp._gbnf_parser import parse
from tests.sequences import paired

posix = pytest.mark.skipif(sys.platform == "win32", reason="the probe forks")


def _chain(length: int) -> str:
    rules = "\n".join(f"r{i} ::= r{i + 1}" for i in range(length))
    return f'{rules}\nr{length} ::= "a"\nroot ::= r0'


ACCEPTED = {
    "a literal": 'root ::= "a"',
    "every escape": r'root ::= "\n\r\t\\\"\[\]\-\x41\u00e9\U0001F999"',
    "a literal over two lines": 'root ::= "a\nb"',
    "beyond ASCII": 'root ::= "é" [あ-ん]',
    "classes": r"root ::= [a-z] [^\]\\] [-a] [a-] [a\-z] [--/] .",
    "an empty class": "root ::= []",
    "a class of anything but nothing": 'root ::= [^] "a"',
    "a surrogate by its number": r'root ::= "\uD800"',
    "beyond Unicode": r"root ::= [\U00000000-\UFFFFFFFF]",
    "repetitions": 'root ::= "a"* "b"+ "c"? "d"{2} "e"{2,} "f"{2,3} "g"{ 2 , 3 } "h"{0}',
    "a repetition of a repetition": 'root ::= "a"+?',
    "the most repetitions": 'root ::= "a"{2000}',
    "what llama.cpp takes for any number": 'root ::= "a"{1,5000}',
    "repeated groups": 'root ::= ("a"* "b"*)*',
    "alternatives over lines in a group": 'root ::= (\n"a"\n| "b" # comment\n)',
    "alternatives after a bar": 'root ::= "a" |\n"b"',
    "carriage returns": 'root ::= x\r\nx ::= "b"\r',
    "comments": '# one\nroot ::= "a" # two\n# three',
    "nothing but the empty text": "root ::=",
    "a rule defined twice": 'root ::= "a"\nroot ::= "b"',
    "names of digits and hyphens": 'root ::= 1-a\n1-a ::= "x"',
    "tokens": 'root ::= <[5]> !<[6]> <think> !</think> "a"',
    "right recursion": 'root ::= "(" root ")" | "a" root |',
    "recursion to itself in the tail": 'root ::= x root | "a"\nx ::= y\ny ::= "b" |',
    "no end": 'root ::= "a" root',
    "a long chain": _chain(900),
    "deep groups": f'root ::= {"(" * 200}"a"{")" * 200}',
    "many alternatives": "root ::= " + " | ".join(f'"item {i}"' for i in range(2000)),
    "some optional items that begin alike": 'root ::= "a"? "a"? "a"? "a"?',
    "operators that begin alike": (
        'root ::= t "+" root | t "-" root | t "*" root | t "/" root | t\nt ::= "(" root ")" | "1"'
    ),
}


@pytest.mark.parametrize("grammar", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(grammar: str) -> None:
    _gbnf.check(grammar)


LEFT = (
    ": it can begin with itself, and llama.cpp would not end; put what it begins with first, as in "
    '`list ::= item ("," item)*`, and repeat nothing that may be empty'
)
WAYS = (
    "grammar: in rule 'root' a few characters fit in too many ways, and llama.cpp follows each: let "
    "only one alternative fit a beginning, and write x{0,n} for many optional x in a row"
)

# what llama.cpp does with it, and what we say
REFUSED: dict[str, tuple[str, str, str]] = {
    "nothing": ("ok", "", "the grammar is empty: it needs a rule, such as `root ::= [a-z]+`"),
    "a comment": (
        "refused",
        "# a",
        "the grammar is empty: it needs a rule, such as `root ::= [a-z]+`",
    ),
    "no root": (
        "refused",
        'a ::= "x"\nb ::= a',
        "grammar has no rule 'root': add `root ::= …`, or name one of its rules as the root (a, b)",
    ),
    "an unknown rule": (
        "refused",
        'root ::= "a"\n  x',
        "grammar, line 2, column 4: '::=' is expected after 'x', not the end of the grammar",
    ),
    "an undefined rule": (
        "refused",
        'root ::= "a" (\n  item)',
        "grammar, line 2, column 3: rule 'item' is not defined: add `item ::= …`, or correct the name",
    ),
    "an underscore": (
        "refused",
        "root ::= a_b",
        (
            "grammar, line 1, column 11: unexpected '_' in rule 'root'; names have hyphens, no "
            "underscores"
        ),
    ),
    "an underscore in a definition": (
        "refused",
        'a_b ::= "x"',
        (
            "grammar, line 1, column 2: '::=' is expected after 'a', not '_'; names have hyphens, no "
            "underscores"
        ),
    ),
    "a bar on the next line": (
        "refused",
        'root ::= "a"\n | "b"',
        (
            "grammar, line 2, column 2: the name of a rule is expected (letters, digits, hyphens), not "
            "'|'; alternatives continue on the next line only inside parentheses, or after a `|` at the "
            "end of a line"
        ),
    ),
    "a rule without a body before another": (
        "refused",
        'root ::=\na ::= "x"',
        (
            "grammar, line 2, column 3: unexpected ':' in rule 'root'; the rule before it has nothing "
            "after its '::='"
        ),
    ),
    "single quotes": (
        "refused",
        "root ::= 'a'",
        "grammar, line 1, column 10: unexpected \"'\" in rule 'root'; literals are in double quotes",
    ),
    "an open literal": (
        "refused",
        'root ::= "a',
        'grammar, line 1, column 10: this literal has no closing "',
    ),
    "an open class": (
        "refused",
        "root ::= [a-",
        "grammar, line 1, column 10: this character class has no closing ]",
    ),
    "an open group": (
        "refused",
        'root ::= ("a"',
        (
            "grammar, line 1, column 14: ')' is expected for the '(' of line 1, column 10, not the end of "
            "the grammar"
        ),
    ),
    "a group closed twice": (
        "refused",
        'root ::= "a")',
        "grammar, line 1, column 13: unexpected ')' in rule 'root'; no '(' is open",
    ),
    "an open token": (
        "refused",
        "root ::= <think",
        "grammar, line 1, column 10: this token has no closing >",
    ),
    "a token by a word": (
        "refused",
        "root ::= <[x]>",
        "grammar, line 1, column 10: a token is written <[id]>, with a number, or <text>",
    ),
    "a token of 40 bits": (
        "refused",
        f"root ::= <[{2**40}]>",
        "grammar, line 1, column 10: token id 1099511627776 does not fit 32 bits",
    ),
    "not a token": (
        "refused",
        "root ::= !a",
        "grammar, line 1, column 11: '<' is expected after '!', not 'a'",
    ),
    "an unknown escape": (
        "refused",
        r'root ::= "\q"',
        (
            r"grammar, line 1, column 11: unknown escape \q: there are \n \r \t \\ \" \[ \] \- \xHH \uHHHH "
            r"\UHHHHHHHH"
        ),
    ),
    "a short number": (
        "refused",
        r'root ::= "\u12"',
        r"grammar, line 1, column 11: \u is followed by exactly 4 hexadecimal digits",
    ),
    "a range backwards": (
        "stuck",
        "root ::= [z-a]",
        (
            "grammar, line 1, column 11: the range z-a is empty, since it ends before it begins: swap its "
            "ends, or write \\- for a hyphen"
        ),
    ),
    "a star before all": (
        "refused",
        'root ::= *"a"',
        "grammar, line 1, column 10: nothing stands before '*' that could be repeated",
    ),
    "an empty literal repeated": (
        "refused",
        'root ::= ""*',
        "grammar, line 1, column 12: nothing stands before '*' that could be repeated",
    ),
    "a repetition without a number": (
        "refused",
        'root ::= "a"{,3}',
        "grammar, line 1, column 14: a number is expected in {m,n}, not ','",
    ),
    "an open repetition": (
        "refused",
        'root ::= "a"{2,',
        (
            "grammar, line 1, column 16: a repetition is {m}, {m,} or {m,n}; '}' is expected, not the end "
            "of the grammar"
        ),
    ),
    "a repetition backwards": (
        "timeout",
        'root ::= "a"{3,2}',
        "grammar, line 1, column 13: {3,2} has its larger number first: swap them",
    ),
    "too many repetitions": (
        "refused",
        'root ::= "a"{2001}',
        (
            "grammar, line 1, column 13: 2001 repetitions are more than llama.cpp's 2000: write a large "
            "one as a product, (x{1000}){5}"
        ),
    ),
    "repetitions of 70 bits": (
        "refused",
        f'root ::= "a"{{{2**70}}}',
        "grammar, line 1, column 14: the number 1180591620717411303424 does not fit 64 bits",
    ),
    "repetitions of repetitions": (
        "refused",
        'root ::= ("a"{1,100}){1,100}',
        (
            "grammar, line 1, column 22: llama.cpp refuses a repetition that makes 10000 rules (at most "
            "2000): repeat less, or give what is repeated a rule of its own"
        ),
    ),
    "more than memory": (
        "timeout",
        f'root ::= "{"a" * 100_000}"{{2000}}',
        (
            "grammar, line 1, column 100012: the grammar grows beyond 1000000 elements: shorten literals "
            "or repetitions"
        ),
    ),
    "parentheses without end": (
        "signal 11",
        f'root ::= {"(" * 100_000}"a"{")" * 100_000}',
        (
            "grammar, line 1, column 210: more than 200 parentheses are open: give inner groups rules of "
            "their own"
        ),
    ),
    "left recursion": (
        "refused",
        'root ::= root "a" | "b"',
        f"grammar: rule 'root' is left-recursive (root → root){LEFT}",
    ),
    "left recursion through a rule": (
        "refused",
        'root ::= x "a"\nx ::= root | "b"',
        f"grammar: rule 'root' is left-recursive (root → x → root){LEFT}",
    ),
    "left recursion behind what may be empty": (
        "timeout",
        'root ::= x root "c" | "a"\nx ::= y\ny ::= "b" |',
        f"grammar: rule 'root' is left-recursive (root → root){LEFT}",
    ),
    "left recursion behind an optional group": (
        "timeout",
        'root ::= ("a"?) root "b" | "c"',
        f"grammar: rule 'root' is left-recursive (root → root){LEFT}",
    ),
    "a star of a star": (
        "refused",
        'root ::= "a"**',
        f"grammar: rule 'root' is left-recursive (root → root){LEFT}",
    ),
    "a loop without a character": (
        "signal 6",
        'root ::= "a" x\nx ::= n x\nn ::= m\nm ::=',
        (
            "grammar: rule 'x' comes back to itself without a character and has no way out, so that "
            "nothing fits it: add an alternative that ends"
        ),
    ),
    "beginnings that double 40 times": (
        "timeout",
        "\n".join(f"r{i} ::= r{i + 1} | r{i + 1}" for i in range(40))
        + '\nr40 ::= "a"\nroot ::= r0',
        (
            "grammar: there are too many ways to begin rule 'r19': llama.cpp looks at each of them for "
            "left recursion; remove alternatives that begin alike"
        ),
    ),
    "a chain that is too long": (
        "ok",
        _chain(1100),
        (
            "grammar: rule 'r100' begins with a rule that begins with a rule …, 1001 deep, and llama.cpp "
            "recurses at most safely 1000 deep: make the chain shorter"
        ),
    ),
    "a thousand optional items that begin alike": ("slow", 'root ::= ("a"?){1000}', WAYS),
    "optional items in optional items": ("timeout", 'root ::= ((("a"?){100}){100}){100}', WAYS),
}


@pytest.mark.parametrize(
    ("grammar", "message"), [(g, m) for _, g, m in REFUSED.values()], ids=REFUSED.keys()
)
def test_refused(grammar: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _gbnf.check(grammar)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("grammar", "root", "message"),
    [
        pytest.param(
            b"root ::= x",
            "root",
            "grammar is bytes, not str: give the GBNF text, or a LlamaGrammar",
            id="bytes",
        ),
        pytest.param(
            'root ::= "a"', None, "grammar root is NoneType, not str: name a rule", id="no root"
        ),
        pytest.param(
            'root ::= "a\0"',
            "root",
            "grammar, line 1, column 12: a NUL character, where llama.cpp would stop reading",
            id="NUL",
        ),
        pytest.param(
            '# a\nroot ::= "\ud800"',
            "root",
            "grammar, line 2, column 11: a lone surrogate (U+D800), which is no character",
            id="surrogate",
        ),
        pytest.param(
            'root ::= ("a" "b")',
            "root_1",
            "grammar has no rule 'root_1': add `root_1 ::= …`, or name one of its rules as the root "
            "(root)",
            id="a group's name",
        ),
    ],
)
def test_refused_arguments(grammar: Any, root: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _gbnf.check(grammar, root)
    assert str(caught.value) == message


def test_another_root() -> None:
    _gbnf.check('a ::= "x"\nb ::= a', "b")


@pytest.mark.build
@posix
def test_llama_cpp_takes_what_is_accepted(model_file: Path) -> None:
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    answers = probe(model_file, [{"grammar": text, "walk": 1} for text in ACCEPTED.values()])
    # tokens that the tiny vocabulary has not make no grammar, and NUL fits no token
    odd = {"tokens": "refused"}
    assert {name: answer["ended"] for name, answer in paired(ACCEPTED, answers)} == {
        name: odd.get(name, "ok") for name in ACCEPTED
    }


@pytest.mark.build
@posix
def test_what_llama_cpp_does_with_what_is_refused(model_file: Path) -> None:
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    # a loop that eats memory ends by whichever limit comes first
    deaths = {"timeout", "signal 6", "signal 9", "signal 11"}
    cases = [
        {"grammar": text, "walk": 1, "seconds": 1 if ended in deaths else 60}
        for ended, text, _ in REFUSED.values()
    ]
    answers = probe(model_file, cases)
    seen = {name: answer["ended"] for name, answer in paired(REFUSED, answers)}
    expected = {name: ended for name, (ended, _, _) in REFUSED.items()}
    # "slow" is about a second: on which side of it a machine ends says nothing
    assert {n: "dead" if e in deaths else e for n, e in seen.items() if expected[n] != "slow"} == {
        n: "dead" if e in deaths else e for n, e in expected.items() if e != "slow"
    }


SEEDS = (
    *ACCEPTED.values(),
    *(grammar for _, grammar, _ in REFUSED.values() if len(grammar) < 200),
)
COUNT = int(os.environ.get("LLAMA_CPP_FUZZ", "1")) * 300
SEED = 20261121
_PARTS = (
    *(
        '"a"',
        '"ab"',
        "[a-c]",
        "[^b]",
        "root",
        "x",
        "y",
        "(",
        ")",
        "|",
        "*",
        "+",
        "?",
        "{2}",
        "{0,3}",
    ),
    *(
        "{1,}",
        "{9}",
        "\n",
        "::=",
        'x ::= "b"',
        '\ny ::= "c" | ',
        ".",
        '""',
        " ",
        "\\",
        "<[5]>",
        "é",
    ),
)


def _mutated(choice: random.Random) -> str:
    """Return a grammar made of others, most of them nearly right."""
    text = choice.choice(SEEDS)
    if choice.random() < 0.6:
        words = [choice.choice(_PARTS[:22]) for _ in range(choice.randint(1, 12))]
        text = f'root ::= {" ".join(words)}\nx ::= "b" | {choice.choice(_PARTS[:6])}\ny ::= x "d" |'
    for _ in range(choice.randint(0, 2)):
        place = choice.randint(0, len(text))
        kind = choice.randint(0, 3)
        if kind == 0:
            text = text[:place] + text[place + choice.randint(1, 3) :]
        elif kind == 1:
            other = choice.choice(SEEDS)
            begin = choice.randint(0, len(other))
            text = text[:place] + other[begin : begin + choice.randint(1, 12)] + text[place:]
        else:
            text = text[:place] + choice.choice(_PARTS) + text[place:]
    return text


_EMPTY = re.compile("the grammar is empty|the range .* is empty")


def _refusal(grammar: str) -> str:
    """Return why a grammar is refused; nothing where it is not."""
    try:
        _gbnf.check(grammar)
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.build
@posix
def test_fuzz(model_file: Path, record_property: Any) -> None:
    """Mutated grammars: what we accept, llama.cpp takes, and lives; what it refuses, we refuse.

    ``LLAMA_CPP_FUZZ=100`` makes a hundred times as many.
    """
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    choice = random.Random(SEED)
    grammars = sorted({_mutated(choice) for _ in range(COUNT)})
    accepted = [text for text in grammars if not _refusal(text)]
    record_property("grammars", len(grammars))
    record_property("accepted", len(accepted))
    answers = probe(model_file, [{"grammar": g, "walk": 1, "seconds": 5} for g in accepted])
    wrong = {
        text: answer["ended"]
        for text, answer in paired(accepted, answers)
        # tokens by their text are the vocabulary's to know
        if answer["ended"] not in {"ok", "stuck"} and "<" not in text
    }
    assert wrong == {}
    refused = [text for text in grammars if text not in set(accepted)]
    small = [text for text in refused if not any(sign in text for sign in ("{", "(", "*", "+"))]
    answers = probe(model_file, [{"grammar": g, "walk": 1, "seconds": 2} for g in small])
    safe = [g for g, answer in paired(small, answers) if answer["ended"] == "ok"]
    # an empty grammar constrains nothing there, and an empty range fits nothing
    assert [text for text in safe if not _EMPTY.search(_refusal(text))] == []
    assert len(accepted) > len(grammars) // 20


TEXTS = {
    'root ::= "a"* "b" | "ab" [0-9]{2,3}': ["b", "aab", "ab1", "ab12", "ab123", "ab1234", "", "a"],
    "root ::= [^a-c] . [あ-ん]": ["xyあ", "ayあ", "xy", "xyz", "éxん"],
    'root ::= "(" root ")" root |': ["", "()", "(())()", "(()", "())"],
    'root ::= (x? "," )* x\nx ::= [0-9]+ | "-" x': ["1", ",,1", "--12,3", "--", "1,"],
}


@pytest.mark.build
@posix
def test_the_matcher_is_llama_cpp_s(model_file: Path) -> None:
    from tests.grammar_probe import probe  # noqa: PLC0415 - it needs POSIX

    answers = probe(model_file, [{"grammar": g, "texts": texts} for g, texts in TEXTS.items()])
    ours = [
        [Matcher(parse(grammar)).accepts(text) for text in texts]
        for grammar, texts in TEXTS.items()
    ]
    assert [answer["fits"] for answer in answers] == ours
    assert [sum(fits) for fits in ours] == [4, 2, 3, 3]
