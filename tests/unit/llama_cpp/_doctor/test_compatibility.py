"""What fits what."""

from __future__ import annotations

import pytest

from llama_cpp._doctor.compatibility import (
    WheelTag,
    parse_tag,
    tag_problem,
)

from .machines import ALPINE, ARM_LINUX, LINUX, MAC, OLD_GLIBC, ROSETTA, WINDOWS


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
