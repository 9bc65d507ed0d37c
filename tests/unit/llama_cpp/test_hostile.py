"""Bad input in a process of its own: the right exception, exit code 1, never a signal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from .hostile import GENERATION, LLAMA, MODEL, PROLOGUE, VALIDATION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

REFUSED = {
    # tokens
    "detokenize beyond the vocabulary": (VALIDATION, "load().detokenize([320])"),
    "detokenize a negative id": (VALIDATION, "load().detokenize([-1])"),
    "detokenize an id of 40 bits": (VALIDATION, "load().detokenize([2**40])"),
    "generate beyond the vocabulary": (VALIDATION, "next(load().generate([99999]))"),
    "generate from nothing": (VALIDATION, "next(load().generate([]))"),
    "eval a negative id": (VALIDATION, "load().eval([-5])"),
    "complete a prompt longer than the context": (VALIDATION, "load()([5] * 512)"),
    "eval past the end of the context": (
        VALIDATION,
        "llm = load()\nllm.eval([5]*500)\nllm.eval([5]*13)",
    ),
    "a lone surrogate": (VALIDATION, "load().tokenize('\\ud800')"),
    # logits
    "logits before any decode": (VALIDATION, "load()._engine.context.logits()"),
    "logits where none were asked for": (
        VALIDATION,
        "llm = load()\nllm.eval([1, 5])\nllm._engine.context.logits(0)",
    ),
    "logits beyond the batch": (
        VALIDATION,
        "llm = load()\nllm.eval([1, 5])\nllm._engine.context.logits(700)",
    ),
    "logits far before the batch": (
        VALIDATION,
        "llm = load()\nllm.eval([1, 5])\nllm._engine.context.logits(-2)",
    ),
    "sample before any decode": (
        VALIDATION,
        "llm = load()\nSampler(llm._core, SamplingParams()).sample(llm._engine.context)",
    ),
    "logits after a reset": (
        VALIDATION,
        "llm = load()\nllm.eval([1])\nllm._engine.context.clear()\nllm._engine.context.logits()",
    ),
    # batches
    "an empty batch": (VALIDATION, "c = load()._engine.context\nc.decode(c.batch())"),
    "a batch larger than n_batch": (
        VALIDATION,
        "c = load(n_batch=4)._engine.context\nb = c.batch(9)\nb.set_run([5]*9, 0, 0, output=True)\nc.decode(b)",
    ),
    "a batch for a larger vocabulary": (
        VALIDATION,
        "a = load()._engine.context\nc = load(bert)._engine.context\nb = a.batch()\nb.set_run([300], 0, 0, output=True)\nc.decode(b)",
    ),
    "positions with a gap": (
        GENERATION,
        "c = load()._engine.context\nb = c.batch()\nb.add(5, 0, (0,), output=False)\nb.add(5, 7, (0,), output=True)\nc.decode(b)",
    ),
    "forget a sequence that cannot be": (VALIDATION, "load()._engine.context.remove(256, 0)"),
    "an encoder's batch beyond its positions": (
        VALIDATION,
        "c = load(bert, embedding=True)._engine.context\nb = c.batch()\nb.set_run([5]*300, 0, 0, output=True)\nc.decode(b)",
    ),
    # use after close
    "complete when closed": (LLAMA, "llm = load()\nllm.close()\nllm('a')"),
    "tokenize when closed": (LLAMA, "llm = load()\nllm.close()\nllm.tokenize('a')"),
    "detokenize when closed": (LLAMA, "llm = load()\nllm.close()\nllm.detokenize([5])"),
    "embed when closed": (LLAMA, "llm = load(embedding=True)\nllm.close()\nllm.embed('a')"),
    "metadata when closed": (LLAMA, "llm = load()\nllm.close()\nllm.metadata"),
    "stream whose object is closed": (
        LLAMA,
        "llm = load()\ns = llm('a', stream=True)\nnext(s)\nllm.close()\nnext(s)",
    ),
    "stream whose model is closed": (
        LLAMA,
        "llm = load()\ns = llm.generate([1])\nnext(s)\nllm._core.close()\nnext(s)",
    ),
    "context of a closed model": (LLAMA, "m = Model(model)\nm.close()\nContext(m)"),
    "sampler of a closed model": (
        LLAMA,
        "m = Model(model)\nm.close()\nSampler(m, SamplingParams())",
    ),
    "adapter of a closed model": (LLAMA, "m = Model(model)\nm.close()\nAdapter(m, lora)"),
    "sampler that is closed": (
        LLAMA,
        "llm = load()\ns = Sampler(llm._core, SamplingParams())\ns.close()\nllm.eval([1])\ns.sample(llm._engine.context)",
    ),
    "close an adapter in use": (
        LLAMA,
        "llm = load(lora_path=lora)\nllm._engine.context.adapters[0][0].close()",
    ),
    # files
    "no file": (MODEL, "load(scratch / 'nope.gguf')"),
    "a directory": (MODEL, "load(tiny)"),
    "an empty file": (MODEL, "load(damaged(lambda data: data.clear()))"),
    "another format": (MODEL, "load(tiny / 'answers.json')"),
    "a newer format": (MODEL, "load(damaged(lambda data: data.__setitem__(4, 99)))"),
    "a removed format": (MODEL, "load(damaged(lambda data: data.__setitem__(4, 1)))"),
    "cut in the header": (MODEL, "load(damaged(lambda data: data[:20]))"),
    "cut in the metadata": (MODEL, "load(damaged(lambda data: data[:2000]))"),
    "cut in the tensors": (MODEL, "load(damaged(lambda data: data[:200000]))"),
    "cut at the last byte": (MODEL, "load(damaged(lambda data: data[:-1]))"),
    "an adapter as a model": (MODEL, "load(lora)"),
    "a model as an adapter": (MODEL, "load(lora_path=model)"),
    "an adapter for another model": (MODEL, "load(bert, lora_path=lora)"),
    "no adapter": (MODEL, "load(lora_path=scratch / 'nope.gguf')"),
    # parameters
    "n_ctx negative": (VALIDATION, "load(n_ctx=-1)"),
    "n_ctx of all memory": (LLAMA, "load(n_ctx=2**31 - 1)"),
    "n_batch zero": (VALIDATION, "load(n_batch=0)"),
    "no threads": (VALIDATION, "load(n_threads=0)"),
    "too many threads": (VALIDATION, "load(n_threads=100000)"),
    "an unknown cache type": (VALIDATION, "load(type_k=999)"),
    "a quantised V cache without flash attention": (LLAMA, "load(type_v=8)"),
    "an unknown pooling": (VALIDATION, "load(pooling_type=9)"),
    "an unknown rope scaling": (VALIDATION, "load(rope_scaling_type=9)"),
    "rope base that is no number": (VALIDATION, "load(rope_freq_base=math.nan)"),
    "an unknown split": (VALIDATION, "load(split_mode=9)"),
    "tensor split without devices": (MODEL, "load(split_mode=3)"),
    "too many shares": (VALIDATION, "load(tensor_split=[1.0] * 1000)"),
    "a share that is no number": (VALIDATION, "load(tensor_split=[math.nan])"),
    "a scale that is no number": (VALIDATION, "load(lora_path=lora, lora_scale=math.nan)"),
    # sampling
    "temperature that is no number": (VALIDATION, "load()('a', temperature=math.nan)"),
    "top_p above one": (VALIDATION, "load()('a', top_p=2.0)"),
    "repeat_penalty zero": (VALIDATION, "load()('a', repeat_penalty=0.0)"),
    "presence_penalty infinite": (VALIDATION, "load()('a', presence_penalty=math.inf)"),
    "an unknown mirostat": (VALIDATION, "load()('a', mirostat_mode=3)"),
    "a bias beyond the vocabulary": (VALIDATION, "load()('a', logit_bias={999: 1.0})"),
    "a bias that is no number": (VALIDATION, "load()('a', logit_bias={5: math.nan})"),
    "every token forbidden": (
        VALIDATION,
        "load()('a', logit_bias={i: -math.inf for i in range(320)})",
    ),
    "a seed of 33 bits": (VALIDATION, "load()('a', seed=2**32)"),
    "an empty stop string": (VALIDATION, "load()('a', stop=[''])"),
    "suffix without the tokens for it": (VALIDATION, "load()('a', suffix='b')"),
    "generate with an encoder": (LLAMA, "load(bert)('sun')"),
    "embed nothing": (
        VALIDATION,
        "load(embedding=True).embed([[]])",
    ),
    "embed without asking for it": (LLAMA, "load().embed('a')"),
}


@pytest.mark.parametrize(("kind", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome], kind: str, code: str
) -> None:
    outcome = run_python(f"{PROLOGUE}\n{code}", str(tiny), str(tmp_path))
    assert outcome.code == 1, outcome.error
    raised = [line for line in outcome.error.splitlines() if line.startswith("llama_cpp.")]
    assert [line.partition(":")[0] for line in raised] == [f"llama_cpp._errors.{kind}"]


SURVIVED = {
    "bytes that are no UTF-8": "assert load().tokenize(b'\\xff\\xfe\\xc3\\x28')",
    "a NUL in the text": "assert load().tokenize('a\\0b')",
    "the coldest temperature": "load()([1], temperature=1e-40)",
    "the hottest temperature": "load()([1], temperature=1e38, top_k=0, top_p=1.0, min_p=0.0)",
    "filters that leave one token": "load()([1], top_p=0.0, min_p=1.0, typical_p=0.0, top_k=1)",
    "all but one token forbidden": (
        "assert next(load().generate([1], logit_bias={i: -math.inf for i in range(320) if i != 7})) == 7"
    ),
    "every logit raised": "load()([1], logit_bias={i: 1e9 for i in range(320)})",
    "penalties of the largest size": "load()('a', repeat_penalty=1e6, presence_penalty=3e38)",
    "a quantised K cache without flash attention": "load(type_k=8)([1])",
    "quantised caches": "load(type_k=2, type_v=2, flash_attn=True)([1])",
    "attention both ways": "load(attention_type=1)([1])",
    "a text longer than an encoder's positions": "load(bert, embedding=True).embed('sun ' * 3000)",
    "rank pooling without a head": "load(embedding=True, pooling_type=4).embed('hello')",
    "a GPU that is not there": "load(split_mode=0, main_gpu=9, n_gpu_layers=-1)([1])",
    "extreme rope": "load(rope_freq_base=1e-30, rope_freq_scale=1e30)([1])",
    "closing twice": "llm = load()\nllm.close()\nllm.close()",
    "ending with a stream open": "llm = load()\nstream = llm('a', stream=True)\nnext(stream)",
    "ending while a daemon thread computes": (
        "llm = load(n_ctx=2048)\n"
        "def work():\n"
        "    try:\n"
        "        while True:\n"
        "            llm([1], max_tokens=1000)\n"
        "    except BaseException:\n"
        "        pass\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.2)"
    ),
    "closing while another thread computes": (
        "llm = load(n_ctx=2048)\n"
        "seen = []\n"
        "def work():\n"
        "    try:\n"
        "        while True:\n"
        "            llm([1], max_tokens=10)\n"
        "    except Exception as error:\n"
        "        seen.append(str(error))\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "time.sleep(0.2)\n"
        "llm.close()\n"
        "[thread.join() for thread in threads]\n"
        "assert len(seen) == 3 and all('is closed' in text for text in seen), seen"
    ),
    "tokenizing while another thread closes": (
        "for _ in range(20):\n"
        "    llm = load(vocab_only=True)\n"
        "    def work():\n"
        "        try:\n"
        "            while True:\n"
        "                llm.tokenize('hello there ' * 50)\n"
        "        except Exception:\n"
        "            pass\n"
        "    threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "    [thread.start() for thread in threads]\n"
        "    time.sleep(0.005)\n"
        "    llm.close()\n"
        "    [thread.join() for thread in threads]"
    ),
    "reference cycles": (
        "import gc\n"
        "class Node: pass\n"
        "for _ in range(5):\n"
        "    node = Node()\n"
        "    node.llm = load(lora_path=lora)\n"
        "    node.stream = node.llm.generate([1])\n"
        "    next(node.stream)\n"
        "    node.node = node\n"
        "    del node\n"
        "gc.collect()"
    ),
}


@pytest.mark.parametrize("code", SURVIVED.values(), ids=SURVIVED.keys())
def test_survived(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome], code: str
) -> None:
    outcome = run_python(f"{PROLOGUE}\n{code}", str(tiny), str(tmp_path))
    # what is asked of a GPU that is not there is told, once
    told = [line for line in outcome.error.splitlines() if "n_gpu_layers" not in line]
    assert (outcome.code, told) == (0, [])


fork = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
IN_CHILD = """
child = os.fork()
if child:
    status = os.waitpid(child, 0)[1]
    llm([1], max_tokens=3)
    sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
