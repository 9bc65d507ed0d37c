"""What the tests with hostile input share: each input gets a Python of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Outcome

PROLOGUE = """
import math, os, sys, threading, time
from pathlib import Path
from llama_cpp import Llama
from llama_cpp._context import Context
from llama_cpp._context_params import ContextParams
from llama_cpp._model import Adapter, Model
from llama_cpp._sampler import Sampler, SamplingParams

tiny, scratch = map(Path, sys.argv[1:])
model = tiny / "llama-f32.gguf"
bert = tiny / "bert-f32.gguf"
lora = tiny / "lora-f32.gguf"


def load(path=model, **options):
    return Llama(path, **{"n_threads": 1, "n_threads_batch": 1, "verbose": False, **options})


def damaged(change):
    data = bytearray(model.read_bytes())
    path = scratch / "damaged.gguf"
    path.write_bytes(change(data) or data)
    return path
"""

VALIDATION = "ValidationError"
MODEL = "ModelLoadError"
LLAMA = "LlamaError"
GENERATION = "GenerationError"


def raised(outcome: Outcome) -> str:
    """Return the kind of the exception that ended the process, without the module of ours.

    A signal, and an end without an exception, are no kind at all.
    """
    if outcome.code != 1:
        return f"ended with {outcome.code}: {outcome.error}"
    kinds = [line.partition(":")[0] for line in outcome.error.splitlines() if line[:1].isalpha()]
    kinds = [kind for kind in kinds if all(part.isidentifier() for part in kind.split("."))]
    return kinds[-1].rpartition(".")[2] if kinds else outcome.error
