"""lm-format-enforcer: its logits processor for llama-cpp-python."""

from __future__ import annotations

from lmformatenforcer import (
    CharacterLevelParser,
    JsonSchemaParser,
    RegexParser,
    StringParser,
)
from lmformatenforcer.integrations.llamacpp import (
    build_llamacpp_logits_processor,
    build_token_enforcer_tokenizer_data,
)

from llama_cpp import Llama, LogitsProcessorList
from tests.clients.answers import LLAMA, THREADS, show

SCHEMA = {
    "type": "object",
    "properties": {"sky": {"enum": ["sun", "fog"]}, "warm": {"type": "boolean"}},
    "required": ["sky", "warm"],
}
# it allows tokens without any text everywhere, and <unk> is one
NO_UNKNOWN: dict[int | str, float] = {0: -100.0}
llm = Llama(LLAMA, n_ctx=512, verbose=False, **THREADS)
data = build_token_enforcer_tokenizer_data(llm)


def enforced(parser: CharacterLevelParser, *, analyze: bool = False) -> list[str | None]:
    """Return the answer to "hello" and how it ended."""
    processor = build_llamacpp_logits_processor(data, parser, analyze)
    answer = llm(
        "hello",
        max_tokens=60,
        temperature=0.0,
        logit_bias=NO_UNKNOWN,
        logits_processor=LogitsProcessorList([processor]),
    )
    return [answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]]


show(
    string=enforced(StringParser(" sun and fog")),
    regex=enforced(RegexParser(r"[0-9]{3}")),
    choice=enforced(RegexParser(r"( fog| sun)")),
    analysed=enforced(RegexParser(r"( fog| sun)"), analyze=True),
    json=enforced(JsonSchemaParser(SCHEMA)),
    free=llm("hello", max_tokens=12, temperature=0.0)["choices"][0]["text"],
)
