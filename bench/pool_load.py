"""One contender of `bench.pool`, in a process of its own: answers requests and prints what it took.

``python pool_load.py MODEL one|pool|objects REQUESTS THREADS TOKENS``; the package is the one that is
installed here.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import Llama, SamplingParams
from llama_cpp.pool import LlamaPool

_PROMPT_TOKENS = 32
_CONTEXT = 512
# of the random model: its answers must not end early
_END = 2


def main(model: str, kind: str, requests: int, threads: int, tokens: int) -> None:
    """Answer the requests twice, the second time with clocks."""
    answer = _ready(model, kind, requests, threads, tokens)
    answer(0)
    started, began = time.perf_counter(), time.process_time()
    answer(1)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - began
    print(json.dumps({"seconds": seconds, "cpu_s": cpu_s, "bytes": _memory()}))


def _ready(
    model: str, kind: str, requests: int, threads: int, tokens: int
) -> Callable[[int], object]:
    """Load what answers all requests; they differ from turn to turn."""
    forbidden: dict[Any, float] = {_END: -1e6}
    shared: dict[str, Any] = {"n_ctx": _CONTEXT, "use_mmap": False, "verbose": False}

    def prompts(turn: int) -> list[list[int]]:
        return [
            [1, *(300 + (n * 97 + turn * 31 + i * 7) % 700 for i in range(_PROMPT_TOKENS))]
            for n in range(requests)
        ]

    def ask(llm: Llama, prompt: list[int]) -> object:
        return llm.create_completion(prompt, max_tokens=tokens, temperature=0, logit_bias=forbidden)

    if kind == "pool":
        pool = LlamaPool(model, requests, n_threads=threads, n_threads_batch=threads, **shared)
        sampling = SamplingParams(temperature=0, logit_bias=forbidden)
        return lambda turn: pool.sync.generate_batch(prompts(turn), tokens, sampling)
    if kind == "one":
        one = Llama(model, n_threads=threads, n_threads_batch=threads, **shared)
        return lambda turn: [ask(one, prompt) for prompt in prompts(turn)]
    each = max(1, threads // requests)
    objects = [
        Llama(model, n_threads=each, n_threads_batch=each, **shared) for _ in range(requests)
    ]

    def together(turn: int) -> None:
        running = [
            threading.Thread(target=ask, args=pair)
            for pair in zip(objects, prompts(turn), strict=True)
        ]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return together


def _memory() -> int:
    """Return the process's proportional share of memory in bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no Pss in /proc/self/smaps_rollup")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
