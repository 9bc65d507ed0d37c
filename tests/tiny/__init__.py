"""Tiny models with known answers: their generators and, in Python, what they must answer.

`python -m tests.tiny FOLDER` writes them. The models depend on nothing but this package: the same
bytes on every machine and in every run.
"""

from __future__ import annotations

from tests.tiny.answers import answers, models, write
from tests.tiny.bert import TinyBert
from tests.tiny.llama import QUANTISATIONS, Quantisation, TinyLlama
from tests.tiny.lora import TinyLora
from tests.tiny.vocabulary import Vocabulary, vocabulary

__all__ = [
    "QUANTISATIONS",
    "Quantisation",
    "TinyBert",
    "TinyLlama",
    "TinyLora",
    "Vocabulary",
    "answers",
    "models",
    "vocabulary",
    "write",
]
