"""GPU architectures: what --archs takes, what a toolkit can make, and what CMake is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.architectures import choose_architectures, cmake_architectures, parse_architectures
from ci.errors import UsageError
from ci.table import load_table
from ci.toolkit import Toolkit

TABLE = load_table()
CU130 = TABLE.target("cu130", "manylinux_x86_64")
CU121 = TABLE.target("cu121", "manylinux_x86_64")
CU128 = TABLE.target("cu128", "manylinux_x86_64")
ROCM = TABLE.target("rocm7x", "manylinux_x86_64")
CUDA_13 = ("75", "80", "86", "87", "88", "89", "90", "100", "110", "103", "120", "121")
CUDA_12_4 = ("50", "52", "53", "60", "61", "62", "70", "72", "75", "80", "86", "87", "89", "90")


def toolkit(folder: Path, version: str, known: tuple[str, ...]) -> Toolkit:
    """A toolkit whose nvcc, a script, lists what it makes code for as the real one does."""
    nvcc = folder / "nvcc"
    lines = "\n".join(f"compute_{number}" for number in known)
    nvcc.write_text(f"#!/bin/sh\ncat <<END\n{lines}\nEND\n", encoding="utf-8")
    nvcc.chmod(0o755)
    return Toolkit(
        name="CUDA",
        version=version,
        folder=folder,
        source="--toolkit",
        defines={"CMAKE_CUDA_COMPILER": str(nvcc)},
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90", ("90",)),
        ("86;89;120a", ("86", "89", "120a")),
        ("86-real, 90-virtual 86", ("86", "90-virtual")),
    ],
)
def test_own_architectures(text: str, found: tuple[str, ...]) -> None:
    assert parse_architectures(text, CU130) == found


@pytest.mark.parametrize("text", ["8.9", "sm_90", "native", "gfx1100", "", ";"])
def test_what_is_no_architecture(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_architectures(text, CU130)
    wrong = text if text not in {"", ";"} else "nothing"
    assert str(caught.value) == (
        f"--archs {text!r}: {wrong} is no GPU architecture\n"
        '  -> write --archs "86;89;120a"; `nvidia-smi --query-gpu=compute_cap --format=csv` says'
        " yours (8.9 is 89)"
    )


def test_the_architectures_of_rocm() -> None:
    assert parse_architectures("gfx1100;gfx90a", ROCM) == ("gfx1100", "gfx90a")
    with pytest.raises(UsageError, match=r"^--archs '90': 90 is no GPU architecture\n.*`rocminfo`"):
        parse_architectures("90", ROCM)


def test_a_backend_without_architectures() -> None:
    with pytest.raises(UsageError) as caught:
        parse_architectures("90", TABLE.target("vulkan", "manylinux_x86_64"))
    assert str(caught.value) == (
        "vulkan-manylinux_x86_64 has no GPU architectures to choose from\n"
        "  -> leave --archs away: the one module runs on every GPU"
    )


def test_the_tables_or_ones_own(tmp_path: Path) -> None:
    own = toolkit(tmp_path, "13.0.88", CUDA_13)
    assert choose_architectures(CU130, own, None) == tuple(CU130.backend.gpu_architectures or ())
    assert choose_architectures(CU130, own, ["90", "121a"]) == ("90", "121a")


def test_a_compatible_toolkit_makes_machine_code_alone_and_what_it_knows(tmp_path: Path) -> None:
    older = toolkit(tmp_path, "12.4.131", CUDA_12_4)
    real = ("50", "60", "61", "70", "75", "80", "86", "89", "90")
    assert choose_architectures(CU121, older, None) == real
    # Blackwell is left out, which the build info says
    assert choose_architectures(CU128, older, None) == real


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            "120a",
            (
                "CUDA 12.4.131 makes no code for 120a; it knows 50, 52, 53, 60, 61, 62, 70, 72, 75, 80,"
                " 86, 87, 89, 90\n  -> leave it out, or take a newer backend (120a: cu128 and newer)"
            ),
        ),
        (
            "37",
            (
                "CUDA 12.4.131 makes no code for 37; it knows 50, 52, 53, 60, 61, 62, 70, 72, 75, 80,"
                " 86, 87, 89, 90\n  -> leave it out, or take a backend of CUDA 12 (cu128)"
            ),
        ),
    ],
)
def test_what_a_toolkit_does_not_know(tmp_path: Path, own: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_architectures(CU128, toolkit(tmp_path, "12.4.131", CUDA_12_4), [own])
    assert str(caught.value) == message


def test_what_cmake_is_given(tmp_path: Path) -> None:
    cuda = toolkit(tmp_path, "13.0.88", CUDA_13)
    assert cmake_architectures(["86", "120a", "90-virtual"], cuda) == {
        "CMAKE_CUDA_ARCHITECTURES": "86-real;120a-real;90-virtual"
    }
    rocm = Toolkit(name="ROCm", version="7.0", folder=tmp_path, source="--toolkit")
    assert cmake_architectures(["gfx1100", "gfx90a"], rocm) == {"GPU_TARGETS": "gfx1100;gfx90a"}
    assert cmake_architectures([], cuda) == {}
