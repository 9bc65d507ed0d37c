"""Smoke test of an installed `llama_cpp` on its GPU, run inside the environment it is installed in.

Beside `run.py`, and with the same tiny models:

    python -I gpu.py --models FOLDER [--json FILE] [--brief] [--allow-checkout]

With a GPU: the models with all layers offloaded, every quantisation, flash attention on and off,
several sequences in one batch; tokens equal to the known answers, logits near the CPU's. Without
one: the package computes on the CPU and says once what is missing. `--json` writes passed, gpu
(the devices with their memory, or null) and the checks.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp import Llama
    from tests.smoke.run import Failure, Subject, expect, greedy, run_check
else:
    # -I takes the script's folder off the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from run import Failure, Subject, expect, greedy, run_check

GPU_KINDS = ("GPU", "IGPU")
# Half of the smallest distance between a right token and the next one (tests/tiny): a logit may
# differ so much between two backends that round differently, and no answer changes.
LOGIT_TOLERANCE = 0.25
SEQUENCES = 4
LENGTH = 16
# with --brief: what a GPU computes is the same for every Python, once one has proven all of it
BRIEF = ("llama-f16", "llama-q4_k")

_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_BUFFER = re.compile(r"(\S+) model buffer size\s*=\s*([\d.]+) MiB")


@contextmanager
def said() -> Iterator[list[str]]:
    """Collect what llama.cpp says while it loads."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("llama_cpp")
    handler, level = Collector(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@cache
def drivers() -> dict[str, str]:
    """Return the versions of this machine's GPU drivers: NVIDIA's, ROCm's, Vulkan's per device."""
    from llama_cpp._doctor import accelerators  # noqa: PLC0415 - it is under test
    from llama_cpp._doctor.nvidia import nvidia  # noqa: PLC0415
    from llama_cpp._doctor.programs import ask_json  # noqa: PLC0415

    probe = Path(accelerators.__file__).with_name("vulkan.py")
    said, _ = ask_json([sys.executable, "-I", str(probe)])
    found: dict[str, str | None] = {
        "CUDA": nvidia().driver,
        "ROCm": accelerators.rocm(os.environ).version,
        **{each["name"]: each.get("driver") for each in said.get("devices", ())},
    }
    return {name: version for name, version in found.items() if version}


def load(subject: Subject, name: str, *, flash_attn: bool = False) -> Llama:
    """Load a model with all its layers on the GPU."""
    llama: Llama = subject.package.Llama(
        model_path=str(subject.folder / subject.models[name]["file"]),
        n_gpu_layers=-1,
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=flash_attn,
        verbose=True,
    )
    return llama


def gpus() -> list[dict[str, object]]:
    """Return the GPU devices as they go into the report; memory is in bytes."""
    from llama_cpp import devices  # noqa: PLC0415 - it is under test

    found = [device for device in devices() if device.kind in GPU_KINDS]
    versions = drivers() if found else {}
    return [
        {
            "name": device.name,
            "description": device.description,
            "kind": device.kind,
            "memory_total": device.memory_total,
            "memory_free": device.memory_free,
            "driver": versions.get(
                # CUDA0, ROCm1; a Vulkan device's driver goes by the device's own name
                device.name.rstrip("0123456789"),
                versions.get(device.description),
            ),
        }
        for device in found
    ]


def check_devices(_subject: Subject) -> str:
    """Each GPU says how much memory it has."""
    found = gpus()
    for device in found:
        if not device["memory_total"]:
            raise Failure(f"{device['name']} says that it has no memory")
    return "; ".join(
        f"{each['name']}: {each['description']}, driver {each['driver'] or 'unknown'}, "
        f"{int(str(each['memory_total'])) >> 20} MiB"
        for each in found
    )


def check_offload(subject: Subject) -> str:
    """All layers really are on the GPU: by llama.cpp's count, and by where the weights lie."""
    names = {str(device["name"]) for device in gpus()}
    details = []
    for name, _ in subject.of_kind("llama"):
        with said() as lines:
            load(subject, name).close()
        counts = [match for match in map(_OFFLOADED.search, lines) if match]
        expect(len(counts), 1, f"{name}: lines about offloaded layers")
        expect(counts[0][1], counts[0][2], f"{name}: layers on the GPU, of all")
        buffers = {m[1]: float(m[2]) for m in map(_BUFFER.search, lines) if m}
        there = sum(size for buffer, size in buffers.items() if buffer in names)
        if not there:
            raise Failure(f"{name}: no weights on {', '.join(sorted(names))}: {buffers}")
        details.append(f"{name} {counts[0][1]}/{counts[0][2]} layers, {there} MiB")
    return "; ".join(details)


def check_tokens(subject: Subject) -> str:
    """Greedy decoding on the GPU gives the known tokens, flash attention off and on."""
    number = 0
    for name, model in subject.of_kind("llama"):
        for flash_attn in (False, True):
            with load(subject, name, flash_attn=flash_attn) as llama:
                what = f"{name}, flash attention {'on' if flash_attn else 'off'}"
                for case in model["greedy"]:
                    number += greedy(llama, {**case, "tokens": case["tokens"][:LENGTH]}, what)
    return f"{number} tokens of {len(subject.of_kind('llama'))} models, flash attention off and on"


def check_logits(subject: Subject) -> str:
    """The GPU's logits are the CPU's, within the tolerance."""
    worst: dict[str, float] = {}
    for name, model in subject.of_kind("llama"):
        prompts = [case["prompt"] for case in model["greedy"]]
        found = [logits(subject, model["file"], prompts, layers) for layers in (0, -1)]
        difference = max(
            abs(one - other) for cpu, gpu in zip(*found) for one, other in zip(cpu, gpu)
        )
        worst[name] = difference
        if not difference <= LOGIT_TOLERANCE:
            raise Failure(f"{name}: a logit differs by {difference:.3g} (> {LOGIT_TOLERANCE})")
    differences = ", ".join(f"{name} {value:.2g}" for name, value in worst.items())
    return f"largest difference {differences}; tolerance {LOGIT_TOLERANCE}"


def logits(subject: Subject, file: str, prompts: list[list[int]], layers: int) -> list[list[float]]:
    """Return the logits after each prompt, computed with so many layers on the GPU."""
    from llama_cpp._context import Context, ContextParams  # noqa: PLC0415 - it is under test
    from llama_cpp._model import Model, ModelParams  # noqa: PLC0415

    # else big batches go to the GPU even when no layer is there
    away = layers != 0
    params = ContextParams(n_threads=1, n_threads_batch=1, op_offload=away, offload_kqv=away)
    rows = []
    path = subject.folder / file
    with Model(path, ModelParams(n_gpu_layers=layers)) as model, Context(model, params) as context:
        batch = context.batch()
        for prompt in prompts:
            context.clear()
            batch.clear()
            batch.set_run(prompt, 0, 0, output=True)
            context.decode(batch)
            rows.append(context.logits())
    return rows


def check_sequences(subject: Subject) -> str:
    """Several sequences in one batch, each with its own known answer."""
    from llama_cpp._context import Context, ContextParams  # noqa: PLC0415 - it is under test
    from llama_cpp._model import Model, ModelParams  # noqa: PLC0415

    number = 0
    for name, answers in subject.of_kind("llama"):
        cases = [case for case in answers["greedy"] if len(case["tokens"]) >= LENGTH][:SEQUENCES]
        expect(len(cases), SEQUENCES, f"{name}: known answers of {LENGTH} tokens")
        params = ContextParams(n_ctx=2048, n_seq_max=SEQUENCES, n_threads=1, n_threads_batch=1)
        path = subject.folder / answers["file"]
        with Model(path, ModelParams(n_gpu_layers=-1)) as model, Context(model, params) as context:
            batch = context.batch()
            for sequence, case in enumerate(cases):
                last = len(case["prompt"]) - 1
                for position, token in enumerate(case["prompt"]):
                    batch.add(token, position, [sequence], output=position == last)
            found: list[list[int]] = [[] for _ in cases]
            while True:
                context.decode(batch)
                for sequence, index in enumerate(list(batch.outputs)):
                    logits = context.logits(index)
                    found[sequence].append(max(range(len(logits)), key=logits.__getitem__))
                if len(found[0]) == LENGTH:
                    break
                batch.clear()
                for sequence, case in enumerate(cases):
                    position = len(case["prompt"]) + len(found[sequence]) - 1
                    batch.add(found[sequence][-1], position, [sequence], output=True)
            for case, tokens in zip(cases, found):
                expect(tokens, case["tokens"][:LENGTH], f"{name}: after {case['prompt_text']!r}")
                number += len(tokens)
    return f"{SEQUENCES} sequences at once, {number} tokens"


def check_without(subject: Subject) -> str:
    """Without a GPU the CPU answers, and one warning says what is missing."""
    name, model = subject.of_kind("llama")[0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with load(subject, name) as llama:
                for case in model["greedy"]:
                    greedy(llama, case, name)
    messages = [str(each.message) for each in caught if "n_gpu_layers" in str(each.message)]
    expect(len(messages), 1, "warnings about the missing GPU in two loads")
    return messages[0]


WITH_GPU = (
    ("gpu devices", check_devices),
    ("gpu offload", check_offload),
    ("gpu tokens", check_tokens),
    ("gpu logits", check_logits),
    ("gpu sequences", check_sequences),
)
WITHOUT_GPU = (("no gpu", check_without),)


def main() -> None:
    """Run the checks that fit this machine; exit with 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of the tiny models")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument(
        "--brief", action="store_true", help=f"of the language models only {', '.join(BRIEF)}"
    )
    parser.add_argument("--allow-checkout", action="store_true", help="accept a checkout")
    options = parser.parse_args()
    logging.getLogger("llama_cpp").addHandler(logging.NullHandler())
    subject = Subject(options.models, allow_checkout=options.allow_checkout)
    if options.brief:
        subject.models = {name: subject.models[name] for name in BRIEF}
    subject.import_package()
    found = gpus()
    checks = [
        run_check(subject, name, check) for name, check in (WITH_GPU if found else WITHOUT_GPU)
    ]
    passed = all(check["passed"] for check in checks)
    if options.json is not None:
        result = {"passed": passed, "gpu": found or None, "checks": checks}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not passed:
        os._exit(1)


if __name__ == "__main__":
    main()
