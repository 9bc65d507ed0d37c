"""Finding and loading llama.cpp."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _abi, _library
from llama_cpp._errors import LlamaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

linux = pytest.mark.skipif(sys.platform != "linux", reason="spells library names as Linux does")


@linux
def test_a_wrong_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path / "nope"))
    with pytest.raises(LlamaError) as caught:
        _library.library_folder()
    assert str(caught.value) == (
        f"LLAMA_CPP_LIB_PATH={tmp_path / 'nope'}: {tmp_path / 'nope'} does not exist; set it to the "
        "folder that holds libllama.so, or unset it to use the package's own libraries"
    )


@linux
def test_an_incomplete_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libggml-base.so").touch()
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    with pytest.raises(LlamaError) as caught:
        _library.library_folder()
    assert str(caught.value) == (
        f"LLAMA_CPP_LIB_PATH={tmp_path}: {tmp_path} has no libggml.so; set it to the folder that "
        "holds libllama.so, or unset it to use the package's own libraries"
    )


@linux
def test_libraries_that_are_none(tmp_path: Path, run_python: Callable[..., Outcome]) -> None:
    for name in ("ggml-base", "ggml", "llama"):
        (tmp_path / f"lib{name}.so").write_text("no library")
    outcome = run_python("import llama_cpp; llama_cpp.devices()", LLAMA_CPP_LIB_PATH=str(tmp_path))
    assert outcome.code == 1
    assert outcome.last_line.startswith(
        f"llama_cpp._errors.LlamaError: cannot load {tmp_path / 'libggml-base.so'}: "
    )


@pytest.mark.build
def test_devices_and_variant() -> None:
    found = _library.devices()
    assert "CPU" in [device.kind for device in found]
    assert all(device.memory_total >= device.memory_free > 0 for device in found)
    variant = _library.cpu_variant()
    assert variant is None or variant in [Path(path).name for path in _library.libraries()]


@pytest.mark.build
@linux
def test_the_variant_is_that_which_computes_whatever_else_is_mapped(
    libraries: Path, run_python: Callable[..., Outcome]
) -> None:
    """musl unloads none of those that ggml has only asked for their score."""
    outcome = run_python(
        "import ctypes, pathlib, llama_cpp; chosen = llama_cpp.cpu_variant()\n"
        f"for path in sorted(pathlib.Path({str(libraries)!r}).glob('libggml-cpu-*.so')):\n"
        "    ctypes.CDLL(str(path))\n"
        "mapped = [path for path in llama_cpp.libraries() if 'ggml-cpu-' in path]\n"
        "assert len(mapped) > 5, mapped\n"
        "assert llama_cpp.cpu_variant() == chosen is not None, llama_cpp.cpu_variant()",
        LLAMA_CPP_LIB_PATH=str(libraries),
    )
    assert outcome.code == 0, outcome.last_line


@pytest.mark.build
def test_exactly_one_copy_of_each_library_is_mapped() -> None:
    names = [Path(path).name.partition(".")[0] for path in _library.libraries()]
    assert len(names) == len(set(names))
    assert {name for name in names if "ggml-cpu" not in name} >= {
        f"{_library._PREFIXES[0]}{name}" for name in ("ggml-base", "ggml", "llama")
    }


@pytest.mark.build
def test_loading_is_done_once() -> None:
    assert _library.load() is _library.load()


@pytest.mark.build
def test_unknown_function() -> None:
    with pytest.raises(AttributeError, match=r"^llama\.cpp has no function llama_nonsense$"):
        _library.load().llama_nonsense  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.build
def test_functions_are_declared() -> None:
    lib = _library.load()
    for name in ("llama_n_ctx", "ggml_backend_dev_count", "ggml_backend_dev_name"):
        _, restype, argtypes = _abi.PROTOTYPES[name]
        function = getattr(lib, name)
        assert (function.restype, tuple(function.argtypes)) == (restype, argtypes)


@linux
@pytest.mark.build
def test_a_broken_module_is_reported_and_the_rest_works(
    tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    for file in _library.library_folder().glob("*.so"):
        shutil.copy(file, tmp_path)
    (tmp_path / "libggml-cuda.so").write_text("no library")
    outcome = run_python(
        "import llama_cpp\n"
        "print([d.name for d in llama_cpp.devices()], llama_cpp.module_failures())",
        LLAMA_CPP_LIB_PATH=str(tmp_path),
    )
    assert outcome.code == 0, outcome.error
    assert outcome.output.startswith("['CPU'] {'libggml-cuda.so': '")
    assert "libggml-cuda.so" in outcome.output.partition(": '")[2]


@linux
@pytest.mark.build
def test_a_second_ggml_is_refused(tmp_path: Path, run_python: Callable[..., Outcome]) -> None:
    other = tmp_path / "libggml-base.so.0"
    shutil.copy(_library.library_folder() / "libggml-base.so", other)
    outcome = run_python(
        "import ctypes, sys, llama_cpp\nctypes.CDLL(sys.argv[1])\nllama_cpp.devices()",
        str(other),
    )
    assert outcome.code == 1
    assert outcome.last_line.startswith(
        "llama_cpp._errors.LlamaError: another ggml is already loaded in this process: "
        f"{other}; two copies share one registry by accident. "
    )


@pytest.mark.build
def test_loading_in_eight_threads_at_once(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import threading\nfrom llama_cpp import _library\n"
        "start = threading.Barrier(8)\nfound = []\n"
        "def load():\n    start.wait()\n    found.append(id(_library.load()))\n"
        "threads = [threading.Thread(target=load) for _ in range(8)]\n"
        "[t.start() for t in threads]\n[t.join() for t in threads]\n"
        "print(len(found), len(set(found)))"
    )
    assert (outcome.code, outcome.output) == (0, "8 1\n")
