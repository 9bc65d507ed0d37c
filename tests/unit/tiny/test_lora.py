from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from tests.tiny.llama import TinyLlama
from tests.tiny.lora import TinyLora

if TYPE_CHECKING:
    from pathlib import Path

BASE = TinyLlama(name="llama")
LORA = TinyLora(name="lora", base=BASE, goes="▁f", comes="▁s")


@pytest.mark.parametrize(
    ("prompt", "plain", "adapted"),
    [
        pytest.param(" the", " fog", " sun", id="lower"),
        pytest.param("<up> the", " FOG", " SUN", id="upper"),
        pytest.param(" morning", " sun", " sun", id="other-word"),
    ],
)
def test_the_adapter_changes_one_word(prompt: str, plain: str, adapted: str) -> None:
    assert BASE.expected_text(prompt, 2) == plain
    assert LORA.adapted.expected_text(prompt, 2) == adapted


@pytest.mark.parametrize("head", [[1], [1, 259], [1, 260]], ids=["none", "up", "down"])
def test_the_arithmetic_gives_the_answers_with_a_margin(head: list[int]) -> None:
    words = BASE.vocabulary
    for token in range(261, 320):
        logits = LORA.logits([*head, token])
        wanted = LORA.adapted.f(token, upper=head[-1] == words.marker_up)
        assert int(logits.argmax()) == wanted
        twin = words.upper.get(wanted, words.twins.get(wanted))
        others = [other for other in range(320) if other not in {wanted, twin}]
        assert logits[wanted] - logits[others].max() > 6.5


def test_file(tmp_path: Path) -> None:
    LORA.write(tmp_path / "lora.gguf")
    reader = gguf.GGUFReader(tmp_path / "lora.gguf")
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "lora"
    assert [tensor.name for tensor in reader.tensors] == [
        "output.weight.lora_a",
        "output.weight.lora_b",
    ]
    assert [tensor.data.shape for tensor in reader.tensors] == [(1, 64), (320, 1)]
    b = reader.tensors[1].data[:, 0]
    changed = {BASE.vocabulary.pieces[token].text: b[token] for token in np.flatnonzero(b)}
    assert changed == {"▁f": -1.0, "▁F": -1.0, "▁s": 1.0, "▁S": 1.0}
