"""The cost of the CUDA module: the sample, what nvcc says it does, and what follows from figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cuda import (
    ARCHITECTURES,
    Unit,
    UnitCost,
    Whole,
    find_whole,
    generate_code,
    measure,
    nearest,
    owner_of,
    parse_dryrun,
    plan,
    read_units,
    report,
    sample_order,
)
from ci.errors import ToolMissingError
from ci.progress import Progress
from ci.table import load_table
from tests.device_code import container, entry, write_module

TABLE = load_table()
COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"


def units_in(folder: Path, names: Sequence[str]) -> list[Unit]:
    units: list[Unit] = []
    for name in names:
        source = folder / name
        source.write_text("x" * (2 if name == "e.cu" else 1))
        units.append(Unit(name=name, source=source, folder=folder, command=("nvcc", name)))
    return units


def test_the_units_of_a_build(tmp_path: Path) -> None:
    tree = "/tree/ggml/src/ggml-cuda"
    command = (
        "sccache /cuda/bin/nvcc -O3 --generate-code=arch=compute_90,code=[sm_90] -c {} -o {}.o"
    )
    files = [f"{tree}/z.cu", f"{tree}/template-instances/a.cu", "/tree/ggml/src/ggml.c"]
    entries = [
        {"file": file, "directory": "/build", "command": command.format(file, file)}
        for file in files
    ]
    path = tmp_path / "compile_commands.json"
    path.write_text(json.dumps(entries))
    assert [(unit.name, unit.command) for unit in read_units(path)] == [
        ("template-instances/a.cu", ("/cuda/bin/nvcc", "-O3", "-c", files[1])),
        ("z.cu", ("/cuda/bin/nvcc", "-O3", "-c", files[0])),
    ]


@pytest.mark.parametrize("content", [None, "[]"])
def test_no_build_to_take_the_flags_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "compile_commands.json"
    if content is not None:
        path.write_text(content)
    assert main(["cuda", "--commands", str(path), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said.replace("\n", "")
    assert "build the module first" in said


def test_each_beginning_of_the_order_is_spread_evenly(tmp_path: Path) -> None:
    units = units_in(tmp_path, [f"{letter}.cu" for letter in "abcdefgh"])
    assert "".join(unit.name[0] for unit in sample_order(units)) == "ecgbdfha"


def test_machine_code_and_ptx_as_nvcc_wants_them() -> None:
    assert generate_code(["75", "90", "90-virtual", "120a", "121-virtual"]) == [
        "--generate-code=arch=compute_75,code=[sm_75]",
        "--generate-code=arch=compute_90,code=[sm_90,compute_90]",
        "--generate-code=arch=compute_120a,code=[sm_120a]",
        "--generate-code=arch=compute_121,code=[compute_121]",
    ]


def test_what_a_dry_run_prints() -> None:
    printed = (
        "#$ _SPACE_= \n#$ CICC_PATH=/cuda/bin/../nvvm/bin\n"
        '#$ INCLUDES="-I/cuda/include"  \n#$ LIBRARIES=  "-L/a" "-L/b"\n'
        'a warning\n#$ ptxas -arch=sm_90 "x.ptx"\n'
    )
    assert parse_dryrun(printed) == (
        {"_SPACE_": "", "CICC_PATH": "/cuda/bin/../nvvm/bin"},
        ['ptxas -arch=sm_90 "x.ptx"'],
    )


@pytest.mark.parametrize(
    ("step", "owner"),
    [
        ('"/gcc/bin"/g++ -E -D__CUDA_ARCH__=900 "x.cu" -o "/k/x.compute_90.cpp1.ii"', "90"),
        ('"$CICC_PATH/cicc" "/k/x.compute_120a.cpp1.ii" -o "/k/x.compute_120a.ptx"', "120a"),
        ('ptxas -arch=sm_90 "/k/x.compute_90.ptx" -o "/k/x.compute_90.sm_90.cubin"', "90"),
        ('"/gcc/bin"/g++ -E -D__CUDACC__ "x.cu" -o "/k/x.cpp4.ii"', None),
        ('cudafe++ --stub_file_name "x.compute_75.cudafe1.stub.c" "/k/x.cpp4.ii"', None),
        ('fatbinary --create="x.fatbin" "--image3=kind=elf,file=/k/x.compute_75.cubin"', None),
        ('"/gcc/bin"/g++ -c "/k/x.compute_75.cudafe1.cpp" -o "x.o"', None),
    ],
)
def test_whose_step_it_is(step: str, owner: str | None) -> None:
    assert owner_of(step) == owner


@pytest.mark.parametrize(
    ("name", "other"),
    [("50", "75"), ("100", "90"), ("121a", "120a"), ("120-virtual", "90-virtual"), ("88", "89")],
)
def test_what_stands_for_an_architecture_that_was_not_measured(name: str, other: str) -> None:
    assert nearest(name, ["75", "80", "86", "89", "90", "90-virtual", "120a"]) == other


COSTS = [
    UnitCost(
        name="a.cu",
        common_s=2.0,
        seconds={"75": 10.0, "90": 6.0, "90-virtual": 0.0},
        sizes={"75": 100, "90": 200, "90-virtual": 50},
    ),
    UnitCost(
        name="b.cu",
        common_s=1.0,
        seconds={"75": 2.0, "90": 1.0, "90-virtual": 0.5},
        sizes={"75": 100, "90": 50, "90-virtual": 0},
    ),
]
WHOLE = Whole(seconds=100.0, size=1000, source="a build")


def test_a_sample_carries_over_by_its_ratio() -> None:
    planned = plan(COSTS, WHOLE, TABLE)
    # 100 s of the whole are 10 s of the sample, 1000 bytes are 250
    assert (planned.common_s, planned.seconds) == (30, {"75": 120, "90": 70, "90-virtual": 5})
    assert planned.sizes == {"75": 800, "90": 1000, "90-virtual": 200}
    architectures = TABLE.backend("cu124").gpu_architectures or []
    assert planned.stand_ins["50"] == "75"
    older = sum(name not in {"86", "89", "90", "90-virtual"} for name in architectures)
    newer = len(architectures) - older - 1
    # 86 is nearer to 90 than to 75
    seconds = 30 + older * 120 + newer * 70 + 5
    modules = len([each for each in TABLE.targets if each.backend.name == "cu124"])
    size = older * 800 + newer * 1000 + 200
    assert list(planned.modules["cu124"]) == [modules, seconds, size]
    assert planned.count == len([t for t in TABLE.targets if t.family.toolkit == "CUDA"])
    assert planned.cold_s == sum(n * each for n, each, _ in planned.modules.values())


def test_what_is_written() -> None:
    planned = plan(COSTS, WHOLE, TABLE)
    content = report(
        *(COSTS, WHOLE, planned, TABLE),
        units=144,
        hits={"units": 1, "missed_s": 9.0, "hit_s": 0.5},
        cpu_part_s=660,
        circumstances={"cpu": "A CPU"},
    )
    assert content["warm_s"] == planned.count * 72
    wheels = sum(bool(target.family.modules) for target in TABLE.targets)
    assert (content["gpu_wheels"], content["saved_s"]) == (wheels, wheels * 660)
    assert content["architectures"] == [
        {"name": "75", "seconds": 120, "bytes": 800},
        {"name": "90", "seconds": 70, "bytes": 1000},
        {"name": "90-virtual", "seconds": 5, "bytes": 200},
    ]


def test_without_a_whole_build_the_number_of_units_counts(tmp_path: Path) -> None:
    assert find_whole(tmp_path, COSTS, 144, commit=COMMIT) == Whole(
        seconds=720.0, size=18_000, source="the sample, by the number of units"
    )


@pytest.mark.build
def test_the_whole_build_is_one_that_was_hardly_spared_anything(tmp_path: Path) -> None:
    folder = tmp_path / "0123"
    folder.mkdir()
    write_module(folder / "libggml-cuda.so", container(entry(90, payload=96)))
    info = {"gpu_architectures": ["90"], "llama_cpp_commit": COMMIT, "toolkit": "CUDA 13.0.88"}
    cost = {"objects": 144, "cached": 0, "seconds": 2100.5, "elapsed": 1000.0}

    def found(cost: Mapping[str, object], info: Mapping[str, object]) -> Whole:
        record = {"libraries": ["libggml-cuda.so"], "build_info": info, "cost": cost}
        (folder / "module.json").write_text(json.dumps(record))
        return find_whole(tmp_path, COSTS, 144, commit=COMMIT)

    source = "CUDA 13.0.88, 144 objects, 0 of them cached"
    assert found(cost, info) == Whole(seconds=2100.5, size=96, source=source)
    assert found({**cost, "objects": 585, "cached": 3}, info).seconds == 2100.5
    alone = found({**cost, "cached": 3}, info)
    assert alone == replace(alone, source="the sample, by the number of units")
    assert alone == found(cost, {**info, "gpu_architectures": ["86", "90"]})
    assert alone == found(cost, {**info, "llama_cpp_commit": "another"})


NVCC = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
cat <<END
#$ PATH={folder}:$PATH
#$ ptxas -arch=sm_75 x.compute_75.ptx -o x.compute_75.cubin
#$ cp {folder}/module.so $out
END
"""
PTXAS = """#!/bin/sh
i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done
"""


