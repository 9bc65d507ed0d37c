"""``python -m llama_cpp``."""

from __future__ import annotations

import io
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


def test_select_names_the_backends_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["select", "--backend", "cu999"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: there is no backend 'cu999': choose one of cpu, metal, ")


def test_extras_are_for_two_backends(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["select", "--tool", "uv-extras", "--backend", "cpu"]) == 2
    assert capsys.readouterr().err == (
        "error: uv-extras gives a choice between cpu and another backend: name that one with --backend\n"
    )


def test_select_url(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_INDEX_URL", "http://127.0.0.1:8000")
    assert __main__.main(["select", "--backend", "cu128", "--url"]) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8000/whl/cu128/\n"


def test_a_wrong_verb_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(["cure"])
    assert caught.value.code == 2
    assert "invalid choice: 'cure'" in capsys.readouterr().err


def test_the_text_survives_a_narrow_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    __main__._write("C:/ユーザー – ok\n")
    sys.stdout.flush()
    assert written.getvalue() == "C:/???? – ok\n".encode("cp1252")


def test_a_closed_stdout_is_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert __main__.main(["select", "--backend", "cpu"]) == 3
    assert capsys.readouterr().err == (
        "error: the answer cannot be written: stdout is closed; send it somewhere else\n"
    )
