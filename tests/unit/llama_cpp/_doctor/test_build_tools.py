"""Compilers, and what CUDA's own header says about them."""

from __future__ import annotations

import pytest

from llama_cpp._doctor.build_tools import HostLimits, cmake_arguments, compiler_from, host_limits

# the lines of CUDA 12.2's and 13.0's crt/host_config.h that count
CUDA_122 = """
#if __GNUC__ > 12
#error -- unsupported GNU version! gcc versions later than 12 are not supported!
#if (__clang_major__ >= 16) || (__clang_major__ < 3)
#if _MSC_VER < 1910 || _MSC_VER >= 1940
"""
CUDA_130 = CUDA_122.replace("12", "15").replace("16", "21").replace("1940", "1950")


def test_host_limits() -> None:
    assert host_limits(CUDA_122) == HostLimits(gcc=12, clang=15, msvc=1940)
    assert host_limits(CUDA_130) == HostLimits(gcc=15, clang=20, msvc=1950)
    assert host_limits("") == HostLimits(None, None, None)


@pytest.mark.parametrize(
    ("said", "kind", "version", "target"),
    [
        (
            "c++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright (C) 2022 Free Software Foundation, Inc.",
            "gcc",
            "12.2.0",
            None,
        ),
        ("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu", "clang", "14.0.6", None),
        ("Apple clang version 16.0.0 (clang-1600.0.26.4)", "apple-clang", "16.0.0", None),
        (
            "Microsoft (R) C/C++ Optimizing Compiler Version 19.44.35208 for x64\nCopyright",
            "msvc",
            "19.44.35208",
            "x64",
        ),
        (
            "Microsoft (R) C/C++ Optimizing Compiler Version 19.44.35208 for x86\nCopyright",
            "msvc",
            "19.44.35208",
            "x86",
        ),
        ("", "unknown", None, None),
    ],
)
def test_compilers(said: str, kind: str, version: str | None, target: str | None) -> None:
    assert compiler_from("/usr/bin/c++", said) == (kind, "/usr/bin/c++", version, target)


@pytest.mark.parametrize(
    ("text", "definitions", "stray"),
    [
        ("", {}, ()),
        ("-DGGML_CUDA=on", {"GGML_CUDA": "on"}, ()),
        ("-DGGML_CUDA:BOOL=ON -G Ninja", {"GGML_CUDA": "ON"}, ()),
        ("-D GGML_CUDA=ON", {"GGML_CUDA": "ON"}, ()),
        ("-DX=86;89;120", {"X": "86;89;120"}, ()),
        ('"-DX=C:/Path With Spaces"', {"X": "C:/Path With Spaces"}, ()),
        ("-DX=C:/Path With Spaces", {"X": "C:/Path"}, ("With", "Spaces")),
        ("-DX=c:\\PERSONAL FILES\\nvcc", {"X": "c:PERSONAL"}, ("FILESnvcc",)),
    ],
)
def test_cmake_arguments(text: str, definitions: dict[str, str], stray: tuple[str, ...]) -> None:
    assert cmake_arguments(text) == (definitions, stray, None)


def test_cmake_arguments_with_an_open_quote() -> None:
    assert cmake_arguments("-DX='1") == ({}, (), "No closing quotation")
