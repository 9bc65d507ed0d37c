"""The process that opens damaged files: `python -m tests.fuzz.worker MODELS SCRATCH KIND SEED FIRST LAST`.

Prints a line of JSON before each case and one after it, so that the process that started this one
knows which case ended it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from llama_cpp import Llama, LlamaError
from tests.fuzz.damage import damaged
from tests.fuzz.gguf_file import parse

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY: Final = 6 * 2**30
BASES: Final = {
    "llama": "llama-f32.gguf",
    "quantised": "llama-q4_0.gguf",
    "encoder": "bert-f32.gguf",
    "adapter": "lora-f32.gguf",
}


def case(base: Path, kind: str, seed: int, number: int) -> bytes:
    """Return the bytes of one case."""
    # a string seeds alike on every version of Python
    return damaged(parse(base.read_bytes()), Random(f"{seed}/{kind}/{number}"))


def use_model(path: Path, _models: Path) -> None:
    """Load a model and do a little of everything with it."""
    with Llama(path, n_ctx=64, n_batch=32, n_threads=1, n_threads_batch=1, verbose=False) as llm:
        llm.tokenize(" morning sun lifts \U0001f642 <up> naïve")
        llm.detokenize(range(min(llm.n_vocab(), 400)))
        _ = llm.metadata
        llm([1, 5, 9], max_tokens=3, temperature=0.0)
        llm("sun", max_tokens=2)


def use_encoder(path: Path, _models: Path) -> None:
    """Load a model and embed with it."""
    with Llama(
        path, n_ctx=64, n_batch=32, n_threads=1, n_threads_batch=1, embedding=True, verbose=False
    ) as llm:
        llm.embed("morning sun")
        _ = llm.metadata


def use_adapter(path: Path, models: Path) -> None:
    """Apply an adapter to the model that the undamaged one is for."""
    with Llama(
        models / BASES["llama"],
        n_ctx=64,
        n_batch=32,
        n_threads=1,
        n_threads_batch=1,
        lora_path=path,
        verbose=False,
    ) as llm:
        llm([1, 5, 9], max_tokens=3, temperature=0.0)


USES: Final[dict[str, Callable[[Path, Path], None]]] = {
    "llama": use_model,
    "quantised": use_model,
    "encoder": use_encoder,
    "adapter": use_adapter,
}


def main(arguments: list[str]) -> None:
    """Open the cases of a range."""
    models, scratch, kind = Path(arguments[0]), Path(arguments[1]), arguments[2]
    seed, first, last = (int(each) for each in arguments[3:])
    _limit_memory()
    # llama.cpp prints some words on standard output by itself
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**words: object) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    base = models / BASES[kind]
    path = scratch / f"{kind}.gguf"
    for number in range(first, last):
        path.write_bytes(case(base, kind, seed, number))
        say(case=number)
        try:
            USES[kind](path, models)
        except LlamaError as error:
            say(outcome=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - what is to be found
            say(outcome=f"{type(error).__module__}.{type(error).__name__}: {error}")
        else:
            say(outcome="used")


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - POSIX has it

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1:])
