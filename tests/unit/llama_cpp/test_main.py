"""``python -m llama_cpp``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from llama_cpp import __main__, __version__, _library

from .conftest import REPOSITORY


@pytest.mark.build
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["version"].startswith(__version__)
    assert report["cpu_variant"] == _library.cpu_variant()
    assert [device["kind"] for device in report["devices"]][-1] == "CPU"
    assert report["libraries"] == list(_library.libraries())
    assert report["unused_modules"] == {}


@pytest.mark.build
def test_text() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "llama_cpp"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"version: {__version__}")
    assert "libraries:" in lines
    assert any(line.startswith("cpu_variant: ") for line in lines)
    assert any(line.startswith("  name CPU, ") for line in lines)
    assert "unused_modules: none" in lines
    assert result.stderr == ""


def test_missing_libraries_are_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    monkeypatch.setattr(_library, "_functions", None)
    assert __main__.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: LLAMA_CPP_LIB_PATH={tmp_path}: {tmp_path} has no ")
