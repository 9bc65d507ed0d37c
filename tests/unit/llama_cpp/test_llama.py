"""The high-level object against the tiny models' known answers."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import gguf
import pytest

from llama_cpp import (
    LLAMA_POOLING_TYPE_MEAN,
    LLAMA_POOLING_TYPE_NONE,
    Llama,
    LlamaError,
    ModelLoadError,
    SamplingParams,
    ValidationError,
)
from tests.sequences import paired

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

KINDS = ("llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0")


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("flash_attn", [False, True])
def test_known_answers(tiny: Path, answers: dict[str, Any], name: str, flash_attn: bool) -> None:
    with Llama(tiny / f"{name}.gguf", n_threads=1, flash_attn=flash_attn) as llm:
        for case in answers[name]["greedy"]:
            count = len(case["tokens"])
            done = llm.create_completion(case["prompt"], max_tokens=count, temperature=0)
            assert done["choices"][0]["text"] == case["text"]
            parts = llm.create_completion(
                case["prompt"], max_tokens=count, temperature=0, stream=True
            )
            assert "".join(part["choices"][0]["text"] for part in parts) == case["text"]
            if case["prompt_text"] is not None:
                done = llm(case["prompt_text"], max_tokens=count, temperature=0)
                assert done["choices"][0]["text"] == case["text"]


def test_lora(tiny: Path, answers: dict[str, Any]) -> None:
    lora = answers["lora-f32"]
    base = tiny / answers[lora["base"]]["file"]
    with Llama(base, n_threads=1, lora_path=tiny / lora["file"]) as llm:
        for case in lora["greedy"]:
            done = llm.create_completion(
                case["prompt"], max_tokens=len(case["tokens"]), temperature=0
            )
            assert done["choices"][0]["text"] == case["text"]
    with Llama(base, n_threads=1, lora_path=tiny / lora["file"], lora_scale=0.0) as llm:
        for case in answers[lora["base"]]["greedy"]:
            done = llm.create_completion(
                case["prompt"], max_tokens=len(case["tokens"]), temperature=0
            )
            assert done["choices"][0]["text"] == case["text"]


def near(found: object, known: list[float], tolerance: float) -> bool:
    assert isinstance(found, list)
    return len(found) == len(known) and all(
        abs(a - b) <= tolerance for a, b in paired(found, known)
    )


def test_embeddings(tiny: Path, answers: dict[str, Any]) -> None:
    model = answers["bert-f32"]
    cases = model["embeddings"]
    with Llama(tiny / model["file"], n_threads=1, embedding=True) as llm:
        assert llm.n_embd() == len(cases[0]["vector"])
        for case in cases:
            assert near(llm.embed(case["text"]), case["vector"], case["tolerance"])
        together = llm.embed([case["text"] for case in cases] * 20)
        for found, case in paired(together, cases * 20):
            assert near(found, case["vector"], case["tolerance"])
        unit = llm.embed(cases[0]["text"], normalize=True)
        length = math.sqrt(sum(x * x for x in cases[0]["vector"]))
        assert near(unit, [x / length for x in cases[0]["vector"]], cases[0]["tolerance"])
        assert llm.embed([]) == []


def test_embedding_per_token_and_pooled(model_file: Path) -> None:
    with Llama(
        model_file, n_threads=1, embedding=True, pooling_type=LLAMA_POOLING_TYPE_NONE
    ) as llm:
        rows: list[Any] = llm.embed("hello")
        assert (len(rows), len(rows[0])) == (len(llm.tokenize("hello")), llm.n_embd())
    with Llama(
        model_file, n_threads=1, embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN
    ) as llm:
        mean = [sum(column) / len(rows) for column in paired(*rows)]
        assert near(llm.embed("hello"), mean, 1e-4)


def test_generation_and_embedding_by_one_object(model_file: Path, answers: dict[str, Any]) -> None:
    case = answers["llama-f32"]["greedy"][0]
    with Llama(model_file, n_threads=1, embedding=True, pooling_type=1) as llm:
        before = llm.embed(["hello", " morning"])
        for _ in range(2):
            done = llm.create_completion(
                case["prompt"], max_tokens=len(case["tokens"]), temperature=0
            )
            assert done["choices"][0]["text"] == case["text"]
            assert llm.embed(["hello", " morning"]) == before


def test_a_text_that_does_not_fit_an_embedding(tiny: Path) -> None:
    with Llama(tiny / "bert-f32.gguf", n_threads=1, embedding=True) as llm:
        assert len(llm.embed("sun " * 3000)) == llm.n_embd()
        with pytest.raises(ValidationError) as caught:
            llm.embed("sun " * 3000, truncate=False)
        assert str(caught.value) == (
            "text 0 has 3002 tokens, and 256 fit: shorten it, or pass truncate=True"
        )


def test_completion_shape(llm: Llama, model_file: Path) -> None:
    done = llm.create_completion(" morning", max_tokens=5, temperature=0, echo=True)
    assert done["object"] == "text_completion"
    assert done["id"].startswith("cmpl-")
    assert done["model"] == str(model_file)
    assert done["choices"][0]["text"].startswith(" morning sun")
    assert done["choices"][0]["index"] == 0
    assert done["choices"][0]["logprobs"] is None
    assert done["choices"][0]["finish_reason"] == "length"
    prompt = len(llm.tokenize(" morning"))
    assert done["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 5,
        "total_tokens": prompt + 5,
    }
    assert llm.create_completion([1], max_tokens=1, model="m")["model"] == "m"


def test_chunk_shape(llm: Llama) -> None:
    chunks = list(llm.create_completion(" morning", max_tokens=5, temperature=0, stream=True))
    assert len({chunk["id"] for chunk in chunks}) == 1
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [*[None] * (len(chunks) - 1), "length"]
    assert chunks[-1]["choices"][0]["text"] == ""
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("stop", ["fog", ["fog"], ["nothing", "fog 🙂"], [" the fog"], ["🙂"]])
def test_stop_strings(llm: Llama, stop: str | list[str]) -> None:
    whole = llm.create_completion([1], max_tokens=40, temperature=0)["choices"][0]["text"]
    stops = [stop] if isinstance(stop, str) else stop
    cut = min(whole.index(text) for text in stops if text in whole)
    done = llm.create_completion([1], max_tokens=40, temperature=0, stop=stop)
    assert done["choices"][0]["text"] == whole[:cut]
    assert done["choices"][0]["finish_reason"] == "stop"
    parts = list(llm.create_completion([1], max_tokens=40, temperature=0, stop=stop, stream=True))
    assert "".join(part["choices"][0]["text"] for part in parts) == whole[:cut]
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_models_own_end(llm: Llama) -> None:
    done = llm.create_completion([1], max_tokens=9, temperature=0, logit_bias={2: 1e9})
    assert done["choices"][0] == {
        "text": "",
        "index": 0,
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert done["usage"]["completion_tokens"] == 0


def test_equal_seeds_give_equal_text(llm: Llama) -> None:
    texts = [
        llm.create_completion([1], max_tokens=30, temperature=3.0, top_k=0, seed=seed)["choices"][
            0
        ]["text"]
        for seed in (1, 2, 1)
    ]
    assert texts[0] == texts[2] != texts[1]


@pytest.mark.parametrize("temperature", [0, 0.0, -1, 1e-40])
def test_no_temperature_is_greedy(llm: Llama, answers: dict[str, Any], temperature: float) -> None:
    case = answers["llama-f32"]["greedy"][0]
    done = llm.create_completion(
        case["prompt"], max_tokens=len(case["tokens"]), temperature=temperature
    )
    assert done["choices"][0]["text"] == case["text"]


def test_forbidden_tokens_do_not_come(llm: Llama) -> None:
    first = next(llm.generate([1], temp=0))
    second = next(llm.generate([1], temp=0, logit_bias={first: -math.inf}))
    assert first != second
    assert next(llm.generate([1], temp=0, logit_bias={7: 100.0})) == 7


def test_penalties_see_the_prompt_when_asked(llm: Llama) -> None:
    first = next(llm.generate([1], temp=0))
    assert next(llm.generate([first, 1], temp=0)) == first
    assert next(llm.generate([first, 1], temp=0, presence_penalty=1000.0)) == first
    strict = llm.generate([first, 1], temp=0, presence_penalty=1000.0, penalize_prompt=True)
    assert next(strict) != first


@pytest.mark.parametrize("mode", [1, 2])
def test_mirostat_runs(llm: Llama, mode: int) -> None:
    texts = {
        llm.create_completion([1], max_tokens=9, mirostat_mode=mode, seed=3)["choices"][0]["text"]
        for _ in range(2)
    }
    assert len(texts) == 1


def test_metadata_and_facts(llm: Llama) -> None:
    assert llm.metadata["general.architecture"] == "llama"
    assert (llm.n_ctx(), llm.n_embd(), llm.pooling_type(), llm.n_tokens) == (512, 64, 0, 0)


def test_vocab_only_cannot_compute(model_file: Path) -> None:
    with Llama(model_file, vocab_only=True) as llm:
        assert llm.tokenize("hello")[0] == llm.token_bos()
        with pytest.raises(LlamaError) as caught:
            llm.create_completion("a")
        assert (
            str(caught.value) == "the model was loaded with vocab_only=True and can only tokenize"
        )


def test_an_embedding_model_does_not_generate(tiny: Path) -> None:
    with Llama(tiny / "bert-f32.gguf", n_threads=1) as llm, pytest.raises(LlamaError) as caught:
        llm.create_completion("sun")
    assert str(caught.value).startswith("bert-f32.gguf is an embedding model (")


def test_embed_needs_to_be_asked_for(llm: Llama) -> None:
    with pytest.raises(LlamaError) as caught:
        llm.embed("a")
    assert str(caught.value) == "load the model with embedding=True to make embeddings"


def test_close_is_final_and_idempotent(model_file: Path) -> None:
    llm = Llama(model_file, n_threads=1)
    stream = llm.create_completion([1], stream=True)
    next(stream)
    llm.close()
    llm.close()
    assert llm.closed
    assert repr(llm) == f"<Llama {str(model_file)!r} closed>"
    for use in (
        lambda: llm.create_completion("a"),
        lambda: llm.tokenize("a"),
        lambda: llm.detokenize([5]),
        lambda: llm.embed("a"),
        llm.n_ctx,
        lambda: llm.metadata,
        llm.reset,
        lambda: llm.eval([1]),
        lambda: next(llm.generate([1])),
        lambda: next(stream),
    ):
        with pytest.raises(LlamaError, match=r"^the (model|context|sampler) is closed; "):
            use()


def test_dropping_the_last_reference_frees(model_file: Path) -> None:
    llm = Llama(model_file, n_threads=1)
    handle = llm._core.handle
    watch = weakref.ref(llm)
    list(llm.create_completion([1], stream=True))
    del llm
    if watch() is not None:
        gc.collect()
    assert watch() is None
    assert handle.closed


def test_a_failed_load_frees_the_model(tiny: Path, model_file: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        Llama(model_file, n_threads=1, lora_path=model_file)
    assert str(caught.value).startswith(
        f"llama.cpp cannot use {model_file} as a LoRA adapter of {model_file}; its own words follow\n"
        "  llama.cpp: "
    )
    assert caught.value.log
    assert (tiny / "llama-f32.gguf").exists()


def test_unknown_keywords_are_ignored_but_named(
    model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "llama_cpp"), Llama(model_file, nonsense=1, f16_kv=True) as llm:
        assert llm.n_vocab() == 320
    assert "Llama(…) ignored f16_kv, nonsense" in caplog.messages


def test_overridden_metadata(model_file: Path) -> None:
    overrides: dict[str, bool | int | float | str] = {
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eos_token_id": 7,
        "llama.rope.freq_base": 5e5,
        "general.name": "another",
    }
    with Llama(model_file, n_threads=1, kv_overrides=overrides) as llm:
        assert llm.tokenize("hello") == llm.tokenize("hello", add_bos=False)
        assert llm.token_eos() == 7
    with Llama(model_file, n_threads=1) as llm:
        assert llm.tokenize("hello")[0] == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"": 1}, "kv_overrides has the key ''; a key is 1 to 127 bytes of text"),
        ({5: 1}, "kv_overrides has the key 5; a key is 1 to 127 bytes of text"),
        (
            {"k": "é" * 64},
            (
                "kv_overrides has 128 bytes for 'k'; llama.cpp takes texts of at most 127 bytes, "
                "without a NUL character"
            ),
        ),
        (
            {"k": 2**63},
            (
                "kv_overrides['k'] is 9223372036854775808; choose an integer from "
                "-9223372036854775808 to 9223372036854775807"
            ),
        ),
        (
            {"k": math.nan},
            "kv_overrides has nan for 'k'; give a bool, an int, a finite float or a str",
        ),
        (
            {"k": None},
            "kv_overrides has None for 'k'; give a bool, an int, a finite float or a str",
        ),
        ([("k", 1)], "kv_overrides is [('k', 1)]; give a dict of keys to values"),
    ],
)
def test_overrides_that_llama_cpp_cannot_hold(
    model_file: Path, overrides: Any, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Llama(model_file, kv_overrides=overrides)
    assert str(caught.value) == message


def test_progress_is_told(model_file: Path) -> None:
    shares: list[float] = []
    with Llama(model_file, n_threads=1, progress_callback=shares.append):
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_progress_can_end_the_loading(model_file: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        Llama(model_file, progress_callback=lambda _share: False)
    assert str(caught.value) == f"{model_file} was not loaded: progress_callback returned False"


def test_what_the_progress_raises_arrives(model_file: Path) -> None:
    def fail(_share: float) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Llama(model_file, progress_callback=fail)


def test_n_tokens_is_a_number_and_counts(llm: Llama) -> None:
    llm.eval([1, 5, 6, 7])
    assert (llm.n_tokens, llm.n_tokens("hello")) == (4, len(llm.tokenize("hello")))
    assert llm.n_tokens("hello", add_bos=False) == len(llm.tokenize("hello")) - 1


def test_setting_n_tokens_goes_back(llm: Llama, answers: dict[str, Any]) -> None:
    case = answers["llama-f32"]["greedy"][0]
    prompt = case["prompt"]
    llm.eval([*prompt, 20, 21, 22])
    llm.n_tokens = len(prompt)
    assert list(llm.eval_tokens) == prompt
    llm.n_tokens = len(prompt) - 1
    llm.eval(prompt[-1:])
    assert llm.eval_logits[-1].index(max(llm.eval_logits[-1])) == case["tokens"][0]
    with pytest.raises(ValidationError) as caught:
        llm.n_tokens = 99
    assert str(caught.value) == f"n_tokens is 99; choose an integer from 0 to {len(prompt)}"


def test_arrays_that_clients_read(llm: Llama) -> None:
    llm.eval([1, 5, 6])
    assert llm.input_ids.shape == (512,)
    assert llm.input_ids[:4].tolist() == [1, 5, 6, 0]
    assert llm._input_ids.tolist() == [1, 5, 6]
    assert list(llm.eval_tokens) == [1, 5, 6]
    assert llm.scores.shape == (512, 320)
    assert llm._scores.shape == (3, 320)
    assert llm.scores[llm.n_tokens - 1].tolist() == llm._scores[-1].tolist() == llm.eval_logits[-1]
    assert llm.eval_logits[-1] == llm._engine.context.logits()  # type: ignore[union-attr]
    assert isinstance(llm.model, int)
    assert isinstance(llm.ctx, int)
    assert llm.context_params.n_ctx == 512
    assert llm.model_params.use_extra_bufts


def test_probabilities_of_logits() -> None:
    found = Llama.logits_to_logprobs([[0.0, math.log(3.0)], [-math.inf, 1000.0]])
    assert found.dtype == "float32"
    assert found.tolist()[0] == pytest.approx([math.log(0.25), math.log(0.75)], rel=1e-6)
    assert found.tolist()[1] == [-math.inf, 0.0]


def test_the_longest_prefix() -> None:
    assert Llama.longest_token_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert Llama.longest_token_prefix([], [1]) == 0


def test_the_seed_of_an_object(llm: Llama) -> None:
    def text() -> str:
        return llm([1], max_tokens=20, temperature=3.0, top_k=0)["choices"][0]["text"]

    llm.set_seed(5)
    first = text()
    assert text() == first
    llm.set_seed(6)
    assert text() != first
    llm.set_seed(-1)
    assert len({text() for _ in range(4)}) > 1
    with pytest.raises(ValidationError):
        llm.set_seed(-2)


def test_a_seed_of_minus_one_is_any(model_file: Path) -> None:
    """What langchain's default is."""
    with Llama(model_file, seed=-1, n_threads=1, n_threads_batch=1) as llm:
        texts = {
            llm([1], max_tokens=20, temperature=3.0, top_k=0)["choices"][0]["text"]
            for _ in range(4)
        }
    assert len(texts) > 1


