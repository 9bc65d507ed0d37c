"""Derived text is as the generators write it."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ci.docs import backends_record, derived_files, install_table, stale_files, write_files
from ci.progress import Progress
from ci.table import load_table
from ci.vendor import load_pin, pinned_tree


@pytest.mark.build
def test_nothing_derived_is_stale() -> None:
    tree = pinned_tree(Progress(Console(file=io.StringIO())), pin=load_pin())
    stale = stale_files(derived_files(load_table(), tree))
    assert stale == [], "run `nox -s generate` and commit the result"


def test_every_backend_is_a_row_of_the_readme() -> None:
    rows = install_table(load_table()).splitlines()
    assert rows[2].startswith("| `cpu` | CPU | `manylinux_x86_64`, ")
    assert len(rows) == 2 + len(load_table().backends)


def test_every_backend_is_in_the_package_with_its_wheels() -> None:
    table = load_table()
    record = json.loads(backends_record(table))
    assert (record["schema"], record["index"]) == (1, table.index.url)
    assert [each["name"] for each in record["backends"]] == list(table.backends)
    assert record["backends"][0]["wheel_tags"] == [
        target.wheel_tag for target in table.targets if target.backend.name == "cpu"
    ]
    (cu128,) = [each for each in record["backends"] if each["name"] == "cu128"]
    assert cu128["family"] == "cuda"
    assert cu128["title"] == "NVIDIA CUDA 12.8"
    assert cu128["gpu_architectures"] == table.backends["cu128"].gpu_architectures


def test_only_what_is_stale_is_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    assert write_files({"a": "1", "b/c": "2"}, root=tmp_path) == ["b/c"]
    assert stale_files({"a": "1", "b/c": "2"}, root=tmp_path) == []
