"""The low-level names."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import pytest

import llama_cpp
from ci import paths
from llama_cpp import Llama, _abi, _library
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
    assert low.llama_max_devices() >= 1
    assert low.llama_version() == _library.version().encode()
    assert low.llama_decode.restype is ctypes.c_int32  # type: ignore[attr-defined]
    assert low.llama_max_devices() == low.LLAMA_MAX_DEVICES


@pytest.mark.build
def test_functions_are_the_cores_own() -> None:
    assert low.llama_decode is _library.load().llama_decode
    assert llama_cpp.llama_decode is low.llama_decode


@pytest.mark.build
def test_a_missing_model_is_none() -> None:
    params = low.llama_model_default_params()
    assert low.llama_model_load_from_file(b"/nowhere.gguf", params) is None


@pytest.mark.build
def test_names_of_types() -> None:
    assert low.llama_model_p(5) == 5
    array = (low.llama_token * 2)(7, 8)
    assert ctypes.cast(array, low.llama_token_p)[1] == 8
    assert low.llama_token_data_p is ctypes.POINTER(low.llama_token_data)


@pytest.mark.build
def test_tokenizer_types_are_llama_cpps() -> None:
    header = paths.TREE / "src" / "llama-vocab.h"
    if not header.is_file():
        pytest.fail(f"{header} is missing: run `nox -s vendor`")
    declared = re.findall(r"(LLAMA_VOCAB_PRE_TYPE_\w+)\s*=\s*(\d+)", header.read_text("utf-8"))
    names = {name: value for name, value in vars(low).items() if "_VOCAB_PRE_TYPE_" in name}
    assert names == {name: int(value) for name, value in declared}


@pytest.mark.build
def test_functions_by_their_old_names(llm: Llama) -> None:
    assert llm._engine is not None
    context = llm._engine.context
    assert low.llama_apply_adapter_cvec(llm.ctx, None, 0, context.model.n_embd, -1, -1) == 0
    assert low.llama_n_vocab(low.llama_model_get_vocab(llm.model) or 0) == llm.n_vocab()


@pytest.mark.build
def test_an_adapter_by_its_old_name(llm: Llama, tiny: Path) -> None:
    adapter = low.llama_adapter_lora_init(llm.model, os.fsencode(tiny / "lora-f32.gguf"))
    assert adapter is not None
    before = llm.create_completion("hello", max_tokens=8, temperature=0)
    assert low.llama_set_adapter_lora(llm.ctx, adapter, 1.0) == 0
    llm.reset()
    after = llm.create_completion("hello", max_tokens=8, temperature=0)
    assert after["choices"] != before["choices"]
    llm.close()


@pytest.mark.build
def test_binding_a_function() -> None:
    @low.ctypes_function("llama_max_devices", [], ctypes.c_size_t)
    def most_devices() -> int:
        """How many devices."""
        raise NotImplementedError

    assert most_devices() == low.llama_max_devices()
    assert most_devices.__doc__ == "How many devices."

    @low.ctypes_function_for_shared_library(low._lib)("nonsense", [], None, enabled=False)
    def left_alone() -> int:
        return 3

    assert left_alone() == 3


@pytest.mark.build
def test_loading_a_library(tmp_path: Path) -> None:
    folder = _library.library_folder()
    library = low.load_shared_library("llama", folder)
    assert library._handle == low._lib._handle
    with pytest.raises(FileNotFoundError) as caught:
        low.load_shared_library("llama", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no {_library.file_name('llama')}; the package's own libraries lie in {folder}"
    )
    (tmp_path / _library.file_name("llama")).write_bytes(b"no library")
    with pytest.raises(RuntimeError, match=r"^cannot load "):
        low.load_shared_library("llama", tmp_path)
