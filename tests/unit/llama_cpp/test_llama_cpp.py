"""The low-level names."""

from __future__ import annotations

import ctypes

import pytest

from llama_cpp import _abi, _library
from llama_cpp import llama_cpp as low


def test_constants_and_structures() -> None:
    assert low.LLAMA_DEFAULT_SEED == 0xFFFFFFFF
    assert low.llama_batch is _abi.llama_batch
    assert {"llama_decode", "llama_batch", "_lib", "GGML_TYPE_F16"} <= set(dir(low))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = low.nonsense
    assert str(caught.value) == "module 'llama_cpp.llama_cpp' has no attribute 'nonsense'"


@pytest.mark.build
def test_functions_and_the_library() -> None:
    assert isinstance(low._lib, ctypes.CDLL)
    assert low.llama_max_devices() >= 1  # type: ignore[operator]
    assert low.llama_version().decode() == _library.version()  # type: ignore[operator]
