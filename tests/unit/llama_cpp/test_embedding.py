"""Embeddings and ranking against what a closed formula says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from llama_cpp import (
    LLAMA_POOLING_TYPE_CLS,
    LLAMA_POOLING_TYPE_LAST,
    LLAMA_POOLING_TYPE_MEAN,
    LLAMA_POOLING_TYPE_NONE,
    LLAMA_POOLING_TYPE_RANK,
    Llama,
    LlamaError,
    ValidationError,
)
from tests.tiny import bert
from tests.tiny.bert import CLS, SEP, WIDTH, TinyBert
from tests.tiny.codes import signs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tiny.codes import Array

pytestmark = pytest.mark.build

MODEL = TinyBert(name="bert-f32")
TEXT = "the sun lifts the fog"
KINDS = ("llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0")


def rows_of(tokens: list[int]) -> Array:
    """Return the model's vectors before pooling, shape (tokens, 64)."""
    w = bert.bert_weights()
    x = w["token_embd.weight"][tokens] + w["token_types.weight"][0]
    x = bert._norm(x + w["position_embd.weight"][: len(tokens)])
    y = bert._norm(x + w["blk.0.attn_output.weight"] @ w["blk.0.attn_v.weight"] @ x.mean(axis=0))
    up = y @ w["blk.0.ffn_up.weight"].T
    return bert._norm(y + bert._gelu(up) @ w["blk.0.ffn_down.weight"].T)


def near(found: object, known: Array, tolerance: float = 0.02) -> bool:
    return bool(np.allclose(np.asarray(found), known, atol=tolerance))


@pytest.mark.parametrize(
    ("pooling", "choose"),
    [
        (LLAMA_POOLING_TYPE_NONE, lambda rows: rows),
        (LLAMA_POOLING_TYPE_MEAN, lambda rows: rows.mean(axis=0)),
        (LLAMA_POOLING_TYPE_CLS, lambda rows: rows[0]),
        (LLAMA_POOLING_TYPE_LAST, lambda rows: rows[-1]),
    ],
)
def test_pooling(tiny: Path, pooling: int, choose: Any) -> None:
    with Llama(tiny / "bert-f32.gguf", n_threads=1, embedding=True, pooling_type=pooling) as llm:
        assert near(llm.embed(TEXT), choose(rows_of(MODEL.encode(TEXT))))
        two = llm.embed([TEXT, "fog"])
        assert near(two[1], choose(rows_of(MODEL.encode("fog"))))


@pytest.mark.parametrize("quantisation", ["f32", "f16", "q8_0", "q4_0"])
def test_known_vectors(tiny: Path, answers: dict[str, Any], quantisation: str) -> None:
    name = f"bert-{quantisation}"
    with Llama(tiny / f"{name}.gguf", n_threads=1, embedding=True) as llm:
        cases = answers[name]["embeddings"]
        assert len(cases) == 5
        for case in cases:
            assert near(llm.embed(case["text"]), case["vector"], case["tolerance"])


def test_kinds_of_input_and_counts(tiny: Path) -> None:
    with Llama(tiny / "bert-f32.gguf", n_threads=1, embedding=True) as llm:
        ids = llm.tokenize(TEXT)
        vector = llm.embed(TEXT)
        assert llm.embed(ids) == vector
        assert llm.embed((*ids,)) == vector
        assert llm.embed([ids, [CLS, SEP]])[0] == vector
        mixed: list[Any] = [TEXT, ids]
        assert llm.embed(mixed) == [vector, vector]
        assert llm.embed([]) == []
        assert llm.embed(TEXT, return_count=True) == (vector, len(ids))
        assert llm.embed([TEXT, "fog"], return_count=True)[1] == len(ids) + 3
        assert llm.embed("sun " * 3000, return_count=True)[1] == 256
        with pytest.raises(ValidationError) as caught:
            llm.embed([ids, [999]])
        assert str(caught.value).startswith("token 0 has id 999; this model's ids run from 0 to ")
        with pytest.raises(LlamaError) as missing:
            Llama(tiny / "llama-f32.gguf", n_threads=1).create_embedding("a")
        assert str(missing.value) == "load the model with embedding=True to make embeddings"


