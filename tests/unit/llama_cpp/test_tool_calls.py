"""Tool calls: from answers in every family's way, whole and in pieces."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp._call_syntax import BLOCKS, MARKS
from llama_cpp._delta import Delta
from llama_cpp._harmony import MARKS as HARMONY_MARKS
from llama_cpp._tool_calls import reader
from llama_cpp._tools import Tools, read
from tests.sequences import paired

if TYPE_CHECKING:
    from llama_cpp._tools import Family

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
AUTO = read(tools=[WEATHER, TIME])
PARIS = ("get_weather", '{"city": "Paris"}')

Answer = tuple[str, list[tuple[str, str]]]


def whole(deltas: list[Delta]) -> Answer:
    """Add deltas up, as a client does."""
    calls: list[tuple[str, str]] = []
    for delta in deltas:
        if delta.call < 0:
            continue
        if delta.name is not None:
            assert delta.call == len(calls)
            calls.append((delta.name, delta.arguments))
        else:
            name, arguments = calls[delta.call]
            calls[delta.call] = (name, arguments + delta.arguments)
    return "".join(delta.content for delta in deltas), calls


def answer(text: str, family: Family = "hermes", tools: Tools = AUTO) -> Answer:
    """Read a text at once; the same in pieces of every kind must give the same."""
    once = reader(tools, family)
    expected = whole([*once.push(text), *once.flush()])
    cuts = random.Random(0)
    splits = [list(text)] + [
        [text[a:b] for a, b in paired([0, *at], [*at, len(text)])]
        for at in (sorted(cuts.sample(range(len(text) + 1), min(4, len(text)))) for _ in range(20))
    ]
    for pieces in splits:
        again = reader(tools, family)
        deltas = [delta for piece in pieces for delta in again.push(piece)]
        assert whole([*deltas, *again.flush()]) == expected, pieces
    return expected


CALLS: dict[str, tuple[Family, str, Answer]] = {
    "hermes": (
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        ("", [PARIS]),
    ),
    "hermes, content first": (
        "hermes",
        'Let me see.\n\n<tool_call>{"name": "time", "arguments": {}}</tool_call>\n',
        ("Let me see.", [("time", "{}")]),
    ),
    "hermes, two": (
        "hermes",
        (
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "time"}\n</tool_call>'
        ),
        ("", [PARIS, ("time", "{}")]),
    ),
    "hermes, arguments as text": (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        ("", [PARIS]),
    ),
    "hermes, the mark in an argument": (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call>"}}</tool_call>.',
        (".", [("get_weather", '{"city": "</tool_call>"}')]),
    ),
    "hermes, not closed": (
        "hermes",
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}',
        ("", [PARIS]),
    ),
    "hermes after thoughts": (
        "hermes",
        '<think>\nParis.\n</think>\n\n<tool_call>{"name": "time", "arguments": {}}</tool_call>',
        ("<think>\nParis.\n</think>", [("time", "{}")]),
    ),
    "qwen coder": (
        "hermes",
        (
            "<tool_call>\n<function=get_weather>\n<parameter=city>\n007\n</parameter>\n"
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
        ),
        ("", [("get_weather", '{"city": "007", "days": 3}')]),
    ),
    "glm": (
        "hermes",
        (
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
            "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
        ),
        ("", [("get_weather", '{"city": "Paris", "days": 3}')]),
    ),
    "minimax": (
        "hermes",
        (
            '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>'
            '\n</invoke>\n<invoke name="time">\n</invoke>\n</minimax:tool_call>'
        ),
        ("", [PARIS, ("time", "{}")]),
    ),
    "minimax 1": (
        "hermes",
        (
            '<tool_calls>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n'
            '{"name": "time"}\n</tool_calls>'
        ),
        ("", [PARIS, ("time", "{}")]),
    ),
    "nemotron": (
        "hermes",
        '<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</TOOLCALL>',
        ("", [PARIS]),
    ),
    "granite": (
        "hermes",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]',
        ("", [PARIS]),
    ),
    "phi": (
        "hermes",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>',
        ("", [PARIS]),
    ),
    "kimi": (
        "hermes",
        (
            "Look.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
            '<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_call_begin|>'
            "functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
        ),
        ("Look.", [PARIS, ("time", "{}")]),
    ),
    "kimi, its marks control tokens": (
        "hermes",
        'functions.get_weather:0{"city": "Paris"}functions.time:1{}',
        ("", [PARIS, ("time", "{}")]),
    ),
    "deepseek": (
        "hermes",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        ("", [PARIS]),
    ),
    "deepseek, its marks control tokens": (
        "hermes",
        'functionget_weather\n```json\n{"city": "Paris"}\n```',
        ("", [PARIS]),
    ),
    "deepseek 3.1": (
        "hermes",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
            '{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        ("", [PARIS]),
    ),
    "apertus": (
        "hermes",
        '<|tools_prefix|>[{"get_weather": {"city": "Paris"}}, {"time": {}}]<|tools_suffix|>',
        ("", [PARIS, ("time", "{}")]),
    ),
    "cohere": (
        "llama",
        '[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}]',
        ("", [PARIS]),
    ),
    "deepseek 3.2": (
        "hermes",
        (
            '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" '
            'string="true">Paris</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>'
        ),
        ("", [PARIS]),
    ),
    "minicpm": (
        "hermes",
        '<function name="get_weather"><param name="city">Paris</param></function>',
        ("", [PARIS]),
    ),
    "llama": (
        "llama",
        '{"name": "get_weather", "parameters": {"city": "Paris"}}',
        ("", [PARIS]),
    ),
    "llama, two": (
        "llama",
        '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "time"}',
        ("", [PARIS, ("time", "{}")]),
    ),
    "llama, tagged": (
        "llama",
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
        ("", [PARIS]),
    ),
    "mistral": (
        "mistral",
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "time"}]',
        ("", [PARIS, ("time", "{}")]),
    ),
    "mistral, its mark a control token": (
        "mistral",
        ' [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "a"}]',
        ("", [PARIS]),
    ),
    "mistral, newer": (
        "mistral-args",
        '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]time[ARGS]{}',
        ("", [PARIS, ("time", "{}")]),
    ),
    "mistral, newer, its marks control tokens": (
        "mistral-args",
        'get_weather{"city": "Paris"}time{}',
        ("", [PARIS, ("time", "{}")]),
    ),
    "function tags": (
        "function-tag",
        '<function=get_weather>{"city": "Paris"}</function>',
        ("", [PARIS]),
    ),
    "functionary 1": (
        "functionary-v1",
        '\n<|START_OF_FUNCTION_CALL|>get_weather:\n{"city": "Paris"}',
        ("", [PARIS]),
    ),
    "functionary 2": (
        "functionary-v2",
        (
            "all\n<|content|>I look.\n<|from|>assistant\n<|recipient|>get_weather\n"
            '<|content|>{"city": "Paris"}\n<|from|>assistant\n<|recipient|>time\n<|content|>{}'
        ),
        ("I look.", [PARIS, ("time", "{}")]),
    ),
    "functionary 2, its marks control tokens": (
        "functionary-v2",
        'get_weather\n{"city": "Paris"}',
        ("", [PARIS]),
    ),
    "functionary 3": (
        "functionary-v3",
        'all\nI look.\n>>>get_weather\n{"city": "Paris"}\n>>>time\n{}',
        ("I look.", [PARIS, ("time", "{}")]),
    ),
    "functionary 3, without arguments": (
        "functionary-v3",
        "time\n>>>time\n",
        ("", [("time", "{}"), ("time", "{}")]),
    ),
    "functionary 3, no header": (
        "functionary-v3",
        "So: >>>time\n{}",
        ("So: ", [("time", "{}")]),
    ),
    "a list in Python's way": (
        "hermes",
        """[get_weather(city='Paris', days=3), time()]""",
        ("", [("get_weather", '{"city": "Paris", "days": 3}'), ("time", "{}")]),
    ),
    "LFM2": (
        "hermes",
        'I look.<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|> Wait.',
        ("I look. Wait.", [PARIS]),
    ),
    "LFM2, no list": (
        "hermes",
        "<|tool_call_start|>time()<|tool_call_end|>",
        ("", [("time", "{}")]),
    ),
    "gemma 3": (
        "hermes",
        "I look.\n```tool_code\nprint(get_weather(city='Paris'))\n```\n",
        ("I look.", [PARIS]),
    ),
    "gemma 3, not printed": ("hermes", "```tool_code\ntime()\n```", ("", [("time", "{}")])),
    "llama 3.1, a tool of its own": (
        "llama",
        '<|python_tag|>get_weather.call(city="Paris")',
        ("", [PARIS]),
    ),
    "LFM2, JSON": (
        "hermes",
        '<|tool_call_start|>[{"name": "time", "arguments": {}}]<|tool_call_end|>',
        ("", [("time", "{}")]),
    ),
    "LFM2, all kinds of values": (
        "hermes",
        (
            "<|tool_call_start|>[get_weather(city='it\\'s \\u00e9\\n', days=[-1, 2.5, 1e3, True, None], "
            """x={"a": {'b': "}", "c": []}}, y='it's "', )]<|tool_call_end|>"""
        ),
        (
            "",
            [
                (
                    "get_weather",
                    (
                        '{"city": "it\'s \u00e9\\n", "days": [-1, 2.5, 1000.0, true, null], '
                        '"x": {"a": {"b": "}", "c": []}}, "y": "it\'s \\""}'
                    ),
                )
            ],
        ),
    ),
    "gemma 4": (
        "hermes",
        (
            '<|tool_call>call:get_weather{city:<|"|>a <tool_call|> b<|"|>,days:3,'
            'x:{<|"|>k<|"|>:[true,<|"|>v<|"|>]},y:{z:{}}}<tool_call|><|tool_call>call:time{}<tool_call|>'
        ),
        (
            "",
            [
                (
                    "get_weather",
                    (
                        '{"city": "a <tool_call|> b", "days": 3, "x": {"k": [true, "v"]}, '
                        '"y": {"z": {}}}'
                    ),
                ),
                ("time", "{}"),
            ],
        ),
    ),
    "function gemma": (
        "hermes",
        ("<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>"),
        ("", [PARIS]),
    ),
    "command r+": (
        "hermes",
        (
            'Plan: look.\nAction: ```json\n[\n    {\n        "tool_name": "get_weather",\n'
            '        "parameters": {"city": "``` Paris"}\n    }\n]\n```'
        ),
        ("Plan: look.", [("get_weather", '{"city": "``` Paris"}')]),
    ),
    "command r+, on a new line": (
        "hermes",
        'Action:\n```json\n[{"tool_name": "time", "parameters": {}}]\n```',
        ("", [("time", "{}")]),
    ),
    "solar": (
        "hermes",
        (
            "<|tool_call:begin|>c1<|tool_call:name|>get_weather<|tool_call:args|>"
            '{"city": "Paris"}<|tool_call:end|>'
        ),
        ("", [PARIS]),
    ),
    "gpt-oss": (
        "harmony",
        (
            "<|channel|>analysis<|message|>Look.<|end|><|start|>assistant<|channel|>commentary "
            'to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>'
        ),
        ("<|channel|>analysis<|message|>Look.<|end|>", [PARIS]),
    ),
    "gpt-oss, two, one without arguments": (
        "harmony",
        (
            ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}<|end|>'
            "<|start|>assistant<|channel|>commentary to=functions.time<|message|><|call|>"
            "<|start|>assistant<|channel|>final<|message|>Done."
        ),
        (
            "<|start|>assistant<|channel|>final<|message|>Done.",
            [PARIS, ("time", "{}")],
        ),
    ),
    "GigaChat 3": (
        "hermes",
        'Hm.\n\nfunction call<|role_sep|>\n{"name": "get_weather", "arguments": {"city": "Paris"}}',
        ("Hm.", [PARIS]),
    ),
    "Hunyuan 3, two": (
        "hermes",
        (
            "Hm.<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
            "<arg_key:opensource>city</arg_key:opensource>\n"
            "<arg_value:opensource>3</arg_value:opensource>\n"
            "<arg_key:opensource>days</arg_key:opensource>\n"
            "<arg_value:opensource>3</arg_value:opensource>\n</tool_call:opensource>\n"
            "<tool_call:opensource>time<tool_sep:opensource>\n</tool_call:opensource>\n"
            "</tool_calls:opensource>"
        ),
        ("Hm.", [("get_weather", '{"city": "3", "days": 3}'), ("time", "{}")]),
    ),
    "MiniMax M3, two": (
        "hermes",
        (
            "Hm.]<]minimax[>[<tool_call>\n"
            ']<]minimax[>[<invoke name="get_weather">]<]minimax[>[<city>a </b> 3]<]minimax[>[</city>'
            "]<]minimax[>[<days>3]<]minimax[>[</days>]<]minimax[>[</invoke>\n"
            ']<]minimax[>[<invoke name="time">]<]minimax[>[</invoke>\n'
            "]<]minimax[>[</tool_call>\n"
        ),
        ("Hm.", [("get_weather", '{"city": "a </b> 3", "days": 3}'), ("time", "{}")]),
    ),
    "MiniMax M3, nested": (
        "hermes",
        (
            ']<]minimax[>[<tool_call>]<]minimax[>[<invoke name="time">'
            "]<]minimax[>[<tags>]<]minimax[>[<item>a]<]minimax[>[</item>]<]minimax[>[<item>"
            "]<]minimax[>[<b>true]<]minimax[>[</b>]<]minimax[>[</item>]<]minimax[>[</tags>"
            "]<]minimax[>[</invoke>]<]minimax[>[</tool_call>"
        ),
        ("", [("time", '{"tags": ["a", {"b": true}]}')]),
    ),
    "OpenAI's own shape": (
        "hermes",
        '{"tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]}',
        ("", [PARIS]),
    ),
}


