"""What runs inside a worker: one question per line on stdin, one answer per line on stdout.

Knows the standard library and the package ``llama_cpp`` of the wheel under test, which is on the
path without anything else of this repository.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

from llama_cpp import Llama, _abi, _library

# generation starts after a few tokens, as after a short question
_BEFORE = 16


class Computation:
    """A loaded model and the measurements on it."""

    def __init__(self, model: str, *, threads: int, batch: int) -> None:
        """Load ``model`` with llama.cpp's own choice of flash attention."""
        self._llama = Llama(
            model,
            n_ctx=2 * batch,
            n_batch=batch,
            n_ubatch=batch,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn=None,
            verbose=False,
        )
        chosen = random.Random(0)
        size = self._llama.n_vocab()
        self._tokens = [chosen.randrange(size) for _ in range(2 * batch)]

    def facts(self) -> dict[str, object]:
        """Return what was loaded."""
        return {
            "cpu_variant": _library.cpu_variant(),
            "system_info": _library.system_info(),
            "parameters": self._llama._core.n_params,  # noqa: SLF001 - not public yet
        }

    def prompt(self, tokens: int) -> dict[str, object]:
        """Time one batch in an empty context."""
        self._llama.reset()
        return self._timed([self._tokens[:tokens]])

    def generate(self, tokens: int) -> dict[str, object]:
        """Time one token after the other."""
        self._llama.reset()
        self._llama.eval(self._tokens[:_BEFORE])
        return self._timed([[token] for token in self._tokens[_BEFORE : _BEFORE + tokens]])

    def _timed(self, batches: list[list[int]]) -> dict[str, object]:
        # the CPU backend has finished when eval returns
        cpu, start = time.process_time(), time.perf_counter()
        for batch in batches:
            self._llama.eval(batch)
        return {
            "seconds": time.perf_counter() - start,
            "cpu_s": time.process_time() - cpu,
        }


def serve() -> None:
    """Answer questions until stdin ends."""
    computation: Computation | None = None
    for line in sys.stdin:
        question = json.loads(line)
        verb = question.pop("verb")
        if verb == "load":
            computation = Computation(
                question["model"], threads=question["threads"], batch=question["batch"]
            )
            answer = computation.facts()
        else:
            assert computation is not None
            answer = {"prompt": computation.prompt, "generate": computation.generate}[verb](
                question["tokens"]
            )
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def quantize(source: str, target: str, quantisation: str) -> None:
    """Write a quantised copy of a model with llama.cpp's default choice of types."""
    lib = _library.load()
    params = lib.llama_model_quantize_default_params()
    params.ftype = getattr(_abi, f"LLAMA_FTYPE_MOSTLY_{quantisation}")
    params.nthread = 2
    status = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), params)
    if status != 0:
        sys.exit(f"llama_model_quantize returned {status}")


if __name__ == "__main__":
    if sys.argv[1:]:
        quantize(*sys.argv[1:])
    else:
        serve()