def test_openai_shape(tiny: Path) -> None:
    with Llama(tiny / "bert-f32.gguf", n_threads=1, embedding=True) as llm:
        vector = llm.embed(TEXT)
        assert llm.create_embedding(TEXT) == {
            "object": "list",
            "data": [{"object": "embedding", "embedding": vector, "index": 0}],
            "model": str(tiny / "bert-f32.gguf"),
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }
        several = llm.create_embedding([TEXT, "fog"], model="mine")
        assert several["model"] == "mine"
        assert [each["index"] for each in several["data"]] == [0, 1]
        assert several["usage"] == {"prompt_tokens": 10, "total_tokens": 10}
        by_ids = llm.create_embedding(llm.tokenize(TEXT))
        assert by_ids["data"][0]["embedding"] == vector


@pytest.mark.parametrize("name", KINDS)
def test_a_generative_model_embeds_and_generates(
    tiny: Path, answers: dict[str, Any], name: str
) -> None:
    case = answers[name]["greedy"][0]
    with Llama(
        tiny / f"{name}.gguf", n_threads=1, embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN
    ) as llm:
        vector = llm.create_embedding("hello")["data"][0]["embedding"]
        done = llm(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
        assert done["choices"][0]["text"] == case["text"]
        assert llm.create_embedding("hello")["data"][0]["embedding"] == vector


def test_a_pool_is_not_made_of_parts(model_file: Path) -> None:
    """llama.cpp pools what is computed at once: a text that is longer than that would lose its mean."""
    options: dict[str, Any] = {"n_threads": 1, "embedding": True, "n_batch": 256}
    with Llama(model_file, pooling_type=LLAMA_POOLING_TYPE_MEAN, n_ubatch=64, **options) as llm:
        with pytest.raises(ValidationError) as caught:
            llm.embed([5] * 65, truncate=False)
        assert str(caught.value) == (
            "text 0 has 65 tokens, and 64 fit: shorten it, or pass truncate=True"
        )
        assert near(llm.embed([[5] * 64, [6] * 10])[1], np.asarray(llm.embed([6] * 10)), 1e-4)
    with Llama(model_file, pooling_type=LLAMA_POOLING_TYPE_LAST, n_ubatch=64, **options) as llm:
        last = llm.embed([5, 6, 7] * 60)
    with Llama(model_file, pooling_type=LLAMA_POOLING_TYPE_LAST, n_ubatch=256, **options) as llm:
        assert near(llm.embed([5, 6, 7] * 60), np.asarray(last), 1e-4)


# -- ranking -------------------------------------------------------------------------------------


def write_ranker(path: Path, template: str | None = None) -> Path:
    """Write the tiny bert with a classifier on top of the first token's vector."""
    MODEL.write(path.with_suffix(".bert"))
    reader = gguf.GGUFReader(path.with_suffix(".bert"))
    writer = gguf.GGUFWriter(path, "bert")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            value = 4 if field.name == "bert.pooling_type" else field.contents()
            writer.add_key_value(field.name, value, field.types[0], inner)
    writer.add_eos_token_id(SEP)
    writer.add_add_bos_token(value=True)
    writer.add_add_eos_token(value=True)
    if template is not None:
        writer.add_chat_template([{"name": "rerank", "template": template}])
    weights = {**bert.bert_weights(), **classifier()}
    for name, weight in weights.items():
        writer.add_tensor(name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def classifier() -> dict[str, Array]:
    return {
        "cls.weight": 0.0625 * signs("rank/in", WIDTH * WIDTH).reshape(WIDTH, WIDTH),
        "cls.bias": 0.25 * signs("rank/bias", WIDTH),
        "cls.output.weight": signs("rank/out", WIDTH).reshape(1, WIDTH),
        "cls.output.bias": np.array([0.5]),
    }


def score(tokens: list[int]) -> float:
    """Return the score of a prompt, in double precision."""
    w = classifier()
    bent = np.tanh(w["cls.weight"] @ rows_of(tokens)[0] + w["cls.bias"])
    return float((w["cls.output.weight"] @ bent + w["cls.output.bias"])[0])


DOCUMENTS = ["the fog", "river birds hum", "morning sun lifts the fog", ""]


def inner(text: str) -> list[int]:
    return MODEL.encode(text)[1:-1]


def load_ranker(path: Path) -> Llama:
    return Llama(path, n_threads=1, embedding=True)


def test_ranking(tmp_path: Path) -> None:
    with load_ranker(write_ranker(tmp_path / "rank.gguf")) as llm:
        assert llm.pooling_type() == LLAMA_POOLING_TYPE_RANK
        found = llm.rank("what lifts", DOCUMENTS)
        known = [
            score([CLS, *inner("what lifts"), SEP, SEP, *inner(document), SEP])
            for document in DOCUMENTS
        ]
        assert found == pytest.approx(known, abs=0.05)
        assert max(known) - min(known) > 0.9
        assert llm.rank("fog", []) == []


def test_ranking_by_the_models_template(tmp_path: Path) -> None:
    path = write_ranker(tmp_path / "rank.gguf", "[CLS]{document} ? {query}[SEP]")
    with load_ranker(path) as llm:
        found = llm.rank("what lifts", DOCUMENTS)
        known = [score([CLS, *inner(f"{document} ? what lifts"), SEP]) for document in DOCUMENTS]
        assert found == pytest.approx(known, abs=0.05)
        long = llm.rank("fog", ["sun " * 400])
        assert long == pytest.approx([score([CLS, *inner("sun " * 252 + "? fog"), SEP])], abs=0.05)


def test_a_document_that_does_not_fit(tmp_path: Path) -> None:
    with load_ranker(write_ranker(tmp_path / "rank.gguf")) as llm:
        short = score([CLS, *inner("fog"), SEP, SEP, *inner("sun " * 251), SEP])
        assert llm.rank("fog", ["sun " * 400]) == pytest.approx([short], abs=0.05)
        for query, document, options, message in (
            (
                "fog",
                "sun " * 400,
                {"truncate": False},
                (
                    "document 0 has 405 tokens with the query, and 256 fit: shorten it, or pass "
                    "truncate=True"
                ),
            ),
            (
                "fog " * 400,
                "sun",
                {},
                (
                    "the query has 404 tokens with what the model needs around it, and 256 fit: "
                    "shorten it"
                ),
            ),
            ("fog", 5, {}, "document 0 is 5; give a text"),
        ):
            with pytest.raises(ValidationError) as caught:
                llm.rank(query, [document], **options)  # type: ignore[list-item]
            assert str(caught.value) == message
        with pytest.raises(ValidationError) as caught:
            llm.rank("fog", "sun")
        assert str(caught.value) == "documents is one text; give a list of texts"


def test_what_cannot_rank(tiny: Path) -> None:
    with (
        Llama(tiny / "bert-f32.gguf", n_threads=1, embedding=True) as llm,
        pytest.raises(LlamaError) as caught,
    ):
        llm.rank("a", ["b"])
    assert str(caught.value) == (
        "bert-f32.gguf is loaded with pooling_type 1; ranking needs a reranking model, loaded with "
        "pooling_type=4 (LLAMA_POOLING_TYPE_RANK)"
    )
    with (
        Llama(
            tiny / "bert-f32.gguf",
            n_threads=1,
            embedding=True,
            pooling_type=LLAMA_POOLING_TYPE_RANK,
        ) as llm,
        pytest.raises(LlamaError) as caught,
    ):
        llm.rank("a", ["b"])
    assert str(caught.value) == (
        "bert-f32.gguf has no classifier (tensors cls.*), so its scores would mean nothing; take a "
        "reranking model"
    )
