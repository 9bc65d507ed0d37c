"""Chat templates: rendering as their authors had it, and bounds on what they may cost."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from llama_cpp import ValidationError, _template_bounds
from llama_cpp._chat_template import ChatTemplate, from_metadata
from tests.tiny.llama import CHAT_TEMPLATE

MESSAGES = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "Hi"}]


def render(source: str, **variables: object) -> str:
    return ChatTemplate(source).render(variables)


def refusal(source: str, **variables: object) -> str:
    with pytest.raises(ValidationError) as caught:
        render(source, **variables)
    return str(caught.value)


def failure(what: str, line: int | None = 1) -> str:
    where = "" if line is None else f", line {line}"
    return f"the chat template fails{where}: {what} (choose another with chat_format=…)"


@pytest.mark.parametrize(
    ("source", "variables", "expected"),
    [
        pytest.param(
            CHAT_TEMPLATE,
            {"messages": MESSAGES, "bos_token": "<s>", "add_generation_prompt": True},
            "<s>system: Be <b>brief</b>.\nuser: Hi\nassistant:",
            id="the tiny model's",
        ),
        pytest.param("a\n  {% if true %}\nb\n  {% endif %}\nc", {}, "a\nb\nc", id="blocks trimmed"),
        pytest.param(
            "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}"
            "{% break %}{% endif %}{{ i }}{% endfor %}",
            {},
            "023",
            id="loop controls",
        ),
        pytest.param(
            "{{ x | tojson }}|{{ x | tojson(indent=2) }}",
            {"x": {"a": "<ü>&'"}},
            '{"a": "<ü>&\'"}|{\n  "a": "<ü>&\'"\n}',
            id="JSON without HTML",
        ),
        pytest.param(
            "{% generation %}{{ 'a' }}{% endgeneration %}b", {}, "ab", id="generation tags"
        ),
        pytest.param("{{ messages[1:][0].content[::-1] }}", {"messages": MESSAGES}, "iH", id="cut"),
        pytest.param("{{ 'a' ~ 1 ~ none ~ [2] }}", {}, "a1None[2]", id="concatenation"),
        pytest.param(
            "{% set ns = namespace(n=0) %}{% for k, v in {'a': 1, 'b': 2}.items() %}"
            "{% set ns.n = ns.n + v %}{{ k }}{% endfor %}{{ ns.n }}",
            {},
            "ab3",
            id="namespaces and pairs",
        ),
        pytest.param(
            "{% for x in [1, [2, [3]]] recursive %}"
            "{{ loop(x) if x is iterable else x }}{% endfor %}",
            {},
            "123",
            id="recursive loop",
        ),
        pytest.param("{{ '%-4s|' % 'a' }}{{ '{:>3}'.format(7) }}", {}, "a   |  7", id="formats"),
        pytest.param("{{ missing }}{{ missing is defined }}", {}, "False", id="undefined"),
        pytest.param("{{ 'x'.strip().split('a')|length }}", {}, "1", id="methods"),
        pytest.param(
            "{% set x = [] %}{% set _ = x.append(1) %}{{ x.append(2) }}{{ x.pop(0) }}{{ x }}",
            {},
            "None1[2]",
            id="a queue",
        ),
        pytest.param(
            "{{ x | map(attribute='a') | tojson }}{{ '-'.join(x | map(attribute='b')) }}",
            {"x": [{"a": 1, "b": "c"}, {"a": 2, "b": "d"}]},
            "[1, 2]c-d",
            id="what map gives",
        ),
        pytest.param("{{ 1 < 2 == true }}{{ 'a' in ['a'] }}", {}, "FalseTrue", id="comparisons"),
        pytest.param("{{ strftime_now('%%') }}", {}, "%", id="strftime_now"),
    ],
)
def test_rendering(source: str, variables: dict[str, Any], expected: str) -> None:
    assert render(source, **variables) == expected


def division_by_zero() -> str:
    """Return Python's words for it, which are others since 3.15."""
    with pytest.raises(ZeroDivisionError) as caught:
        operator.floordiv(1, 0)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("{{ 1 ", 1, "unexpected end of template, expected 'end of print statement'."),
        ("\n{% for %}", 2, "Expected an expression, got 'end of statement block'"),
        (
            "\n\n{% if true %}",
            3,
            (
                "Unexpected end of template. Jinja was looking for the following tags: 'elif' or "
                "'else' or 'endif'. The innermost block that needs to be closed is 'if'."
            ),
        ),
        ("\n{{ 1 | nothing }}", 2, "No filter named 'nothing'."),
        ("a\n{{ x.y.z }}", 2, "'x' is undefined"),
        ("{{ 1 // 0 }}", 1, f"ZeroDivisionError: {division_by_zero()}"),
        ("{% include 'x' %}", 1, "TypeError: no loader for this environment specified"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + "}}", None, None),
        ("{{ " + "-" * 100_000 + "1 }}", None, None),
    ],
)
def test_a_broken_template(source: str, line: int | None, what: str | None) -> None:
    assert refusal(source) == failure(what or "it nests or calls itself too deeply", line)


