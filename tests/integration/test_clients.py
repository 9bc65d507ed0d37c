"""Packages from PyPI that use llama-cpp-python, on ours and the tiny models: exact answers."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.clients.constrained import answer
from tests.clients.environments import CLIENTS, provided
from tests.conftest import ROOT
from tests.tiny.bert import TinyBert
from tests.tiny.llama import TinyLlama

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.network, pytest.mark.build]

# the first import of numba and the kernels that it compiles are slow on a busy machine
_TIMEOUT_S: Final = 300
_VARIABLES: Final = {
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGCHAIN_TRACING_V2": "false",
    # the tiny model would go on with white space for ever
    "LMFE_MAX_CONSECUTIVE_WHITESPACES": "1",
}

STORY: Final = " lifts the fog \U0001f642 a"
STORY_PIECES: Final = [" l", "if", "ts", " the", " f", "og", " ", "\U0001f642", " a", ""]
FAREWELL: Final = " goodbye, until the long day has come to a quiet end."
FAREWELL_PIECES: Final = [
    *(" g", "oo", "db", "ye", ", until the long day has come to a quiet end", ".", ""),
]
WEATHER: Final = {"sky": "fog", "warm": True}
WEATHER_TEXT: Final = '{ "sky" : "fog" , "warm" : true}'

EXPECTED: Final[dict[str, dict[str, Any]]] = {
    "guidance": {
        # it heals the prompt's last token: "o" becomes "or", and the rest of it is the answer's
        "text": "rning sun l",
        "digits": "931",
        "choice": " sun",
        "mixed": ["rni", " fog"],
        "of_our_object": "rning sun l",
        "our_object_before_and_after": [" lifts the fog", " lifts the fog"],
    },
    "haystack": {
        "reply": FAREWELL,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 57, "completion_tokens": 6, "total_tokens": 63},
        "chunks": ["", *FAREWELL_PIECES],
        "streamed": FAREWELL,
        "later": FAREWELL,
        "called": [["weather", {"sky": "fog"}]],
    },
    "instructor": {
        "json_schema_mode": [WEATHER, "ChatCompletion", True],
        "tool_call": [WEATHER, "ChatCompletion", True],
        "plain": [FAREWELL, "stop", "chat.completion"],
        "streamed": ["", *FAREWELL_PIECES],
    },
    "langchain-community": {
        "invoke": STORY,
        "not_streamed": STORY,
        "streamed": STORY_PIECES,
        "stopped": " ",
        "batch": [STORY, " HUM MORNING SUN LIFTS THE"],
        "grammar": " sun",
        "tokens": 5,
        "chat": FAREWELL,
        # langchain-core ends a stream with a chunk of its own
        "chat_streamed": ["", *FAREWELL_PIECES, ""],
        "finish_reason": "stop",
        "structured": WEATHER,
        "query_is_document": True,
    },
    "llama-index": {
        "complete": STORY,
        "deltas": STORY_PIECES,
        "chat": FAREWELL,
        "chat_deltas": FAREWELL_PIECES,
        "usage": {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17},
        "context_window": 300,
    },
    "lm-format-enforcer": {
        "string": [" sun and fog", "stop"],
        "regex": ["931", "stop"],
        "choice": [" sun", "stop"],
        "analysed": [" sun", "stop"],
        "json": ['{\t"warm" : true\t, "sky" : "fog" }\n', "stop"],
        "free": STORY,
    },
    "outlines": {
        "text": STORY,
        "chat": FAREWELL,
        "streamed": [*STORY_PIECES[:6], ""],
        "choice": " sun",
        "regex": "931",
        "json": WEATHER_TEXT,
        "json_in_chat": WEATHER_TEXT,
        "grammar": " sun",
        "again": STORY,
    },
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with our package and the clients' scripts, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "llama_cpp").symlink_to(ROOT / "llama_cpp", target_is_directory=True)
    (folder / "tests").symlink_to(ROOT / "tests", target_is_directory=True)
    return folder


def answers_of(client: str, site: Path, libraries: Path, tiny: Path) -> dict[str, Any]:
    """Run a client's script and return what it shows."""
    done = subprocess.run(
        [provided(client), "-P", "-m", f"tests.clients.{client.replace('-', '_')}", tiny],
        cwd=site,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            **_VARIABLES,
            "PYTHONPATH": str(site),
            "LLAMA_CPP_LIB_PATH": str(libraries),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shown


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_answers_as_the_model_must(
    client: str, site: Path, libraries: Path, tiny: Path
) -> None:
    shown = answers_of(client, site, libraries, tiny)
    documents = shown.pop("documents", None)
    assert shown == EXPECTED[client]
    if documents is not None:
        bert = TinyBert(name="bert")
        for vector, text in zip(documents, ("morning sun", "fog"), strict=True):
            assert vector == pytest.approx(bert.vector(bert.encode(text)).tolist(), abs=1e-3)


def test_what_is_expected_is_what_the_model_must_answer() -> None:
    model = TinyLlama(name="llama-f32")
    chat = "user: how is it outside?\nassistant:"
    assert model.expected_text("hello", 12) == STORY
    assert model.expected_text(chat, 40) == FAREWELL
    assert model.expected_text("<up> birds", 12) == " HUM MORNING SUN LIFTS THE"
    assert answer(model, "hello", [" fog", " sun"]) == " sun"
    assert answer(model, "hello", [f"{number:03}" for number in range(1000)]) == "931"
    for prompt in ("hello", "user: hello\nassistant:"):
        assert answer(model, prompt, weathers()) == WEATHER_TEXT


def weathers() -> list[str]:
    """Return every text of the schema with at most one space between its parts."""
    parts = '{%s"sky"%s:%s"%s"%s,%s"warm"%s:%s%s%s}'
    spaces = product(("", " "), repeat=8)
    return [
        parts % (*between[:3], sky, *between[3:7], warm, between[7])
        for between in spaces
        for sky, warm in product(("sun", "fog"), ("true", "false"))
    ]
