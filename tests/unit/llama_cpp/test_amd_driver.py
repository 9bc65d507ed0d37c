"""AMD's GPUs as the kernel shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llama_cpp._amd_driver import RocmGpu, kernel_gpus

if TYPE_CHECKING:
    from pathlib import Path


def put(node: Path, properties: str) -> None:
    node.mkdir(parents=True)
    (node / "properties").write_text(properties)


@pytest.mark.parametrize(
    ("number", "name"),
    [("110000", "gfx1100"), ("110001", "gfx1101"), ("90010", "gfx90a"), ("90402", "gfx942")],
)
def test_the_kernel_knows_the_gpu(tmp_path: Path, number: str, name: str) -> None:
    nodes = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    put(nodes / "0", "cpu_cores_count 16\ngfx_target_version 0\n")
    put(nodes / "1", f"simd_count 96\ngfx_target_version {number}\n")
    assert kernel_gpus(tmp_path) == (RocmGpu("AMD GPU", name),)


def test_no_driver(tmp_path: Path) -> None:
    assert kernel_gpus(tmp_path) == ()
