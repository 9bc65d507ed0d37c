"""System, C library and CPU."""

from __future__ import annotations

import platform
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from llama_cpp._doctor.system import cpu_level, machine_name, system

if TYPE_CHECKING:
    from pathlib import Path

V2 = "fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("machine", "name", "expected"),
    [
        ("AMD64", "windows", "x86_64"),
        ("x86_64", "linux", "x86_64"),
        ("ARM64", "windows", "aarch64"),
        ("arm64", "macos", "arm64"),
        ("aarch64", "linux", "aarch64"),
        ("riscv64", "linux", "riscv64"),
    ],
)
def test_machine_names(machine: str, name: str, expected: str) -> None:
    assert machine_name(machine, name) == expected


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse2", "x86-64-v1"),
        (V2, "x86-64-v2"),
        (V2 + " avx", "x86-64-v2"),
        (V3, "x86-64-v3"),
        (V3 + " avx512f", "x86-64-v3"),
        (V4, "x86-64-v4"),
        # macOS and Windows tell a few landmarks only
        ("sse2", "x86-64-v1"),
        ("sse4_2", "x86-64-v2"),
        ("sse4_2 avx2", "x86-64-v3"),
        ("sse4_2 avx2 avx512f", "x86-64-v4"),
    ],
)
def test_levels(flags: str, level: str) -> None:
    assert cpu_level("x86_64", frozenset(flags.split())) == level


def test_no_level() -> None:
    assert cpu_level("aarch64", frozenset({"fp", "asimd"})) is None
    assert cpu_level("x86_64", frozenset()) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_linux(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        f"processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: {V3}\n"
    )
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nPRETTY_NAME="Debian 12"\n')
    here = system(tmp_path)
    assert here.name == "linux"
    assert here.cpu == "Intel(R) Xeon(R)"
    assert here.release == f"Debian 12, Linux {platform.release()}"
    assert here.python_version == tuple(sys.version_info[:3])
    assert here.bits == struct.calcsize("P") * 8
    if platform.machine() == "x86_64":
        assert (here.cpu_level, here.native_machine) == ("x86-64-v3", "x86_64")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="stands in for an ARM host")
def test_qemu_shows_the_hosts_cpuinfo(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nCPU implementer\t: 0x41\n")
    here = system(tmp_path)
    assert (here.machine, here.native_machine) == ("x86_64", "aarch64")


@pytest.mark.skipif(sys.platform != "linux", reason="musl is Linux's")
def test_musl_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_glibc(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("os.confstr", no_glibc)
    (tmp_path / "lib").mkdir()
    loader = tmp_path / "lib/ld-musl-x86_64.so.1"
    loader.write_text(
        "#!/bin/sh\nprintf 'musl libc (x86_64)\\nVersion 1.2.5\\nDynamic Program Loader\\n' >&2\nexit 1\n"
    )
    loader.chmod(0o755)
    here = system(tmp_path)
    assert (here.libc, here.libc_version) == ("musl", (1, 2, 5))
