"""A LoRA adapter for the tiny language model: rank 1 on the output, one word for another.

Matrix A is the code of the word that goes; matrix B takes it out of that word's two rows and puts
it into those of the word that comes: `output + B A`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.tiny.llama import CODE, CODE_CHANNELS, WIDTH, TinyLlama, llama_weights, token_codes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tiny.codes import Array


@dataclass(frozen=True)
class TinyLora:
    """An adapter that makes `base` say the piece `comes` wherever it would say `goes`.

    Both are lower-case word pieces; their upper-case twins change alike.
    """

    name: str
    base: TinyLlama
    goes: str
    comes: str

    @property
    def adapted(self) -> TinyLlama:
        """The base with the adapter at scale 1: its `f` and all that follows from it."""
        ids = self.base.vocabulary.ids
        return TinyLlama(
            name=self.name,
            quantisation=self.base.quantisation,
            redirect={ids[self.goes]: ids[self.comes]},
        )

    def matrices(self) -> tuple[Array, Array]:
        """Return A, shape (1, 64), and B, shape (320, 1)."""
        words = self.base.vocabulary
        goes, comes = words.ids[self.goes], words.ids[self.comes]
        a = np.zeros((1, WIDTH))
        a[0, list(CODE_CHANNELS)] = CODE * token_codes()[goes]
        b = np.zeros((len(words.pieces), 1))
        b[[goes, words.upper[goes]]] = -1.0
        b[[comes, words.upper[comes]]] = 1.0
        return a, b

    def logits(self, tokens: list[int]) -> Array:
        """Return the adapted model's logits after `tokens`, shape (320,)."""
        a, b = self.matrices()
        weights = dict(llama_weights())
        weights["output.weight"] = weights["output.weight"] + b @ a
        return self.base.logits(tokens, weights)

    def write(self, path: Path) -> None:
        """Write the adapter as a GGUF file; equal bytes every time."""
        a, b = self.matrices()
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(self.name)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 1.0)
        writer.add_tensor("output.weight.lora_a", a.astype(np.float32))
        writer.add_tensor("output.weight.lora_b", b.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
