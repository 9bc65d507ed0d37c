"""What llama.cpp itself makes of grammars: each in a forked process, so that a dead one is an answer.

``python -m tests.grammar_probe MODEL`` reads one JSON object per line: ``grammar``, ``root``, and
either ``walk`` (a seed: apply the grammar to the whole vocabulary and accept a random allowed token,
some times) or ``texts`` (which of them does it fit?). It answers each with one JSON line:
``{"ended": "ok" | "refused" | "stuck" | "signal 11" | "timeout", "fits": [...]}``.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIRST_BYTE = 3
END_OF_SEQUENCE = 2
SECONDS = 10
# as far as `refuse_branching` looks: stacks may go on to multiply with each level of nesting
STEPS = 6
MEMORY = 4 * 2**30


class _Llama:
    """llama.cpp's grammar sampler over the tiny vocabulary."""

    def __init__(self, path: str) -> None:
        from llama_cpp import _abi, _library  # noqa: PLC0415 - only in the process that probes

        self.abi = _abi
        self.lib = _library.load()
        params = self.lib.llama_model_default_params()
        params.vocab_only = True
        model = self.lib.llama_model_load_from_file(os.fsencode(path), params)
        assert model is not None
        vocab = self.lib.llama_model_get_vocab(model)
        assert vocab is not None
        self.vocab = vocab
        self.size = self.lib.llama_vocab_n_tokens(self.vocab)

    def sampler(self, grammar: str, root: str) -> int | None:
        return self.lib.llama_sampler_init_grammar(self.vocab, grammar.encode(), root.encode())

    def allowed(self, sampler: int, tokens: range | list[int]) -> list[int]:
        array = (self.abi.llama_token_data * len(tokens))(
            *(self.abi.llama_token_data(token, 0.0, 0.0) for token in tokens)
        )
        candidates = self.abi.llama_token_data_array(array, len(tokens), -1, False)
        self.lib.llama_sampler_apply(sampler, ctypes.byref(candidates))
        return [entry.id for entry in array if entry.logit != -math.inf]

    def walk(self, sampler: int, seed: int) -> str:
        choice = random.Random(seed)
        for _ in range(STEPS):
            allowed = self.allowed(sampler, range(self.size))
            if not allowed:
                return "stuck"
            token = choice.choice(allowed)
            if token == END_OF_SEQUENCE:
                break
            self.lib.llama_sampler_accept(sampler, token)
        return "ok"

    def fits(self, grammar: str, root: str, text: str) -> bool:
        sampler = self.sampler(grammar, root)
        assert sampler is not None
        try:
            for byte in text.encode():
                if not self.allowed(sampler, [FIRST_BYTE + byte]):
                    return False
                self.lib.llama_sampler_accept(sampler, FIRST_BYTE + byte)
            return bool(self.allowed(sampler, [END_OF_SEQUENCE]))
        finally:
            self.lib.llama_sampler_free(sampler)

    def answer(self, case: dict[str, Any]) -> dict[str, Any]:
        grammar, root = case["grammar"], case.get("root", "root")
        sampler = self.sampler(grammar, root)
        if sampler is None:
            return {"ended": "refused"}
        if "texts" in case:
            return {"ended": "ok", "fits": [self.fits(grammar, root, t) for t in case["texts"]]}
        return {"ended": self.walk(sampler, case.get("walk", 0))}


def _forked(llama: _Llama, case: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(case.get("seconds", SECONDS))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.write(writing, json.dumps(llama.answer(case)).encode())
        os._exit(0)
    os.close(writing)
    data = b""
    while select.select([reading], [], []) and (block := os.read(reading, 65536)):
        data += block
    os.close(reading)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return {"ended": "timeout" if number == signal.SIGALRM else f"signal {number}"}
    return dict(json.loads(data)) if data else {"ended": f"exit {os.WEXITSTATUS(status)}"}


def probe(model: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what llama.cpp makes of each case, in order."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.grammar_probe", str(model)],
        cwd=ROOT,
        input="\n".join(map(json.dumps, cases)),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [dict(json.loads(line)) for line in result.stdout.splitlines()]
    assert len(answers) == len(cases)
    return answers


def main(model: str) -> None:
    """Answer stdin's cases on stdout."""
    llama = _Llama(model)
    for line in sys.stdin:
        print(json.dumps(_forked(llama, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
