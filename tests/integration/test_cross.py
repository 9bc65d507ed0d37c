"""Cross-compiling with ziglang: a small project for every other platform, and the wheels in dist/."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path, PurePosixPath

import lief
import pytest

from ci.check import check
from ci.compiler import choose_compiler
from ci.host import installs_here
from ci.instructions import levels_above_baseline
from ci.library import read_library
from ci.table import load_table
from ci.wheel import read_wheel

pytestmark = pytest.mark.build

ROOT = Path(__file__).resolve().parents[2]
TABLE = load_table()
FOREIGN = {
    name: platform
    for name, platform in TABLE.platforms.items()
    if platform.zig_target is not None and not installs_here(platform)
}

# a library, and what is loaded at run time, which needs it; and a probe for a library of the machine's own
PROJECT = """
cmake_minimum_required(VERSION 3.21)
project(small LANGUAGES C)
set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
set(CMAKE_INSTALL_RPATH $<IF:$<PLATFORM_ID:Darwin>,@loader_path,$ORIGIN>)
find_package(Threads REQUIRED)
find_library(own NAMES stdc++ z ssl crypto PATHS /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu)
add_library(base SHARED base.c)
add_library(loaded MODULE loaded.c)
target_link_libraries(loaded PRIVATE base Threads::Threads)
file(GENERATE OUTPUT said CONTENT
     "${CMAKE_CROSSCOMPILING};${CMAKE_SYSTEM_NAME};${CMAKE_SYSTEM_PROCESSOR};${own}")
"""
SOURCES = {
    "base.c": '__attribute__((visibility("default"))) int base(void) { return 42; }\n',
    "loaded.c": "extern int base(void);\n"
    '__attribute__((visibility("default"))) int loaded(void) { return base(); }\n',
}
MACHINES = {
    (lief.Binary.FORMATS.ELF, "x86_64"): lief.ELF.ARCH.X86_64,
    (lief.Binary.FORMATS.ELF, "aarch64"): lief.ELF.ARCH.AARCH64,
    (lief.Binary.FORMATS.MACHO, "x86_64"): lief.MachO.Header.CPU_TYPE.X86_64,
    (lief.Binary.FORMATS.MACHO, "arm64"): lief.MachO.Header.CPU_TYPE.ARM64,
    (lief.Binary.FORMATS.PE, "x86_64"): lief.PE.Header.MACHINE_TYPES.AMD64,
    (lief.Binary.FORMATS.PE, "aarch64"): lief.PE.Header.MACHINE_TYPES.ARM64,
}


def machine_of(path: Path) -> object:
    binary = lief.parse(path)
    assert binary is not None
    if isinstance(binary, lief.ELF.Binary):
        return binary.header.machine_type
    if isinstance(binary, lief.PE.Binary):
        return binary.header.machine
    assert isinstance(binary, lief.MachO.Binary)
    return binary.header.cpu_type


@pytest.mark.parametrize("name", FOREIGN)
def test_a_project_is_compiled_for_another_platform(name: str, tmp_path: Path) -> None:
    platform = FOREIGN[name]
    (tmp_path / "CMakeLists.txt").write_text(PROJECT, encoding="utf-8")
    for file, text in SOURCES.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    compiler = choose_compiler("auto", platform, tmp_path / "compiler", {tmp_path: "small"})
    build = tmp_path / "build"
    command = ["cmake", "-G", "Ninja", "-S", str(tmp_path), "-B", str(build)]
    command += ["-DCMAKE_BUILD_TYPE=Release"]
    command += [f"-D{define}={value}" for define, value in compiler.defines.items()]
    env = {**os.environ, **compiler.env}
    for each in (command, ["cmake", "--build", str(build)]):
        done = subprocess.run(each, env=env, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    crosscompiling, system, processor, own = (build / "said").read_text().split(";")
    assert (crosscompiling, system) == (
        "TRUE",
        {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}[platform.system],
    )
    assert processor.lower().replace("amd64", "x86_64") in {platform.machine, "arm64"}
    assert own == "own-NOTFOUND"
    # not the import libraries beside them
    endings = {".so", ".dylib", ".dll"}
    (base,) = (path for path in build.glob("*base.*") if path.suffix in endings)
    (loaded,) = (path for path in build.glob("*loaded.*") if path.suffix in endings)
    for path in (base, loaded):
        binary = lief.parse(path)
        assert binary is not None
        assert not isinstance(binary, lief.COFF.Binary)
        assert machine_of(path) == MACHINES[binary.format, platform.machine]
    library = read_library(loaded.read_bytes())
    assert library is not None
    assert base.name in {PurePosixPath(needed).name for needed in library.needed}
    assert str(tmp_path).encode() not in loaded.read_bytes()


def foreign_wheel(name: str, backend: str = "cpu") -> Path:
    wheels = sorted((ROOT / "dist").glob(f"*+{backend}-py3-none-{FOREIGN[name].wheel_tag}.whl"))
    if not wheels:
        command = f"nox -s build -- --backend {backend} --platform {name}"
        pytest.skip(f"no wheel in dist/: run `{command}`")
    return wheels[0]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_wheel_of_another_platform_is_what_the_table_says(name: str) -> None:
    assert check(foreign_wheel(name), TABLE).name == f"cpu-{name}"


VULKAN = [
    target.platform.name
    for target in TABLE.targets
    if target.backend.name == "vulkan" and target.platform.name in FOREIGN
]


@pytest.mark.parametrize("name", VULKAN)
def test_a_vulkan_wheel_of_another_platform_is_its_cpu_wheel_and_a_module(name: str) -> None:
    path = foreign_wheel(name, "vulkan")
    assert check(path, TABLE).name == f"vulkan-{name}"
    libraries, plain = (read_wheel(each).libraries for each in (path, foreign_wheel(name)))
    (module,) = libraries.keys() - plain.keys()
    assert PurePosixPath(module).stem.removeprefix("lib") == "ggml-vulkan"
    assert {library: libraries[library] for library in plain} == plain


@pytest.mark.parametrize("name", VULKAN)
def test_a_vulkan_module_asks_the_rest_for_c_functions_alone(name: str) -> None:
    """So that the rest may be another compiler's, whose names of C++ functions are others."""
    libraries = read_wheel(foreign_wheel(name, "vulkan")).libraries
    (data,) = (data for library, data in libraries.items() if "ggml-vulkan" in library)
    binary = lief.parse(data)
    if isinstance(binary, lief.PE.Binary):
        asked = {
            str(each.name): {str(entry.name) for entry in each.entries} for each in binary.imports
        }
        assert "vkGetInstanceProcAddr" in asked["vulkan-1.dll"]
        names = asked["ggml-base.dll"]
        assert not any("C++" in library or "libc" in library for library in asked)
    else:
        assert isinstance(binary, lief.ELF.Binary)
        names = {str(symbol.name) for symbol in binary.imported_symbols}
        # on Linux both are zig's, and a program may have but one operator new and delete
        names -= {each for each in names if re.match("_Z[nd][wal]", each)}
        assert "vkGetInstanceProcAddr" in names
    assert {each for each in names if each.startswith("ggml_")}
    assert {each for each in names if each.startswith(("_Z", "?"))} == set()