@pytest.mark.parametrize(("family", "text", "expected"), CALLS.values(), ids=CALLS)
def test_calls(family: Family, text: str, expected: Answer) -> None:
    assert answer(text, family) == expected


def minimax(arguments: str) -> str:
    """Return a call of "time" in MiniMax M3's way."""
    mark = "]<]minimax[>["
    return (
        f'{mark}<tool_call>{mark}<invoke name="time">{arguments}{mark}</invoke>{mark}</tool_call>'
    )


CONTENT: tuple[tuple[Family, str], ...] = (
    ("hermes", "[time("),
    ("hermes", "[time()] is a list"),
    ("hermes", "[other()]"),
    ("hermes", "[time(1)]"),
    ("hermes", "[time(a=b)]"),
    ("hermes", "[time(a=1e999)]"),
    ("hermes", "[time(a='b)]"),
    ("hermes", "[time() time()]"),
    ("hermes", "[time(a=" + "[" * 100 + "]" * 100 + ")]"),
    ("hermes", "<|tool_call_start|>[other()]<|tool_call_end|>"),
    ("hermes", "<|tool_call>call:other{}<tool_call|>"),
    ("hermes", "<|tool_call>call:time{a:b}<tool_call|>"),
    ("hermes", '<|tool_call>call:time{a:<|"|>b}<tool_call|>'),
    ("hermes", "<|tool_call>call:time{a}<tool_call|> and so on"),
    ("hermes", "Action: ```json\n{}\n``` and so on"),
    ("hermes", "Action: walk."),
    ("hermes", "```tool_code\nprint(1)\n```"),
    ("llama", "<|python_tag|>print('hello')"),
    ("hermes", "<|tool_call:begin|>time<|tool_call:end|>"),
    ("harmony", "Hello, world.\n"),
    ("harmony", "to be<|end|> or not<|end|>"),
    ("harmony", "<|end|>"),
    ("harmony", " \n"),
    ("harmony", "<|channel|>final<|message|>Yes.<|end|>\n"),
    ("harmony", "<|channel|>analysis<|message|>So<|end|><|start|>assistant<|chan"),
    ("harmony", "<|channel|>commentary to=functions.other<|message|>{}<|call|>"),
    ("harmony", "<|channel|>commentary to=functions.time<|message|>{<|call|>"),
    ("harmony", "<|channel|>commentary to=functions.time<|message|>[]"),
    ("harmony", "<|start|>" + "x" * 600 + "<|start|>"),
    ("hermes", "Hello, world.\n"),
    ("hermes", "  \n"),
    ("hermes", "a < b and <tool"),
    ("hermes", "<tool_call>\nnothing\n</tool_call>"),
    ("hermes", 'See: <tool_call>{"name": "get_weather", "arguments": {"city": </tool_call> more'),
    ("hermes", '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "time", "arguments": "{"}</tool_call>'),
    ("hermes", '\n\n<tool_call>{"name": "get_weather", "arguments": {"ci'),
    ("hermes", '{"name": "Bob", "age": 3}'),
    ("hermes", '{"name": "time", "arguments": {}} is how a call looks'),
    ("hermes", '{"city": "Paris"}'),
    ("hermes", "[1, 2, 3]"),
    ("hermes", "time flies"),
    ("hermes", "get_weather is a function"),
    ("hermes", "ti"),
    ("hermes", "<tool_call><function=nobody></function></tool_call>"),
    ("hermes", "<tool_call><function=time>x<parameter=a>1</parameter></function></tool_call>"),
    ("hermes", "<tool_call>time<arg_key>a</arg_key></tool_call>"),
    ("hermes", '<minimax:tool_call><invoke name="x"></invoke></minimax:tool_call>'),
    ("hermes", '<|tools_prefix|>[{"nobody": {}}]<|tools_suffix|>'),
    ("hermes", "<|tools_prefix|>[<|tools_suffix|>"),
    ("hermes", '<function name="nobody"></function>'),
    ("hermes", "a function call<|role_sep|> of nobody"),
    ("hermes", "<tool_calls:opensource>time</tool_calls:opensource>"),
    ("hermes", "]<]minimax[>[<tool_call>time]<]minimax[>[</tool_call>"),
    ("hermes", "]<]minimax[>[<tool_call>]<]minimax[>[</tool_call>"),
    ("hermes", ']<]minimax[>[<tool_call>]<]minimax[>[<invoke name="x">]<]minimax[>[</tool_call>'),
    ("hermes", minimax("]<]minimax[>[</a>")),
    ("hermes", minimax("]<]minimax[>[<a>" * 70 + "]<]minimax[>[</a>" * 70)),
    ("hermes", "functions.nobody:0{}"),
    ("hermes", "function"),
    ("hermes", "functional"),
    ("hermes", "time: ```json"),
    ("mistral", "[TOOL_CALLS][{"),
    ("mistral", '[TOOL_CALLS][{"name": "time"}][TOOL_CALLS]?'),
    ("llama", "<|python_tag|>print(1)"),
    ("functionary-v3", "Hello\nthere"),
    ("functionary-v3", "nobody\n{}"),
    ("hermes", "[" * 100_000),
)


