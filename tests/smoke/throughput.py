"""Tokens per second of an installed `llama_cpp` on its GPU and on the CPU, side by side.

Beside `gpu.py`, with a model large enough that the arithmetic counts (`tests/tiny/noise.py`):

    python -I throughput.py --model FILE [--json FILE] [--seconds N]

A figure, not a proof: it fails only where a number is not finite. Each of the four measurements
(prompt and generation, GPU and CPU) takes about N seconds, whatever the device, so that a GPU in
software takes no longer than a real one. `--json` writes passed, checks and `throughput`.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llama_cpp._context import Context
    from tests.smoke.gpu import gpus
    from tests.smoke.run import Failure, run_check
else:
    # -I takes the script's folder off the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from gpu import gpus
    from run import Failure, run_check

SECONDS = 2.0
CONTEXT = 1024
PROMPTS = (16, 128, 512)
VOCABULARY = 320


class Speed(TypedDict):
    """Tokens per second of one device; a prompt is one batch of `prompt_tokens`."""

    prompt: float
    generation: float
    prompt_tokens: int


class Throughput(TypedDict):
    """Both devices, and how many times the CPU's speed the GPU's is."""

    parameters: int
    quantisation: str
    threads: list[int]
    gpu: Speed
    cpu: Speed
    ratio: dict[str, float]
    logit_difference: float


def decode(context: Context, tokens: int, position: int = 0) -> list[float]:
    """Decode so many tokens at a position and return the logits, which waits for them."""
    if position == 0:
        context.clear()
    batch = context.batch()
    run = [7 * place % VOCABULARY for place in range(position, position + tokens)]
    batch.set_run(run, position, 0, output=True)
    context.decode(batch)
    return context.logits()


def measure(context: Context, seconds: float) -> tuple[Speed, list[float]]:
    """Return the speed of a context, and the logits of one prompt."""
    for tokens in PROMPTS:
        # what is compiled or allocated at the first use of a size is no part of its speed
        logits = decode(context, tokens)
        if tokens == PROMPTS[0]:
            kept = logits
        prompt = repeated(lambda size: decode(context, size), [tokens], seconds)
        # the next size would take too long
        if 4 * prompt > seconds:
            break
    if prompt < seconds:
        prompt = repeated(lambda _: decode(context, tokens), range(10_000), seconds)
    decode(context, 1)
    generation = repeated(lambda place: decode(context, 1, place), range(1, CONTEXT), seconds)
    return {
        "prompt": round(tokens / prompt, 3),
        "generation": round(1 / generation, 3),
        "prompt_tokens": tokens,
    }, kept


def repeated(step: Callable[[int], object], arguments: Iterable[int], seconds: float) -> float:
    """Call a step with one argument after another until the time is over; return its median."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    for argument in arguments:
        started = time.perf_counter()
        step(argument)
        spent.append(time.perf_counter() - started)
        if time.perf_counter() >= end:
            break
    return statistics.median(spent)


def compare(path: Path, seconds: float) -> Throughput:
    """Measure the model with all its layers on the GPU, then with none."""
    from llama_cpp._context import Context, ContextParams  # noqa: PLC0415 - it is under test
    from llama_cpp._model import Model, ModelParams  # noqa: PLC0415
    from llama_cpp._threads import default_threads  # noqa: PLC0415

    found = []
    for layers in (-1, 0):
        # else big batches go to the GPU even when no layer is there
        away = layers != 0
        params = ContextParams(n_ctx=CONTEXT, op_offload=away, offload_kqv=away)
        with Model(path, ModelParams(n_gpu_layers=layers)) as model, Context(model, params) as made:
            found.append(measure(made, seconds))
            parameters = model.n_params
            quantisation = model.description.split()[-1]
    (gpu, gpu_logits), (cpu, cpu_logits) = found
    return {
        "parameters": parameters,
        "quantisation": quantisation,
        "threads": list(default_threads()),
        "gpu": gpu,
        "cpu": cpu,
        "ratio": {
            "prompt": round(gpu["prompt"] / cpu["prompt"], 3),
            "generation": round(gpu["generation"] / cpu["generation"], 3),
        },
        "logit_difference": max(abs(a - b) for a, b in zip(gpu_logits, cpu_logits)),
    }


def check_throughput(found: Throughput) -> str:
    """Every number is finite, and the logits are, too."""
    numbers = [
        *(found[device][key] for device in ("gpu", "cpu") for key in ("prompt", "generation")),
        *found["ratio"].values(),
        found["logit_difference"],
    ]
    if not all(math.isfinite(number) for number in numbers):
        raise Failure(f"not finite: {found}")
    gpu, cpu, ratio = found["gpu"], found["cpu"], found["ratio"]
    return (
        f"{found['parameters'] / 1e6:.0f} M parameters, tokens per second of prompts and generated: "
        f"GPU {gpu['prompt']:.4g} and {gpu['generation']:.4g}, "
        f"CPU {cpu['prompt']:.4g} and {cpu['generation']:.4g}, "
        f"ratio {ratio['prompt']:.3g} and {ratio['generation']:.3g}"
    )


def main() -> None:
    """Measure once; exit with 0 if there was a GPU and all numbers are finite."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a large model")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    options = parser.parse_args()
    logging.getLogger("llama_cpp").addHandler(logging.NullHandler())
    found: list[Throughput] = []

    def check(model: Path) -> str:
        if not gpus():
            raise Failure("there is no GPU to measure")
        found.append(compare(model, options.seconds))
        return check_throughput(found[0])

    result = run_check(options.model, "gpu throughput", check)
    if options.json is not None:
        text = json.dumps(
            {
                "passed": result["passed"],
                "throughput": found[0] if found else None,
                "checks": [result],
            },
            indent=2,
        )
        options.json.write_text(text + "\n", encoding="utf-8")
    if not result["passed"]:
        os._exit(1)


if __name__ == "__main__":
    main()
