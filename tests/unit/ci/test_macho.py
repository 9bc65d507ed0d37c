"""The libraries of a macOS wheel find each other and nothing of the machine that linked them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.check import _macho_problems, check
from ci.errors import WheelError
from ci.library import Library, read_library
from ci.table import load_table
from ci.wheel import library_names, read_wheel, write_wheel
from tests.wheels import write_built_wheel

TABLE = load_table()
NAME = "llama_cpp/lib/libllama.dylib"
OURS = {"libllama.dylib", "libggml.dylib"}
SELF = ("-install_name", "@rpath/libllama.dylib")
BESIDE = ("-Wl,-rpath,@loader_path",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ziglang", reason="the package ziglang links these")
    made = tmp_path_factory.mktemp("dylibs")
    (made / "ggml.c").write_text("int ggml(void) { return 42; }\n", encoding="utf-8")
    (made / "llama.c").write_text(
        "extern int ggml(void);\nint llama(void) { return ggml(); }\n", encoding="utf-8"
    )
    return made


def linked(folder: Path, source: str, out: str, *more: str, macos: str = "12.0") -> bytes:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", f"aarch64-macos.{macos}"]
    command += ["-dynamiclib", "-nostdlib", "-g0", "-O1", source, *more, "-o", out]
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / out).read_bytes()


def llama(folder: Path, ggml: str, *more: str) -> Library:
    """Return a library that needs ggml, which calls itself ``ggml``."""
    linked(folder, "ggml.c", "libggml.dylib", "-install_name", ggml)
    library = read_library(linked(folder, "llama.c", "libllama.dylib", "libggml.dylib", *more))
    assert library is not None
    return library


@pytest.mark.parametrize("place", ["@rpath", "@loader_path"])
def test_libraries_that_lie_beside_each_other(folder: Path, place: str) -> None:
    name = f"{place}/libllama.dylib"
    library = llama(folder, f"{place}/libggml.dylib", "-install_name", name, *BESIDE)
    assert f"{place}/libggml.dylib" in library.needed
    assert (library.soname, library.run_paths) == (name, ("@loader_path",))
    assert list(_macho_problems(NAME, library, OURS)) == []


@pytest.mark.parametrize(
    ("ggml", "more", "said"),
    [
        (
            "/Users/runner/build/libggml.dylib",
            (*SELF, *BESIDE),
            [f"{NAME} looks for libggml.dylib in /Users/runner/build"],
        ),
        (
            "@rpath/libggml.dylib",
            ("-install_name", "/tmp/build/libllama.dylib", *BESIDE),
            [f"{NAME} calls itself /tmp/build/libllama.dylib"],
        ),
        ("@rpath/libggml.dylib", SELF, [f"{NAME} has the run path none, not @loader_path"]),
        (
            "@rpath/libggml.dylib",
            (*SELF, *BESIDE, "-Wl,-rpath,/opt/homebrew/lib"),
            [f"{NAME} has the run path @loader_path, /opt/homebrew/lib, not @loader_path"],
        ),
    ],
    ids=["neighbour", "itself", "no-run-path", "one-run-path-more"],
)
def test_a_path_of_the_machine_that_linked_it(
    folder: Path, ggml: str, more: tuple[str, ...], said: list[str]
) -> None:
    assert list(_macho_problems(NAME, llama(folder, ggml, *more), OURS)) == said


def test_one_library_for_a_newer_macos_stops_the_wheel(folder: Path, tmp_path: Path) -> None:
    target = TABLE.target("cpu", "macosx_arm64")
    wheel = read_wheel(write_built_wheel(tmp_path, target))
    stems = ["ggml-base", "ggml", "ggml-rpc", "llama", "mtmd"]
    stems += [f"ggml-cpu-{variant}" for variant in target.platform.cpu_variants]
    files = dict(wheel.files)
    for name in library_names(stems, "macos"):
        newer = "13.0" if name == "libmtmd.dylib" else "12.0"
        own = ("-install_name", f"@rpath/{name}", *BESIDE)
        files[f"llama_cpp/lib/{name}"] = linked(folder, "ggml.c", name, *own, macos=newer)
    path = tmp_path / "one" / wheel.path.name
    path.parent.mkdir()
    write_wheel(path, files)
    with pytest.raises(WheelError) as caught:
        check(path, TABLE)
    said = [line.strip() for line in caught.value.what.splitlines() if "llama_cpp/lib/" in line]
    assert said == ["llama_cpp/lib/libmtmd.dylib needs macOS 13.0, the tag promises 12.0"]