@pytest.mark.parametrize(("family", "text"), CONTENT)
def test_what_is_no_call_stays_content(family: Family, text: str) -> None:
    if len(text) > 1000:
        once = reader(AUTO, family)
        assert whole([*once.push(text), *once.flush()]) == (text, [])
    else:
        assert answer(text, family) == (text, [])


ATOMS = (
    *("<tool_call>", "</tool_call>", '{"name": "time"', ', "arguments": {', "}", "{", "[", "]"),
    *("<function=", "time", "get_weather", ">", "</function>", "[TOOL_CALLS]", "[ARGS]", "{}"),
    *("\n", " ", "all\n", ">>>", "<|content|>", "<|from|>assistant\n<|recipient|>", '"', "\\"),
    *(
        ";",
        "text",
        "<",
        "<|python_tag|>",
        '{"name": "time", "arguments": {}}',
        "<arg_key>a</arg_key>",
    ),
    *('<tool_call>{"name": "time"}</tool_call>', "<arg_value>1</arg_value>", "<parameter=a>"),
)


@pytest.mark.parametrize("family", ["hermes", "functionary-v2", "functionary-v3"])
def test_whatever_a_model_writes(family: Family) -> None:
    draw = random.Random(5)
    called = 0
    for _ in range(400):
        text = "".join(draw.choice(ATOMS) for _ in range(draw.randint(1, 12)))
        content, calls = answer(text, family)
        assert calls or content == text or family != "hermes"
        called += len(calls)
    assert called > 2


