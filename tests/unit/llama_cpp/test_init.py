"""Importing the package: quick, lazy, and possible without libraries."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import llama_cpp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome


def test_import_loads_nothing_heavy(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import sys, llama_cpp\n"
        "print(sorted({'ctypes', 'logging', 'json', 'typing', 'llama_cpp._abi'} & set(sys.modules)))"
    )
    assert (outcome.code, outcome.output) == (0, "[]\n")


def test_llama_needs_no_third_party_package(run_python: Callable[..., Outcome]) -> None:
    # a module of Python 3.15 that its own list of modules lacks
    outcome = run_python(
        "import sys\nbefore = set(sys.modules)\nfrom llama_cpp import Llama\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "known = {*(getattr(sys, 'stdlib_module_names', None) or names), '_missing_stdlib_info'}\n"
        "print(sorted(names - known - {'llama_cpp'}))"
    )
    assert (outcome.code, outcome.output) == (0, "[]\n")


def test_every_public_name_is_there() -> None:
    for name in llama_cpp.__all__:
        assert getattr(llama_cpp, name) is not None
    assert set(llama_cpp.__all__) <= set(dir(llama_cpp))


def test_modules_are_at_hand(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import llama_cpp\n"
        "for name in sorted(llama_cpp._MODULES):\n"
        "    assert getattr(llama_cpp, name).__name__ == f'llama_cpp.{name}', name\n"
        "print(len(llama_cpp._MODULES))"
    )
    assert (outcome.code, outcome.output) == (0, f"{len(llama_cpp._MODULES)}\n")


def test_a_module_offers_what_the_table_says() -> None:
    for module, names in llama_cpp._NAMES.items():
        home = importlib.import_module(f"llama_cpp.{module}")
        for name in names:
            assert getattr(llama_cpp, name) is getattr(home, name)


def test_constants_are_at_hand() -> None:
    assert llama_cpp.LLAMA_POOLING_TYPE_MEAN == 1
    assert llama_cpp.GGML_TYPE_Q8_0 == 8


def test_unknown_name(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python("import llama_cpp; llama_cpp.nonsense")
    assert outcome.code == 1
    assert outcome.last_line == "AttributeError: module 'llama_cpp' has no attribute 'nonsense'"


def test_without_libraries_the_first_use_says_how_to_mend_it(
    tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    outcome = run_python(
        "from llama_cpp import _library\n"
        "from pathlib import Path\n"
        "import sys\n"
        "_library._PACKAGE_FOLDER = Path(sys.argv[1])\n"
        "import llama_cpp\nllama_cpp.devices()",
        str(tmp_path / "lib"),
        LLAMA_CPP_LIB_PATH="",
    )
    assert outcome.code == 1
    assert outcome.last_line == (
        f"llama_cpp._errors.LlamaError: llama.cpp's libraries are missing: {tmp_path / 'lib'} does "
        "not exist. Install a built package (`pip install llama-cpp-python`), build one in this "
        "source tree (`nox -s build -- --backend cpu`), or set LLAMA_CPP_LIB_PATH to a folder that "
        "holds them"
    )
