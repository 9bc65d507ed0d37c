"""What fits what."""

from __future__ import annotations

import pytest

from llama_cpp._doctor.compatibility import (
    WheelTag,
    architecture_name,
    cuda_fit,
    parse_tag,
    rocm_fit,
    tag_problem,
)

from .machines import ALPINE, ARM_LINUX, LINUX, MAC, OLD_GLIBC, ROSETTA, WINDOWS

CU124 = ("50", "60", "61", "70", "75", "80", "86", "89", "90", "90-virtual")
CU130 = ("75", "80", "86", "89", "90", "120a", "120-virtual")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("py3-none-manylinux_2_17_x86_64", ("linux", "glibc", (2, 17), "x86_64")),
        ("manylinux2014_aarch64", ("linux", "glibc", (2, 17), "aarch64")),
        ("musllinux_1_2_x86_64", ("linux", "musl", (1, 2), "x86_64")),
        ("macosx_12_0_arm64", ("macos", None, (12, 0), "arm64")),
        ("linux_x86_64", ("linux", None, (), "x86_64")),
        ("win_amd64", ("windows", None, (), "x86_64")),
        ("win_arm64", ("windows", None, (), "aarch64")),
        ("py3-none-any", ("any", None, (), "any")),
    ],
)
def test_tags(text: str, tag: tuple[str, str | None, tuple[int, ...], str]) -> None:
    assert parse_tag(text) == WheelTag(text.rpartition("-")[2], *tag)


def test_a_tag_that_this_package_never_has() -> None:
    assert parse_tag("py3-none-emscripten_3_1_46_wasm32") is None


@pytest.mark.parametrize(
    ("text", "system", "problem"),
    [
        ("manylinux_2_17_x86_64", LINUX, None),
        ("linux_x86_64", ALPINE, None),
        ("any", WINDOWS, None),
        ("macosx_12_0_universal2", ROSETTA, None),
        (
            "manylinux_2_17_x86_64",
            OLD_GLIBC,
            ("libc-too-old", "it needs glibc 2.17, this is glibc 2.12"),
        ),
        (
            "manylinux_2_17_x86_64",
            ALPINE,
            ("wrong-libc", "it is for glibc, this system has musl"),
        ),
        (
            "manylinux_2_17_x86_64",
            ARM_LINUX,
            ("wrong-platform", "it is for x86_64, this Python is for aarch64"),
        ),
        ("win_amd64", LINUX, ("wrong-platform", "it is for windows, this is linux")),
        (
            "macosx_12_0_arm64",
            MAC._replace(version=(11, 7)),
            ("system-too-old", "it needs macOS 12.0, this is macOS 11.7"),
        ),
    ],
)
def test_tags_and_systems(text, system, problem) -> None:  # type: ignore[no-untyped-def]
    tag = parse_tag(text)
    assert tag is not None
    assert tag_problem(tag, system) == problem


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
