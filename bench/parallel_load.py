"""A process of `bench.parallel`: a question per line on stdin, the seconds that it took on stdout.

``python parallel_load.py MODEL OBJECTS CPUS``; the package is the one that is installed here.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from llama_cpp import Llama

_PROMPT = "word1 word2 word3 word4"
_CONTEXT = 2048
_LONGEST = 400
# of the random model: its answers must not end early
_END = 2


def main(model: str, objects: int, cpus: str) -> None:
    """Answer until there is no question; the first turn of all is before the first one."""
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    loaded = [
        Llama(model, n_ctx=_CONTEXT, n_threads=1, n_threads_batch=1, verbose=False)
        for _ in range(objects)
    ]
    for llm in loaded:
        speak(llm, 1)
    for line in sys.stdin:
        question = json.loads(line)
        seconds = turn(loaded[: question["objects"]], question["threads"], question["tokens"])
        print(json.dumps({"seconds": seconds}), flush=True)


def turn(loaded: list[Llama], threads: int, tokens: int) -> float:
    """Return the seconds that all objects take for so many tokens each."""
    barrier = threading.Barrier(threads + 1)
    failed: list[BaseException] = []

    def work(mine: list[Llama]) -> None:
        barrier.wait()
        try:
            for llm in mine:
                speak(llm, tokens)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    running = [
        threading.Thread(target=work, args=(loaded[number::threads],)) for number in range(threads)
    ]
    for thread in running:
        thread.start()
    barrier.wait()
    begun = time.perf_counter()
    for thread in running:
        thread.join()
    seconds = time.perf_counter() - begun
    for error in failed:
        raise error
    return seconds


def speak(llm: Llama, tokens: int) -> None:
    """Complete so many tokens, some hundred at a time."""
    forbidden: dict[Any, float] = {_END: -1e6}
    while tokens:
        length = min(tokens, _LONGEST)
        llm.reset()
        done: Any = llm.create_completion(
            _PROMPT, max_tokens=length, temperature=0.0, logit_bias=forbidden
        )
        made = done["usage"]["completion_tokens"]
        if made != length:
            raise SystemExit(f"{made} tokens instead of {length}")
        tokens -= length


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