def test_content_is_not_held_back() -> None:
    stream = reader(AUTO, "hermes")
    assert stream.push("Hello") == [Delta(content="Hello")]
    assert stream.push(" wor") == [Delta(content=" wor")]
    assert stream.push("ld ") == [Delta(content="ld")]
    assert stream.push("<tool") == []
    assert stream.push("s>") == [Delta(content=" <tools>")]
    assert stream.push(" <tool_call>") == []
    assert stream.push('{"name": "time"}</tool_call>') == [
        Delta(call=0, name="time"),
        Delta(call=0, arguments="{}"),
    ]
    assert stream.flush() == []


def test_a_forced_call_streams_its_arguments() -> None:
    one = read(tools=[WEATHER], tool_choice="required")
    stream = reader(one, "hermes")
    assert stream.push('{"city"') == [
        Delta(call=0, name="get_weather"),
        Delta(call=0, arguments='{"city"'),
    ]
    assert stream.push(': "Paris"}') == [Delta(call=0, arguments=': "Paris"}')]
    assert stream.flush() == []
    assert reader(one, "hermes").flush() == [Delta(call=0, name="get_weather")]

    several = read(tools=[WEATHER, TIME], tool_choice="required")
    stream = reader(several, "llama")
    assert stream.push('{"name": "get_') == []
    assert stream.push('weather", "parameters": {"a": "}') == [
        Delta(call=0, name="get_weather"),
        Delta(call=0, arguments='{"a": "}'),
    ]
    assert stream.push('\\"}"}}') == [Delta(call=0, arguments='\\"}"}')]
    assert stream.push("\n") == []
    assert stream.flush() == []

    cut = reader(several, "hermes")
    assert cut.push('{"name": "get') == []
    assert cut.flush() == [Delta(content='{"name": "get')]


def test_plain_answers() -> None:
    none: Any = reader(Tools(), "hermes")
    text = '<tool_call>{"name": "time"}</tool_call>'
    assert none.push(text) == [Delta(content=text)]
    assert none.push("") == none.flush() == []


def test_whatever_comes() -> None:
    draw = random.Random(0)
    pieces = [
        *sorted(MARKS), *(block.opens for block in BLOCKS), *HARMONY_MARKS, "to=functions.time",
        "assistant", "time", "[time()]", '{"name": "time"}', "call:time{", "{}", "(", ")", "[", "]",
        "{", "}", '"', "'", " ", "\n", "a", ",", ":", "```",
    ]  # fmt: skip
    for number in range(120):
        text = "".join(draw.choices(pieces, k=draw.randint(1, 8)))
        content, calls = answer(text, "harmony" if number % 2 else "hermes")
        assert calls or content == text
