"""All tiny models, and `answers.json`: what each must answer, computed and never measured.

The file is for readers without this package (the smoke test of an installed wheel has none):

    {"models": {NAME: {"file": "llama-f32.gguf", "kind": "llama" | "embedding" | "lora",
                       "base": null | NAME of the model that an adapter is for,
                       "greedy": [{"prompt": [ids], "prompt_text": TEXT | null,
                                   "tokens": [ids], "text": TEXT}],
                       "tokenize": [{"text": TEXT, "tokens": [ids]}],
                       "embeddings": [{"text": TEXT, "vector": [..], "tolerance": 0.001}]}}}

`prompt` and the `tokens` of a text begin with the token that the tokenizer adds (<s>, [CLS]). The
greedy `tokens` end early with </s> where the answer does; `text` is their text without it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

from tests.tiny import bert
from tests.tiny.bert import TinyBert
from tests.tiny.llama import QUANTISATIONS, TinyLlama
from tests.tiny.lora import TinyLora

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# of a vector's components: activations are rounded to 8 bits where weights are
TOLERANCES = {"F32": 1e-3, "F16": 1e-3, "Q8_0": 3e-2, "Q4_0": 3e-2}
ANSWER_LENGTH = 40

PROMPTS = (
    "",
    "hello",
    " morning",
    "<up> morning",
    "<up> MORNING sun lifts the",
    "<down><up><up> and",
    "<up><down> birds",
    "two <up> and then a longer text of which only <up> counts, and one <down> less than that",
    "smile 🙂",
    "say: ",
    "user: hello\nassistant:",
    "<up>farewell:",
    "the end.",
)
TEXTS = (
    *PROMPTS,
    "THE other quick brown fox; naïve façade, 漢字, עברית, नमस्ते",
    "🙂🦙👩‍👩‍👧 e\u0301\x00\t\r\n  two  spaces ",
    "goodbye, until the long day has come to a quiet end. </s><s><up",
    "or the morning ring THE theThe",
)
# Prompts that no text gives: </s> after <s>, a byte whose answer begins with broken UTF-8, 300
# tokens.
TOKEN_PROMPTS = ([1, 2], [1, 258], [1, 259, *range(3, 259), *range(262, 304)])
SENTENCES = (
    "morning sun",
    "sun morning",
    "The river and the birds hum, again and again!",
    "fog",
    "",
)


class Greedy(TypedDict):
    """One prompt and the tokens that must follow."""

    prompt: list[int]
    prompt_text: str | None
    tokens: list[int]
    text: str


class Tokenized(TypedDict):
    """One text and its tokens."""

    text: str
    tokens: list[int]


class Embedded(TypedDict):
    """One text and its vector; `tolerance` is absolute, per component."""

    text: str
    vector: list[float]
    tolerance: float


class Answers(TypedDict, total=False):
    """What one file must answer."""

    file: str
    kind: str
    base: str | None
    greedy: list[Greedy]
    tokenize: list[Tokenized]
    embeddings: list[Embedded]


def models() -> Mapping[str, TinyLlama | TinyLora | TinyBert]:
    """Return every tiny model by its name, which is also its file's name without ".gguf"."""
    llamas = [TinyLlama(name=f"llama-{q.lower()}", quantisation=q) for q in QUANTISATIONS]
    lora = TinyLora(name="lora-f32", base=llamas[0], goes="▁f", comes="▁s")
    berts = [TinyBert(name=f"bert-{q.lower()}", quantisation=q) for q in bert.QUANTISATIONS]
    every: tuple[TinyLlama | TinyLora | TinyBert, ...] = (*llamas, lora, *berts)
    return {model.name: model for model in every}


def answers() -> dict[str, Answers]:
    """Return the answers of all models by name."""
    return {name: _answers(model) for name, model in models().items()}


def write(folder: Path) -> list[Path]:
    """Write all models and `answers.json` into `folder`, made if missing; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, model in models().items():
        written.append(folder / f"{name}.gguf")
        model.write(written[-1])
    written.append(folder / "answers.json")
    text = json.dumps({"models": answers()}, indent=1, ensure_ascii=True, sort_keys=True)
    written[-1].write_text(text + "\n", encoding="utf-8")
    return written


def _answers(model: TinyLlama | TinyLora | TinyBert) -> Answers:
    if isinstance(model, TinyBert):
        return {
            "file": f"{model.name}.gguf",
            "kind": "embedding",
            "base": None,
            "tokenize": [{"text": text, "tokens": model.encode(text)} for text in SENTENCES],
            "embeddings": [_embedded(model, text) for text in SENTENCES],
        }
    if isinstance(model, TinyLora):
        return {
            "file": f"{model.name}.gguf",
            "kind": "lora",
            "base": model.base.name,
            "greedy": _greedy(model.adapted),
        }
    return {
        "file": f"{model.name}.gguf",
        "kind": "llama",
        "base": None,
        "greedy": _greedy(model),
        "tokenize": [{"text": text, "tokens": model.encode(text)} for text in TEXTS],
    }


def _greedy(model: TinyLlama) -> list[Greedy]:
    texts = [_continued(model, model.encode(text), text) for text in PROMPTS]
    return texts + [_continued(model, tokens, None) for tokens in TOKEN_PROMPTS]


def _continued(model: TinyLlama, prompt: Sequence[int], text: str | None) -> Greedy:
    tokens = model.expected_tokens(prompt, ANSWER_LENGTH)
    return {
        "prompt": list(prompt),
        "prompt_text": text,
        "tokens": tokens,
        "text": model.decode(tokens).decode(errors="replace"),
    }


def _embedded(model: TinyBert, text: str) -> Embedded:
    vector = [round(float(value), 9) for value in model.vector(model.encode(text))]
    return {"text": text, "vector": vector, "tolerance": TOLERANCES[model.quantisation]}
