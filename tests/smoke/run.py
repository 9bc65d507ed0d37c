"""Smoke test of an installed `llama_cpp`, run inside the environment that it is installed in.

Needs nothing but the standard library, the package and a folder of tiny models with `answers.json`
(`python -m tests.tiny FOLDER` writes it): every answer there was computed, none was measured.

    python -I run.py --models FOLDER [--json FILE] [--brief] [--allow-checkout]

Prints one line per check. `--json` writes what was found on this interpreter: version, tag,
implementation, free_threaded, passed, device, cpu_variant, and per check name, passed, seconds and
detail. Exit code 0 when all passed, 1 when not. Runs on Python 3.9 and newer, also free-threaded.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import io
import json
import logging
import math
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from llama_cpp import Llama
    from tests.tiny.answers import Answers, Greedy

CONTEXT = 512
END = 2  # </s> of the tiny models
THREADS = 4
# with --brief: one of each kind of arithmetic
BRIEF = ("llama-f32", "llama-q8_0", "llama-q4_0", "llama-q4_k")
ROUNDS = 3
# A hung thread must fail the check, not the schedule.
PATIENCE = 300.0

T = TypeVar("T")

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Failure(Exception):  # noqa: N818 - a finding, not an error of this script
    """A check found something other than it must be."""


class CheckResult(TypedDict):
    """What one check found."""

    name: str
    passed: bool
    seconds: float
    detail: str


def expect(found: object, wanted: object, what: str) -> None:
    """Raise unless `found` equals `wanted`."""
    if found != wanted:
        raise Failure(f"{what}: expected {wanted!r}, found {found!r}")


class Subject:
    """The package under test, the folder of models and their answers."""

    def __init__(self, folder: Path, *, allow_checkout: bool) -> None:
        """Read the answers in `folder`."""
        self.folder = folder
        self.allow_checkout = allow_checkout
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        self.models: dict[str, Answers] = answers["models"]
        self.device: str | None = None
        self.cpu_variant: str | None = None
        self._package: ModuleType | None = None

    @property
    def package(self) -> ModuleType:
        """The package, once `check_import` has imported it."""
        if self._package is None:
            raise Failure("not run: the package could not be imported")
        return self._package

    def import_package(self) -> ModuleType:
        """Import the package under test."""
        self._package = importlib.import_module("llama_cpp")
        return self._package

    def of_kind(self, kind: str) -> list[tuple[str, Answers]]:
        """Return (name, answers) of the models of one kind; none at all is a failure."""
        found = [(name, model) for name, model in self.models.items() if model["kind"] == kind]
        if not found:
            raise Failure(f"{self.folder / 'answers.json'} has no model of kind {kind!r}")
        return found

    def open(
        self,
        name: str,
        *,
        n_ctx: int = CONTEXT,
        embedding: bool = False,
        lora_path: str | None = None,
        rpc_servers: str | None = None,
    ) -> Llama:
        """Load a model on few threads: a smoke test shares its machine.

        `rpc_servers` get all its layers.
        """
        llama: Llama = self.package.Llama(
            model_path=str(self.folder / self.models[name]["file"]),
            n_ctx=n_ctx,
            n_threads=1,
            n_threads_batch=1,
            embedding=embedding,
            lora_path=lora_path,
            n_gpu_layers=0 if rpc_servers is None else -1,
            rpc_servers=rpc_servers,
            verbose=False,
        )
        return llama


def finish_reason(case: Greedy) -> str:
    """Say how a completion of as many tokens as the known answer has must end."""
    return "stop" if case["tokens"][-1] == END else "length"


def complete(
    llama: Llama, prompt: str | list[int], length: int, stop: str | None = None
) -> tuple[str, str | None]:
    """Return text and finish reason of a greedy completion."""
    answer = llama.create_completion(prompt, max_tokens=length, temperature=0.0, stop=stop)
    choice = answer["choices"][0]
    return choice["text"], choice["finish_reason"]


def stream(
    llama: Llama, prompt: list[int], length: int, stop: str | None = None
) -> tuple[str, str, int]:
    """Return the same as `complete`, and the number of parts that it came in."""
    parts, reasons = [], []
    for chunk in llama.create_completion(
        prompt, max_tokens=length, temperature=0.0, stream=True, stop=stop
    ):
        choice = chunk["choices"][0]
        parts.append(choice["text"])
        if choice["finish_reason"] is not None:
            reasons.append(choice["finish_reason"])
    if len(reasons) != 1:
        raise Failure(f"a stream has one finish reason, found {reasons!r}")
    return "".join(parts), reasons[0], sum(1 for part in parts if part)


def folder_of(package: ModuleType) -> Path:
    """Return the folder of the package's files, links resolved."""
    return Path(str(package.__file__)).resolve().parent


