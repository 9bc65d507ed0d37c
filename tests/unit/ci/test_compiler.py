"""The compiler and its caches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci import zig
from ci.compiler import Compiler, CompilerCache, _processor_seconds, choose_compiler
from ci.errors import ToolMissingError
from ci.host import host_platform, installs_here
from ci.table import load_table

PLATFORMS = load_table().platforms
PLATFORM = PLATFORMS["manylinux_x86_64"]


def installation(folder: Path) -> Path:
    (folder / "lib" / "std").mkdir(parents=True)
    return folder


def test_installations_of_the_same_files_share_a_cache_and_others_do_not(tmp_path: Path) -> None:
    one, link, copy = (installation(tmp_path / name) for name in ("one", "link", "copy"))
    file = one / "lib" / "std" / "std.zig"
    file.write_text("pub const zig = 1;", encoding="utf-8")
    (link / "lib" / "std" / "std.zig").hardlink_to(file)
    shutil.copy2(file, copy / "lib" / "std" / "std.zig")

    folder = zig.cache_folder(tmp_path, one)

    assert folder.parent == tmp_path
    assert zig.cache_folder(tmp_path, link) == folder
    assert zig.cache_folder(tmp_path, copy) != folder


def test_a_cache_that_nobody_has_used_for_a_month_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    old, recent = tmp_path / "zig" / "old", tmp_path / "zig" / "recent"
    for folder in (old, recent):
        (folder / "h").mkdir(parents=True)
    os.utime(old, (0, 0))

    compiler = choose_compiler("zig", PLATFORM, tmp_path / "scripts", {})

    own = Path(compiler.env["ZIG_GLOBAL_CACHE_DIR"])
    assert sorted((tmp_path / "zig").iterdir()) == sorted([own, recent])


SERVER = r"""
import socket, subprocess, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
burn = "import time\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_cpu_seconds_of_a_server_are_those_of_its_children_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVER, str(tmp_path / "socket")]
    env = {**os.environ, "SCCACHE_SERVER_UDS": str(tmp_path / "socket")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        seconds = _processor_seconds(tmp_path / "socket")
        server.kill()
    assert seconds is not None
    assert 0.3 <= seconds < 30


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_cache_says_what_its_server_has_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCCACHE_DIR", str(tmp_path / "cache"))
    cache = CompilerCache(basedirs=(tmp_path,), compiler=Compiler(name="none", defines={}))
    with cache.serving():
        stats = cache.stats()
    assert (stats.hits, stats.misses) == (0, 0)
    assert stats.seconds is not None
    assert 0 <= stats.seconds < 30


def test_another_machine_is_told_to_cmake_and_to_the_build_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    folder = tmp_path / "compiler"

    compiler = choose_compiler("auto", PLATFORMS["manylinux_aarch64"], folder, {})

    assert compiler.name == f"zig {zig.installed_version()}"
    assert compiler.env["_PYTHON_HOST_PLATFORM"] == "linux-aarch64"
    own = zig.cmake_defines("aarch64-linux-gnu.2.17", folder, zig.installed_version())
    assert compiler.defines == {
        **own,
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_FIND_ROOT_PATH": str(folder),
        "CMAKE_FIND_ROOT_PATH_MODE_PROGRAM": "NEVER",
        "CMAKE_FIND_ROOT_PATH_MODE_LIBRARY": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_INCLUDE": "ONLY",
        "CMAKE_FIND_ROOT_PATH_MODE_PACKAGE": "ONLY",
    }


def test_this_machine_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    folder = tmp_path / "compiler"

    compiler = choose_compiler("zig", host_platform(load_table()), folder, {})

    assert "CMAKE_SYSTEM_NAME" not in compiler.defines
    assert list(compiler.env) == ["ZIG_GLOBAL_CACHE_DIR"]


@pytest.mark.parametrize(
    "name", [name for name, each in PLATFORMS.items() if not installs_here(each)]
)
def test_the_systems_own_compiler_builds_for_no_other_machine(name: str, tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError) as caught:
        choose_compiler("system", PLATFORMS[name], tmp_path, {})
    assert caught.value.what == f"this machine's own compiler does not build {name} wheels"
    assert caught.value.cure == "leave --compiler away: ziglang does, where it knows the platform"
