"""Reports enter the evidence only if they are about the wheel beside them and show something."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ci.errors import SmokeError, ToolchainError, UsageError, WheelError
from ci.evidence import load_evidence
from ci.record import record_path
from ci.reports import add_reports, read_proofs
from ci.reproduction import write_reproduction
from ci.table import load_table
from ci.vendor import load_pin
from ci.wheel import read_wheel
from tests.reports import (
    CHECKOUT,
    record_of,
    write_build,
    write_reported_wheel,
    write_smoke,
)
from tests.smoke import gpu as gpu_script
from tests.smoke import run as run_script

TABLE = load_table()
PIN = load_pin()
CPU = TABLE.target("cpu", "manylinux_x86_64")
CUDA = TABLE.target("cu128", "manylinux_x86_64")
H100 = "CUDA0: NVIDIA H100; CUDA1: NVIDIA H100"


def test_a_build_record_shows_three_levels(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CUDA)
    path = write_build(
        wheel, CUDA, "redistributable", toolkit="CUDA 12.8.93", gpu_architectures=["90"]
    )
    target, proofs = read_proofs(path, TABLE, PIN)
    assert target == CUDA
    assert [proof.level for proof in proofs] == ["configured", "built", "repaired"]
    for proof in proofs:
        assert (proof.date, proof.commit, proof.device) == (
            "2026-11-21T01:00:00Z",
            CHECKOUT,
            "Xeon",
        )
        assert (proof.toolkit, proof.toolkit_source) == ("CUDA 12.8.93", "redistributable")
        assert proof.gpu_architectures == ["90"]


def test_a_build_that_stopped_shows_what_it_reached(tmp_path: Path) -> None:
    path = tmp_path / "cu128-manylinux_x86_64.build.json"
    path.write_text(json.dumps(record_of(CUDA, level="built")), encoding="utf-8")
    _, proofs = read_proofs(path, TABLE, PIN)
    assert [(proof.level, proof.wheel) for proof in proofs] == [
        ("configured", None),
        ("built", None),
    ]


@pytest.mark.parametrize(
    ("target", "gpu", "levels", "device"),
    [
        pytest.param(CPU, None, ["loaded", "computed"], "Xeon", id="cpu"),
        pytest.param(CUDA, H100, ["loaded", "computed"], "2 x NVIDIA H100", id="gpu"),
        pytest.param(CUDA, "none", ["loaded"], "Xeon", id="no-gpu"),
    ],
)
def test_a_smoke_report_shows_where_the_wheel_computed(
    tmp_path: Path, target: Any, gpu: str | None, levels: list[str], device: str
) -> None:
    wheel = write_reported_wheel(tmp_path, target)
    path = write_smoke(wheel, target, gpu=gpu, pythons=["cp314t", "cp310", "cp39"])
    found, proofs = read_proofs(path, TABLE, PIN)
    assert found == target
    assert [proof.level for proof in proofs] == levels
    assert {proof.device for proof in proofs} == {device}
    assert {proof.without_device for proof in proofs} == {gpu == "none"}
    assert proofs[0].interpreters == ["cp39", "cp310", "cp314t"]


def test_runs_under_emulators_are_proofs_of_their_own(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    wine, qemu = "wine 8.0", "qemu-x86_64 7.2.22 -cpu max"
    runs = [
        *run_of(tag="cp313"),
        *run_of(tag="cp39", emulator=None),
        *run_of(tag="c", emulator=wine),
        *run_of(tag="cp39", emulator=qemu),
    ]
    _, proofs = read_proofs(write_smoke(wheel, CPU, interpreters=runs), TABLE, PIN)
    assert [(each.level, each.emulator, each.interpreters) for each in proofs] == [
        ("loaded", None, ["cp39", "cp313"]),
        ("computed", None, ["cp39", "cp313"]),
        ("loaded", wine, ["c"]),
        ("computed", wine, ["c"]),
        ("loaded", qemu, ["cp39"]),
        ("computed", qemu, ["cp39"]),
    ]


def test_the_checks_that_a_report_must_have_are_those_of_the_smoke_test() -> None:
    names = {name for name, _ in (*run_script.CHECKS, *gpu_script.WITH_GPU)}
    assert {"greedy tokens", "gpu offload", "gpu tokens"} <= names
    assert [name for name, _ in gpu_script.WITHOUT_GPU] == ["no gpu"]


def run_of(**changes: Any) -> list[dict[str, Any]]:
    checks = [{"name": "greedy tokens", "passed": True}]
    return [{"tag": "cp313", "passed": True, "checks": checks, **changes}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"schema": 2}, "is no smoke report:\n  schema: Input should be 1", id="schema"
        ),
        pytest.param(
            {"commit": None},
            "names no commit, and there is no build record of the wheel",
            id="no-commit",
        ),
        pytest.param(
            {"commit": "9012bb2"},
            "is no smoke report:\n  commit: String should match pattern",
            id="short-commit",
        ),
        pytest.param(
            {"sha256": "0" * 64},
            f"is about another wheel than the one beside it: sha256 {'0' * 64}, not ",
            id="other-bytes",
        ),
        pytest.param(
            {"size": 1}, "is about another wheel than the one beside it: size 1, not", id="size"
        ),
        pytest.param(
            {"wheel": "a.whl"},
            "is about another wheel than the one beside it: name a.whl, not llama_cpp_",
            id="other-name",
        ),
        pytest.param(
            {"backend": "auto"}, ".smoke.json: unknown backend 'auto'", id="relabelled-copy"
        ),
        pytest.param(
            {"platform": "win_amd64"},
            "says cpu-win_amd64, the wheel's name cpu-manylinux_x86_64",
            id="other-platform",
        ),
        pytest.param({"passed": False}, "does not say that the wheel passed", id="failed"),
        pytest.param({"interpreters": []}, "does not say that the wheel passed", id="on-nothing"),
        pytest.param(
            {"interpreters": run_of(passed=False)},
            "does not say that the wheel passed",
            id="a-failed-run",
        ),
        pytest.param(
            {"interpreters": run_of(checks=[{"name": "import", "passed": False}])},
            "does not say that the wheel passed: cp313 import",
            id="a-failed-check",
        ),
        pytest.param(
            {"interpreters": run_of(checks=[{"name": "import", "passed": True}])},
            "has no check greedy tokens on cp313",
            id="tokens-never-compared",
        ),
    ],
)
def test_a_smoke_report_that_shows_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    path = write_smoke(wheel, CPU, **changes)
    with pytest.raises(SmokeError) as caught:
        read_proofs(path, TABLE, PIN)
    assert message in caught.value.what
    assert list(add_nothing(tmp_path, [path])) == []


def add_nothing(tmp_path: Path, files: list[Path]) -> list[Path]:
    """Add reports of which one is refused; return what was written all the same."""
    folder = tmp_path / "proof"
    with pytest.raises(ToolchainError):
        list(add_reports(files, TABLE, PIN, folder=folder))
    return list(folder.glob("*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"target": "cu999-win_arm64"}, "the table has no target", id="target"),
        pytest.param({"commit": None}, "does not say which commit was built", id="no-commit"),
        pytest.param({"level": "built"}, "a built target and its wheel disagree", id="level"),
        pytest.param(
            {"wheel": None}, "a repaired target and its wheel disagree", id="no-wheel-in-it"
        ),
        pytest.param(
            {"wheel": {"name": "a.whl", "sha256": "0" * 64, "size": 1}},
            "is about another wheel than the one beside it: name a.whl, not llama_cpp",
            id="other-wheel",
        ),
        pytest.param(
            {"target": "cpu-musllinux_x86_64"},
            "says cpu-musllinux_x86_64, the wheel's name cpu-manylinux_x86_64",
            id="other-target",
        ),
        pytest.param(
            {"llama_cpp_commit": "f" * 40},
            f"is of llama.cpp {'f' * 12}, the pin is {PIN.commit[:12]}",
            id="other-llama.cpp",
        ),
        pytest.param(
            {"llama_cpp_commit": "unknown"},
            f"is of llama.cpp unknown, the pin is {PIN.commit[:12]}",
            id="unknown-llama.cpp",
        ),
    ],
)
def test_a_build_record_that_shows_nothing_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    path = write_smoke(wheel, CPU)
    built = write_build(wheel, CPU)
    content = {**json.loads(built.read_text(encoding="utf-8")), **changes}
    built.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(WheelError) as caught:
        read_proofs(built, TABLE, PIN)
    assert message in caught.value.what
    assert add_nothing(tmp_path, [path, built]) == []


def test_a_wheel_that_was_changed_after_its_report_proves_nothing(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    paths = [write_smoke(wheel, CPU), write_build(wheel, CPU)]
    write_reported_wheel(tmp_path, CPU, marker="other bytes")
    for path in paths:
        with pytest.raises(ToolchainError, match="is about another wheel than the one beside it"):
            read_proofs(path, TABLE, PIN)
    wheel.unlink()
    for path in paths:
        with pytest.raises(ToolchainError, match=r"[.]whl is not beside it"):
            read_proofs(path, TABLE, PIN)


def test_a_smoke_report_of_another_llama_cpp_is_refused(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CPU, llama_cpp="f" * 40)
    with pytest.raises(WheelError, match=r"is of llama[.]cpp ffffffffffff, the pin is "):
        read_proofs(write_smoke(wheel, CPU), TABLE, PIN)


def test_a_smoke_test_outside_of_git_has_the_commit_of_the_build(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    report = write_smoke(wheel, CPU, commit=None)
    built = write_build(wheel, CPU, commit="a" * 40)
    _, proofs = read_proofs(report, TABLE, PIN)
    assert {proof.commit for proof in proofs} == {"a" * 40}
    content = json.loads(built.read_text(encoding="utf-8"))
    content["wheel"]["sha256"] = "0" * 64
    built.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SmokeError, match="names no commit, and there is no build record"):
        read_proofs(report, TABLE, PIN)


@pytest.mark.parametrize(
    ("declared", "installed", "without"),
    [
        pytest.param([], True, False, id="needs-none"),
        pytest.param(["nvidia-cublas"], True, False, id="installed"),
        pytest.param(["nvidia-cublas"], False, True, id="left-out"),
        pytest.param(["jinja2>=3.1", "numpy>=1.21"], False, False, id="no-runtime"),
    ],
)
def test_a_runtime_that_was_left_out_is_told(
    tmp_path: Path, declared: list[str], installed: bool, without: bool
) -> None:
    wheel = write_reported_wheel(tmp_path, CUDA)
    dependencies = {"declared": declared, "installed": installed, "reason": ""}
    path = write_smoke(wheel, CUDA, gpu="none", dependencies=dependencies)
    (_, (loaded,)) = read_proofs(path, TABLE, PIN)
    assert loaded.without_runtime is without


def twice(folder: Path, wheel: Path) -> Path:
    return write_reproduction(
        read_wheel(wheel), now=datetime(2026, 11, 22, tzinfo=UTC), folder=folder
    )


def test_a_second_build_of_the_same_bytes_is_told_of_the_wheel(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path / "dist", CPU)
    built = write_build(wheel, CPU)
    report = twice(tmp_path / "twice", wheel)
    (target, (proof,)) = read_proofs(report, TABLE, PIN)
    (_, (*_, repaired)) = read_proofs(built, TABLE, PIN)
    assert target == CPU
    assert proof == replace(repaired, reproduced="2026-11-22T00:00:00Z")
    # whichever comes first, and what is built anew as the same bytes has been built twice
    folder = tmp_path / "proof"
    for files in ([report, built], [built]):
        list(add_reports(files, TABLE, PIN, folder=folder))
        assert load_evidence(TABLE, folder)[CPU.name][-1] == proof
    later = write_build(wheel, CPU, date="2026-11-23T01:00:00Z")
    list(add_reports([later], TABLE, PIN, folder=folder))
    found = load_evidence(TABLE, folder)[CPU.name][-1]
    assert (found.date, found.reproduced) == ("2026-11-23T01:00:00Z", proof.reproduced)
    other = write_reported_wheel(tmp_path / "other", CPU, marker="other bytes")
    later = write_build(other, CPU, date="2026-11-24T01:00:00Z")
    list(add_reports([later], TABLE, PIN, folder=folder))
    assert load_evidence(TABLE, folder)[CPU.name][-1].reproduced is None


def test_a_second_build_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path / "dist", CPU)
    folder = tmp_path / "twice"
    report = twice(folder, wheel)
    with pytest.raises(WheelError, match="the wheel has no build record"):
        read_proofs(report, TABLE, PIN)
    record = write_build(folder / wheel.name, CPU)
    read_proofs(report, TABLE, PIN)
    record.write_text(json.dumps(record_of(CPU, level="built")), encoding="utf-8")
    with pytest.raises(WheelError, match="is of no finished wheel"):
        read_proofs(report, TABLE, PIN)
    report.write_text("{}", encoding="utf-8")
    with pytest.raises(WheelError, match="is no report of a second build"):
        read_proofs(report, TABLE, PIN)
    # of the wheel that is kept there
    write_build(folder / wheel.name, CPU)
    assert twice(folder, folder / wheel.name) == report
    read_proofs(report, TABLE, PIN)
    # a report of the bytes before, and a record of those
    write_build(wheel, CPU)
    twice(folder, wheel)
    write_reported_wheel(folder, CPU, marker="other bytes")
    with pytest.raises(WheelError, match="is about another wheel than the one beside it"):
        read_proofs(report, TABLE, PIN)
    record_path(wheel).unlink()
    twice(folder, wheel)
    assert sorted(path.name for path in folder.iterdir()) == [wheel.name, report.name]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "a.json"
    other.touch()
    with pytest.raises(UsageError) as caught:
        read_proofs(other, TABLE, PIN)
    assert (
        caught.value.what == "a.json is no smoke report, build record or report of a second build"
    )
    assert (
        caught.value.cure == "name files that end with .smoke.json, .build.json or .reproduced.json"
    )


def test_reports_are_condensed_and_name_no_folder(tmp_path: Path) -> None:
    wheel = write_reported_wheel(tmp_path, CPU)
    files = [write_build(wheel, CPU), write_smoke(wheel, CPU)]
    folder = tmp_path / "proof"
    added = list(add_reports(files, TABLE, PIN, folder=folder))
    assert added == [(CPU, ["configured", "built", "repaired", "loaded", "computed"])]
    assert [path.name for path in folder.iterdir()] == ["cpu-manylinux_x86_64.json"]
    text = (folder / "cpu-manylinux_x86_64.json").read_text(encoding="utf-8")
    assert "/tmp" not in text
    evidence = load_evidence(TABLE, folder)[CPU.name]
    assert [proof.wheel and proof.wheel.name for proof in evidence] == [wheel.name] * 5
    # the same once more is nothing new
    assert list(add_reports(files, TABLE, PIN, folder=folder)) == []
    assert (folder / "cpu-manylinux_x86_64.json").read_text(encoding="utf-8") == text