def check_import(subject: Subject) -> str:
    """The package comes from this environment, not from a checkout."""
    started = time.perf_counter()
    package = subject.import_package()
    milliseconds = 1000 * (time.perf_counter() - started)
    place = folder_of(package)
    if not subject.allow_checkout:
        if Path(sys.prefix).resolve() not in place.parents:
            raise Failure(
                f"imported from {place}, which is not in {sys.prefix}; run with `python -I` "
                "in an environment that the package is installed in, or pass --allow-checkout"
            )
        if os.environ.get("LLAMA_CPP_LIB_PATH"):
            raise Failure("LLAMA_CPP_LIB_PATH is set: unset it to test the package's own libraries")
    return f"{package.__version__} from {place} in {milliseconds:.0f} ms"


def check_build_info(subject: Subject) -> str:
    """The package says what it was built from."""
    info = subject.package.build_info()
    if not info:
        if subject.allow_checkout:
            return "none: not built, but a checkout"
        raise Failure("no build info in the package")
    base = info.version.partition("+")[0]
    expect(base, subject.package.__version__.partition("+")[0], "version in the build info")
    return (
        f"{info.version}, backend {info.backend}, llama.cpp {info.llama_cpp_commit}, "
        f"{info.compiler}"
    )


def check_libraries(subject: Subject) -> str:
    """What is mapped comes from the package itself, and is one ggml and one llama."""
    mapped = [Path(path).resolve() for path in subject.package.libraries()]
    for stem in ("ggml-base", "ggml", "llama"):
        found = [path.name for path in mapped if path.stem in {stem, f"lib{stem}"}]
        expect(len(found), 1, f"mapped copies of {stem}, {found}")
    home = folder_of(subject.package)
    foreign = [str(path) for path in mapped if home not in path.parents]
    if foreign and not subject.allow_checkout:
        raise Failure(f"mapped from outside the package {home}: {', '.join(foreign)}")
    return ", ".join(path.name for path in mapped)


def check_devices(subject: Subject) -> str:
    """At least the CPU is there to compute on."""
    devices = subject.package.devices()
    if not any(device.name == "CPU" for device in devices):
        raise Failure(f"no CPU among the devices {devices!r}")
    subject.device = "; ".join(f"{device.name}: {device.description}" for device in devices)
    return subject.device


def check_cpu_variant(subject: Subject) -> str:
    """One CPU variant was picked for this machine."""
    subject.cpu_variant = subject.package.cpu_variant()
    info = subject.package.build_info()
    if subject.cpu_variant is None and info and info.defines.get("GGML_CPU_ALL_VARIANTS") == "OFF":
        return "built without variants"
    if subject.cpu_variant is None and not subject.allow_checkout:
        raise Failure("no CPU variant is loaded; the package must hold one for every machine")
    return str(subject.cpu_variant)


def check_tokenize(subject: Subject) -> str:
    """Texts become the known tokens, and tokens the texts."""
    number = 0
    for name, model in subject.of_kind("llama"):
        with subject.open(name) as llama:
            for case in model["tokenize"]:
                text = case["text"].encode()
                tokens = llama.tokenize(text, add_bos=True, special=False)
                expect(tokens, case["tokens"], f"{name}: tokens of {case['text']!r}")
                # Without <s>: after it, a space may be taken for one that the tokenizer added.
                expect(llama.detokenize(tokens[1:]), text, f"{name}: text of {tokens[1:]}")
                number += 1
    return f"{number} texts, there and back"


def check_greedy(subject: Subject) -> str:
    """Greedy decoding gives the known tokens, of every quantisation."""
    number = 0
    for name, model in subject.of_kind("llama"):
        with subject.open(name) as llama:
            for case in model["greedy"]:
                number += greedy(llama, case, name)
    return f"{number} tokens of {len(subject.of_kind('llama'))} models"


def greedy(llama: Llama, case: Greedy, name: str) -> int:
    """Compare one greedy answer token by token; return its length."""
    tokens = llama.generate(case["prompt"], temp=0.0, top_k=1)
    found = list(islice(tokens, len(case["tokens"])))
    expect(found, case["tokens"], f"{name}: tokens after {case['prompt_text']!r}")
    return len(found)