@pytest.mark.build
def test_a_unit_is_measured_once(tmp_path: Path) -> None:
    entries = [entry(75, payload=96), entry(90), entry(90, kind=1)]
    write_module(tmp_path / "module.so", container(*entries))
    for name, script in (("nvcc", NVCC), ("ptxas", PTXAS)):
        program = tmp_path / name
        program.write_text(script.replace("{folder}", str(tmp_path)))
        program.chmod(0o755)
    units = [
        replace(unit, command=(str(tmp_path / "nvcc"), unit.name))
        for unit in units_in(tmp_path, ["a.cu", "b.cu", "e.cu"])
    ]
    kept = tmp_path / "kept"

    def measured(budget_s: float, compiler: str) -> list[UnitCost]:
        return measure(units, budget_s, Progress(), kept=kept, compiler=compiler)

    first = measured(0, "nvcc 13.0")
    assert [cost.name for cost in first] == ["e.cu"]
    assert first[0].sizes == {"75": 96, "90": 8, "90-virtual": 8}
    assert first[0].seconds.keys() == set(ARCHITECTURES)
    assert first[0].seconds["75"] > first[0].seconds["90"] == 0
    (tmp_path / "nvcc").rename(tmp_path / "gone")
    assert measured(0, "nvcc 13.0") == first
    with pytest.raises(ToolMissingError):
        measured(0, "nvcc 13.1")
