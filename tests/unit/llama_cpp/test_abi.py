"""The generated declarations against the libraries and headers they are for."""

from __future__ import annotations

import ctypes
import keyword
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci import paths
from ci.abi import exported_names
from ci.abi.taken import FOLDERS, INCLUDED, TAKEN
from ci.vendor import load_pin
from llama_cpp import _abi
from llama_cpp._library import library_folder

NAMED = {
    name: value
    for name, value in vars(_abi).items()
    if isinstance(value, type)
    and issubclass(value, (ctypes.Structure, ctypes.Union))
    and value.__module__ == _abi.__name__
    and value.__doc__ != "without a name in C"
}


def declared(library: str) -> set[str]:
    return {name for name, (stem, _, _) in _abi.PROTOTYPES.items() if stem == library}


def test_declarations_are_of_the_pinned_commit() -> None:
    pinned = load_pin().commit
    if pinned != _abi.COMMIT:
        pytest.fail(f"llama_cpp/_abi.py is of {_abi.COMMIT}, the pin is {pinned}: nox -s generate")


def test_null_callback_is_the_type_without_an_argument() -> None:
    assert not _abi.ggml_log_callback()
    assert not _abi.llama_model_params().progress_callback


def test_unknown_field_of_a_structure_is_an_error() -> None:
    params = _abi.llama_context_params()
    with pytest.raises(AttributeError, match="n_context"):
        params.n_context = 4096


def test_value_of_an_override_is_reached_as_value_and_directly() -> None:
    override = _abi.llama_model_kv_override(tag=_abi.LLAMA_KV_OVERRIDE_TYPE_INT)
    override.value.val_i64 = -(2**40)
    assert (override.val_i64, override.value.val_i64) == (-(2**40), -(2**40))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("LLAMA_DEFAULT_SEED", 0xFFFFFFFF, id="unsigned macro"),
        pytest.param("LLAMA_TOKEN_NULL", -1, id="negative macro"),
        pytest.param("LLAMA_SESSION_MAGIC", int.from_bytes(b"ggsn", "big"), id="macro of a macro"),
        pytest.param("GGUF_MAGIC", "GGUF", id="text macro"),
        pytest.param("LLAMA_ROPE_TYPE_NEOX", 2, id="enumeration constant from a ggml macro"),
        pytest.param("LLAMA_VOCAB_TYPE_BPE", 2, id="enumeration constant"),
        pytest.param("LLAMA_POOLING_TYPE_UNSPECIFIED", -1, id="negative enumeration constant"),
    ],
)
def test_constants(name: str, value: int | str) -> None:
    assert getattr(_abi, name) == value


@pytest.mark.build
@pytest.mark.parametrize("library", sorted({entry.library for entry in TAKEN}))
def test_every_name_is_in_its_library(library: str) -> None:
    exported = exported_names(library_folder() / f"lib{library}.so")
    assert sorted(declared(library) - exported) == []


@pytest.mark.build
@pytest.mark.parametrize(
    ("library", "prefix"),
    [
        pytest.param("llama", "llama_", id="libllama"),
        pytest.param("mtmd", "mtmd_", id="libmtmd"),
        pytest.param("ggml", "ggml_", id="libggml"),
        pytest.param("ggml-base", "gguf_", id="gguf in libggml-base"),
    ],
)
def test_nothing_that_a_library_exports_is_missing(library: str, prefix: str) -> None:
    exported = exported_names(library_folder() / f"lib{library}.so")
    public = {name for name in exported if name.startswith(prefix)}
    assert public, f"lib{library}.so exports nothing that begins with {prefix}"
    assert sorted(public - declared(library)) == []


@pytest.mark.build
def test_layout_is_what_a_compiler_makes_of_the_headers(tmp_path: Path) -> None:
    if not paths.TREE.is_dir():
        pytest.fail(f"{paths.TREE} is missing: run `nox -s vendor`")
    expected: list[str] = []
    lines: list[str] = []
    for record in NAMED.values():
        c = record.__doc__
        expected.append(f"{c} {ctypes.sizeof(record)} {ctypes.alignment(record)}")
        lines.append(f'printf("%s %zu %zu\\n", "{c}", sizeof({c}), _Alignof({c}));')
        promoted = getattr(record, "_anonymous_", ())
        for field in record._fields_:
            if field[0] in promoted:
                continue
            name = field[0] if not keyword.iskeyword(field[0][:-1]) else field[0][:-1]
            place = getattr(record, field[0])
            expected.append(f"{c} {name} {place.offset} {place.size}")
            size = f"sizeof((({c} *) 0)->{name})"
            lines.append(
                f'printf("%s %s %zu %zu\\n", "{c}", "{name}", offsetof({c}, {name}), {size});'
            )
    source = tmp_path / "layout.c"
    includes = "".join(f'#include "{header}"\n' for header in INCLUDED)
    source.write_text(
        "\n".join((includes, "#include <stddef.h>", "int main(void) {", *lines, "return 0; }\n")),
        encoding="utf-8",
    )
    found = shutil.which("cc")
    subprocess.run(
        [
            *([found] if found else [sys.executable, "-m", "ziglang", "cc"]),
            *(f"-I{paths.TREE / folder}" for folder in FOLDERS),
            *("-std=c11", str(source), "-o", str(tmp_path / "layout")),
        ],
        check=True,
    )
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True)
    assert printed.stdout.splitlines() == expected