class Letters:
    """A tokenizer: a token per letter."""

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        return [1] * add_bos + [10 + byte % 90 for byte in text]

    def detokenize(
        self, tokens: list[int], prev_tokens: list[int] | None = None, special: bool = False
    ) -> bytes:
        return bytes(token + 80 for token in tokens)


def test_another_tokenizer(model_file: Path) -> None:
    with Llama(model_file, n_threads=1, tokenizer=Letters()) as llm:
        assert llm.tokenize("ab", add_bos=False) == [17, 18]
        assert llm.detokenize([17, 18]) == b"ab"
        with pytest.raises(ValidationError):
            llm.detokenize([999])


def test_the_defaults_of_yarn_are_the_models_own(model_file: Path) -> None:
    with Llama(model_file, n_threads=1) as llm:
        own = llm.context_params
        assert (own.yarn_attn_factor, own.yarn_beta_fast, own.yarn_beta_slow) == (-1, -1, -1)
    with Llama(model_file, n_threads=1, yarn_beta_fast=8.0, yarn_attn_factor=0.5) as llm:
        own = llm.context_params
        assert (own.yarn_attn_factor, own.yarn_beta_fast, own.yarn_beta_slow) == (0.5, 8, -1)


def test_numa_is_a_strategy(model_file: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        Llama(model_file, numa=9)
    assert str(caught.value) == "numa is 9; choose an integer from 0 to 4"


def test_numa_is_started_once(run_python: Callable[..., Outcome], model_file: Path) -> None:
    ended = run_python(
        "import sys\nfrom llama_cpp import Llama\n"
        "for _ in range(2): Llama(sys.argv[1], numa=True, n_threads=1, verbose=False).close()\n"
        "Llama(sys.argv[1], numa=3, verbose=False)",
        str(model_file),
    )
    assert "NUMA already initialized" not in ended.error
    assert ended.last_line == (
        "llama_cpp._errors.LlamaError: numa is 3, but ggml was started with strategy 1 in this "
        "process, which can be chosen once; use the same one, or another process"
    )


def test_a_pickle_loads_again(model_file: Path, tiny: Path, answers: dict[str, Any]) -> None:
    case = answers["lora-f32"]["greedy"][0]
    with Llama(model_file, n_threads=1, n_ctx=1024, progress_callback=lambda _share: None) as llm:
        llm.load_lora(tiny / "lora-f32.gguf")
        llm.set_seed(77)
        stored = pickle.dumps(llm)
    with pickle.loads(stored) as again:
        assert (again.n_ctx(), again._seed) == (1024, 77)
        done = again(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
        assert done["choices"][0]["text"] == case["text"]


def test_an_object_that_was_never_loaded_is_closed() -> None:
    empty = Llama.__new__(Llama)
    assert empty.closed
    empty.close()
    assert repr(empty) == "<Llama None closed>"


def split(source: Path, folder: Path, parts: int) -> Path:
    """Write the tensors of ``source`` into several files; return the first one's path."""
    reader = gguf.GGUFReader(source)
    first = folder / f"split-00001-of-{parts:05}.gguf"
    for part in range(parts):
        writer = gguf.GGUFWriter(folder / f"split-{part + 1:05}-of-{parts:05}.gguf", "llama")
        for field in reader.fields.values():
            if part == 0 and not field.name.startswith(("GGUF.", "general.architecture")):
                kinds = field.types
                writer.add_key_value(
                    field.name,
                    field.contents(),
                    kinds[0],
                    kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None,
                )
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", parts)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[part::parts]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return first


def test_a_model_in_parts(model_file: Path, tmp_path: Path, answers: dict[str, Any]) -> None:
    first = split(model_file, tmp_path, 3)
    case = answers["llama-f32"]["greedy"][0]
    with Llama(first, n_threads=1) as llm:
        done = llm(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
        assert done["choices"][0]["text"] == case["text"]
    (tmp_path / "split-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelLoadError, match="split-00002-of-00003"):
        Llama(first)


def test_generate_by_the_kind_of_the_prompt(llm: Llama) -> None:
    text = llm.create_completion(" morning", max_tokens=6, temperature=0)["choices"][0]["text"]
    greedy = SamplingParams(temperature=0)
    assert llm.generate(" morning", max_tokens=6, sampling=greedy) == text
    assert llm.generate(prompt=" morning", max_tokens=6, sampling=greedy) == text  # type: ignore[call-overload]
    assert "".join(llm.generate(" morning", 6, greedy, stream=True)) == text
    assert "".join(llm.generate_stream(" morning", 6, greedy)) == text
    ids = list(itertools.islice(llm.generate(llm.tokenize(" morning"), temp=0), 6))
    assert llm.detokenize(ids).decode() == text


def test_awaited(model_file: Path) -> None:
    async def use() -> tuple[str, int]:
        with Llama(model_file, n_threads=1, embedding=True, pooling_type=1) as llm:
            text = await llm.generate_async(" morning", 6, SamplingParams(temperature=0))
            vectors = await llm.create_embedding_async("hello")
            return text, len(vectors["data"][0]["embedding"])

    assert asyncio.run(use()) == (" sun lifts the", 64)


def test_measurements(llm: Llama) -> None:
    llm.eval([1, 5, 6])
    assert llm.perf()["n_p_eval"] == 3
    llm.eval([7])
    found = llm.perf()
    assert (found["n_p_eval"], found["n_eval"]) == (3, 1)
    assert found["t_p_eval_ms"] > 0
    llm.perf_reset()
    assert llm.perf()["t_p_eval_ms"] == 0


def test_tokenizers_as_objects(llm: Llama) -> None:
    assert llm.tokenizer().encode("hello") == llm.tokenize("hello", special=True)
    assert llm.tokenizer_.decode(llm.tokenize(" morning")) == " morning"


@pytest.mark.parametrize(
    "name",
    [
        "LlamaState",
        "LogitsProcessorList",
        "LlamaCache",
        "LlamaGrammar",
        "ChatCompletion",
        "set_verbose",
    ],
)
def test_other_names_of_the_module(name: str) -> None:
    from llama_cpp import llama  # noqa: PLC0415 - the module itself is under test

    assert name in dir(llama)
    assert name in vars(llama)
    assert callable(getattr(llama, name))
    with pytest.raises(
        AttributeError, match=r"^module 'llama_cpp\.llama' has no attribute 'nonsense'$"
    ):
        _ = llama.nonsense  # type: ignore[attr-defined]


def test_the_core_by_internal_names(llm: Llama, answers: dict[str, Any]) -> None:
    case = answers["llama-f32"]["greedy"][0]
    assert llm._model.model == llm.model
    assert llm._ctx.ctx == llm.ctx
    assert llm._model is llm._model
    assert llm._model.n_vocab() == 320
    assert llm._ctx.n_ctx() == 512
    assert llm._batch.n_tokens() == 0
    llm.eval(case["prompt"])
    llm._ctx.kv_cache_clear()
    done = llm(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
    assert done["choices"][0]["text"] == case["text"]
    llm.eval([5, 6, 7])
    llm._ctx.kv_cache_seq_rm(-1, len(case["prompt"]), -1)
    llm.n_tokens = len(case["prompt"])
    assert list(llm.eval_tokens) == case["prompt"]
    assert next(llm.generate([], temp=0, reset=False)) == case["tokens"][0]


def test_a_cache_is_a_mapping(llm: Llama) -> None:
    with pytest.raises(ValidationError) as caught:
        llm.set_cache(5)
    assert str(caught.value) == "the cache is 5; give a LlamaRAMCache, for example"
    llm.set_cache(None)
