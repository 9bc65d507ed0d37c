"""The record of the build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _build_info
from llama_cpp._errors import LlamaError

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {
    "backend": "cu128",
    "version": "0.3.100+cu128",
    "llama_cpp_commit": "0c1e570",
    "llama_cpp_version": "0.5.0",
    "compiler": "Clang 20",
    "defines": {"GGML_CUDA": "ON"},
    "toolkit": "CUDA 12.8",
    "gpu_architectures": ["90", "120a"],
    "prebuilt": False,
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "_build_info.json"
    monkeypatch.setattr(_build_info, "_FILE", path)
    return path


def test_source_tree_has_none(file: Path) -> None:
    assert not file.exists()
    assert _build_info.build_info() is None


def test_record(file: Path) -> None:
    file.write_text(json.dumps(RECORD))
    info = _build_info.build_info()
    assert info is not None
    assert info._asdict() == {**RECORD, "gpu_architectures": ("90", "120a")}


def test_cpu_has_no_toolkit(file: Path) -> None:
    file.write_text(json.dumps({**RECORD, "toolkit": None, "gpu_architectures": []}))
    info = _build_info.build_info()
    assert info is not None
    assert (info.toolkit, info.gpu_architectures) == (None, ())


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", json.dumps({**RECORD, "defines": 5})])
def test_damaged(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(LlamaError) as caught:
        _build_info.build_info()
    assert str(caught.value).startswith(f"{file} is damaged (")
    assert str(caught.value).endswith(
        "; reinstall with `pip install --force-reinstall llama-cpp-python`"
    )


@pytest.mark.parametrize(
    ("text", "pair"),
    [("12.8.1", (12, 8)), ("CUDA 13.0", (13, 0)), ("13", None), ("", None), (None, None)],
)
def test_version_pairs(text: str | None, pair: tuple[int, int] | None) -> None:
    assert _build_info.version_pair(text) == pair
