from __future__ import annotations

from typing import TYPE_CHECKING

import gguf

from bench.models import Shape, write_model

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Shape(layers=2, width=256, feed_forward=512, heads=4, kv_heads=2, vocabulary=320)


def test_default_shape_has_200_million_weights_in_rows_of_whole_blocks() -> None:
    shape = Shape()
    assert shape.parameters == 200_827_904
    assert {size[1] % 256 for size in shape.tensors().values() if len(size) == 2} == {0}


def test_file_holds_every_tensor_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    write_model(SMALL, tmp_path / "first.gguf")
    write_model(SMALL, tmp_path / "second.gguf")
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "second.gguf").read_bytes()

    reader = gguf.GGUFReader(tmp_path / "first.gguf")
    # GGUF counts a row's length first
    found = {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in reader.tensors}
    assert found == SMALL.tensors()
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F16", "F32"}
    assert SMALL.parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
