"""ROCm, the PCI bus, CUDA toolkits: read from files and programs that stand in."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from llama_cpp._amd_driver import RocmGpu
from llama_cpp._doctor.accelerators import (
    accelerators,
    adapters,
    rocm,
    rocminfo_gpus,
)
from llama_cpp._doctor.nvidia import Toolkit, toolkit_header, toolkits
from llama_cpp._doctor.system import system
from llama_cpp._doctor.vulkan import driver_version
from llama_cpp._gpu_code import cuda_version

if TYPE_CHECKING:
    from pathlib import Path

ROCMINFO = """\
ROCk module is loaded
=====================
HSA Agents
==========
*******
Agent 1
*******
  Name:                    AMD Ryzen 9 7950X 16-Core Processor
  Marketing Name:          AMD Ryzen 9 7950X 16-Core Processor
  Vendor Name:             CPU
  Device Type:             CPU
*******
Agent 2
*******
  Name:                    gfx1100
  Uuid:                    GPU-0123456789abcdef
  Marketing Name:          AMD Radeon RX 7900 XTX
  Vendor Name:             AMD
  Device Type:             GPU
  ISA Info:
    ISA 1
      Name:                    amdgcn-amd-amdhsa--gfx1100
*** Done ***
"""


def put(file: Path, text: str, *, mode: int = 0o644) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_rocminfo() -> None:
    assert rocminfo_gpus(ROCMINFO) == (RocmGpu("AMD Radeon RX 7900 XTX", "gfx1100"),)
    assert rocminfo_gpus("ROCk module is NOT loaded, possibly no GPU devices\n") == ()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in")
def test_rocm(tmp_path: Path) -> None:
    folder = tmp_path / "opt/rocm"
    put(folder / ".info/version", "7.0.2-56\n")
    put(folder / "lib/libamdhip64.so.7", "")
    put(folder / "bin/rocminfo", f"#!/bin/sh\ncat <<'END'\n{ROCMINFO}END\n", mode=0o755)
    found = rocm({}, tmp_path)
    assert found == ("7.0.2", str(folder), (RocmGpu("AMD Radeon RX 7900 XTX", "gfx1100"),))
    assert rocm({"ROCM_PATH": str(folder)}, tmp_path / "elsewhere") == found
    assert rocm({}, tmp_path / "elsewhere") == (None, None, ())


def test_adapters(tmp_path: Path) -> None:
    bus = tmp_path / "sys/bus/pci/devices"
    for name, vendor, kind in (
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:02:00.0", "0x10de", "0x030200"),
        ("0000:00:02.0", "0x8086", "0x038000"),
        ("0000:00:1f.0", "0x8086", "0x060100"),
        ("0000:03:00.0", "0x1234", "0x030000"),
    ):
        put(bus / name / "vendor", f"{vendor}\n")
        put(bus / name / "class", f"{kind}\n")
    assert adapters(tmp_path) == ("Intel", "NVIDIA")


@pytest.mark.parametrize(
    ("number", "version"), [(12080, (12, 8)), (13000, (13, 0)), (0, None), (None, None)]
)
def test_cuda_versions(number: object, version: tuple[int, int] | None) -> None:
    assert cuda_version(number) == version


def test_toolkits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    # a wrapper on PATH names no toolkit
    put(tmp_path / "bin/nvcc", "#!/bin/sh\n", mode=0o755)
    first = tmp_path / "usr/local/cuda-12.8"
    put(first / "version.json", json.dumps({"cuda": {"name": "CUDA SDK", "version": "12.8.1"}}))
    put(first / "bin/nvcc", "")
    second = tmp_path / "usr/local/cuda-12.4"
    put(second / "include/cuda.h", "#define CUDA_VERSION 12040\n")
    (tmp_path / "usr/local/cuda").symlink_to(second)
    conda = tmp_path / "conda env"
    put(conda / "targets/x86_64-linux/include/cuda.h", "#define CUDA_VERSION 13000\n")
    put(conda / "bin/nvcc", "")
    assert toolkits({"CUDA_PATH": str(conda)}, tmp_path) == (
        Toolkit("13.0", str(conda), has_compiler=True),
        Toolkit("12.8.1", str(first), has_compiler=True),
        Toolkit("12.4", str(second), has_compiler=False),
    )
    assert toolkits({"CUDACXX": str(first / "bin/nvcc")}, tmp_path)[0].folder == str(first)
    assert toolkit_header(conda, "cuda.h") == "#define CUDA_VERSION 13000\n"
    assert toolkit_header(conda, "crt/host_config.h") == ""


@pytest.mark.parametrize(
    ("value", "hidden"),
    [("-1", "CUDA_VISIBLE_DEVICES=-1"), ("", "CUDA_VISIBLE_DEVICES="), ("0,1", None), (None, None)],
)
def test_hidden_gpus(tmp_path: Path, value: str | None, hidden: str | None) -> None:
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert accelerators(system(), environment, tmp_path).hidden == hidden


@pytest.mark.parametrize(
    ("number", "vendor", "text"),
    [
        ((580 << 22) | (82 << 14) | (7 << 6), 0x10DE, "580.82.7"),
        ((25 << 22) | 7, 0x10005, "25.0.7"),
        ((2 << 22) | (0 << 12) | 302, 0x1002, "2.0.302"),
    ],
    ids=["NVIDIA's own packing", "Mesa", "AMD"],
)
def test_the_version_of_a_vulkan_driver(number: int, vendor: int, text: str) -> None:
    assert driver_version(number, vendor) == text
