"""Callables that raise, grammars, chats and pools made to hurt: the right exception, never a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .hostile import GENERATION, LLAMA, PROLOGUE, VALIDATION, raised

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

CALLS = """
import logging
import numpy as np
from llama_cpp import LlamaGrammar, LogitsProcessorList, StoppingCriteriaList
from llama_cpp.pool import LlamaPool


def fail(*_, **__):
    raise ZeroDivisionError("on purpose")


def processed(processor, **options):
    return load()('a', logits_processor=processor, max_tokens=4, **options)


def user(content='hello'):
    return [{"role": "user", "content": content}]


def chat(messages=None, **options):
    return load().create_chat_completion(user() if messages is None else messages, max_tokens=4, **options)


def templated(template):
    from tests.fuzz.gguf_file import Pair, STRING, parse
    parts = parse(model.read_bytes())
    place = parts.index('tokenizer.chat_template')
    pair = Pair(key=b'tokenizer.chat_template', kind=STRING, value=template.encode())
    path = scratch / 'templated.gguf'
    path.write_bytes(parts.with_pair(place, pair).to_bytes())
    return load(path).create_chat_completion(user(), max_tokens=4)


def pool(**options):
    return LlamaPool(model, 2, n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False, **options)


def schema(**more):
    return chat(response_format={"type": "json_object", "schema": more})
