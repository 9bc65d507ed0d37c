from __future__ import annotations

from typing import TYPE_CHECKING

from bench.machine import cpu_name, instruction_sets

if TYPE_CHECKING:
    from pathlib import Path

CPUINFO = """\
processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse2 avx512f avx2 avx512f_not_this

processor\t: 1
model name\t: another
"""


def machine_with(folder: Path, text: str) -> Path:
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text(text, encoding="utf-8")
    return folder


def test_cpu_is_named_with_its_numbers(tmp_path: Path) -> None:
    root = machine_with(tmp_path, CPUINFO)
    assert cpu_name(root) == "AMD EPYC (family 26, model 2, stepping 1)"


def test_cpu_without_numbers_has_its_name_alone(tmp_path: Path) -> None:
    assert cpu_name(machine_with(tmp_path, "model name: Neoverse\n")) == "Neoverse"


def test_instruction_sets_are_those_that_ggml_knows(tmp_path: Path) -> None:
    assert instruction_sets(machine_with(tmp_path, CPUINFO)) == ("avx2", "avx512f")


def test_without_proc_nothing_is_claimed(tmp_path: Path) -> None:
    assert instruction_sets(tmp_path) == ()
