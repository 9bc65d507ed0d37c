"""mtmd's low-level names."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _abi, mtmd_cpp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

pytestmark = pytest.mark.build


def test_every_name_of_the_headers_is_there() -> None:
    names = set(vars(mtmd_cpp))
    functions = {name for name, (home, _, _) in _abi.PROTOTYPES.items() if home == "mtmd"}
    others = {name for name in vars(_abi) if name.lower().startswith("mtmd_")}
    assert len(functions) > 80
    assert names >= functions | others
    assert mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_AUDIO == 2
    assert mtmd_cpp.mtmd_default_marker() == b"<__media__>"
    assert mtmd_cpp.mtmd_context_params_default().image_max_tokens == -1
    assert mtmd_cpp.mtmd_input_chunk_load.argtypes == (ctypes.c_char_p, ctypes.c_size_t)


def test_a_bitmap_and_its_bytes() -> None:
    data = (ctypes.c_uint8 * 6)(1, 2, 3, 4, 5, 6)
    bitmap = mtmd_cpp.mtmd_bitmap_init(2, 1, data)
    assert (mtmd_cpp.mtmd_bitmap_get_nx(bitmap), mtmd_cpp.mtmd_bitmap_get_ny(bitmap)) == (2, 1)
    assert mtmd_cpp.mtmd_bitmap_get_data(bitmap)[:6] == [1, 2, 3, 4, 5, 6]
    mtmd_cpp.mtmd_bitmap_free(bitmap)


def test_a_library_and_a_function_declared_by_hand() -> None:
    library = mtmd_cpp.load_shared_library("mtmd", Path(os.environ["LLAMA_CPP_LIB_PATH"]))
    declare = mtmd_cpp.ctypes_function_for_shared_library(library)

    @declare("mtmd_default_marker", [], ctypes.c_char_p)
    def marker() -> bytes:
        return b""

    @declare("mtmd_no_such_function", [], None, enabled=False)
    def nothing() -> str:
        return "itself"

    assert marker() == b"<__media__>"
    assert nothing() == "itself"


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = mtmd_cpp.llama_decode
    assert str(caught.value) == "module 'llama_cpp.mtmd_cpp' has no attribute 'llama_decode'"


def test_a_function_of_its_own_library() -> None:
    @mtmd_cpp.ctypes_function("mtmd_default_marker", [], ctypes.c_char_p)
    def marker() -> bytes:
        return b""

    assert marker() == b"<__media__>"


def test_the_import_loads_nothing(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "from llama_cpp import _library, mtmd_cpp\n"
        "print(mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE, _library._functions)\n"
    )
    assert (outcome.code, outcome.output) == (0, "1 None\n")


def test_its_log_goes_where_llama_cpps_goes(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import logging\n"
        "logging.basicConfig(format='%(name)s %(levelname)s %(message)s')\n"
        "from llama_cpp import mtmd_cpp\n"
        "caps = mtmd_cpp.mtmd_get_cap_from_file(b'/no/such/file')\n"
        "print(caps.inp_vision, caps.inp_audio)\n"
    )
    assert (outcome.code, outcome.output) == (0, "False False\n")
    assert all(line.startswith("llama_cpp ERROR ") for line in outcome.error.splitlines())
    assert "/no/such/file" in outcome.error
