"""Derived text is as the generators write it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ci.docs import derived_files, install_table, stale_files, write_files
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


def test_only_what_is_stale_is_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_text("1", encoding="utf-8")
    assert write_files({"a": "1", "b/c": "2"}, root=tmp_path) == ["b/c"]
    assert stale_files({"a": "1", "b/c": "2"}, root=tmp_path) == []
