"""The evidence keeps the strongest proof of each level, the newest of those."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci.errors import TableError
from ci.evidence import Proof, age, kept, load_evidence, write_evidence
from ci.record import File
from ci.table import load_table
from ci.vendor import load_pin

TABLE = load_table()
PIN = load_pin()
CUDA = TABLE.target("cu128", "manylinux_x86_64")
PROOF = Proof(
    level="computed",
    date="2026-11-21T02:00:00Z",
    device="NVIDIA H100",
    commit="9" * 40,
    llama_cpp_commit=PIN.commit,
    llama_cpp_version=PIN.version,
    compiler="zig 0.17.0",
    toolkit="CUDA 12.8.93",
    gpu_architectures=["90"],
    wheel=File(name="a.whl", sha256="a" * 64, size=1),
    interpreters=["cp313"],
)


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        pytest.param({"commit": "8" * 40}, False, id="newer"),
        pytest.param({"date": "2026-11-20T02:00:00Z", "commit": "8" * 40}, True, id="older"),
        pytest.param({"toolkit": "CUDA 12.4.131"}, True, id="compatible-toolkit"),
        pytest.param({"device": "llvmpipe (LLVM 19.1.7)"}, True, id="software"),
        pytest.param({"without_device": True}, True, id="no-device"),
        pytest.param(
            {"emulator": "qemu-aarch64 7.2.22 -cpu max", "wheel": None}, True, id="emulated"
        ),
        pytest.param({"without_runtime": True}, True, id="no-runtime"),
        pytest.param({"commit": f"{'8' * 40}-dirty"}, True, id="dirty"),
        pytest.param({"llama_cpp_commit": "f" * 40}, True, id="other-llama.cpp"),
        pytest.param({"gpu_architectures": []}, True, id="fewer-architectures"),
        pytest.param({"gpu_architectures": ["86", "90"]}, False, id="more-architectures"),
    ],
)
def test_the_strongest_is_kept_and_the_newest_of_those(
    changes: dict[str, Any], stays: bool
) -> None:
    other = replace(PROOF, **{"date": "2026-11-22T02:00:00Z", **changes})
    assert kept([PROOF], [other], CUDA, PIN) == [PROOF if stays else other]
    assert kept([other], [PROOF], CUDA, PIN) == [PROOF if stays else other]


def test_interpreters_of_the_same_wheel_and_device_are_one_proof() -> None:
    later = replace(PROOF, date="2026-11-22T02:00:00Z", interpreters=["cp314t", "cp39"])
    (found,) = kept([PROOF], [later], CUDA, PIN)
    assert found == replace(later, interpreters=["cp39", "cp313", "cp314t"])
    other = replace(later, wheel=File(name="a.whl", sha256="b" * 64, size=1))
    assert kept([PROOF], [other], CUDA, PIN) == [other]


def test_what_the_same_bytes_showed_under_an_emulator_stays_beside_the_machine_s() -> None:
    later = "2026-11-22T02:00:00Z"
    wine = replace(PROOF, emulator="wine 8.0", date=later, interpreters=["c"])
    newer_wine = replace(wine, emulator="wine 10.0")
    qemu = replace(PROOF, emulator="qemu-x86_64 7.2.22 -cpu max")
    assert kept([wine, qemu], [PROOF], CUDA, PIN) == [PROOF, wine, qemu]
    assert kept([wine], [newer_wine], CUDA, PIN) == [newer_wine]
    # another wheel's says nothing of this one
    other = replace(PROOF, wheel=File(name="a.whl", sha256="b" * 64, size=1))
    assert kept([wine], [other], CUDA, PIN) == [other]


def test_ways_have_names_without_versions() -> None:
    names = [None, "wine 8.0", "qemu-aarch64 7.2.22 -cpu max"]
    assert [replace(PROOF, emulator=name).way for name in names] == ["", "wine", "qemu"]


def test_the_c_program_comes_after_every_python() -> None:
    assert sorted(["c", "cp315t", "cp39", "cp310"], key=age) == ["cp39", "cp310", "cp315t", "c"]


def test_levels_keep_their_order() -> None:
    loaded = replace(PROOF, level="loaded")
    assert kept([PROOF], [loaded], CUDA, PIN) == [loaded, PROOF]


@pytest.mark.parametrize(
    ("toolkit", "foreign"),
    [
        ("CUDA 12.8", False),
        ("CUDA 12.8.93", False),
        ("CUDA 12.80.1", True),
        ("CUDA 12.4.131, compatible with 12.8", True),
        (None, False),
    ],
)
def test_a_toolkit_of_another_version_is_foreign(toolkit: str | None, foreign: bool) -> None:
    assert replace(PROOF, toolkit=toolkit).foreign_toolkit(CUDA) is foreign


@pytest.mark.parametrize(
    ("device", "software"),
    [
        ("llvmpipe (LLVM 19.1.7, 256 bits)", True),
        ("SwiftShader Device (Subzero)", True),
        ("NVIDIA H100 80GB HBM3", False),
    ],
)
def test_a_gpu_in_software_is_no_hardware(device: str, software: bool) -> None:
    assert replace(PROOF, device=device).software is software


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    loaded = replace(PROOF, level="loaded", without_device=True, toolkit_source="redistributable")
    place = write_evidence(CUDA, [loaded, PROOF], tmp_path)
    assert place == tmp_path / "cu128-manylinux_x86_64.json"
    assert load_evidence(TABLE, tmp_path) == {CUDA.name: [loaded, PROOF]}
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
    assert "without_device" not in json.loads(place.read_text(encoding="utf-8"))["proofs"][1]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        pytest.param(
            "cu999-win_arm64", {}, "the table has no target of that name", id="unknown-target"
        ),
        pytest.param(
            "cu128-win_amd64", {}, "the table has no target of that name", id="another's-name"
        ),
        pytest.param(CUDA.name, {"schema": 2}, "is no evidence:\n  schema: Input", id="schema"),
        pytest.param(
            CUDA.name, {"proofs": [{}]}, "is no evidence:\n  proofs.0.level: Field", id="empty"
        ),
        pytest.param(CUDA.name, {"twice": True}, "not one proof per level", id="level-twice"),
    ],
)
def test_malformed_evidence_is_an_error(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    place = write_evidence(CUDA, [PROOF], tmp_path)
    content = json.loads(place.read_text(encoding="utf-8"))
    place.unlink()
    if changes.pop("twice", False):
        content["proofs"] *= 2
    (tmp_path / f"{name}.json").write_text(json.dumps({**content, **changes}), encoding="utf-8")
    with pytest.raises(TableError) as caught:
        load_evidence(TABLE, tmp_path)
    assert message in caught.value.what
    assert caught.value.cure == (
        f"delete it, and add the reports again: nox -s proof -- add ({name}.json)"
    )
