"""Mapped libraries and their names."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from llama_cpp._images import image_of, mapped_images, stem


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/libggml-base.so", "ggml-base"),
        ("/a/libggml-base.so.0.9.4", "ggml-base"),
        ("/a/libggml-base.0.dylib", "ggml-base"),
        ("ggml-base.dll", "ggml-base"),
        ("libllama.dll", "llama"),
        ("LLAMA.DLL", "llama"),
        ("/a/libggml-cpu-zen4.so", "ggml-cpu-zen4"),
        ("linux-vdso.so.1", "linux-vdso"),
    ],
)
def test_stem(path: str, expected: str) -> None:
    assert stem(path) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the C library by its Linux name")
def test_the_c_library_is_mapped() -> None:
    assert ctypes.CDLL(None) is not None
    assert [path for path in mapped_images() if "libc" in Path(path).name]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the C library by its Linux name")
def test_an_address_lies_in_the_library_that_has_it() -> None:
    function = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert function is not None
    found = image_of(function)
    assert found in mapped_images()
    assert "libc" in Path(str(found)).name or "ld-musl" in Path(str(found)).name
    assert image_of(1) is None
