"""llama-cpp-haystack: the chat generator, whole, streamed, in a thread of its own, with a tool."""

from __future__ import annotations

import asyncio

from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack_integrations.components.generators.llama_cpp import LlamaCppChatGenerator

from tests.clients.answers import LLAMA, THREADS, show

generator = LlamaCppChatGenerator(
    model=LLAMA,
    n_ctx=0,
    model_kwargs={"verbose": False, **THREADS},
    generation_kwargs={"max_tokens": 60, "temperature": 0.0},
)
weather = Tool(
    name="weather",
    description="what the sky is like",
    parameters={
        "type": "object",
        "properties": {"sky": {"enum": ["sun", "fog"]}},
        "required": ["sky"],
    },
    function=lambda sky: sky,
)
forced = {"tool_choice": {"type": "function", "function": {"name": "weather"}}}
chunks: list[str] = []
messages = [
    ChatMessage.from_system("be short"),
    ChatMessage.from_user("hello"),
    ChatMessage.from_assistant("yes?"),
    ChatMessage.from_user("bye"),
]
reply = generator.run(messages)["replies"][0]
streamed = generator.run(messages, streaming_callback=lambda chunk: chunks.append(chunk.content))
later = asyncio.run(generator.run_async(messages))["replies"][0]
called = generator.run(messages, tools=[weather], generation_kwargs=forced)["replies"][0]
generator.close()
show(
    reply=reply.text,
    finish_reason=reply.meta["finish_reason"],
    usage=reply.meta["usage"],
    chunks=chunks,
    streamed=streamed["replies"][0].text,
    later=later.text,
    called=[[call.tool_name, call.arguments] for call in called.tool_calls],
)
