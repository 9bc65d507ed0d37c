"""Vulkan for another machine: what is linked with its loader, and a compiler of this machine's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lief
import pytest

from ci import paths, zig
from ci.errors import UsageError
from ci.host import zig_target_here
from ci.library import read_library
from ci.table import load_table
from ci.vulkan_cross import functions, write_loader, write_toolchain

PLATFORMS = load_table().platforms
NAMES = ["vkCreateInstance", "vkGetInstanceProcAddr"]
HEADER = """
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(
VKAPI_ATTR VkResult VKAPI_CALL vkCreateInstance(
typedef VkResult (VKAPI_PTR *PFN_vkCreateDevice)(void);
VKAPI_ATTR VkResult VKAPI_CALL vkCreateInstance(
// VK_KHR_surface is a preprocessor guard. Do not pass it to API calls.
VKAPI_ATTR void VKAPI_CALL vkDestroySurfaceKHR(
"""
CALLER = """
#ifdef _WIN32
__declspec(dllimport)
#endif
void (*vkGetInstanceProcAddr(void *instance, const char *name))(void);
#ifdef _WIN32
__declspec(dllexport)
#endif
void *ask(void) { return (void *) vkGetInstanceProcAddr(0, "vkCreateInstance"); }
"""
PROJECT = """
cmake_minimum_required(VERSION 3.21)
project(small C CXX)
add_executable(small small.cpp)
"""


@pytest.fixture(autouse=True)
def zig_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What zig compiles of its own for a system, it compiles once."""
    cache = zig.cache_folder(paths.cache_folder() / "zig")
    monkeypatch.setitem(os.environ, "ZIG_GLOBAL_CACHE_DIR", str(cache))


def link(folder: Path, target: str, loader: Path) -> bytes:
    source, out = folder / "caller.c", folder / "caller"
    source.write_text(CALLER, encoding="utf-8")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-o", str(out)]
    done = subprocess.run(
        [*zig, str(source), str(loader)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


def test_a_loader_has_the_functions_of_vulkan_itself(tmp_path: Path) -> None:
    header = tmp_path / "vulkan_core.h"
    header.write_text(HEADER, encoding="utf-8")
    assert functions(header) == NAMES


def test_a_header_without_functions_is_none(tmp_path: Path) -> None:
    header = tmp_path / "vulkan_core.h"
    header.write_text("// nothing\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        functions(header)
    assert str(caught.value) == (f"{header} declares no functions\n  -> give a complete Vulkan SDK")


@pytest.mark.build
def test_a_library_for_arm_asks_the_loader_by_its_name(tmp_path: Path) -> None:
    platform = PLATFORMS["manylinux_aarch64"]
    loader = write_loader(platform, tmp_path / "loader", NAMES)
    assert loader.name == "libvulkan.so.1"
    library = read_library(link(tmp_path, str(platform.zig_target), loader))
    assert library is not None
    assert "libvulkan.so.1" in library.needed
    assert "vkGetInstanceProcAddr" in library.undefined


@pytest.mark.build
def test_a_library_for_windows_asks_the_loader_by_its_name(tmp_path: Path) -> None:
    platform = PLATFORMS["win_amd64"]
    loader = write_loader(platform, tmp_path / "loader", NAMES)
    binary = lief.parse(link(tmp_path, str(platform.zig_target), loader))
    assert isinstance(binary, lief.PE.Binary)
    asked = {str(each.name): [str(entry.name) for entry in each.entries] for each in binary.imports}
    assert asked["vulkan-1.dll"] == ["vkGetInstanceProcAddr"]


@pytest.mark.build
@pytest.mark.skipif(sys.platform == "win32", reason="Windows compiles with its own compiler")
def test_the_toolchain_makes_programs_that_run_here(tmp_path: Path) -> None:
    folder = tmp_path / "with spaces"
    toolchain = write_toolchain(folder)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "small.cpp").write_text(
        '#include <iostream>\nint main() { std::cout << "it runs here"; }\n', encoding="utf-8"
    )
    build = tmp_path / "build"
    configure = ["cmake", "-G", "Ninja", "-S", str(tmp_path), "-B", str(build)]
    for command in (
        [*configure, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run([build / "small"], check=True, capture_output=True, text=True).stdout
    assert said == "it runs here"


@pytest.mark.parametrize(
    ("here", "name"),
    [
        (("linux", "x86_64", "glibc"), "x86_64-linux-gnu.2.17"),
        (("linux", "aarch64", "musl"), "aarch64-linux-musl"),
        (("macos", "arm64", None), "aarch64-macos"),
        (("macos", "x86_64", None), "x86_64-macos"),
    ],
)
def test_zig_s_name_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, here: tuple[str, str, str | None], name: str
) -> None:
    monkeypatch.setattr("ci.host.here", lambda: here)
    assert zig_target_here() == name
