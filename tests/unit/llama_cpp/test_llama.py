"""The high-level object against the tiny models' known answers."""

from __future__ import annotations

import gc
import math
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import (
    LLAMA_POOLING_TYPE_MEAN,
    LLAMA_POOLING_TYPE_NONE,
    Llama,
    LlamaError,
    ModelLoadError,
    ValidationError,
)

if TYPE_CHECKING:
    from pathlib import Path

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
        abs(a - b) <= tolerance for a, b in zip(found, known, strict=True)
    )


def test_embeddings(tiny: Path, answers: dict[str, Any]) -> None:
    model = answers["bert-f32"]
    cases = model["embeddings"]
    with Llama(tiny / model["file"], n_threads=1, embedding=True) as llm:
        assert llm.n_embd() == len(cases[0]["vector"])
        for case in cases:
            assert near(llm.embed(case["text"]), case["vector"], case["tolerance"])
        together = llm.embed([case["text"] for case in cases] * 20)
        for found, case in zip(together, cases * 20, strict=True):
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
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
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


def test_penalties_see_the_prompt(llm: Llama) -> None:
    first = next(llm.generate([1], temp=0))
    assert next(llm.generate([first, 1], temp=0)) == first
    assert next(llm.generate([first, 1], temp=0, presence_penalty=1000.0)) != first


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


def test_unknown_keywords_are_refused(model_file: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        Llama(model_file, nonsense=1)  # type: ignore[call-arg]