"""


@fork
def test_use_after_fork_is_refused(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    outcome = run_python(
        f"{PROLOGUE}\nllm = load(n_threads=2)\nllm([1])\n{IN_CHILD}\nllm([1])",
        str(tiny),
        str(tmp_path),
    )
    assert outcome.code == 1, outcome.error
    assert outcome.last_line == (
        "llama_cpp._errors.LlamaError: the model was made before this process was forked, and its "
        "threads did not come along: load the model in the child, or start children with "
        "multiprocessing's 'spawn' method"
    )


@fork
def test_a_model_loaded_after_fork_works(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    outcome = run_python(
        f"{PROLOGUE}\nllm = load(n_threads=2)\nllm([1])\n{IN_CHILD}\n"
        "print(load(n_threads=2)([1], max_tokens=3, temperature=0)['choices'][0]['text'])",
        str(tiny),
        str(tmp_path),
    )
    assert (outcome.code, outcome.output) == (0, " morni\n")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_stops_a_long_prompt(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    outcome = run_python(
        f"{PROLOGUE}\n"
        "import signal\n"
        "llm = load(n_ctx=2048, n_batch=1)\n"
        "threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    for _ in range(1000):\n"
        "        llm.reset()\n"
        "        llm([5] * 2000, max_tokens=1)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        "text = llm([1], max_tokens=12, temperature=0)['choices'][0]['text']\n"
        "assert text == load()([1], max_tokens=12, temperature=0)['choices'][0]['text'], text\n",
        str(tiny),
        str(tmp_path),
    )
    assert (outcome.code, outcome.output, outcome.error) == (0, "interrupted\n", "")


def test_verbose_false_is_silent_and_leaves_file_descriptors_alone(
    tiny: Path, tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    outcome = run_python(
        f"{PROLOGUE}\n"
        "before = [os.fstat(fd).st_ino for fd in (1, 2)]\n"
        "seen = []\n"
        "def watch():\n"
        "    while not done.is_set():\n"
        "        seen.append([os.fstat(fd).st_ino for fd in (1, 2)] == before)\n"
        "done = threading.Event()\n"
        "thread = threading.Thread(target=watch)\n"
        "thread.start()\n"
        "load(n_ctx=4096).close()\n"
        "done.set()\n"
        "thread.join()\n"
        "print(all(seen), len(seen) > 0)",
        str(tiny),
        str(tmp_path),
    )
    assert (outcome.code, outcome.output, outcome.error) == (0, "True True\n", "")
