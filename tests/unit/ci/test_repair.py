"""Repair of wheels for another platform, from small libraries that zig links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.errors import WheelError
from ci.library import Library, read_library
from ci.repair import repair
from ci.table import Target, load_table
from ci.wheel import read_wheel, write_wheel
from tests.wheels import write_built_wheel

TABLE = load_table()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("libraries")
    (made / "needs.c").write_text(
        'extern int puts(const char *);\nint llama(void) { return puts(""); }\n',
        encoding="utf-8",
    )
    (made / "puts.c").write_text("int puts(const char * s) { return s != 0; }\n", encoding="utf-8")
    return made


def link(folder: Path, target: str, source: str, out: str, *more: str) -> bytes:
    """Link a library against nothing of a system."""
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-nostdlib"]
    command += ["-fPIC", "-g0", "-O1", "-s", source, *more, "-o", out]
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / out).read_bytes()


def linked_against(folder: Path, target: str, libc: str) -> bytes:
    """Return a library that needs a C library of that name."""
    link(folder, target, "puts.c", "libc.so", f"-Wl,-soname,{libc}")
    return link(folder, target, "needs.c", "llama.so", "libc.so", "-Wl,-rpath,$ORIGIN")


def built_wheel(folder: Path, target: Target, tag: str, library: bytes) -> Path:
    """Write a wheel as a build leaves it, whose libraries are all of the same bytes."""
    plain = read_wheel(write_built_wheel(folder / "plain", target))
    files = {
        name: library if name in plain.libraries else data for name, data in plain.files.items()
    }
    info = json.loads(files["llama_cpp/_build_info.json"])
    files["llama_cpp/_build_info.json"] = json.dumps({**info, "toolkit": None}).encode()
    files[f"{plain.dist_info}/WHEEL"] = f"Wheel-Version: 1.0\nTag: py3-none-{tag}\n".encode()
    path = folder / f"llama_cpp_python-{plain.version}-py3-none-{tag}.whl"
    write_wheel(path, files)
    return path


def libraries(wheel: Path) -> list[Library]:
    found = [read_library(data) for data in read_wheel(wheel).libraries.values()]
    return [library for library in found if library is not None]


@pytest.mark.skipif(sys.platform != "linux", reason="patchelf and auditwheel are for Linux")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_musl_is_needed_by_the_name_that_its_loader_knows(
    folder: Path, tmp_path: Path, machine: str
) -> None:
    target = TABLE.target("cpu", f"musllinux_{machine}")
    library = linked_against(folder, f"{machine}-linux-musl", "libc.so")
    built = built_wheel(tmp_path, target, f"linux_{machine}", library)
    assert {each.needed for each in libraries(built)} == {("libc.so",)}

    repaired = repair(built, target, tmp_path / "out")

    assert repaired.name == f"llama_cpp_python-0.3.100+cpu-py3-none-musllinux_1_2_{machine}.whl"
    assert len(libraries(repaired)) == len(libraries(built)) > 8
    assert {each.needed for each in libraries(repaired)} == {(f"libc.musl-{machine}.so.1",)}
    assert {each.run_paths for each in libraries(repaired)} == {("$ORIGIN",)}


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_another_machines_glibc_is_none_of_this_ones(folder: Path, tmp_path: Path) -> None:
    target = TABLE.target("cpu", "manylinux_aarch64")
    library = linked_against(folder, "aarch64-linux-gnu.2.17", "libc.so.6")
    built = built_wheel(tmp_path, target, "linux_aarch64", library)

    repaired = repair(built, target, tmp_path / "out")

    assert repaired.name.endswith("-py3-none-manylinux_2_17_aarch64.whl")
    assert {each.needed for each in libraries(repaired)} == {("libc.so.6",)}


@pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")
def test_a_wheel_of_another_machine_than_it_says_is_refused(folder: Path, tmp_path: Path) -> None:
    target = TABLE.target("cpu", "manylinux_aarch64")
    library = linked_against(folder, "x86_64-linux-gnu.2.17", "libc.so.6")
    built = built_wheel(tmp_path, target, "linux_aarch64", library)
    with pytest.raises(WheelError) as caught:
        repair(built, target, tmp_path / "out")
    assert caught.value.what.startswith(
        f"{built.name} cannot be repaired for manylinux_2_17_aarch64: "
    )
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(sys.platform == "darwin", reason="there delocate does it")
def test_what_is_linked_elsewhere_for_macos_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    target = TABLE.target("cpu", "macosx_arm64")
    library = link(folder, "aarch64-macos.12.0", "puts.c", "llama.dylib")
    built = built_wheel(tmp_path, target, "macosx_12_0_arm64", library)

    repaired = repair(built, target, tmp_path / "out")

    assert repaired.name == built.name
    assert set(read_wheel(repaired).libraries.values()) == {library}
    assert "sboms/llama-cpp-python.cdx.json" in " ".join(read_wheel(repaired).files)
