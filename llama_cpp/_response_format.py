"""What an answer has to be: text, JSON, JSON of a schema, or the call of a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from llama_cpp._tools import Family, Tools

    Json = dict[str, Any]
    Grammar = Any


def grammar_of(grammar: Grammar, response_format: object, called: Tools, family: Family) -> Grammar:
    """Return the one grammar of an answer; None where it is free.

    Args:
        grammar: what was given as such.
        response_format: OpenAI's.
        called: the tools, of which a call may be forced.
        family: how calls are written.

    Raises:
        ValidationError: two of them make a grammar, or one is not as described.
    """
    schema = _schema(response_format)
    if schema is not None and grammar is not None:
        raise ValidationError("give a grammar or a response_format of JSON, not both")
    forced = called.answer_schema(family)
    if forced is not None:
        if grammar is not None:
            raise ValidationError("give a grammar or a tool_choice that forces a call, not both")
        schema = forced
    if schema is None:
        return grammar
    from llama_cpp.llama_grammar import LlamaGrammar  # noqa: PLC0415 - only needed here

    return LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)


def _schema(response_format: object) -> Json | None:
    """Return the JSON schema that a response format asks for; None for text."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if not isinstance(response_format, Mapping) or kind not in {
        "text",
        "json_object",
        "json_schema",
    }:
        raise ValidationError(
            f'response_format is {response_format!r}; choose {{"type": "text"}}, '
            '{"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": …}}'
        )
    if kind == "text":
        return None
    schema = response_format.get("schema")
    if kind == "json_schema":
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else schema
        if schema is None:
            raise ValidationError(
                'response_format has no schema; give {"json_schema": {"schema": …}}'
            )
    if schema is None:
        return {"type": "object"}
    if not isinstance(schema, (Mapping, bool)):
        raise ValidationError(f"response_format has schema {schema!r}; it must be a JSON schema")
    return schema  # type: ignore[return-value]
