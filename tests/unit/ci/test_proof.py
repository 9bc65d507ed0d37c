"""The table of proof: every target, every level, and what each cell rests on, from real reports."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ci import paths
from ci.docs import stale_files
from ci.evidence import load_evidence
from ci.proof import interpreter_matrix, proof_page, proof_summary, proof_table
from ci.reports import add_reports
from ci.table import load_table
from ci.vendor import load_pin
from tests.reports import record_of, write_build, write_reported_wheel, write_smoke

TABLE = load_table()
PIN = load_pin()
CPU = TABLE.target("cpu", "manylinux_x86_64")
VULKAN = TABLE.target("vulkan", "manylinux_x86_64")
CU121 = TABLE.target("cu121", "manylinux_x86_64")
CU130 = TABLE.target("cu130", "manylinux_x86_64")
CU128 = TABLE.target("cu128", "manylinux_x86_64")
LLVMPIPE = "Vulkan0: llvmpipe (LLVM 19.1.7, 256 bits)"


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A folder of evidence: a CPU wheel, Vulkan in software, CUDA with and without what it needs."""
    dist, folder = tmp_path / "dist", tmp_path / "proof"
    vulkan = write_reported_wheel(dist, VULKAN, toolkit="Vulkan SDK 1.4.309")
    compatible = "CUDA 12.4.131, compatible with 12.1"
    left_out = {"declared": ["nvidia-cublas-cu12"], "installed": False}
    cu121 = write_reported_wheel(dist, CU121, toolkit=compatible, architectures=["86"])
    cu130 = write_reported_wheel(dist, CU130, toolkit="CUDA 13.0.88", architectures=["90"])
    cpu = write_reported_wheel(dist, CPU)
    stopped = dist / f"{CU128.name}.build.json"
    record = record_of(CU128, toolkit="CUDA 12.8.93", commit=f"{'a' * 40}-dirty")
    stopped.write_text(json.dumps(record), encoding="utf-8")
    files = [
        write_build(cpu, CPU),
        write_smoke(cpu, CPU, pythons=["cp39", "cp313", "cp315t"]),
        write_build(vulkan, VULKAN, "debian", toolkit="Vulkan SDK 1.4.309"),
        write_smoke(vulkan, VULKAN, gpu=LLVMPIPE),
        write_build(cu121, CU121, "debian", toolkit=compatible, gpu_architectures=["86"]),
        write_smoke(cu121, CU121, gpu="none", dependencies=left_out),
        write_smoke(cu130, CU130, gpu="CUDA0: NVIDIA H100 80GB HBM3"),
        stopped,
    ]
    list(add_reports(files, TABLE, PIN, folder=folder))
    return folder


def rows(text: str, name: str) -> list[str]:
    # the table of levels comes first, that of interpreters after it
    row, *_ = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def sha256_of(evidence: Path, target: str) -> str:
    proofs = load_evidence(TABLE, evidence)[target]
    (sha256,) = {proof.wheel.sha256 for proof in proofs if proof.wheel is not None}
    return sha256[:12]


SEEN = "2026-11-21, 9012bb2ab12f<br>"


def test_the_rows_of_what_was_proven(evidence: Path) -> None:
    page = proof_page(TABLE, load_evidence(TABLE, evidence), PIN)
    cpu = sha256_of(evidence, CPU.name)
    assert rows(page, CPU.name) == [
        "`cpu-manylinux_x86_64`",
        f"{SEEN}Xeon<br>zig 0.17.0",
        f"{SEEN}Xeon<br>zig 0.17.0",
        f"{SEEN}Xeon<br>manylinux_2_17_x86_64, 0.0 MB<br>sha256 {cpu}",
        f"{SEEN}Xeon<br>3 Pythons, 3.9 to 3.15t",
        f"{SEEN}Xeon<br>3 Pythons, 3.9 to 3.15t",
    ]
    vulkan = sha256_of(evidence, VULKAN.name)
    software = "llvmpipe (LLVM 19.1.7, 256 bits) (software)"
    assert rows(page, VULKAN.name) == [
        "`vulkan-manylinux_x86_64`",
        f"{SEEN}Xeon<br>Vulkan SDK 1.4.309 (debian)",
        f"{SEEN}Xeon<br>zig 0.17.0<br>Vulkan SDK 1.4.309 (debian)",
        f"{SEEN}Xeon<br>manylinux_2_17_x86_64, 0.0 MB<br>sha256 {vulkan}",
        f"{SEEN}{software}<br>Python 3.13",
        f"{SEEN}{software}<br>Python 3.13",
    ]


