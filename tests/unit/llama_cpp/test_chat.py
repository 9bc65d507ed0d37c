"""Chat: what is asked is checked, and completions become chat completions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_cpp import ValidationError, _chat_logprobs, _chat_messages, _tools
from llama_cpp._chat import ChatRequest, prepare
from llama_cpp._chat_formats import TextFormat, text_formats
from tests.tiny.llama import CHAT_TEMPLATE

HI = [{"role": "user", "content": "hi"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get the weather.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": WEATHER}, {"function": {"name": "time"}}]
PLAIN = TextFormat("plain", CHAT_TEMPLATE, ("</s>",), "<s>", "</s>")
KNOWING = TextFormat(
    "knowing",
    "{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"
    "{{ c.function.arguments }}{{ c.function.arguments + '!' }}{{ c.function.arguments.city }}"
    "{% endfor %};{% endfor %}",
)
MODEL: Any = SimpleNamespace(chat_format=None)


def request(messages: object = HI, **options: Any) -> ChatRequest:
    return prepare(MODEL, messages, **{"formatter": PLAIN, **options})


def refusal(messages: object = HI, **options: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        request(messages, **options)
    return str(caught.value)


def completion(text: str, reason: str = "stop", logprobs: Any = None) -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [{"text": text, "index": 0, "logprobs": logprobs, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def chunks(*texts: str, reason: str = "stop") -> list[dict[str, Any]]:
    return [
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 7,
            "model": "m",
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": end}],
        }
        for text, end in [*((text, None) for text in texts), ("", reason)]
    ]


def without_ids(value: Any) -> Any:
    """Replace the random ids of calls, which must be ids."""
    if isinstance(value, list):
        return [without_ids(item) for item in value]
    if isinstance(value, dict):
        if str(value.get("id", "")).startswith("call_"):
            assert len(value["id"]) == len("call_") + 24
            value = {**value, "id": "call"}
        return {key: without_ids(item) for key, item in value.items()}
    return value


def deltas(asked: ChatRequest, *texts: str, reason: str = "stop") -> list[Any]:
    """Stream texts; return each delta, and the finish reason at the end."""
    streamed = list(asked.chunks(chunks(*texts, reason=reason)))
    for chunk in streamed:
        assert {key: chunk[key] for key in ("id", "object", "created", "model")} == {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 7,
            "model": "m",
        }
        assert [choice["index"] for choice in chunk["choices"]] == [0]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in streamed]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    found = [chunk["choices"][0]["delta"] for chunk in streamed]
    assert found[-1] == {}
    return [*without_ids(found[:-1]), reasons[-1]]


# -- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ("hi", 'messages is str; it must be a list of {"role": …, "content": …}'),
        ({"role": "user"}, 'messages is dict; it must be a list of {"role": …, "content": …}'),
        (None, 'messages is NoneType; it must be a list of {"role": …, "content": …}'),
        ([], "messages is empty; give at least one message"),
        (["hi"], 'message 0 is str; it must be {"role": …, "content": …}'),
        (
            [*HI, {"role": "asistant", "content": ""}],
            (
                "message 1 has role 'asistant'; choose from assistant, developer, function, system, "
                "tool, user"
            ),
        ),
        (
            [{"content": "hi"}],
            (
                "message 0 has role None; choose from assistant, developer, function, system, tool, "
                "user"
            ),
        ),
        ([{"role": "user"}], "message 0 has no content"),
        (
            [{"role": "user", "content": 5}],
            "message 0 has content of type int; it must be text or a list of parts",
        ),
        (
            [{"role": "user", "content": [{"text": "hi"}]}],
            'message 0, part 0 is {\'text\': \'hi\'}; it must be {"type": "text", "text": …}',
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": None}]}],
            "message 0, part 0 has text None; it must be text",
        ),
        (
            [{"role": "user", "content": ["a", {"type": "image_url", "image_url": "x"}]}],
            (
                "message 0, part 1 is of type 'image_url', and this chat takes text only; load the "
                "model with a chat_handler for its projector, such as "
                "MTMDChatHandler(clip_model_path=…)"
            ),
        ),
        (
            [{"role": "tool", "content": "4", "tool_call_id": 4}],
            "message 0 has tool_call_id 4; it must be text",
        ),
        (
            [{"role": "assistant", "tool_calls": 4}],
            "message 0 has tool_calls 4; it must be a list",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a"}]}],
            "message 0, tool call 0 is {'id': 'a'}; it needs a function",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": None}}]}],
            "message 0, tool call 0 has function name None",
        ),
        (
            [{"role": "assistant", "function_call": {"name": "a", "arguments": 4}}],
            "message 0, tool call 0 has arguments 4; they must be JSON text",
        ),
    ],
)
def test_wrong_messages(messages: object, what: str) -> None:
    assert refusal(messages) == what


def test_contents() -> None:
    conversation = _chat_messages.read(
        [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "assistant"},
        ]
    )
    assert conversation.messages == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": ""},
    ]
    assert conversation.system == "d"
    assert conversation.turns == conversation.messages[1:]


def test_a_role_that_the_template_names() -> None:
    own = TextFormat(
        "own", "{% for m in messages if m.role == 'ipython' %}{{ m.content }}{% endfor %}"
    )
    assert request([{"role": "ipython", "content": "4"}], formatter=own).prompt == "4"


def test_arguments_are_object_and_text() -> None:
    call = {"id": "1", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    asked = request(
        [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "sun"}],
        formatter=KNOWING,
        tools=TOOLS[1:],
    )
    assert asked.prompt == (
        '[{"function": {"name": "time"}, "type": "function"}]user:hi;assistant:get_weather'
        '{"city": "Paris"}{"city":"Paris"}{"city":"Paris"}!Paris;tool:sun;'
    )


def test_arguments_that_are_no_object_stay() -> None:
    text = TextFormat("t", "{{ messages[0].tool_calls[0].function.arguments }} tools")
    for arguments in ("{", "4", "[" * 100_000):
        call = {"function": {"name": "a", "arguments": arguments}}
        asked = request([{"role": "assistant", "tool_calls": [call]}], formatter=text)
        assert asked.prompt == f"{arguments} tools"


# -- tools ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"tools": 4}, "tools is int; it must be a list"),
        ({"functions": {}}, "functions is dict; it must be a list"),
        ({"tools": [], "functions": []}, "give tools or functions, not both"),
        (
            {"tools": [{"name": "a"}]},
            (
                "tool 0 is {'name': 'a'}; it must be "
                '{"type": "function", "function": {"name": …}}'
            ),
        ),
        (
            {"functions": [{"name": "a b"}]},
            (
                "function 0 has name 'a b'; a name is 1 to 128 letters, digits, '_', '-', '.', ':' or "
                "'/'"
            ),
        ),
        (
            {"functions": [{"name": "a", "parameters": []}]},
            "function 0 has parameters []; they must be a JSON schema",
        ),
        (
            {"functions": [{"name": "a", "parameters": {"x": b""}}]},
            "function 0 is no JSON: Object of type bytes is not JSON serializable",
        ),
        ({"tools": [TOOLS[1], TOOLS[1]]}, "two tools are named 'time'"),
        (
            {"tool_choice": "required"},
            "tool_choice is 'required', but there is nothing to call",
        ),
        (
            {"tools": TOOLS, "tool_choice": "time"},
            (
                'tool_choice is \'time\'; choose "none", "auto", "required" or '
                '{"type": "function", "function": {"name": …}}'
            ),
        ),
        (
            {"functions": [WEATHER], "function_call": {"name": "time"}},
            "function_call names 'time'; choose from get_weather",
        ),
    ],
)
def test_wrong_tools(options: dict[str, Any], what: str) -> None:
    assert refusal(**options) == what


def test_choices() -> None:
    named = {"type": "function", "function": {"name": "time"}}
    for options, choice, names in (
        ({}, "none", []),
        ({"tools": []}, "none", []),
        ({"tools": TOOLS}, "auto", ["get_weather", "time"]),
        ({"tools": TOOLS, "tool_choice": "none"}, "none", ["get_weather", "time"]),
        ({"tools": TOOLS, "tool_choice": "required"}, "required", ["get_weather", "time"]),
        ({"tools": TOOLS, "tool_choice": named}, "required", ["time"]),
        ({"functions": [WEATHER], "function_call": "auto"}, "auto", ["get_weather"]),
        (
            {"functions": [WEATHER], "function_call": {"name": "get_weather"}},
            "required",
            ["get_weather"],
        ),
    ):
        tools = _tools.read(**options)
        assert (tools.choice, list(tools.schemas)) == (choice, names)
        assert tools.legacy == ("functions" in options)


def test_tools_in_words() -> None:
    earlier = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "1", "function": {"name": "time", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    assert request(earlier, tools=TOOLS[1:]).prompt == (
        "<s>system: You may call functions to answer. These are their signatures, each with a JSON "
        "schema of its parameters:\n"
        "<tools>\n"
        '{"name": "time"}\n'
        "</tools>\n"
        "To call one, write its name and its arguments as JSON between these tags, once for each "
        "call:\n"
        "<tool_call>\n"
        '{"name": "the function\'s name", "arguments": {"a parameter": "its value"}}\n'
        "</tool_call>\n"
        "Otherwise answer in plain text.\n"
        "user: hi\n"
        "assistant: I look.\n"
        "<tool_call>\n"
        '{"name": "time", "arguments": {}}\n'
        "</tool_call>\n"
        "user: <tool_response>\n"
        "noon\n"
        "</tool_response>\n"
        "assistant:"
    )
    told = request([{"role": "system", "content": "Be brief."}, *HI], tools=TOOLS[1:]).prompt
    assert told.startswith("<s>system: Be brief.\n\nYou may call functions to answer.")
    assert request(tools=TOOLS, tool_choice="none").prompt == "<s>user: hi\nassistant:"


def test_a_template_that_shows_no_calls() -> None:
    shown = TextFormat(
        "t", "{{ tools | length }}{% for m in messages %}{{ m.content }};{% endfor %}"
    )
    earlier = [
        {"role": "assistant", "tool_calls": [{"function": {"name": "time", "arguments": "{}"}}]},
        {"role": "tool", "content": "noon"},
    ]
    assert request(earlier, formatter=shown, tools=TOOLS).prompt == (
        '2<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>;noon;'
    )


def test_a_template_without_system_messages() -> None:
    strict = TextFormat(
        "strict",
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% elif m.content == 'never' %}{{ raise_exception('never') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};{% endfor %}",
    )
    brief = {"role": "system", "content": "Be brief."}
    assert request([brief, *HI], formatter=strict).prompt == "user:Be brief.\n\nhi;"
    never = {"role": "assistant", "content": "never"}
    assert refusal([brief, *HI, never], formatter=strict) == (
        "the chat template refuses these messages, line 1: no system"
    )
    assert refusal([*HI, never], formatter=strict).endswith(": never")
    assert refusal([brief], formatter=strict).endswith(": no system")


def test_declarations() -> None:
    nested = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
            "where": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}},
            "tags": {"type": "array", "items": {"type": "string"}},
            "more": {"type": "array"},
        },
    }
    tools = _tools.read(functions=[{**WEATHER, "parameters": nested}, {"name": "time"}])
    assert _tools.declarations(tools) == (
        "// Supported function definitions that should be called when necessary.\n"
        "namespace functions {\n"
        "\n"
        "// Get the weather.\n"
        "type get_weather = (_: {\n"
        "// Where.\n"
        "city: string,\n"
        "days: number,\n"
        'unit: "C" | "F",\n'
        "where: {\n"
        "    x: number | null,\n"
        "},\n"
        "tags: string[],\n"
        "more: [],\n"
        "}) => any;\n"
        "\n"
        "// \n"
        "type time = () => any;\n"
        "\n"
        "} // namespace functions"
    )
    asked = request(formatter=text_formats()["functionary-v2"], functions=[{"name": "time"}])
    assert asked.prompt.startswith(
        "<|from|>system\n<|recipient|>all\n<|content|>// Supported function definitions that should "
        "be called when necessary.\nnamespace functions {\n\n// \ntype time = () => any;\n\n"
        "} // namespace functions\n<|from|>system\n"
    )
    assert asked.family == "functionary-v2"


@pytest.mark.parametrize(
    ("name", "end"),
    [
        (
            "functionary-v1",
            (
                "user:\nhi<|END_OF_USER|>\nassistant:\n<|START_OF_FUNCTION_CALL|>time:\n"
                "{}<|END_OF_FUNCTION_CALL|>\nfunction name=time:\nnoon<|END_OF_FUNCTION_RESULT|>\n"
                "assistant:"
            ),
        ),
        (
            "functionary-v2",
            (
                "<|from|>user\n<|recipient|>all\n<|content|>hi\n<|from|>assistant\n<|recipient|>time\n"
                "<|content|>{}<|stop|>\n<|from|>time\n<|recipient|>all\n<|content|>noon\n"
                "<|from|>assistant\n<|recipient|>"
            ),
        ),
    ],
)
def test_functionary_s_conversations(name: str, end: str) -> None:
    talk = [
        *HI,
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "function": {"name": "time", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    asked = request(talk, formatter=text_formats()[name], tools=TOOLS)
    assert asked.prompt.endswith(end)


@pytest.mark.parametrize(
    ("mark", "family", "named", "free"),
    [
        ("", "hermes", '<tool_call>\n{"name": "time", "arguments": ', "<tool_call>\n"),
        ("<tool_call>", "hermes", '<tool_call>\n{"name": "time", "arguments": ', "<tool_call>\n"),
        ("<|python_tag|>", "llama", '{"name": "time", "parameters": ', ""),
        ("[TOOL_CALLS]", "mistral", '[TOOL_CALLS][{"name": "time", "arguments": ', "[TOOL_CALLS]["),
        ("[TOOL_CALLS][ARGS]", "mistral-args", "[TOOL_CALLS]time[ARGS]", ""),
        ("<function=", "function-tag", "<function=time>", ""),
        (">>>all", "functionary-v3", "time\n", ""),
        ("<|from|><|recipient|><|content|>", "functionary-v2", "time\n<|content|>", ""),
        (
            "<|START_OF_FUNCTION_CALL|>",
            "functionary-v1",
            "\n<|START_OF_FUNCTION_CALL|>time:\n",
            "",
        ),
    ],
)
def test_how_a_forced_call_begins(mark: str, family: str, named: str, free: str) -> None:
    assert _tools.family_of("tools " + mark) == family
    one = _tools.read(tools=TOOLS[1:], tool_choice="required")
    assert one.prefill(family) == named
    assert one.answer_schema(family) == {"type": "object"}
    several = _tools.read(tools=TOOLS, tool_choice="required")
    assert several.prefill(family) == free
    key = "parameters" if family == "llama" else "arguments"
    assert several.answer_schema(family) == {
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": name}, key: schema},
                "required": ["name", key],
                "additionalProperties": False,
            }
            for name, schema in (("get_weather", PARAMETERS), ("time", {"type": "object"}))
        ]
    }
    free_choice = _tools.read(tools=TOOLS)
    assert free_choice.prefill(family) == ""
    assert free_choice.answer_schema(family) is None


# -- formats of answers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (
            {"response_format": "json"},
            (
                'response_format is \'json\'; choose {"type": "text"}, {"type": "json_object"} or '
                '{"type": "json_schema", "json_schema": {"schema": …}}'
            ),
        ),
        (
            {"response_format": {"type": "xml"}},
            (
                "response_format is {'type': 'xml'}; choose {\"type\": \"text\"}, "
                '{"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": …}}'
            ),
        ),
        (
            {"response_format": {"type": "json_schema"}},
            'response_format has no schema; give {"json_schema": {"schema": …}}',
        ),
        (
            {"response_format": {"type": "json_object", "schema": "s"}},
            "response_format has schema 's'; it must be a JSON schema",
        ),
        (
            {"response_format": {"type": "json_object"}, "grammar": "root ::= [a]"},
            "give a grammar or a response_format of JSON, not both",
        ),
        (
            {"tools": TOOLS, "tool_choice": "required", "grammar": "root ::= [a]"},
            "give a grammar or a tool_choice that forces a call, not both",
        ),
        (
            {"logprobs": True, "top_logprobs": -1},
            "top_logprobs is -1; choose an integer from 0 to 100",
        ),
        (
            {"template_variables": [1]},
            "chat_template_kwargs is [1]; it must be a dict of variables",
        ),
        (
            {"response_format": {"type": "json_object", "schema": {"const": b""}}},
            "the schema is no JSON: Object of type bytes is not JSON serializable",
        ),
        ({"stop": 5}, "stop is 5; it must be a string or a list of strings"),
        ({"top_logprobs": "5"}, "top_logprobs is '5'; choose an integer from 0 to 100"),
    ],
)
def test_wrong_formats(options: dict[str, Any], what: str) -> None:
    assert refusal(**options) == what


def test_what_is_passed_on() -> None:
    asked = request(
        grammar="root ::= [a]",
        response_format={"type": "text"},
        stop="END",
        logprobs=True,
        template_variables={"add_generation_prompt": False, "messages": []},
    )
    assert (asked.prompt, asked.added_special) == ("<s>user: hi\n", True)
    assert asked.grammar == "root ::= [a]"
    assert asked.stop == ("</s>", "END")
    assert asked.logprobs == 0
    assert request(logprobs=True, top_logprobs=5).logprobs == 5
    assert request(logprobs=False, top_logprobs=5).logprobs is None
    assert request(stop=["a", "</s>"]).stop == ("</s>", "a")
    assert request().stopping_criteria is None


def test_a_formatter_of_someone_else() -> None:
    given: dict[str, Any] = {}

    def formatter(**options: Any) -> Any:
        given.update(options)
        return SimpleNamespace(prompt="p", stop="s", stopping_criteria=None, added_special=False)

    odd = [{"role": "narrator", "parts": 4}]
    asked = request(odd, formatter=formatter, tools=TOOLS[1:], template_variables={"x": 1})
    assert (asked.prompt, asked.stop) == ("p", ("s",))
    tools = [{"function": {"name": "time"}, "type": "function"}]
    assert given == {"messages": odd, "tools": tools, "x": 1}


# -- whole answers ----------------------------------------------------------------------------


def test_an_answer() -> None:
    assert request().completion(completion(" hello")) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def choice(asked: ChatRequest, text: str, reason: str = "stop") -> Any:
    """Return message and finish reason."""
    only = asked.completion(completion(text, reason))["choices"][0]
    return without_ids(only["message"]), only["finish_reason"]


def test_answers_with_calls() -> None:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    called = {"id": "call", "type": "function", "function": function}
    auto = request(tools=TOOLS)
    assert choice(auto, CALL) == (
        {"role": "assistant", "content": None, "tool_calls": [called]},
        "tool_calls",
    )
    assert choice(auto, f"So:\n{CALL}\n{CALL}") == (
        {"role": "assistant", "content": "So:", "tool_calls": [called, called]},
        "tool_calls",
    )
    assert choice(auto, "No.") == ({"role": "assistant", "content": "No."}, "stop")
    assert choice(auto, CALL[:-30], "length") == (
        {"role": "assistant", "content": CALL[:-30]},
        "length",
    )
    assert choice(request(tools=TOOLS, tool_choice="none"), CALL)[0]["content"] == CALL
    assert choice(request(functions=[WEATHER]), CALL) == (
        {"role": "assistant", "content": None, "function_call": function},
        "function_call",
    )


LOGPROBS = {
    "tokens": [" g", "é"],
    "text_offset": [0, 2],
    "token_logprobs": [-0.5, None],
    "top_logprobs": [{" x": -3.0, " g": -0.5}, None],
}
CHAT_LOGPROBS = {
    "content": [
        {
            "token": " g",
            "logprob": -0.5,
            "bytes": [32, 103],
            "top_logprobs": [
                {"token": " g", "logprob": -0.5, "bytes": [32, 103]},
                {"token": " x", "logprob": -3.0, "bytes": [32, 120]},
            ],
        },
        {"token": "é", "logprob": -9999.0, "bytes": [195, 169], "top_logprobs": []},
    ],
    "refusal": None,
}


def test_logprobs() -> None:
    answer = request(logprobs=True, top_logprobs=2).completion(completion("", logprobs=LOGPROBS))
    assert answer["choices"][0]["logprobs"] == CHAT_LOGPROBS
    none = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None}
    assert _chat_logprobs.chat_logprobs(none, 0) == {
        "content": [{"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": []}],
        "refusal": None,
    }
    many = {
        "tokens": ["bytes:\\xf0\\x9f"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"c": -3.0, "a": -1.0, "b": -2.0}],
    }
    short: Any = _chat_logprobs.chat_logprobs(many, 2)
    assert short["content"][0]["bytes"] == [0xF0, 0x9F]
    alike = {"tokens": ["bytes:\\xno"], "token_logprobs": [-1.0]}
    text: Any = _chat_logprobs.chat_logprobs(alike, 0)
    assert bytes(text["content"][0]["bytes"]) == b"bytes:\\xno"
    assert [top["token"] for top in short["content"][0]["top_logprobs"]] == ["a", "b"]


# -- streams ----------------------------------------------------------------------------------


def test_a_stream() -> None:
    assert deltas(request(), " hel", "", "lo", reason="length") == [
        {"role": "assistant", "content": ""},
        {"content": " hel"},
        {"content": "lo"},
        "length",
    ]


def test_streams_with_calls() -> None:
    parts = [CALL[:20], CALL[20:-3], CALL[-3:]]
    name = {"name": "get_weather", "arguments": ""}
    arguments = {"arguments": '{"city": "Paris"}'}
    start = {"index": 0, "id": "call", "type": "function", "function": name}
    assert deltas(request(tools=TOOLS), "So:\n", *parts) == [
        {"role": "assistant", "content": ""},
        {"content": "So:"},
        {"tool_calls": [start]},
        {"tool_calls": [{"index": 0, "function": arguments}]},
        "tool_calls",
    ]
    assert deltas(request(functions=[WEATHER]), *parts) == [
        {"role": "assistant", "content": ""},
        {"function_call": name},
        {"function_call": arguments},
        "function_call",
    ]
    assert deltas(request(tools=TOOLS), *parts[:2], reason="length") == [
        {"role": "assistant", "content": ""},
        {"tool_calls": [start]},
        {"tool_calls": [{"index": 0, "function": arguments}]},
        "length",
    ]


def test_logprobs_of_a_stream_are_not_lost() -> None:
    parts = chunks(" g", "oo")
    for part in parts:
        part["choices"][0]["logprobs"] = LOGPROBS
    streamed = list(request(logprobs=True, top_logprobs=2).chunks(parts))
    found = [chunk["choices"][0]["logprobs"] for chunk in streamed]
    assert found == [None, CHAT_LOGPROBS, CHAT_LOGPROBS, CHAT_LOGPROBS]
    held = list(request(logprobs=True, top_logprobs=2, tools=TOOLS).chunks(parts[:1] + parts[2:]))
    assert sum(len((c["choices"][0]["logprobs"] or {"content": []})["content"]) for c in held) == 4


def test_a_stream_that_is_closed_closes_its_source() -> None:
    closed = []

    def source() -> Any:
        try:
            yield from chunks("a", "b")
        finally:
            closed.append(True)

    stream: Any = request().chunks(source())
    assert next(stream)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    stream.close()
    assert closed == [True]