def check_completion(subject: Subject) -> str:
    """Completions have the known text and end for the right reason, from text and from tokens."""
    number = 0
    for name, model in subject.of_kind("llama"):
        with subject.open(name) as llama:
            for case in model["greedy"]:
                prompts: list[str | list[int]] = [case["prompt"]]
                if case["prompt_text"]:
                    prompts.append(case["prompt_text"])
                for prompt in prompts:
                    found = complete(llama, prompt, len(case["tokens"]))
                    wanted = (case["text"], finish_reason(case))
                    expect(found, wanted, f"{name}: completion of {prompt!r}")
                    number += 1
    return f"{number} completions"


def check_streaming(subject: Subject) -> str:
    """A stream is its completion in parts; characters of several tokens come whole."""
    name, model = subject.of_kind("llama")[0]
    most = 0
    with subject.open(name) as llama:
        for case in model["greedy"]:
            text, reason, parts = stream(llama, case["prompt"], len(case["tokens"]))
            what = f"{name}: stream after {case['prompt_text']!r}"
            expect((text, reason), (case["text"], finish_reason(case)), what)
            most = max(most, parts)
    if most < 10:
        raise Failure(f"no stream had more than {most} parts: it is not streaming")
    return f"up to {most} parts"


def check_stop(subject: Subject) -> str:
    """A stop string ends the text before it, also where it spans tokens or a split character."""
    name, model = subject.of_kind("llama")[0]
    case = model["greedy"][0]
    stops = (" the", "ts the f", "🙂")
    with subject.open(name) as llama:
        for stop in stops:
            wanted = (case["text"].partition(stop)[0], "stop")
            if wanted[0] == case["text"]:
                raise Failure(f"the known answer {case['text']!r} has no {stop!r}")
            what = f"{name}: stop at {stop!r}"
            length = len(case["tokens"])
            expect(complete(llama, case["prompt"], length, stop=stop), wanted, what)
            expect(stream(llama, case["prompt"], length, stop=stop)[:2], wanted, what)
    return f"{len(stops)} stop strings"


def check_context(subject: Subject) -> str:
    """An object answers one prompt after another, whatever of the last one it still knows."""
    name, model = subject.of_kind("llama")[0]
    cases = model["greedy"]
    with subject.open(name) as llama:
        for case in [*cases, *reversed(cases), cases[0], cases[0]]:
            greedy(llama, case, name)
    return f"{2 * len(cases) + 2} prompts on one context"


def check_embeddings(subject: Subject) -> str:
    """Vectors are the known ones, and of length 1 where asked for."""
    worst = 0.0
    for name, model in subject.of_kind("embedding"):
        with subject.open(name, n_ctx=256, embedding=True) as llama:
            for case in model["embeddings"]:
                wanted = case["vector"]
                # One text, pooled: one vector.
                found = cast("list[float]", llama.embed(case["text"]))
                unit = cast("list[float]", llama.embed(case["text"], normalize=True))
                expect((len(found), len(unit)), (len(wanted),) * 2, f"{name}: components")
                length = math.hypot(*wanted)
                errors = [abs(a - b) for a, b in zip(found, wanted)]
                errors += [abs(a - b / length) for a, b in zip(unit, wanted)]
                if not max(errors) <= case["tolerance"]:
                    what = f"{name}: vector of {case['text']!r}"
                    raise Failure(f"{what} is off by {max(errors):.2g}")
                worst = max(worst, *errors)
    return f"largest error {worst:.1e}"


def check_lora(subject: Subject) -> str:
    """An adapter changes the answers that it must and leaves its base model alone."""
    number = 0
    for name, model in subject.of_kind("lora"):
        base = str(model["base"])
        with subject.open(base, lora_path=str(subject.folder / model["file"])) as llama:
            for case in model["greedy"]:
                number += greedy(llama, case, name)
        with subject.open(base) as llama:
            greedy(llama, subject.models[base]["greedy"][0], base)
    return f"{number} tokens"


