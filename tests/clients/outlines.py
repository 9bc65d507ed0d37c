"""outlines: choices, regular expressions, JSON and grammars through its logits processors."""

from __future__ import annotations

from typing import Literal

import outlines
from outlines.types import CFG, Regex
from pydantic import BaseModel

from llama_cpp import Llama
from tests.clients.answers import LLAMA, THREADS, show


class Weather(BaseModel):
    """What the sky is like."""

    sky: Literal["sun", "fog"]
    warm: bool


llama = Llama(LLAMA, n_ctx=512, verbose=False, **THREADS)
text = outlines.from_llamacpp(llama, chat_mode=False)
chat = outlines.from_llamacpp(llama)
greedy = {"temperature": 0.0}
show(
    text=text("hello", max_tokens=12, **greedy),
    chat=chat("hello", max_tokens=40, **greedy),
    streamed=list(text.stream("hello", max_tokens=6, **greedy)),
    choice=text("hello", Literal[" fog", " sun"], max_tokens=20, **greedy),
    regex=text("hello", Regex(r"[0-9]{3}"), max_tokens=20, **greedy),
    json=text("hello", Weather, max_tokens=60, **greedy),
    json_in_chat=chat("hello", Weather, max_tokens=60, **greedy),
    grammar=text("hello", CFG('start: " fog" | " sun"'), max_tokens=20, **greedy),
    again=text("hello", max_tokens=12, **greedy),
)