@pytest.mark.parametrize("name", [name for name, each in FOREIGN.items() if each.libc == "musl"])
def test_a_wheel_for_musl_needs_nothing_but_musl(name: str) -> None:
    wheel = read_wheel(foreign_wheel(name))
    ours = {PurePosixPath(path).name for path in wheel.libraries}
    needed = {
        each
        for data in wheel.libraries.values()
        if (library := read_library(data)) is not None
        for each in library.needed
    }
    assert needed - ours == {f"libc.musl-{FOREIGN[name].machine}.so.1"}


ARM_LEVELS = {
    "armv8.0_1": set(),
    "armv8.2_1": {"dot products"},
    "armv8.2_2": {"dot products", "half-precision arithmetic"},
    "armv8.6_1": {"dot products", "half-precision arithmetic", "SVE or SME"},
    "armv9.2_2": {"matrix multiplication or bfloat16", "SVE or SME"},
}


@pytest.mark.parametrize("name", [name for name, each in FOREIGN.items() if "armv" in str(each)])
@pytest.mark.parametrize("variant", ARM_LEVELS)
def test_an_arm_variant_uses_what_it_is_for(name: str, variant: str) -> None:
    """A flag that the compiler takes and passes over would leave eight copies of the oldest."""
    wheel = read_wheel(foreign_wheel(name))
    library = read_library(wheel.libraries[f"llama_cpp/lib/libggml-cpu-{variant}.so"])
    assert library is not None
    # the C++ runtime's, in every library
    runtime = frozenset({"cntd x", "str za[w, ], [x]", "smstop za", "stg x, [x]"})
    found = set(levels_above_baseline(library.code, "aarch64", runtime))
    assert found >= ARM_LEVELS[variant]
    assert bool(found) == (variant != "armv8.0_1")