def check_grammar(subject: Subject) -> str:
    """An answer matches a JSON schema, whatever the model would rather say."""
    schema = {
        "type": "object",
        "properties": {"up": {"type": "boolean"}, "n": {"type": "integer", "maximum": 99}},
        "required": ["up", "n"],
        "additionalProperties": False,
    }
    models = subject.of_kind("llama")
    grammar = subject.package.LlamaGrammar.from_json_schema(json.dumps(schema))
    for name, _ in models:
        with subject.open(name) as llama:
            done = llama("hello", max_tokens=64, temperature=0, grammar=grammar)
            text = done["choices"][0]["text"]
            try:
                expect(sorted(json.loads(text)), ["n", "up"], f"{name}: keys under a grammar")
            except ValueError:
                raise Failure(f"{name}: {text!r} under a grammar of JSON") from None
    return f"{len(models)} models"


def check_chat(subject: Subject) -> str:
    """A chat by the template in the model's file has the known answer, whole and streamed."""
    models = subject.of_kind("llama")
    messages = [{"role": "user", "content": "hello"}]
    for name, model in models:
        # what the template makes of the message, but for the token that begins a text
        prompt = "user: hello\nassistant:"
        (case,) = (case for case in model["greedy"] if case["prompt_text"] == prompt)
        length = len(case["tokens"])
        with subject.open(name) as llama:
            whole = llama.create_chat_completion(messages, max_tokens=length, temperature=0.0)
            choice = whole["choices"][0]
            found = choice["message"]["content"], choice["finish_reason"]
            expect(found, (case["text"], finish_reason(case)), f"{name}: chat")
            expect(whole["usage"]["prompt_tokens"], len(case["prompt"]), f"{name}: prompt tokens")
            parts = llama.create_chat_completion(
                messages, max_tokens=length, temperature=0.0, stream=True
            )
            text = "".join(str(part["choices"][0]["delta"].get("content", "")) for part in parts)
            expect(text, case["text"], f"{name}: streamed chat")
    return f"{len(models)} models, whole and streamed"


def check_state(subject: Subject) -> str:
    """What one object knew another one knows; a damaged state is refused."""
    models = subject.of_kind("llama")
    size = 0
    for name, model in models:
        case = max(model["greedy"], key=lambda case: len(case["prompt"]))
        with subject.open(name) as first, subject.open(name) as second:
            first.eval(case["prompt"])
            state = first.get_state()
            size = max(size, len(state))
            second.set_state(state)
            expect(int(second.n_tokens), len(case["prompt"]), f"{name}: tokens of a state")
            found = list(islice(second.generate([], temp=0, reset=False), len(case["tokens"])))
            expect(found, case["tokens"], f"{name}: tokens after a state")
            try:
                second.set_state(state[:-1])
            except subject.package.ValidationError:
                continue
            raise Failure(f"{name}: a state without its last byte was taken")
    return f"{len(models)} models, up to {size:,} bytes"


def check_pool(subject: Subject) -> str:
    """Requests together are answered as one by one."""
    name, model = subject.of_kind("llama")[0]
    cases = [case for case in model["greedy"] if case["prompt_text"] is not None]
    greedy = subject.package.SamplingParams(temperature=0)
    path = subject.folder / model["file"]
    count = len(cases[0]["tokens"])
    with subject.package.LlamaPool(path, 4, n_ctx=CONTEXT, n_threads=1, verbose=False) as pool:
        prompts = [case["prompt"] for case in cases]
        found = pool.sync.generate_batch(prompts, max_tokens=count, sampling=greedy)
        expect(found, [case["text"] for case in cases], f"{name}: a pool's answers")
    return f"{len(cases)} requests, 4 at a time"


def check_media(subject: Subject) -> str:
    """The library for images and audio loads."""
    mtmd = importlib.import_module(f"{subject.package.__name__}.mtmd_cpp")
    return f"mtmd's marker is {mtmd.mtmd_default_marker().decode()}"


