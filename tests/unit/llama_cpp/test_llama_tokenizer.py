"""Tokenizers: the model's own, and one in the manner of transformers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from llama_cpp import Llama, LlamaError
from llama_cpp.llama_tokenizer import BaseLlamaTokenizer, LlamaHFTokenizer, LlamaTokenizer


class Characters:
    """As transformers' tokenizers answer: a token per byte, and control tokens 256 (begin) and 257."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [*([256] if add_special_tokens else []), *text.encode()]

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        text = bytes(token for token in tokens if token < 256).decode("utf-8", "replace")
        return text if skip_special_tokens or 256 not in tokens else f"<s>{text}"


@pytest.mark.build
def test_the_models_own(llm: Llama) -> None:
    tokenizer = LlamaTokenizer(llm)
    assert isinstance(tokenizer, BaseLlamaTokenizer)
    ids = tokenizer.tokenize(b"the quick")
    assert ids == llm.tokenize(b"the quick", special=True)
    assert tokenizer.encode("the quick") == ids
    assert tokenizer.tokenize(b"the quick", add_bos=False) == ids[1:]
    assert tokenizer.detokenize(ids) == b"the quick"
    assert tokenizer.decode(ids) == "the quick"
    assert tokenizer.detokenize(ids[1:], prev_tokens=ids[:1]) == llm.detokenize(
        ids[1:], prev_tokens=ids[:1]
    )


@pytest.mark.build
def test_of_a_file(model_file: Path, llm: Llama) -> None:
    tokenizer = LlamaTokenizer.from_ggml_file(str(model_file))
    assert tokenizer.encode("the quick") == llm.tokenize(b"the quick", special=True)


def test_transformers_tokenizer() -> None:
    tokenizer = LlamaHFTokenizer(Characters())
    assert tokenizer.tokenize(b"ab") == [256, 97, 98]
    assert tokenizer.tokenize(b"ab\xff", add_bos=False) == [97, 98]
    assert tokenizer.detokenize([256, 97, 98]) == b"ab"
    assert tokenizer.detokenize([256, 97, 98], special=True) == b"<s>ab"
    assert tokenizer.detokenize([98, 99], prev_tokens=[256, 97]) == b"bc"


def test_transformers_tokenizer_in_the_middle_of_a_character() -> None:
    tokenizer = LlamaHFTokenizer(Characters())
    first, *rest = "é".encode()
    assert tokenizer.detokenize(rest, prev_tokens=[97, first]) == "é".encode()


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LlamaError) as caught:
        LlamaHFTokenizer.from_pretrained("somebody/something")
    assert str(caught.value) == (
        "Hugging Face's tokenizers need the package transformers: `pip install transformers`"
    )
