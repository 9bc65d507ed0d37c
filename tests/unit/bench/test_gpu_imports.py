"""GPU wheels beside the CPU wheel."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import results, tables
from bench.gpu_imports import children_cpu_s, report
from bench.imports import Installed, Timed, devices
from ci.errors import BuildError

# a package that is there in an environment, as far as the benchmark asks it
PACKAGE = """
from collections import namedtuple
Device = namedtuple("Device", "name")
devices = lambda: (Device("CPU"),)
"""


@pytest.fixture
def packages(tmp_path: Path) -> list[Installed]:
    """Two of them, at one Python that finds what stands in for both."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "llama_cpp.py").write_text(PACKAGE)
    found = []
    for name, size in (("cpu", 10_000_000), ("cu130", 60_000_000)):
        wheel = tmp_path / f"llama_cpp_python-0.3.100+{name}-py3-none-any.whl"
        with wheel.open("wb") as file:
            file.truncate(size)
        found.append(
            Installed(name=name, title=f"0.3.100+{name}", wheel=wheel, python=python, programs={})
        )
    return found


def timed(gpu_import: float) -> Timed:
    return Timed(
        bare_s=[0.01] * 3,
        extra_s={
            "cpu": {"import": [0.010] * 3, "libraries": [0.040] * 3},
            "cu130": {"import": [gpu_import] * 3, "libraries": [0.044] * 3},
        },
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("gpu_import", "ratio", "met"), [(0.011, 1.1, "yes"), (0.013, 1.3, "**no**")]
)
def test_from_the_seconds_to_the_table(
    packages: list[Installed], tmp_path: Path, gpu_import: float, ratio: float, met: str
) -> None:
    content = report(
        timed(gpu_import),
        packages,
        date=datetime(2026, 11, 21, tzinfo=UTC),
        circumstances={"python": "3.11.7"},
    )
    results.write("gpu-import", content | {"cpu": "A CPU"}, tmp_path)
    result = results.read("gpu-import", results.GpuImportResult, tmp_path)
    assert tables.gpu_import_text(result) == (
        "Import of GPU wheels beside the cpu wheel, 2026-11-21, A CPU, Python 3.11.7, CPU time, medians "
        "of 3 rounds with a warm disk cache, on top of the bare interpreter; devices here: CPU.\n"
        "\n"
        "|  | wheel | `import llama_cpp` | ratio | … and its libraries | ratio |\n"
        "| --- | --: | --: | --: | --: | --: |\n"
        "| cpu | 10.0 MB | 10.0 ms |  | 40.0 ms |  |\n"
        f"| cu130 | 60.0 MB | {gpu_import * 1000:.1f} ms | {ratio:.2f} | 44.0 ms | 1.10 |\n"
        "\n"
        "| goal | at most | measured | met |\n"
        "| --- | --: | --: | --- |\n"
        f"| import, GPU wheel : cpu wheel | 1.20 | {ratio:.2f} | {met} |"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_a_package_that_cannot_be_imported(packages: list[Installed], tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('no')")
    with pytest.raises(BuildError, match=r"^0\.3\.100\+cpu: .* ended with exit code 1"):
        devices(packages[0])


def test_the_clock_counts_what_a_child_computes() -> None:
    before = children_cpu_s()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert children_cpu_s() - before > 0.01
