"""Check: the real wheel is as it must be, and each way of spoiling it is seen."""

from __future__ import annotations

import json
import random
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import lief
import pytest

from ci.check import check, target_of
from ci.errors import WheelError
from ci.table import load_table
from ci.wheel import Wheel, read_wheel, write_wheel

pytestmark = pytest.mark.build

LIB = "llama_cpp/lib"


def spoil(wheel: Path, folder: Path, change: Callable[[dict[str, bytes], Wheel], None]) -> Path:
    read = read_wheel(wheel)
    files = dict(read.files)
    change(files, read)
    path = folder / wheel.name
    write_wheel(path, files)
    return path


def problems(path: Path, *, own_paths: tuple[Path, ...] = ()) -> str:
    with pytest.raises(WheelError) as caught:
        check(path, load_table(), own_paths=own_paths)
    return caught.value.what


def test_the_wheel_is_what_the_table_says(wheel: Path) -> None:
    assert check(wheel, load_table()).name == "cpu-manylinux_x86_64"


def test_the_wheel_is_hardly_larger_than_what_it_must_hold(wheel: Path) -> None:
    read = read_wheel(wheel)
    needed = sum(
        len(zlib.compress(data, 9))
        for name, data in read.files.items()
        if name.endswith((".so", ".py", ".pyi"))
    )
    assert read.size <= 1.1 * needed


def test_a_library_twice_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files[f"{LIB}/libggml.so.0"] = files[f"{LIB}/libggml.so"]

    what = problems(spoil(wheel, tmp_path, change))
    assert f"{LIB}/libggml.so.0 and {LIB}/libggml.so are the same bytes" in what
    assert f"the table knows no library {LIB}/libggml.so.0" in what


def test_a_missing_variant_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        del files[f"{LIB}/libggml-cpu-haswell.so"]

    assert f"there is no {LIB}/libggml-cpu-haswell.so" in problems(spoil(wheel, tmp_path, change))


@pytest.mark.parametrize(
    "name", ["include/llama.h", "llama_cpp/lib/libllama.a", "llama_cpp/lib/cmake/x.cmake", "a.py"]
)
def test_a_stray_file_is_seen(wheel: Path, tmp_path: Path, name: str) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files[name] = b"stray"

    assert f"{name} does not belong into the wheel" in problems(spoil(wheel, tmp_path, change))


def test_avx_in_a_library_for_every_cpu_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files[f"{LIB}/libggml-cpu-x64.so"] = files[f"{LIB}/libggml-cpu-haswell.so"]
        del files[f"{LIB}/libggml-cpu-haswell.so"]

    what = problems(spoil(wheel, tmp_path, change))
    assert f"{LIB}/libggml-cpu-x64.so is to run on every CPU but uses AVX or newer: v" in what


def test_sse4_in_a_library_for_every_cpu_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files[f"{LIB}/libggml-cpu-x64.so"] = files[f"{LIB}/libggml-cpu-sse42.so"]

    assert "is to run on every CPU but uses SSSE3: " in problems(spoil(wheel, tmp_path, change))


def edited(data: bytes, change: Callable[[lief.ELF.Binary], object]) -> bytes:
    binary = lief.parse(data)
    assert isinstance(binary, lief.ELF.Binary)
    change(binary)
    builder = lief.ELF.Builder(binary, lief.ELF.Builder.config_t())
    builder.build()
    return bytes(builder.get_build())


def test_an_external_library_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        name = f"{LIB}/libggml.so"
        files[name] = edited(files[name], lambda elf: elf.add_library("libgomp.so.1"))

    assert "libggml.so needs libgomp.so.1, which is neither" in problems(
        spoil(wheel, tmp_path, change)
    )


def test_a_build_path_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files[f"{LIB}/libggml.so"] += b"\0/home/builder/llama.cpp/ggml.c\0"

    what = problems(spoil(wheel, tmp_path, change), own_paths=(Path("/home/builder"),))
    assert "holds a path of the build machine: /home/builder/llama.cpp/ggml.c" in what
    assert "names the folder /home/builder of the build machine" in what


def test_another_label_in_the_build_info_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        info = json.loads(files["llama_cpp/_build_info.json"])
        files["llama_cpp/_build_info.json"] = json.dumps({**info, "backend": "cu128"}).encode()

    what = problems(spoil(wheel, tmp_path, change))
    assert "its build info says backend cu128, its label cpu" in what


def test_a_missing_licence_and_sbom_are_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], read: Wheel) -> None:
        del files[f"{read.dist_info}/licenses/vendor/licenses/llama.cpp.txt"]
        del files[f"{read.dist_info}/sboms/llama-cpp-python.cdx.json"]

    what = problems(spoil(wheel, tmp_path, change))
    assert "names the licence vendor/licenses/llama.cpp.txt, which is not in the wheel" in what
    assert "sboms/llama-cpp-python.cdx.json" in what


def test_a_wheel_that_is_too_large_is_seen(wheel: Path, tmp_path: Path) -> None:
    def change(files: dict[str, bytes], _: Wheel) -> None:
        files["llama_cpp/large.json"] = random.Random(1).randbytes(6_000_000)

    assert "the ceiling is 14 MB" in problems(spoil(wheel, tmp_path, change))


def test_a_file_renamed_to_another_label_is_no_target(wheel: Path, tmp_path: Path) -> None:
    path = tmp_path / wheel.name.replace("+cpu", "+cu128")
    path.write_bytes(wheel.read_bytes())
    with pytest.raises(WheelError, match=r"has no llama_cpp_python-0\.3\.100"):
        check(path, load_table())


def test_a_platform_that_is_not_in_the_table_is_no_target(wheel: Path, tmp_path: Path) -> None:
    path = tmp_path / wheel.name.replace("manylinux_2_17", "manylinux_2_39")
    path.write_bytes(wheel.read_bytes())
    with pytest.raises(WheelError, match="is no target of the table"):
        target_of(read_wheel(path), load_table())


def test_a_wrong_record_is_a_problem(wheel: Path, tmp_path: Path) -> None:
    path = tmp_path / wheel.name
    read = read_wheel(wheel)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in read.files.items():
            archive.writestr(name, b"x = 1\n" if name == "llama_cpp/_version.py" else data)
    assert "RECORD has another hash of llama_cpp/_version.py" in problems(path)


def test_the_build_info_says_what_was_chosen(wheel: Path) -> None:
    info = json.loads(read_wheel(wheel).files["llama_cpp/_build_info.json"])
    assert info["defines"] == {
        "GGML_BACKEND_DL": "ON",
        "GGML_CCACHE": "OFF",
        "GGML_CPU_ALL_VARIANTS": "ON",
        "GGML_NATIVE": "OFF",
        "GGML_OPENMP": "OFF",
        "GGML_RPC": "ON",
        "GGML_RPC_RDMA": "OFF",
        "LLAMA_OPENSSL": "OFF",
        "MTMD_VIDEO": "OFF",
    }
    assert (info["backend"], info["version"]) == ("cpu", "0.3.100+cpu")
