"""Cut and flipped files, and states and caches of others: the right exception, never a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .hostile import GENERATION, LLAMA, MODEL, PROLOGUE, VALIDATION, raised

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

CHANGES = """
import pickle
from llama_cpp import LlamaDiskCache, LlamaRAMCache


def changed(path, change, name="changed.gguf"):
    data = bytearray(path.read_bytes())
    target = scratch / name
    target.write_bytes(bytes(change(data) or data))
    return target


def flip(*places):
    def change(data):
        for place in places:
            data[place % len(data)] ^= 0xFF
    return change


def cut(end):
    return lambda data: data[:end]


def at(path, text, ahead=0):
    return path.read_bytes().index(text) + ahead


def state(**options):
    with load(**options) as llm:
        llm.eval([1, 5, 9])
        return llm.get_state()
"""

FILES = {
    # cut: in the magic, the counts, a key, the vocabulary, the tensors' list, at its end, in the data
    **{
        f"a model of {end} bytes": (MODEL, f"load(changed(model, cut({end})))")
        for end in (1, 3, 4, 8, 16, 23, 24, 30, 100, 1000, 4000, 9000, 12000)
    },
    **{
        f"an adapter of {end} bytes": (MODEL, f"load(lora_path=changed(lora, cut({end})))")
        for end in (10, 30, 150, 300, 500, 1000)
    },
    **{
        f"an encoder of {end} bytes": (MODEL, f"load(changed(bert, cut({end})), embedding=True)")
        for end in (40, 2000, 6000, 100000)
    },
    "a model whose counts are flipped": (MODEL, "load(changed(model, flip(9, 17)))"),
    "a model with a flipped length": (MODEL, "load(changed(model, flip(30)))"),
    "a model with a flipped key": (
        MODEL,
        "load(changed(model, flip(at(model, b'llama.block_count'))))",
    ),
    "a model with a flipped number of layers": (
        MODEL,
        "load(changed(model, flip(at(model, b'llama.block_count', 21 + 1))))",
    ),
    "a model with a flipped architecture": (
        MODEL,
        "load(changed(model, flip(at(model, b'general.architecture', 32))))",
    ),
    "a model with a flipped token type": (
        MODEL,
        "load(changed(model, flip(at(model, b'tokenizer.ggml.token_type', 25))))",
    ),
    "a model with a flipped tensor's name": (
        MODEL,
        "load(changed(model, flip(at(model, b'blk.0.attn_q.weight'))))",
    ),
    "a model with a flipped tensor's dimension": (
        MODEL,
        "load(changed(model, flip(at(model, b'blk.0.attn_q.weight', 19 + 4))))",
    ),
    "an adapter with a flipped type": (
        MODEL,
        "load(lora_path=changed(lora, flip(at(lora, b'adapter.type', 12))))",
    ),
    "an adapter with a flipped dimension": (
        MODEL,
        "load(lora_path=changed(lora, flip(at(lora, b'output.weight.lora_a', 24))))",
    ),
    "an encoder as an adapter": (MODEL, "load(lora_path=bert)"),
    "an adapter loaded later that is cut": (MODEL, "load().load_lora(changed(lora, cut(300)))"),
    "an adapter removed that is not there": (VALIDATION, "load().remove_lora('nothing')"),
    "a model as a control vector": (MODEL, "load(control_vectors=[model])"),
    "a control vector that is cut": (MODEL, "load(control_vectors=[changed(lora, cut(300))])"),
    "an override of the layers": (MODEL, "load(kv_overrides={'llama.block_count': 0})"),
    "an override of an epsilon": (
        MODEL,
        "load(kv_overrides={'llama.attention.layer_norm_rms_epsilon': -1.0})",
    ),
    "an override of too long a key": (VALIDATION, "load(kv_overrides={'x' * 200: 1})"),
}

STATES = {
    "an empty state": (VALIDATION, "load().set_state(b'')"),
    "a state of zeros": (VALIDATION, "load().set_state(bytes(4000))"),
    "a state that is cut": (VALIDATION, "load().set_state(state()[:-40])"),
    "a state that is cut in its head": (VALIDATION, "load().set_state(state()[:20])"),
    "a state with more at its end": (VALIDATION, "load().set_state(state() + bytes(50))"),
    "a state whose head is flipped": (
        VALIDATION,
        "s = bytearray(state())\nflip(*range(16))(s)\nload().set_state(bytes(s))",
    ),
    "a state of a larger context": (
        VALIDATION,
        (
            "with load(n_ctx=1024) as big:\n"
            "    big.eval([5] * 900)\n"
            "    s = big.get_state()\n"
            "load(n_ctx=256).set_state(s)"
        ),
    ),
    "a state of another model": (
        VALIDATION,
        (
            "with load(tiny / 'llama-q4_k.gguf') as other:\n"
            "    other.eval([1, 5])\n"
            "    s = other.get_state()\n"
            "load().set_state(s)"
        ),
    ),
    "a state of other cache types": (VALIDATION, "load().set_state(state(type_k=8))"),
    "a state from a file that is cut": (
        VALIDATION,
        (
            "llm = load()\nllm.eval([1, 5])\nllm.save_state(scratch / 'state')\n"
            "changed(scratch / 'state', cut(60), 'short')\nllm.load_state(scratch / 'short')"
        ),
    ),
    "a state from a model file": (VALIDATION, "load().load_state(model)"),
    "a state from no file": ("FileNotFoundError", "load().load_state(scratch / 'nothing')"),
    "a state of another kind": (VALIDATION, "load().set_state('text')"),
    "saving into a folder": ("IsADirectoryError", "load().save_state(scratch)"),
    "a state of a closed object": (LLAMA, "llm = load()\nllm.close()\nllm.get_state()"),
    "a state set while a stream runs": (
        GENERATION,
        "llm = load()\ns = llm('a', stream=True)\nnext(s)\nllm.set_state(state())\nnext(s)",
    ),
    "a cache without room": (VALIDATION, "LlamaRAMCache(-1)"),
    "a cache in a file": ("FileExistsError", "LlamaDiskCache(str(model))"),
}


@pytest.mark.parametrize(
    ("kind", "code"), [*FILES.values(), *STATES.values()], ids=[*FILES, *STATES]
)
def test_refused(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome], kind: str, code: str
) -> None:
    outcome = run_python(f"{PROLOGUE}{CHANGES}\n{code}", str(tiny), str(tmp_path))
    assert raised(outcome) == kind, outcome.error
