"""The report of a smoke test: bound to the wheel's bytes, and a failure says what failed."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from ci.errors import SmokeError
from ci.interpreters import Interpreter, find_interpreters, probe
from ci.process import run
from ci.progress import Progress
from ci.smoke import smoke
from ci.smoke_report import called, report_path, require_gpu, require_passed, write_report
from ci.table import load_table
from ci.wheel import read_wheel, write_wheel
from tests.wheels import write_wheel as write_wheel_of_nothing

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(width=2000, file=io.StringIO()))


@pytest.fixture
def here() -> Interpreter:
    interpreter = probe(Path(sys.executable))
    assert interpreter is not None
    return interpreter


def test_this_interpreter_is_found(here: Interpreter) -> None:
    assert here.series == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert [each.series for each in find_interpreters((here.series, "2.7"))] == [here.series]
    assert here.tag == f"cp{sys.version_info[0]}{sys.version_info[1]}"


def test_what_is_no_interpreter_is_none(tmp_path: Path) -> None:
    fake = tmp_path / "python3.11"
    fake.write_text("#!/bin/sh\necho 3.11\n", encoding="utf-8")
    fake.chmod(0o755)
    assert probe(fake) is None


@pytest.mark.build
def test_the_report_is_bound_to_the_wheel(
    wheel: Path, here: Interpreter, progress: Progress
) -> None:
    target = load_table().target("cpu", "manylinux_x86_64")
    report = smoke(wheel, target, [here], progress, now=NOW)
    require_passed(report)
    assert report["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (report["date"], report["schema"]) == ("2026-11-21T02:00:00Z", 1)
    results = report["interpreters"]
    assert isinstance(results, list)
    (result,) = results
    assert result["cpu_variant"].startswith("libggml-cpu-")
    checks = {each["name"]: each["detail"] for each in result["checks"]}
    assert {"import", "greedy tokens", "embeddings"} <= set(checks)
    assert checks["greedy tokens"] == "4815 tokens of 9 models"
    assert checks["grammar"] == "9 models"
    assert checks["chat"] == "9 models, whole and streamed"
    assert re.fullmatch(r"535 tokens over 127\.0\.0\.1:\d+", checks["rpc"])
    assert "gpu" not in report
    assert report["dependencies"] == {
        "declared": ["jinja2>=3.1", "numpy>=1.21"],
        "installed": True,
        "reason": "the wheel requires them",
    }


def test_the_report_says_of_which_commit_the_checks_are(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = load_table().target("cpu", "manylinux_x86_64")
    wheel = write_wheel_of_nothing(tmp_path)
    commit = smoke(wheel, target, [], progress, now=NOW)["commit"]
    head = run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent).strip()
    assert commit in {head, f"{head}-dirty"}
    # an unpacked archive is no checkout
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    assert smoke(wheel, target, [], progress, now=NOW)["commit"] is None


@pytest.mark.build
@pytest.mark.parametrize("broken", ["library", "answer", "syntax"])
def test_a_broken_wheel_fails_and_says_why(
    wheel: Path, here: Interpreter, progress: Progress, tmp_path: Path, broken: str
) -> None:
    read = read_wheel(wheel)
    files = dict(read.files)
    if broken == "library":
        files["llama_cpp/lib/libllama.so"] = files["llama_cpp/lib/libllama.so"][:4096]
    elif broken == "syntax":
        files["llama_cpp/__init__.py"] = b"def\n"
    else:
        text = files["llama_cpp/_build_info.json"]
        files["llama_cpp/_build_info.json"] = text.replace(b"{", b"[", 1)
    path = tmp_path / wheel.name
    write_wheel(path, files)
    target = load_table().target("cpu", "manylinux_x86_64")
    report = smoke(path, target, [here], progress, now=NOW)
    assert report["passed"] is False
    with pytest.raises(SmokeError) as caught:
        require_passed(report)
    assert f"{wheel.name} failed its smoke test\n  Python {here.version}: " in caught.value.what


def test_no_interpreter_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(SmokeError, match="there is no interpreter to prove it on"):
        require_passed({"wheel": "x.whl", "passed": False, "interpreters": []})


def test_the_report_lies_beside_the_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    place = write_report(wheel, {"schema": 1})
    assert place == report_path(wheel) == tmp_path / "x.whl.smoke.json"
    assert json.loads(place.read_text(encoding="utf-8")) == {"schema": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.whl.smoke.json"]


def test_a_wheel_that_is_to_be_proven_on_a_gpu() -> None:
    with pytest.raises(SmokeError) as plain:
        require_gpu({"wheel": "a.whl"})
    assert plain.value.what == "a.whl is no GPU wheel"
    with pytest.raises(SmokeError) as without:
        require_gpu({"wheel": "a.whl", "gpu": {"device": "none"}})
    assert without.value.what == "a.whl found no GPU to be proven on"
    require_gpu({"wheel": "a.whl", "gpu": {"device": "Vulkan0: llvmpipe"}})


@pytest.mark.build
def test_a_gpu_wheel_without_a_device_is_proven_on_the_cpu_and_says_so(
    wheel: Path, here: Interpreter, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU wheel in the place of one whose GPU is missing: it computes, and one warning says so."""
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "")
    target = load_table().target("vulkan", "manylinux_x86_64")
    report = smoke(wheel, target, [here], progress, now=NOW)
    require_passed(report)
    assert report["gpu"] == {"device": "none"}
    assert report["passed"] is True
    results = report["interpreters"]
    assert isinstance(results, list)
    (check,) = [each for each in results[0]["checks"] if each["name"] == "no gpu"]
    assert check["detail"].startswith("n_gpu_layers=-1, but there is no GPU to compute on: ")
    with pytest.raises(SmokeError, match="found no GPU to be proven on"):
        require_gpu(report)


@pytest.mark.parametrize(
    ("result", "name"),
    [
        ({"version": "3.13.1"}, "Python 3.13.1"),
        ({"version": "3.13.1", "free_threaded": True}, "Python 3.13.1 free-threaded"),
        (
            {"version": "3.13.5", "libc": "musl 1.2.3", "emulator": None},
            "Python 3.13.5 on musl 1.2.3",
        ),
        (
            {
                "version": "C driver",
                "implementation": "C",
                "libc": "musl 1.2.5",
                "emulator": "qemu-aarch64 7.2.22 -cpu max",
            },
            "C driver on musl 1.2.5 under qemu-aarch64 7.2.22 -cpu max",
        ),
    ],
)
def test_what_an_interpreter_is_called(result: dict[str, object], name: str) -> None:
    assert called(result) == name
