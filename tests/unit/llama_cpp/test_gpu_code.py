"""Which GPU code runs where."""

from __future__ import annotations

import pytest

from llama_cpp._gpu_code import architecture_name, cuda_fit, rocm_fit, with_ptx

CU124 = ("50", "60", "61", "70", "75", "80", "86", "89", "90", "90-virtual")
CU130 = ("75", "80", "86", "89", "90", "120a", "120-virtual")


@pytest.mark.parametrize(
    ("architectures", "toolkit", "driver", "compute", "fit"),
    [
        (CU124, (12, 4), (12, 4), (9, 0), "native"),
        # machine code runs on later minor versions of its major version, never on earlier ones
        (("80",), (12, 4), (12, 4), (8, 9), "native"),
        (("89",), (12, 4), (12, 4), (8, 6), "no-kernel"),
        # a newer GPU has the driver compile PTX, if the driver is new enough for that PTX
        (CU124, (12, 4), (12, 8), (12, 0), "jit"),
        (CU124, (12, 4), (12, 2), (12, 0), "driver-cannot-jit"),
        # minor version compatibility: an older driver of the same major version runs machine code
        (CU124, (12, 4), (12, 0), (8, 6), "native"),
        (CU130, (13, 0), (12, 9), (9, 0), "driver-too-old"),
        # a newer driver runs whatever is older
        (CU124, (12, 4), (13, 0), (8, 6), "native"),
        (CU130, (13, 0), (13, 0), (6, 1), "no-kernel"),
        # 120a is for 12.0 alone; 12.1 takes the PTX
        (CU130, (13, 0), (13, 0), (12, 0), "native"),
        (CU130, (13, 0), (13, 0), (12, 1), "jit"),
        (CU130, (13, 0), (13, 0), (10, 0), "no-kernel"),
        (("120f",), (13, 0), (13, 0), (12, 1), "native"),
        (("120f-virtual",), (13, 0), (13, 0), (12, 1), "jit"),
        (("120a-virtual",), (13, 0), (13, 0), (12, 1), "no-kernel"),
        (("90-real",), (12, 4), (12, 4), (9, 0), "native"),
        (("native",), (12, 4), (12, 4), (9, 0), "unknown"),
        (CU124, (12, 4), (12, 4), None, "unknown"),
        ((), (12, 4), (12, 4), (9, 0), "unknown"),
    ],
)
def test_cuda(architectures, toolkit, driver, compute, fit) -> None:  # type: ignore[no-untyped-def]
    assert cuda_fit(architectures, toolkit, driver, compute) == fit


def test_rocm_has_no_ptx() -> None:
    assert rocm_fit(("gfx1100",), "gfx1100")
    assert not rocm_fit(("gfx1100",), "gfx1101")


@pytest.mark.parametrize(
    ("compute", "name"), [((8, 9), "89"), ((10, 0), "100"), ((12, 0), "120a"), ((12, 1), "121a")]
)
def test_architecture_names(compute: tuple[int, int], name: str) -> None:
    assert architecture_name(compute) == name


def test_what_cmake_makes_of_a_plain_architecture() -> None:
    assert with_ptx(("86", "90-real", "120a", "gfx1100")) == (
        *("86", "90-real", "120a", "gfx1100"),
        *("86-virtual", "120a-virtual"),
    )
