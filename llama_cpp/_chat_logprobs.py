"""Log probabilities in the shape of OpenAI's chats."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Json = dict[str, Any]

# How completions spell a token that is no text by itself.
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-f]{2})+)")
_NO_LOGPROB = -9999.0  # what OpenAI reports of a token without one, or a very unlikely one


def chat_logprobs(logprobs: Mapping[str, Any] | None, count: int | None) -> Json | None:
    """Return a completion's log probabilities in the shape of a chat's.

    Args:
        logprobs: as ``create_completion`` reports them: the likeliest and, always, the chosen one.
        count: how many of the likeliest to report.
    """
    if logprobs is None:
        return None
    tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
    return {
        "content": [
            {
                **_token(text, value),
                "top_logprobs": [
                    _token(other, its)
                    for other, its in sorted((top or {}).items(), key=lambda pair: -pair[1])[:count]
                ],
            }
            for text, value, top in zip(logprobs["tokens"], logprobs["token_logprobs"], tops)
        ],
        "refusal": None,
    }


def _token(text: str, logprob: float | None) -> Json:
    spelled = _BYTES.fullmatch(text)
    if spelled is not None:
        data = bytes.fromhex(spelled[1].replace("\\x", ""))
    else:
        data = text.encode("utf-8", "surrogatepass")
    return {
        "token": text,
        "logprob": _NO_LOGPROB if logprob is None else float(logprob),
        "bytes": list(data),
    }


def some(logprobs: Json | None) -> Json | None:
    """Return log probabilities; None where there is not one."""
    return logprobs if logprobs is not None and logprobs["content"] else None


def joined(before: Json | None, after: Json | None) -> Json | None:
    """Return the log probabilities of a text and of what follows it."""
    if before is None or after is None:
        return after if before is None else before
    return {**after, "content": [*before["content"], *after["content"]]}
