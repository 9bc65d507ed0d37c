"""langchain-community: the completion, the chat and the embedding model."""

from __future__ import annotations

from typing import Any, Literal

from langchain_community.chat_models import ChatLlamaCpp
from langchain_community.embeddings import LlamaCppEmbeddings
from langchain_community.llms import LlamaCpp
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from tests.clients.answers import BERT, LLAMA, show

OPTIONS: dict[str, Any] = {
    "model_path": LLAMA,
    "n_threads": 1,
    "model_kwargs": {"n_threads_batch": 1},
    "temperature": 0.0,
    "max_tokens": 12,
    "verbose": False,
}


class Weather(BaseModel):
    """What the sky is like."""

    sky: Literal["sun", "fog"]
    warm: bool


llm = LlamaCpp(**OPTIONS)
chat = ChatLlamaCpp(**{**OPTIONS, "max_tokens": 40})
structured = ChatLlamaCpp(**{**OPTIONS, "n_ctx": 1024, "max_tokens": 60}).with_structured_output(
    Weather
)
history = [SystemMessage("be short"), HumanMessage("hello"), AIMessage("ok"), HumanMessage("hi")]
embeddings = LlamaCppEmbeddings(model_path=BERT, n_threads=1, verbose=False)
first, second = embeddings.embed_documents(["morning sun", "fog"])
show(
    invoke=llm.invoke("hello"),
    not_streamed=LlamaCpp(**OPTIONS, streaming=False).invoke("hello"),
    streamed=list(llm.stream("hello")),
    stopped=llm.invoke("hello", stop=["lifts"]),
    batch=llm.batch(["hello", "<up> birds"]),
    grammar=LlamaCpp(**OPTIONS, grammar='root ::= " fog" | " sun"').invoke("hello"),
    tokens=llm.get_num_tokens("hello"),
    chat=chat.invoke(history).content,
    chat_streamed=[chunk.content for chunk in chat.stream(history)],
    finish_reason=chat.invoke("hello").response_metadata["finish_reason"],
    structured=structured.invoke("how is it outside?").model_dump(),
    documents=[first, second],
    query_is_document=embeddings.embed_query("fog") == second,
)