def test_a_wheel_that_was_built_twice_says_so(evidence: Path) -> None:
    known = load_evidence(TABLE, evidence)
    twice = [
        replace(proof, reproduced="2026-11-22T00:00:00Z") if proof.level == "repaired" else proof
        for proof in known[CPU.name]
    ]
    row = rows(proof_page(TABLE, {**known, CPU.name: twice}, PIN), CPU.name)
    cpu = sha256_of(evidence, CPU.name)
    assert row[3].endswith(f"<br>sha256 {cpu}<br>built twice, the same bytes")
    assert "twice" not in "".join(row[:3] + row[4:])


def test_a_compatible_toolkit_and_a_missing_device_are_told(evidence: Path) -> None:
    page = proof_page(TABLE, load_evidence(TABLE, evidence), PIN)
    cu121 = sha256_of(evidence, CU121.name)
    toolkit = "CUDA 12.4.131 (compatible, debian)"
    assert rows(page, CU121.name) == [
        "`cu121-manylinux_x86_64`",
        f"{SEEN}Xeon<br>{toolkit}",
        f"{SEEN}Xeon<br>zig 0.17.0<br>{toolkit}<br>architectures 86 (1 of the table's 10)",
        f"{SEEN}Xeon<br>{CU121.wheel_tag}, 0.0 MB<br>sha256 {cu121}<br>built with {toolkit}",
        f"{SEEN}Xeon<br>no device, without its runtime<br>Python 3.13<br>built with CUDA 12.4.131 (compatible)",
        "–",
    ]


def test_nothing_is_claimed_beyond_the_reports(evidence: Path) -> None:
    page = proof_page(TABLE, load_evidence(TABLE, evidence), PIN)
    h100 = f"{SEEN}NVIDIA H100 80GB HBM3<br>Python 3.13"
    assert rows(page, CU130.name)[1:] == ["–", "–", "–", h100, h100]
    dirty = "2026-11-21, aaaaaaaaaaaa-dirty<br>Xeon<br>CUDA 12.8.93"
    assert rows(page, CU128.name)[1:] == [dirty, "–", "–", "–", "–"]
    proven = {each.name for each in (CPU, VULKAN, CU121, CU130, CU128)}
    for target in TABLE.targets:
        if target.name not in proven:
            assert rows(page, target.name)[1:] == ["–"] * 5


def test_an_older_pin_is_told_with_its_version(evidence: Path) -> None:
    newer = replace(PIN, commit="f" * 40, version="0.6.0")
    loaded = load_evidence(TABLE, evidence)
    page = proof_page(TABLE, loaded, newer)
    assert "llama.cpp is 0.6.0 (`ffffffffffff`)" in page
    assert rows(page, CPU.name)[5] == (
        f"{SEEN}Xeon<br>3 Pythons, 3.9 to 3.15t"
        f"<br>older pin: llama.cpp 0.5.0-dev ({PIN.commit[:12]})"
    )
    assert rows(proof_summary(TABLE, loaded, newer), "cpu")[5] == "1 of 8, older pin"


def test_the_matrix_has_every_target_and_interpreter_with_the_level_reached(evidence: Path) -> None:
    matrix = interpreter_matrix(TABLE, load_evidence(TABLE, evidence))
    head, _, *lines = matrix.splitlines()
    assert head == (
        "| backend and platform | wheel | 3.9 | 3.10 | 3.11 | 3.12 | 3.13 | 3.14 | 3.15 | 3.13t"
        " | 3.14t | 3.15t | C |"
    )
    assert len(lines) == len(TABLE.targets)
    none = ["–"] * 3
    assert rows(matrix, CPU.name)[1:] == [
        "repaired", "computed", *none, "computed", *none, "–", "computed", "–",
    ]  # fmt: skip
    assert rows(matrix, VULKAN.name)[1:7] == ["repaired", "–", *none, "computed, software"]
    assert rows(matrix, CU121.name)[6] == "loaded, no device"
    # stopped after it was configured: there is no wheel
    assert rows(matrix, CU128.name)[1:] == ["configured", *["–"] * 11]


