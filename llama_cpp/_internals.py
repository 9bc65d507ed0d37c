"""Models, contexts, batches and samplers by the names of llama-cpp-python's internals.

Thin layers over the core: what llama.cpp would abort on, throw or read out of bounds for is checked
before the call, and use after ``close`` is an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_cpp._batch_view import LlamaBatch
from llama_cpp._context_view import LlamaContext
from llama_cpp._custom_sampler import CustomSampler
from llama_cpp._embedding import unit
from llama_cpp._log import suppress_stdout_stderr
from llama_cpp._model_view import LlamaModel
from llama_cpp._namespace import offer
from llama_cpp._sampler_view import LlamaSampler
from llama_cpp._sampling_context import LlamaSamplingContext, LlamaSamplingParams
from llama_cpp._token_data import LlamaTokenDataArray
from llama_cpp.llama_grammar import LlamaGrammar

if TYPE_CHECKING:
    from llama_cpp.llama_types import *  # noqa: F403

__all__ = [
    "CustomSampler",
    "LlamaBatch",
    "LlamaContext",
    "LlamaGrammar",
    "LlamaModel",
    "LlamaSampler",
    "LlamaSamplingContext",
    "LlamaSamplingParams",
    "LlamaTokenDataArray",
    "normalize_embedding",
    "suppress_stdout_stderr",
]


def normalize_embedding(embedding: list[float]) -> list[float]:
    """Return a vector scaled to Euclidean length 1; a zero vector stays as it is."""
    return unit(embedding)


# names that callers import from here
offer(__name__, frozenset({"llama_types"}))