"""
OWN = "ZeroDivisionError"

CALLBACKS = {
    "a logits processor that raises": (OWN, "processed(fail)"),
    "a logits processor that raises in a stream": (
        OWN,
        "list(load()('a', logits_processor=fail, stream=True))",
    ),
    "a logits processor of too few scores": (VALIDATION, "processed(lambda i, s: s[:-1])"),
    "a logits processor of two dimensions": (
        VALIDATION,
        "processed(lambda i, s: s.reshape(1, -1))",
    ),
    "a logits processor that returns nothing": (VALIDATION, "processed(lambda i, s: None)"),
    "a logits processor that returns text": (VALIDATION, "processed(lambda i, s: 'text')"),
    "a logits processor of no numbers": (GENERATION, "processed(lambda i, s: s * np.nan)"),
    "a logits processor that forbids all": (GENERATION, "processed(lambda i, s: s - np.inf)"),
    "a logits processor that closes": (
        LLAMA,
        "llm = load()\nllm('a', logits_processor=lambda i, s: llm.close() or s, max_tokens=3)",
    ),
    "a logits processor that is none": (VALIDATION, "processed(7)"),
    "a stopping criterion that raises": (OWN, "load()('a', stopping_criteria=fail)"),
    "a progress callback that raises": (OWN, "load(progress_callback=fail)"),
    "a log handler that raises": (
        OWN,
        (
            "handler = logging.Handler()\nhandler.emit = fail\n"
            "logger = logging.getLogger('llama_cpp')\nlogger.addHandler(handler)\nlogger.setLevel(1)\nload(verbose=True)"
        ),
    ),
    "a draft model that raises": (OWN, "load(draft_model=fail)('a')"),
    "a draft model of tokens that are none": (
        VALIDATION,
        "load(draft_model=lambda ids: np.array([9999], dtype=np.intc))('a')",
    ),
    "a prompt that is an iterator that raises": (OWN, "load().eval(fail() for _ in range(3))"),
    "a bias beyond the vocabulary": (VALIDATION, "load()('a', logit_bias={320: 1.0})"),
    "a bias of text": (VALIDATION, "load()('a', logit_bias={'five': 1.0})"),
    "logprobs below zero": (VALIDATION, "load()('a', logprobs=-1)"),
    "tokens that are no integers": (VALIDATION, "load()([1, 2.5])"),
    "two streams at once": (
        GENERATION,
        "llm = load()\na, b = llm('a', stream=True), llm('b', stream=True)\nnext(a)\nnext(b)\nnext(a)",
    ),
    "a stream read by its own callback": (
        "ValueError",
        "llm = load()\ns = llm('a', stream=True, logits_processor=lambda i, x: next(s) and x)\nnext(s)",
    ),
}

GRAMMARS = {
    "a grammar of nothing": (VALIDATION, "load()('a', grammar='')"),
    "a grammar without a root": (VALIDATION, "load()('a', grammar='a ::= \"x\"')"),
    "a grammar that is left-recursive": (VALIDATION, "load()('a', grammar='root ::= root \"x\"')"),
    "a grammar that is not closed": (VALIDATION, "load()('a', grammar='root ::= \"x')"),
    "a grammar of an unknown rule": (VALIDATION, "load()('a', grammar='root ::= nothing')"),
    "a grammar of a billion": (VALIDATION, "load()('a', grammar='root ::= \"x\"{1000000000}')"),
    "a grammar of a million brackets": (
        VALIDATION,
        "load()('a', grammar='root ::= ' + '(' * 10**6 + '\"x\"' + ')' * 10**6)",
    ),
    "a grammar of a lone surrogate": (VALIDATION, "load()('a', grammar='root ::= \"\\ud800\"')"),
    "a grammar with a NUL": (VALIDATION, "load()('a', grammar='root ::= \"x\\0y\"')"),
    "a grammar that is a number": (VALIDATION, "load()('a', grammar=5)"),
    "a grammar from no file": ("FileNotFoundError", "LlamaGrammar.from_file(scratch / 'nothing')"),
    "a schema that is no JSON": (VALIDATION, "LlamaGrammar.from_json_schema('{')"),
    "a schema of an address": (
        VALIDATION,
        'LlamaGrammar.from_json_schema(\'{"$ref": "http://127.0.0.1/x"}\')',
    ),
    "a schema that nothing meets": (
        VALIDATION,
        'LlamaGrammar.from_json_schema(\'{"type": "integer", "minimum": 3, "maximum": 1}\')',
    ),
    "a schema with a pattern that is none": (
        VALIDATION,
        'LlamaGrammar.from_json_schema(\'{"type": "string", "pattern": "^("}\')',
    ),
    "a response format that is none": (VALIDATION, "chat(response_format={'type': 'poem'})"),
    "a schema of a response that is none": (VALIDATION, "schema(type='animal')"),
}

CHATS = {
    "a chat of nothing": (VALIDATION, "chat([])"),
    "a chat of text": (VALIDATION, "chat('hello')"),
    "a message that is none": (VALIDATION, "chat([5])"),
    "a message without a role": (VALIDATION, "chat([{'content': 'x'}])"),
    "a message of a number": (VALIDATION, "chat(user(5))"),
    "an image for a model without eyes": (
        VALIDATION,
        "chat(user([{'type': 'image_url', 'image_url': {'url': 'data:,'}}]))",
    ),
    "an unknown format": (
        "LlamaChatCompletionHandlerNotFoundException",
        "load(chat_format='nothing').create_chat_completion(user())",
    ),
    "tools that are none": (VALIDATION, "chat(tools=[{'type': 'hammer'}])"),
    "a choice of a tool that is not there": (
        VALIDATION,
        (
            "chat(tools=[{'type': 'function', 'function': {'name': 'a', 'parameters': {}}}],"
            " tool_choice={'type': 'function', 'function': {'name': 'b'}})"
        ),
    ),
    "a template that does not end": (VALIDATION, "templated('{% for a in messages %}')"),
    "a template that divides by zero": (VALIDATION, "templated('{{ 1 / 0 }}')"),
    "a template that loops long": (
        VALIDATION,
        "templated('{% for a in range(10**5) %}{% for b in range(10**5) %}x{% endfor %}{% endfor %}')",
    ),
    "a template that leaves the sandbox": (
        VALIDATION,
        "templated('{{ messages.__class__.__mro__[1].__subclasses__() }}')",
    ),
    "a template of a huge text": (VALIDATION, "templated('{{ \"x\" * 10**10 }}')"),
    "a template of a huge number": (VALIDATION, "templated('{{ 10 ** (10 ** 8) }}')"),
    "a template that raises": (VALIDATION, "templated('{{ raise_exception(\"no\") }}')"),
}

POOLS = {
    "a pool of none": (VALIDATION, "LlamaPool(model, 0)"),
    "a pool of a million": (VALIDATION, "LlamaPool(model, 10**6)"),
    "a pool of no file": ("ModelLoadError", "LlamaPool(scratch / 'nothing', 2).sync.generate('a')"),
    "a pool that is closed": (LLAMA, "p = pool()\np.close()\np.sync.generate('a')"),
    "a prompt too long for a pool": (
        VALIDATION,
        "with pool() as p:\n    p.sync.generate('a ' * 5000)",
    ),
}


@pytest.mark.parametrize(
    ("kind", "code"),
    [*CALLBACKS.values(), *GRAMMARS.values(), *CHATS.values(), *POOLS.values()],
    ids=[*CALLBACKS, *GRAMMARS, *CHATS, *POOLS],
)
def test_refused(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome], kind: str, code: str
) -> None:
    outcome = run_python(f"{PROLOGUE}{CALLS}\n{code}", str(tiny), str(tmp_path))
    assert raised(outcome) == kind, outcome.error
