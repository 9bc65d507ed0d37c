"""llama-index-llms-llama-cpp: completion and chat, whole and streamed."""

from __future__ import annotations

from llama_index.core.llms import ChatMessage
from llama_index.llms.llama_cpp import LlamaCPP

from tests.clients.answers import LLAMA, THREADS, show


def to_prompt(messages: list[ChatMessage]) -> str:
    """Return messages as the tiny model's own template has them."""
    return "".join(f"{each.role.value}: {each.content}\n" for each in messages) + "assistant:"


llm = LlamaCPP(
    model_path=LLAMA,
    temperature=0.0,
    max_new_tokens=12,
    context_window=300,
    model_kwargs=THREADS,
    messages_to_prompt=to_prompt,
    verbose=False,
)
hello = [ChatMessage(role="system", content="be short"), ChatMessage(role="user", content="hello")]
show(
    complete=llm.complete("hello").text,
    deltas=[each.delta for each in llm.stream_complete("hello")],
    chat=llm.chat(hello).message.content,
    chat_deltas=[each.delta for each in llm.stream_chat(hello)],
    usage=llm.complete("hello").raw["usage"],
    context_window=llm.metadata.context_window,
)
