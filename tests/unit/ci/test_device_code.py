"""Device code: module, label, build info and requirements agree, and each disagreement is seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ci.check import check
from ci.device_code import (
    module_problems,
    origin_problems,
    own_architectures,
)
from ci.errors import WheelError
from ci.fatbin import architecture_order
from ci.library import Library
from ci.module import Cost, Module, assemble, version_of
from ci.table import Target, load_table
from ci.version_label import dynamic_metadata
from ci.wheel import Wheel, read_wheel
from tests.device_code import bundle, container, entry, write_module
from tests.wheels import write_wheel as write_stand_in

TABLE = load_table()
NAME = "llama_cpp/lib/libggml-cuda.so"
ARCHITECTURES = TABLE.backend("cu130").gpu_architectures or []
REAL_12 = ["50", "60", "61", "70", "75", "80", "86", "89", "90"]
LISTED = ", ".join(sorted(ARCHITECTURES, key=architecture_order))


def target(backend: str, platform: str = "manylinux_x86_64") -> Target:
    return TABLE.target(backend, platform)


def stand_in(folder: Path, label: str) -> Wheel:
    return read_wheel(write_stand_in(folder, version=f"0.3.100+{label}"))


def info(toolkit: str | None, architectures: Sequence[str]) -> Mapping[str, object]:
    return {"toolkit": toolkit, "gpu_architectures": list(architectures)}


def code(*names: str) -> bytes:
    """Return a container with what the table calls so."""
    entries = []
    for name in names:
        number = name.removesuffix("-virtual")
        flags = {"a": 0x100011, "f": 0x200011}.get(number[-1], 0x11)
        kind = 2 if number == name else 1
        entries.append(entry(int(number.rstrip("af")), kind=kind, flags=flags))
    return container(*entries)


def library(section: bytes, *needed: str) -> Library:
    return Library(needed=needed, code=(), device_code=((0, len(section)),))


CUDA_13 = ("libggml-base.so", "libcudart.so.13", "libcublas.so.13", "libcuda.so.1", "libc.so.6")


# ---- label, build info, table


@pytest.mark.parametrize(
    ("label", "own"),
    [
        ("cu130", set()),
        ("cu130.1", set()),
        ("cu130.sm90", {"90"}),
        ("cu130.sm86.sm120a", {"86", "120a"}),
        ("cu130.sm86.2", {"86"}),
        ("cu130.sm86.ptx90", {"86", "90-virtual"}),
        ("rocm7x.gfx1100.gfx90a", {"gfx1100", "gfx90a"}),
    ],
)
def test_what_a_label_names_beside_the_backend(
    monkeypatch: pytest.MonkeyPatch, label: str, own: set[str]
) -> None:
    # which is a version label for who makes the version
    monkeypatch.setenv("LLAMA_CPP_VERSION_LABEL", label)
    assert dynamic_metadata({}, {})["version"].endswith(f"+{label}")
    assert own_architectures(label) == own


@pytest.mark.parametrize(
    ("label", "toolkit", "architectures"),
    [
        ("cu130", "CUDA 13.0.88", ARCHITECTURES),
        ("cu130", "CUDA 13.0", sorted(ARCHITECTURES)),
        ("cu130.sm90", "CUDA 13.0.88", ["90"]),
        ("cu130.sm90.ptx90", "CUDA 13.0.88", ["90", "90-virtual"]),
        ("cu126", "CUDA 12.4.131, compatible with 12.6", REAL_12),
        ("cu128", "CUDA 12.4.131, compatible with 12.8", REAL_12),
        ("vulkan", "Vulkan SDK 1.4.309", []),
        ("cpu", None, []),
    ],
)
def test_build_info_as_it_must_be(
    tmp_path: Path, label: str, toolkit: str | None, architectures: list[str]
) -> None:
    backend = target(label.partition(".")[0])
    told = info(toolkit, architectures)
    assert list(origin_problems(stand_in(tmp_path, label), backend, told)) == []


@pytest.mark.parametrize(
    ("label", "told", "problem"),
    [
        pytest.param(
            "cu126",
            info("CUDA 12.4.131", TABLE.backend("cu126").gpu_architectures or []),
            "its build info says the toolkit CUDA 12.4.131, the table CUDA 12.6 for cu126",
            id="another toolkit",
        ),
        pytest.param(
            "cu130",
            info("CUDA 12.8.93, compatible with 13.0", ARCHITECTURES),
            "its build info says the toolkit CUDA 12.8.93, compatible with 13.0, the table CUDA 13.0"
            " for cu130",
            id="a toolkit of another major version",
        ),
        pytest.param(
            "cu126",
            info("CUDA 12.4.131, compatible with 12.6", ["80", "90", "90-virtual"]),
            "its build info says code for 80, 90, 90-virtual, the table for"
            f" {', '.join(REAL_12)} with such a toolkit",
            id="PTX of another toolkit",
        ),
        pytest.param(
            "vulkan",
            info("Vulkan SDK 1.3.239", []),
            "its build info says the toolkit Vulkan SDK 1.3.239, the table Vulkan SDK 1.4 for vulkan",
            id="another SDK",
        ),
        pytest.param(
            "cu130",
            info(None, ARCHITECTURES),
            "its build info says the toolkit None, the table CUDA 13.0 for cu130",
            id="no toolkit",
        ),
        pytest.param(
            "cu130",
            info("CUDA 13.0.88", ["90"]),
            f"its build info says code for 90, the table for {LISTED}",
            id="less than the table",
        ),
        pytest.param(
            "cu130",
            {"toolkit": "CUDA 13.0.88"},
            f"its build info says code for none, the table for {LISTED}",
            id="nothing",
        ),
        pytest.param(
            "cu130.sm90",
            info("CUDA 13.0.88", ["86", "90"]),
            "its label says code for 90, its build info for 86, 90",
            id="more than its own label",
        ),
    ],
)
def test_build_info_that_disagrees(
    tmp_path: Path, label: str, told: Mapping[str, object], problem: str
) -> None:
    backend = target(label.partition(".")[0])
    assert list(origin_problems(stand_in(tmp_path, label), backend, told)) == [problem]


# ---- the module


@pytest.mark.parametrize(
    ("section", "needed", "problems"),
    [
        pytest.param(code("75", "90", "90-virtual") * 3, CUDA_13, [], id="as it must be"),
        pytest.param(
            code("75", "90", "90-virtual") * 3,
            ("cublas64_13.dll", "cudart64_13.dll", "nvcuda.dll"),
            [],
            id="on Windows",
        ),
        pytest.param(
            code("75", "90"),
            CUDA_13,
            [f"{NAME} has code for 75, 90, its build info says 75, 90, 90-virtual"],
            id="no PTX",
        ),
        pytest.param(
            code("75", "90", "90-virtual", "120a", "120a-virtual"),
            CUDA_13,
            [
                (
                    f"{NAME} has code for 75, 90, 90-virtual, 120a, 120a-virtual, its build info"
                    " says 75, 90, 90-virtual"
                )
            ],
            id="more than said",
        ),
        pytest.param(
            code("75", "90", "90-virtual") + code("90") * 2,
            CUDA_13,
            [
                f"{NAME} has no code for 75 in 2 of its 3 parts",
                f"{NAME} has no code for 90-virtual in 2 of its 3 parts",
            ],
            id="files that lack some",
        ),
        pytest.param(
            b"",
            CUDA_13,
            [f"{NAME} has code for none, its build info says 75, 90, 90-virtual"],
            id="no code",
        ),
        pytest.param(
            code("75") + b"else",
            CUDA_13,
            [f"{NAME}: there is no container of code for GPUs at 0x58"],
            id="not readable",
        ),
        pytest.param(
            code("75", "90", "90-virtual"),
            ("libcudart.so.12", "libcublas.so.12"),
            [
                f"{NAME} needs libcudart.so.12, its label says CUDA 13",
                f"{NAME} needs libcublas.so.12, its label says CUDA 13",
            ],
            id="the runtime of another CUDA",
        ),
        pytest.param(
            code("75", "90", "90-virtual"),
            ("cudart64_12.dll", "cublas64_13.dll"),
            [f"{NAME} needs cudart64_12.dll, its label says CUDA 13"],
            id="the runtime of another CUDA on Windows",
        ),
        pytest.param(
            code("75", "90", "90-virtual"),
            ("libcublas.so.13", "libcublasLt.so.13"),
            [f"{NAME} does not need cudart, which CUDA 13 brings"],
            id="no runtime",
        ),
    ],
)
def test_a_cuda_module(section: bytes, needed: Sequence[str], problems: list[str]) -> None:
    told = info("CUDA 13.0.88", ["75", "90", "90-virtual"])
    found = module_problems(NAME, section, library(section, *needed), target("cu130"), told)
    assert list(found) == problems


GFX = "hipv4-amdgcn-amd-amdhsa--"


@pytest.mark.parametrize(
    ("section", "problems"),
    [
        pytest.param(bundle({f"{GFX}gfx1100": 8, f"{GFX}gfx90a": 8}), [], id="as it must be"),
        pytest.param(
            bundle({f"{GFX}gfx1100": 8}),
            ["ggml-hip has code for gfx1100, its build info says gfx90a, gfx1100"],
            id="one is missing",
        ),
    ],
)
def test_a_hip_module(section: bytes, problems: list[str]) -> None:
    told = info("ROCm 7.0.2", ["gfx1100", "gfx90a"])
    found = module_problems("ggml-hip", section, library(section), target("rocm7x"), told)
    assert list(found) == problems


def test_a_module_without_architectures_of_its_own() -> None:
    assert list(module_problems("ggml-vulkan", b"", library(b""), target("vulkan"), {})) == []


# ---- the whole


@pytest.mark.build
def test_check_compares_the_module_of_a_real_wheel(wheel: Path, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no cc to link a stand-in of the module with")
    cpu, cuda = read_wheel(wheel), target("cu130")
    library = tmp_path / "libggml-cuda.so"
    # something that looks like a path by chance: compressed code is full of all
    kernels = code("75", "90").replace(b"\x7f" * 8, rb"C:\\abcd")
    needed = ["libcudart.so.12", "libcublas.so.13", "libcuda.so.1"]
    run_path = ":".join(["$ORIGIN", *cuda.runtime.run_paths])
    write_module(library, kernels, needed=needed, run_path=run_path)
    module = Module(
        libraries={library.name: library.read_bytes()},
        build_info={
            **json.loads(cpu.files["llama_cpp/_build_info.json"]),
            **info("CUDA 13.0.88", ["90"]),
        },
        cost=Cost(objects=1, cached=0, seconds=None, elapsed=1.0),
    )
    path = assemble(cpu, module, cuda, version_of(cpu, cuda, ["90"]), tmp_path / "out")
    with pytest.raises(WheelError) as caught:
        check(path, TABLE)
    assert [line.strip() for line in caught.value.what.splitlines()[1:]] == [
        # repair's to mend
        f"WHEEL has the tags {cpu.tags[0]}, not py3-none-{cuda.wheel_tag} alone",
        f"{NAME} needs libcudart.so.12, which is neither in the wheel nor declared",
        f"{NAME} needs libcudart.so.12, its label says CUDA 13",
        f"{NAME} has code for 75, 90, its build info says 90",
    ]