def test_what_ran_under_an_emulator_says_so_everywhere(tmp_path: Path) -> None:
    target = TABLE.target("cpu", "win_amd64")
    wheel = write_reported_wheel(tmp_path / "dist", target)
    checks = [{"name": "greedy tokens", "passed": True}]
    run = {"passed": True, "checks": checks, "emulator": "wine 8.0"}
    runs = [{**run, "tag": "c"}, {**run, "tag": "cp311"}]
    smoke = write_smoke(wheel, target, interpreters=runs)
    list(add_reports([smoke], TABLE, PIN, folder=tmp_path))
    loaded = load_evidence(TABLE, tmp_path)
    page = proof_page(TABLE, loaded, PIN)
    assert rows(page, target.name)[5] == f"{SEEN}Xeon<br>under wine 8.0<br>Python 3.11<br>C"
    matrix = rows(interpreter_matrix(TABLE, loaded), target.name)
    assert (matrix[1], matrix[4], matrix[12]) == ("–", "computed, wine", "computed, wine")
    assert rows(proof_summary(TABLE, loaded, PIN), "cpu")[5] == "1 of 8, under an emulator"


def test_the_summary_counts_platforms_and_says_what_the_count_hides(evidence: Path) -> None:
    summary = proof_summary(TABLE, load_evidence(TABLE, evidence), PIN)
    assert len(summary.splitlines()) == 2 + len(TABLE.backends)
    one = ["1 of 3"] * 5
    assert rows(summary, "cpu")[1:] == ["1 of 8"] * 5
    assert rows(summary, "vulkan")[1:] == [*one[:3], *["1 of 3, in software"] * 2]
    foreign = "1 of 3, with a compatible toolkit"
    assert rows(summary, "cu121")[1:] == [
        foreign,
        foreign,
        foreign,
        f"{foreign}, no device, without its runtime",
        "–",
    ]
    assert rows(summary, "cu130")[1:] == ["–", "–", "–", "1 of 3", "1 of 3"]
    assert rows(summary, "cu122")[1:] == ["–"] * 5


def test_a_note_that_holds_for_some_platforms_has_its_number(evidence: Path) -> None:
    loaded = load_evidence(TABLE, evidence)
    proofs = [
        replace(proof, without_device=False, without_runtime=False) for proof in loaded[CU121.name]
    ]
    own = [replace(proof, toolkit="CUDA 12.1.105") for proof in proofs]
    both = {**loaded, CU121.name: proofs, "cu121-manylinux_aarch64": own}
    summary = proof_summary(TABLE, both, PIN)
    assert rows(summary, "cu121")[4] == "2 of 3, 1 with a compatible toolkit"


def test_the_table_for_a_terminal_has_every_target(evidence: Path) -> None:
    console = Console(width=200, file=io.StringIO())
    console.print(proof_table(TABLE.targets, load_evidence(TABLE, evidence), PIN))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for target in TABLE.targets:
        assert f"│ {target.name} " in printed
    assert "(software)" in printed


def test_a_text_that_would_break_the_table_is_escaped(evidence: Path) -> None:
    loaded = load_evidence(TABLE, evidence)
    loaded[CPU.name] = [replace(proof, device="a | <b>") for proof in loaded[CPU.name]]
    assert "<br>a \\| &lt;b><br>" in proof_page(TABLE, loaded, PIN)


def test_the_committed_page_is_that_of_the_committed_evidence() -> None:
    page = proof_page(TABLE, load_evidence(TABLE), PIN)
    stale = stale_files({"docs/proof.md": page})
    assert stale == [], "run `nox -s generate` and commit the result"
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    begin = "<!-- generated by `nox -s generate`: table of proof -->\n\n"
    shown = readme.partition(begin)[2].partition("\n\n<!-- end of table of proof -->")[0]
    assert shown == proof_summary(TABLE, load_evidence(TABLE), PIN), "run `nox -s generate`"