def test_a_template_that_refuses() -> None:
    assert refusal("\n{{ raise_exception('roles must alternate') }}") == (
        "the chat template refuses these messages, line 2: roles must alternate"
    )


def test_a_template_that_is_too_long() -> None:
    assert refusal("a" * (2**20 + 1)) == (
        "the chat template has 1048577 characters; 1048576 are allowed"
    )


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (
            "{{ ''.__class__.__mro__ }}",
            "access to attribute '__class__' of 'str' object is unsafe.",
        ),
        (
            "{{ raise_exception.__globals__.x }}",
            "access to attribute '__globals__' of 'function' object is unsafe.",
        ),
        (
            "{{ '{0.__class__.__mro__}'.format(1) }}",
            "access to attribute '__class__' of 'int' object is unsafe.",
        ),
        ("{{ x.extend([1]) }}", "access to attribute 'extend' of 'list' object is unsafe."),
        ("{{ {}.update(a=1) }}", "access to attribute 'update' of 'dict' object is unsafe."),
    ],
)
def test_the_sandbox(source: str, what: str) -> None:
    assert refusal(source, x=[1]) == failure(what)


PARTS = "it makes a text or list of {} parts; 16777216 are allowed"


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (
            "{% for i in range(10**9) %}{% endfor %}",
            (
                "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE "
                "(100000)."
            ),
        ),
        ("{{ 'a' * 10**10 }}", PARTS.format(10**10)),
        ("{{ [0] * 10**10 }}", PARTS.format(10**10)),
        ("{{ 10**9 * (9 ** 9999) }}", "it raises a number to a power that is too large"),
        (
            (
                "{% set ns = namespace(x=9 ** 999) %}{% for i in range(9) %}"
                "{% set ns.x = ns.x * ns.x %}{% endfor %}"
            ),
            "it multiplies numbers that are too large",
        ),
        (
            (
                "{% set ns = namespace(x='a') %}{% for i in range(99) %}"
                "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"
            ),
            PARTS.format(2**25),
        ),
        (
            (
                "{% set ns = namespace(x='a') %}{% for i in range(99) %}"
                "{% set ns.x = ns.x + ns.x %}{% endfor %}"
            ),
            PARTS.format(2**25),
        ),
        (
            (
                "{% set ns = namespace(x='a') %}{% for i in range(99) %}"
                "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}"
            ),
            "it makes a value of more than 262144 items",
        ),
        (
            (
                "{% set ns = namespace(x='a') %}{% for i in range(99) %}"
                "{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}"
            ),
            "it makes a value of more than 262144 items",
        ),
        ("{{ 'a' | center(10000000000) }}", "center is asked for 10000000000; 10000 are allowed"),
        ("{{ 'a'.ljust(10**10) }}", "ljust is asked for 10000000000; 10000 are allowed"),
        ("{{ [1] | batch(10**10, 'x') }}", "batch is asked for 10000000000; 10000 are allowed"),
        ("{{ 'a' | indent(10**8) }}", "indent is asked for 100000000; 10000 are allowed"),
        ("{{ [1] | tojson(indent=10**8) }}", "tojson is asked for 100000000; 10000 are allowed"),
        ("{{ ('\n' * 10**6) | indent(100) }}", PARTS.format(10**6 + (10**6 + 1) * 100)),
        ("{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}", PARTS.format(10**6 + 10**12)),
        ("{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}", PARTS.format(10**6 + 10**12)),
        ("{{ ('b' * 10**4).join('a' * 10**6) }}", PARTS.format(10**6 + 1 + 10**10)),
        ("{{ ('a' * 10**6) | join('b' * 10**4) }}", PARTS.format(10**4 + 1 + 10**10)),
        ("{{ '%99999999d' % 1 }}", "it formats a value wider than allowed"),
        ("{{ '%*d' % (99999999, 1) }}", "it formats a value wider than allowed"),
        ("{{ '{:99999999}'.format(1) }}", "it formats a value wider than allowed"),
        ("{{ '{:{}}'.format(1, 99999999) }}", "it formats a value wider than allowed"),
        ("{{ '%99999999d' | format(1) }}", "it formats a value wider than allowed"),
        ("{{ 'ab'.translate({97: 'x' * 10**7, 98: ''}) }}", PARTS.format(2 * 10**7)),
        (
            "{% set a = 'a' * 10**6 %}{{ ([{'a': a}] * 9999) | map(attribute='a') | join }}",
            PARTS.format(9999 * 10**6 + 2 * 9999 + 1 - 9999),
        ),
        (
            (
                "{% set x = namespace(a=[], b=[]) %}{% for i in range(99) %}"
                "{% set x.a = [x.a, x.a] %}{% set x.b = [x.b, x.b] %}{% endfor %}{{ x.a == x.b }}"
            ),
            "it makes a value of more than 262144 items",
        ),
        (
            (
                "{% set x = [[], [], [], [], [], [], [], [], [], [], [], [], [], [], [], [], [], [], "
                "[], [], [], [], [], []] %}{% for i in range(23) %}{% set _ = x[i].append(x[i + 1]) %}"
                "{% set _ = x[i].append(x[i + 1]) %}{% endfor %}{{ x[0] == x[1] }}"
            ),
            "it makes a value of more than 262144 items",
        ),
        (
            "{% set x = [] %}{% set _ = x.append(x) %}{{ x }}",
            "it makes a value of more than 262144 items",
        ),
        ("{{ [[1]] | sum(start=[]) }}", "sum is for numbers"),
        (
            (
                "{% set a = 'a' * 10**7 %}{% macro f() %}{% for i in range(99999) %}{{ a }}"
                "{% endfor %}{% endmacro %}{{ f() }}"
            ),
            "it makes more than 268435456 characters and items in all",
        ),
        (
            "{% set x %}{% for i in range(99999) %}" + "text" * 10**4 + "{% endfor %}{% endset %}",
            "it makes more than 268435456 characters and items in all",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it nests or calls itself too deeply"),
        (
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "it nests or calls itself too deeply",
        ),
        (
            "{{ range(99999) | map('center', 9999) | join }}",
            "it makes more than 268435456 characters and items in all",
        ),
    ],
)
def test_too_much(source: str, what: str) -> None:
    assert refusal(source) == failure(what, 2 if "\n" in source else 1)


def test_a_prompt_that_is_too_long() -> None:
    assert refusal("{% set a = 'a' * 10**7 %}{{ a }}{{ a }}") == failure(
        PARTS.format(2 * 10**7), None
    )


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
        "{% for i in range(99999) %}{% set x = 'a' * 10**6 == 'b' * 10**6 %}{% endfor %}",
    ],
)
def test_too_long(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_template_bounds, "SECONDS", 0.1)
    monkeypatch.setattr(_template_bounds, "TOTAL", 10**15)
    assert refusal(source) == failure("it runs for more than 0.1 seconds")


def test_names_in_metadata() -> None:
    metadata = {"tokenizer.chat_template": "a", "tokenizer.chat_template.tool_use": "b"}
    assert from_metadata(metadata) == "a"
    assert from_metadata(metadata, "default") == "a"
    assert from_metadata(metadata, "tool_use") == "b"
    assert from_metadata(metadata, "rag") is None
