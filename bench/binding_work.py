"""What runs in the process of one contender: a question per line on stdin, an answer on stdout.

Knows the standard library and the package ``llama_cpp`` that is installed there, which is this
project's or the one that the index has; ``raw`` is a loop over llama.cpp's functions by ctypes.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import pickle
import sys
import time
from pathlib import Path

_PROMPT = "word1 word2 word3 word4"
_ANY_TOKEN = 300
# llama.cpp's own defaults, which both packages have
_SEED, _TOP_K, _TOP_P, _MIN_P, _TEMPERATURE = 7, 40, 0.95, 0.05, 0.8


def _load_backends() -> None:
    """Have ggml load its backends, which a package that was built without such modules does not."""
    package = importlib.import_module("llama_cpp")
    folder = Path(str(package.__file__)).parent / "lib"
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    ggml = ctypes.CDLL(str(folder / f"libggml{suffix}"))
    ggml.ggml_backend_load_all_from_path(ctypes.c_char_p(os.fsencode(folder)))


class Package:
    """A model loaded by a package, and the completions of it."""

    def __init__(self, model: str, context: int, *, logits_all: bool) -> None:
        # whose types are not this project's
        self._package = importlib.import_module("llama_cpp")
        self._llama = self._package.Llama(
            model_path=model,
            n_ctx=context,
            n_threads=1,
            n_threads_batch=1,
            logits_all=logits_all,
            verbose=False,
        )

    def complete(self, tokens: int, option: str) -> tuple[float, int]:
        """Return the CPU seconds of a completion, and its tokens."""
        options: dict[str, object] = {"temperature": 0.0}
        if option.startswith("logits processor"):
            unchanged = self._package.LogitsProcessorList([lambda _, scores: scores])
            options["logits_processor"] = unchanged
        elif option == "logit_bias":
            options["logit_bias"] = {_ANY_TOKEN: 0.5}
        elif option == "logprobs=5":
            options["logprobs"] = 5
        if option.endswith("sampled"):
            options.update(
                temperature=_TEMPERATURE, top_k=_TOP_K, top_p=_TOP_P, min_p=_MIN_P, seed=_SEED
            )
        self._llama.reset()
        begun = time.process_time()
        answer = self._llama.create_completion(
            _PROMPT, max_tokens=tokens, repeat_penalty=1.0, **options
        )
        return time.process_time() - begun, answer["usage"]["completion_tokens"]

    def state(self, tokens: int) -> int:
        """Return the bytes of a saved state with so many tokens."""
        self._llama.reset()
        self._llama.eval([_ANY_TOKEN] * tokens)
        return len(pickle.dumps(self._llama.save_state()))


class Raw:
    """The same work without any package: what llama.cpp and ctypes cost."""

    def __init__(self, model: str, context: int, *, logits_all: bool) -> None:
        from llama_cpp import _library  # noqa: PLC0415 - the declarations alone

        del logits_all
        self._lib = lib = _library.load()
        params = lib.llama_model_default_params()
        loaded = lib.llama_model_load_from_file(os.fsencode(model), params)
        assert loaded is not None
        native = lib.llama_context_default_params()
        native.n_ctx, native.n_threads, native.n_threads_batch = context, 1, 1
        # as both packages have them
        native.n_batch = native.n_ubatch = 512
        native.flash_attn_type = 0
        vocab, made = lib.llama_model_get_vocab(loaded), lib.llama_init_from_model(loaded, native)
        greedy = lib.llama_sampler_init_greedy()
        sampled = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        assert vocab is not None
        assert made is not None
        assert greedy is not None
        assert sampled is not None
        for link in (
            lib.llama_sampler_init_top_k(_TOP_K),
            lib.llama_sampler_init_top_p(_TOP_P, 1),
            lib.llama_sampler_init_min_p(_MIN_P, 1),
            lib.llama_sampler_init_temp(_TEMPERATURE),
            lib.llama_sampler_init_dist(_SEED),
        ):
            assert link is not None
            lib.llama_sampler_chain_add(sampled, link)
        self._vocab, self._context, self._greedy, self._sampled = vocab, made, greedy, sampled
        self._room = ctypes.create_string_buffer(256)
        self._token = (ctypes.c_int32 * 1)()

    def complete(self, tokens: int, option: str) -> tuple[float, int]:
        """Return the CPU seconds of so many tokens after a prompt, and their number."""
        lib, context, one = self._lib, self._context, self._token
        sampler = self._sampled if option.endswith("sampled") else self._greedy
        memory = lib.llama_get_memory(context)
        assert memory is not None
        lib.llama_memory_clear(memory, False)
        begun = time.process_time()
        text = _PROMPT.encode()
        prompt = (ctypes.c_int32 * (4 * len(text)))()
        count = lib.llama_tokenize(self._vocab, text, len(text), prompt, len(prompt), True, False)
        lib.llama_decode(context, lib.llama_batch_get_one(prompt, count))
        pieces = []
        for _ in range(tokens):
            one[0] = token = lib.llama_sampler_sample(sampler, context, -1)
            length = lib.llama_token_to_piece(self._vocab, token, self._room, 256, 0, False)
            pieces.append(self._room.raw[:length])
            lib.llama_decode(context, lib.llama_batch_get_one(one, 1))
        b"".join(pieces).decode()
        return time.process_time() - begun, tokens

    def state(self, _tokens: int) -> int:
        """Nothing is saved here."""
        return 0


def main(contender: str) -> None:
    """Answer until there is no question."""
    made: Package | Raw | None = None
    # what a package prints is not for the other side
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        verb = question.pop("verb")
        answer: dict[str, object] = {}
        if verb == "load":
            kind = Raw if contender == "raw" else Package
            if contender == "sdist":
                _load_backends()
            made = kind(question["model"], question["context"], logits_all=question["logits_all"])
        assert made is not None
        if verb == "complete":
            seconds, tokens = made.complete(question["tokens"], question["option"])
            answer = {"seconds": seconds, "tokens": tokens}
        elif verb == "state":
            answer = {"bytes": made.state(question["tokens"])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
