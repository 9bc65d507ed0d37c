"""instructor: patched `create_chat_completion_openai_v1`, by JSON schema and by tools."""

from __future__ import annotations

from typing import Literal

import instructor
from pydantic import BaseModel

from llama_cpp import Llama
from tests.clients.answers import LLAMA, THREADS, show


class Weather(BaseModel):
    """What the sky is like."""

    sky: Literal["sun", "fog"]
    warm: bool


llm = Llama(LLAMA, n_ctx=1024, verbose=False, **THREADS)
messages = [{"role": "user", "content": "how is it outside?"}]
answers = {}
for mode in (instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS):
    create = instructor.patch(create=llm.create_chat_completion_openai_v1, mode=mode)
    weather = create(
        response_model=Weather, messages=messages, temperature=0.0, max_tokens=60, model="tiny"
    )
    raw = weather._raw_response
    answers[mode.value] = [
        weather.model_dump(),
        type(raw).__name__,
        raw.usage.completion_tokens > 0,
    ]
plain = llm.create_chat_completion_openai_v1(messages=messages, temperature=0.0, max_tokens=40)
stream = llm.create_chat_completion_openai_v1(
    messages=messages, temperature=0.0, max_tokens=40, stream=True
)
show(
    **answers,
    plain=[plain.choices[0].message.content, plain.choices[0].finish_reason, plain.object],
    streamed=[chunk.choices[0].delta.content or "" for chunk in stream],
)
