from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from ci.errors import SmokeError
from index.report import Host, Interpreter, Proof, read_proof
from index.wheel import read_wheel
from tests.wheels import write_report, write_wheel

if TYPE_CHECKING:
    from pathlib import Path


def refusal(wheel: Path) -> SmokeError:
    with pytest.raises(SmokeError) as caught:
        read_proof(read_wheel(wheel), backend="cpu")
    assert caught.value.exit_code == 9
    return caught.value


def test_summarises_what_was_proven(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel)

    assert read_proof(read_wheel(wheel), backend="cpu") == Proof(
        sha256=hashlib.sha256(report.read_bytes()).hexdigest(),
        source=None,
        date="2026-11-21T02:00:00Z",
        host=Host(system="Linux", machine="x86_64", libc="glibc 2.36", cpu="Xeon"),
        interpreters=(
            Interpreter(
                version="3.13.1",
                tag="cp313",
                implementation="CPython",
                free_threaded=False,
                device="CPU",
                cpu_variant="libggml-cpu-haswell.so",
                checks=("import", "tokens"),
            ),
        ),
    )


def test_a_missing_report(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)

    error = refusal(wheel)

    assert error.what == f"{wheel}: no smoke report {wheel.name}.smoke.json beside it"
    assert error.cure == f"prove the wheel with `nox -s smoke -- {wheel}`"


def test_a_failed_report(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, passed=False)

    assert refusal(wheel).what == f"{report}: failed on 3.13.1 (tokens)"


def test_a_report_that_says_passed_over_a_failed_check(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, passed=False, changes={"passed": True})

    assert refusal(wheel).what == f"{report}: failed on 3.13.1 (tokens)"


def test_a_report_that_failed_without_an_interpreter(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, changes={"passed": False, "interpreters": []})

    assert refusal(wheel).what == f"{report}: failed on no interpreter named: passed is false"


def test_a_report_without_interpreters(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, changes={"interpreters": []})

    assert refusal(wheel).what == f"{report}: it proves nothing on some or any interpreter"


def test_a_report_of_another_wheel(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel)
    before = hashlib.sha256(wheel.read_bytes()).hexdigest()
    write_wheel(tmp_path, {"llama_cpp/__init__.py": "changed = True\n"})
    after = hashlib.sha256(wheel.read_bytes()).hexdigest()

    assert refusal(wheel).what == (
        f"{report}: the report is about another wheel: sha256 {before}, this one has {after}"
    )


@pytest.mark.parametrize(
    ("key", "value", "ours"),
    [
        ("backend", "cu128", "cpu"),
        ("platform", "win_amd64", "manylinux_x86_64"),
        ("size", 1, None),
        ("wheel", "other.whl", None),
    ],
)
def test_a_report_that_contradicts_the_wheel(
    tmp_path: Path, key: str, value: object, ours: str | None
) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, changes={key: value})
    mine = ours or {"size": wheel.stat().st_size, "wheel": wheel.name}[key]

    assert refusal(wheel).what == (
        f"{report}: the report is about another wheel: {key} {value}, this one has {mine}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "report: Invalid JSON: EOF while parsing a value", id="empty"),
        pytest.param("{", "report: Invalid JSON: EOF while parsing an object", id="truncated"),
        pytest.param('{"schema": 2}', "schema: Input should be 1", id="schema"),
        pytest.param('{"schema": 1}', "wheel: Field required", id="missing"),
    ],
)
def test_something_else_than_a_report(tmp_path: Path, text: str, message: str) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel)
    report.write_text(text, encoding="utf-8")

    assert refusal(wheel).what.startswith(f"{report}: not a smoke report ({message}")


def test_a_relabelled_wheel_names_what_was_proven(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    source = {"wheel": "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.whl", "sha256": "0" * 64}
    write_report(wheel, changes={"source": source})

    assert read_proof(read_wheel(wheel), backend="cpu").source == "0" * 64


def test_a_report_may_say_more(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, changes={"seconds": 12.5})
    assert json.loads(report.read_text(encoding="utf-8"))["seconds"] == 12.5

    assert read_proof(read_wheel(wheel), backend="cpu").date == "2026-11-21T02:00:00Z"


@pytest.mark.parametrize(
    ("gpu", "device"),
    [(True, None), (True, "none"), (False, "none")],
    ids=["silent", "none", "says so itself"],
)
def test_a_gpu_wheel_is_proven_on_a_gpu(tmp_path: Path, gpu: bool, device: str | None) -> None:
    wheel = write_wheel(tmp_path)
    report = write_report(wheel, changes={} if device is None else {"gpu": {"device": device}})

    with pytest.raises(SmokeError) as caught:
        read_proof(read_wheel(wheel), backend="cpu", gpu=gpu)
    assert caught.value.what == f"{report}: the wheel was not proven on a GPU"
    assert caught.value.cure == f"prove the wheel with `nox -s smoke -- {wheel}` where one is"

    write_report(wheel, changes={"gpu": {"device": "Vulkan0: llvmpipe"}})
    read_proof(read_wheel(wheel), backend="cpu", gpu=gpu)


def test_what_the_report_of_a_gpu_wheel_says_more(tmp_path: Path) -> None:
    """As `ci smoke` writes it: the checkout, dependencies, each device, and a figure of speed."""
    wheel = write_wheel(tmp_path, version="0.3.100+cu130")
    device = {"name": "CUDA0", "description": "NVIDIA H100", "kind": "GPU", "driver": "580.82.7"}
    throughput = {"parameters": 103433216, "gpu": {"prompt": 1.5}, "ratio": {"prompt": 90.5}}
    changes: dict[str, object] = {
        "commit": "0c1e57098bba43ac29e6e3b677cdceebdd22334f-dirty",
        "dependencies": {"declared": ["nvidia-cublas>=13"], "installed": True, "reason": "driver"},
        "gpu": {"device": "CUDA0: NVIDIA H100", "devices": [device], "throughput": throughput},
    }
    write_report(wheel, backend="cu130", changes=changes)

    proof = read_proof(read_wheel(wheel), backend="cu130", gpu=True)
    assert proof.interpreters[0].checks == ("import", "tokens")
