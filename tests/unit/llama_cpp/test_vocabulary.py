"""Tokens and text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama, ValidationError
from tests.sequences import paired

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.build


def test_known_tokens(tiny: Path, answers: dict[str, Any]) -> None:
    seen = 0
    for model in answers.values():
        if not model.get("tokenize"):
            continue
        with Llama(tiny / model["file"], vocab_only=True) as llm:
            for case in model["tokenize"]:
                assert llm.tokenize(case["text"]) == case["tokens"], (model["file"], case)
                assert llm.tokenize(case["text"].encode()) == case["tokens"]
                seen += 1
    assert seen >= 10


@pytest.mark.parametrize(
    "text", ["hello", " morning sun", "a\0b", "né 🙂", "", " ", "\n\n", "x" * 3000]
)
def test_detokenize_undoes_tokenize(llm: Llama, text: str) -> None:
    tokens = llm.tokenize(text)
    assert llm.detokenize(tokens) == text.encode()
    assert llm.detokenize(llm.tokenize(text, add_bos=False), prev_tokens=[1]) == text.encode()


def test_special_tokens_are_spelled_only_when_asked(llm: Llama) -> None:
    bos = llm.token_bos()
    assert llm.detokenize([bos]) == b""
    assert llm.detokenize([bos], special=True) == b"<s>"
    assert llm.tokenize("<s>", add_bos=False, special=True) == [bos]
    assert llm.tokenize("<s>", add_bos=False)[0] != bos


def test_pieces_are_the_tokens_bytes(llm: Llama) -> None:
    vocabulary = llm._core.vocabulary
    whole = b"".join(vocabulary.special_pieces[token].data for token in range(vocabulary.size))
    assert whole == llm.detokenize(range(vocabulary.size), prev_tokens=[0], special=True)
    assert [t for t in range(vocabulary.size) if vocabulary.pieces[t].ends] == [llm.token_eos()]
    assert llm.detokenize([]) == b""


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([320], "token 0 has id 320; this model's ids run from 0 to 319"),
        ([1, -1], "token 1 has id -1; this model's ids run from 0 to 319"),
        ([2**70], f"token 0 has id {2**70}; this model's ids run from 0 to 319"),
        (["a"], "token 0 is 'a', not an integer id; tokenize() turns text into ids"),
        ([1.0], "token 0 is 1.0, not an integer id; tokenize() turns text into ids"),
    ],
)
def test_ids_are_checked(llm: Llama, tokens: list[Any], message: str) -> None:
    uses: list[Callable[[list[Any]], object]] = [
        llm.detokenize,
        llm.eval,
        llm.create_completion,
        lambda prompt: next(llm.generate(prompt)),
    ]
    for use in uses:
        with pytest.raises(ValidationError) as caught:
            use(tokens)
        assert str(caught.value) == message


def test_no_unicode(llm: Llama) -> None:
    with pytest.raises(ValidationError) as caught:
        llm.tokenize("ab\ud800")
    assert str(caught.value) == (
        "the text has a lone surrogate at character 2, which is no Unicode text"
    )


def test_no_text(llm: Llama) -> None:
    with pytest.raises(ValidationError, match=r"^expected text as str or bytes, not int$"):
        llm.tokenize(5)  # type: ignore[arg-type]


def test_special_tokens(llm: Llama) -> None:
    assert (llm.token_bos(), llm.token_eos(), llm.n_vocab()) == (1, 2, 320)


def test_characters_of_a_vocabulary_without_bytes(model_file: Path, tmp_path: Path) -> None:
    """llama.cpp ends the process over them."""
    from tests.fuzz import gguf_file  # noqa: PLC0415 - needed here alone

    parts = gguf_file.parse(model_file.read_bytes())
    places = {key: parts.index(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type")}
    texts, kinds = (parts.pairs[places[key]].value for key in ("tokens", "token_type"))
    assert isinstance(texts, list)
    assert isinstance(kinds, list)
    named = [
        b"word%d" % place if kind == 6 else text
        for place, (text, kind) in enumerate(paired(texts, kinds))
    ]
    plain = [1 if kind == 6 else kind for kind in kinds]
    for key, kind, value in (
        ("tokens", gguf_file.STRING, named),
        ("token_type", gguf_file.INT32, plain),
    ):
        pair = gguf_file.Pair(key=f"tokenizer.ggml.{key}".encode(), kind=kind, value=list(value))
        parts = parts.with_pair(places[key], pair)
    path = tmp_path / "model.gguf"
    path.write_bytes(parts.to_bytes())
    with Llama(path, vocab_only=True, verbose=False) as llm:
        assert llm.tokenize("<s>", add_bos=False, special=True) == [llm.token_bos()]
        with pytest.raises(ValidationError) as caught:
            llm.tokenize("漢")
        assert str(caught.value) == (
            "this model's vocabulary has neither the character '漢' nor tokens for bytes: leave it out, "
            "or give token ids"
        )
