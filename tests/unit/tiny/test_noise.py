from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.tiny.noise import parameters, shapes, write_noise

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_large_random_and_the_same_every_time(tmp_path: Path) -> None:
    write_noise(tmp_path / "noise.gguf")
    with (tmp_path / "noise.gguf").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert digest == "a3ba3c77152c8cc124e969045bc312ae1aca52397efd3a1dabb5a7faa0d1e78b"
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "noise.gguf").tensors}
    assert set(tensors) == set(shapes())
    assert sum(tensor.n_elements for tensor in tensors.values()) == parameters() == 103_433_216
    down = tensors["blk.7.ffn_down.weight"]
    assert down.tensor_type == gguf.GGMLQuantizationType.Q8_0
    weight = gguf.quants.dequantize(down.data, down.tensor_type)
    assert weight.shape == shapes()["blk.7.ffn_down.weight"] == (1024, 2816)
    # a vector of any size keeps it
    assert abs(weight.std() * 2816**0.5 - 1) < 0.01
    assert abs(weight.mean()) < 0.001
    assert not np.array_equal(weight[0], weight[1])