def check_rpc(subject: Subject) -> str:
    """A server process of the same installation computes, all layers there, tokens exact."""
    name, model = subject.of_kind("llama")[0]
    # pytest runs a checkout, which -I would not see
    isolated = () if subject.allow_checkout else ("-I",)
    command = [sys.executable, *isolated, "-m", "llama_cpp", "rpc-server"]
    server = subprocess.Popen(
        [*command, "--device", "CPU", "--port", "0", "--threads", "1"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    # a server that never says its line must fail the check, not the schedule
    timer = threading.Timer(PATIENCE, server.kill)
    timer.start()
    try:
        assert server.stdout is not None
        # ggml's own lines may come before
        line = next((line for line in server.stdout if line.startswith("lending")), "")
        found = re.search(r"on (127\.0\.0\.1:\d+) ", line)
        if found is None:
            raise Failure(f"the server did not say where it listens: {line!r}")
        with subject.open(name, rpc_servers=found[1]) as llama:
            number = sum(greedy(llama, case, name) for case in model["greedy"])
    finally:
        timer.cancel()
        server.kill()
        server.communicate()
    return f"{number} tokens over {found[1]}"


def check_errors(subject: Subject) -> str:
    """Mistakes raise what they must, and the process and the object live on."""
    package = subject.package
    name, model = subject.of_kind("llama")[0]
    case = model["greedy"][0]
    path = subject.folder / model["file"]
    llama = subject.open(name)
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "truncated.gguf"
        broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        foreign = Path(folder) / "foreign.gguf"
        foreign.write_bytes(b"This is not a model.\n" * 100)
        mistakes = [
            (package.ModelLoadError, "a missing file", lambda: package.Llama(str(path) + ".no")),
            (package.ModelLoadError, "a truncated file", lambda: package.Llama(str(broken))),
            (package.ModelLoadError, "a foreign file", lambda: package.Llama(str(foreign))),
            (package.ValidationError, "a token out of range", lambda: llama.detokenize([320])),
            (package.ValidationError, "a negative token", lambda: complete(llama, [-1], 1)),
            (package.ValidationError, "a long prompt", lambda: complete(llama, [5] * 513, 1)),
        ]
        for error, what, mistake in mistakes:
            refused(error, what, mistake)
    greedy(llama, case, name)
    llama.close()
    llama.close()
    closed = [
        ("tokenize", lambda: llama.tokenize(b"text")),
        ("generate", lambda: next(iter(llama.generate([1], temp=0.0)))),
        ("create_completion", lambda: complete(llama, "text", 1)),
    ]
    for what, use in closed:
        refused(package.LlamaError, f"{what} after close", use)
    return f"{len(mistakes) + len(closed)} mistakes"


def refused(error: type[Exception], what: str, action: Callable[[], object]) -> None:
    """Raise unless `action` raises `error` with a message."""
    try:
        found = action()
    except error as raised:
        if not str(raised).strip():
            raise Failure(f"{what}: {type(raised).__name__} without a message") from raised
    else:
        raise Failure(f"{what}: expected {error.__name__}, found {found!r}")


def check_gil(_subject: Subject) -> str:
    """A free-threaded Python is still free-threaded after all that has run."""
    if not FREE_THREADED:
        return "not a free-threaded build"
    # Absent before Python 3.13, where no build is free-threaded.
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled")  # noqa: B009
    if enabled():
        raise Failure("the GIL is on: something has switched it on, or PYTHON_GIL or -X gil has")
    return "still off"


def in_threads(works: Sequence[Callable[[], None]]) -> None:
    """Run the callables side by side, started at once; raise the first thing that went wrong."""
    barrier = threading.Barrier(len(works))
    errors: list[Exception] = []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(PATIENCE)
            work()
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the check's result
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    hung = sum(1 for thread in threads if thread.is_alive())
    if hung:
        raise Failure(f"{hung} of {len(threads)} threads still ran after {PATIENCE:.0f} s")


def check_threads_own(subject: Subject) -> str:
    """Threads with a model object each do not disturb one another."""
    models = subject.of_kind("llama")

    def work(name: str, model: Answers) -> None:
        for _ in range(ROUNDS):
            with subject.open(name) as llama:
                for case in model["greedy"]:
                    greedy(llama, case, name)
                    found = complete(llama, case["prompt"], len(case["tokens"]))
                    expect(found[0], case["text"], f"{name}: completion of {case['prompt']}")

    chosen = [models[index % len(models)] for index in range(THREADS)]
    in_threads([partial(work, *pair) for pair in chosen])
    return f"{THREADS} threads, an object each"


def check_threads_one(subject: Subject) -> str:
    """Threads that share one model object each get their own right answer."""
    name, model = subject.of_kind("llama")[0]
    with subject.open(name) as llama:

        def work(first: int) -> None:
            cases = model["greedy"]
            for index in range(ROUNDS * len(cases)):
                case = cases[(first + index) % len(cases)]
                found = complete(llama, case["prompt"], len(case["tokens"]))
                wanted = (case["text"], finish_reason(case))
                expect(found, wanted, f"{name}: completion of {case['prompt_text']!r}")

        in_threads([partial(work, 4 * index) for index in range(THREADS)])
    return f"{THREADS} threads on one object, {ROUNDS * len(model['greedy'])} completions each"


CHECKS = (
    ("import", check_import),
    ("build info", check_build_info),
    ("libraries", check_libraries),
    ("devices", check_devices),
    ("cpu variant", check_cpu_variant),
    ("tokenize", check_tokenize),
    ("greedy tokens", check_greedy),
    ("completion", check_completion),
    ("streaming", check_streaming),
    ("stop strings", check_stop),
    ("context reuse", check_context),
    ("embeddings", check_embeddings),
    ("lora", check_lora),
    ("grammar", check_grammar),
    ("chat", check_chat),
    ("state", check_state),
    ("pool", check_pool),
    ("media", check_media),
    ("rpc", check_rpc),
    ("errors", check_errors),
    ("threads, own objects", check_threads_own),
    ("threads, one object", check_threads_one),
    # Last, because by now all that could switch it on has run.
    ("gil", check_gil),
)


# what needs more than the wheel: a check that did not run must not count as one that passed
NEEDS = {"grammar": "numpy", "chat": "jinja2"}


def run_check(subject: T, name: str, check: Callable[[T], str]) -> CheckResult:
    """Run one check, print its line and return its record."""
    started = time.perf_counter()
    try:
        detail, passed = check(subject), True
    except Failure as failure:
        detail, passed = str(failure), False
    except Exception as error:  # noqa: BLE001 - a check that breaks has failed; the next still runs
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        detail, passed = f"{type(error).__name__}: {error} ({place})", False
    seconds = time.perf_counter() - started
    line = " | ".join(detail.split("\n"))
    print(f"{'ok  ' if passed else 'FAIL'} {name:<22} {seconds:7.3f} s  {line}", flush=True)
    return {"name": name, "passed": passed, "seconds": round(seconds, 4), "detail": detail}


def interpreter_tag() -> str:
    """Return the interpreter part of a wheel tag, with "t" where the build is free-threaded."""
    short = {"CPython": "cp", "PyPy": "pp"}.get(platform.python_implementation(), "py")
    return f"{short}{sys.version_info[0]}{sys.version_info[1]}{'t' if FREE_THREADED else ''}"


def main() -> None:
    """Run all checks; exit with 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of the tiny models")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument(
        "--allow-checkout",
        action="store_true",
        help="accept a package that is not installed in this environment",
    )
    parser.add_argument(
        "--brief",
        action="store_true",
        help=f"of the language models only {', '.join(BRIEF)}: where an emulator takes minutes for each",
    )
    options = parser.parse_args()
    faulthandler.enable()
    # Errors are provoked here, and what llama.cpp says to them is in the exceptions.
    logging.getLogger("llama_cpp").addHandler(logging.NullHandler())
    for output in (sys.stdout, sys.stderr):
        # A pipe's encoding is the system's, and the details hold more than that may know.
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(encoding="utf-8", errors="replace")
    try:
        subject = Subject(options.models, allow_checkout=options.allow_checkout)
    except (OSError, ValueError, KeyError) as error:
        parser.error(
            f"{options.models} holds no tiny models ({error}); "
            "write them with `python -m tests.tiny FOLDER`"
        )
    if options.brief:
        subject.models = {
            name: model
            for name, model in subject.models.items()
            if model["kind"] != "llama" or name in BRIEF
        }
    checks = []
    for name, check in CHECKS:
        needed = NEEDS.get(name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            print(f"left out {name}: {needed} is not installed here", flush=True)
            continue
        checks.append(run_check(subject, name, check))
    result = {
        "version": platform.python_version(),
        "tag": interpreter_tag(),
        "implementation": platform.python_implementation(),
        "free_threaded": FREE_THREADED,
        "passed": all(check["passed"] for check in checks),
        "device": subject.device,
        "cpu_variant": subject.cpu_variant,
        "checks": checks,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    failed = [check["name"] for check in checks if not check["passed"]]
    total = sum(check["seconds"] for check in checks)
    print(
        f"{result['implementation']} {result['version']} ({result['tag']}): "
        + (f"failed: {', '.join(failed)}" if failed else f"all {len(checks)} checks passed")
        + f" in {total:.1f} s",
        flush=True,
    )
    if failed:
        # At a normal exit the package would free what a hung thread may still use.
        os._exit(1)


if __name__ == "__main__":
    main()
