"""Deployment targets, read from real small libraries of macOS, iOS and its simulator that zig links."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ci.check import check
from ci.deployment_target import (
    deployment_problems,
    deployment_target,
    metal_problems,
    read_slices,
)
from ci.errors import WheelError
from ci.table import load_table
from ci.wheel import library_names, read_wheel, write_wheel
from tests.wheels import write_built_wheel

TABLE = load_table()
ARM = TABLE.platforms["macosx_arm64"]
INTEL = TABLE.platforms["macosx_x86_64"]

# what GGML_METAL_EMBED_LIBRARY makes of one kernel's source
SHADERS = """
.section __DATA,__ggml_metallib
.globl _ggml_metallib_norm_start
_ggml_metallib_norm_start:
.ascii "#include <metal_stdlib>\\nkernel void kernel_norm() {}\\n"
.globl _ggml_metallib_norm_end
_ggml_metallib_norm_end:
"""
# what a linker wants to know of a framework, as Apple's SDK has it
STUB = """--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos, x86_64-macos ]
install-name: '/System/Library/Frameworks/{0}.framework/Versions/{1}/{0}'
exports:
  - targets: [ arm64-macos, x86_64-macos ]
    symbols: [ _{0}Stub ]
...
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ziglang", reason="the package ziglang links these")
    made = tmp_path_factory.mktemp("dylibs")
    (made / "plain.c").write_text("int answer(void) { return 42; }\n", encoding="utf-8")
    (made / "shaders.s").write_text(SHADERS, encoding="utf-8")
    (made / "metal.c").write_text(
        "extern int MetalStub(void), FoundationStub(void);\n"
        "int answer(void) { return MetalStub() + FoundationStub(); }\n",
        encoding="utf-8",
    )
    for name, version in (("Metal", "A"), ("Foundation", "C")):
        stub = made / f"{name}.framework" / f"{name}.tbd"
        stub.parent.mkdir()
        stub.write_text(STUB.format(name, version), encoding="utf-8")
    return made


def link(folder: Path, target: str, *more: str, sources: tuple[str, ...] = ("plain.c",)) -> bytes:
    """Link a shared library for one of zig's targets, against nothing of a system."""
    out = folder / f"{target}-{len(more)}-{'-'.join(sources)}.dylib"
    if not out.exists():
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-shared", "-nostdlib"]
        command += ["-g0", "-O1", *sources, *more, "-o", out.name]
        # a cache that no other installation of zig uses at the same time
        env = {
            **os.environ,
            "ZIG_GLOBAL_CACHE_DIR": str(folder),
            "ZIG_LOCAL_CACHE_DIR": str(folder),
        }
        done = subprocess.run(
            command, cwd=folder, env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    return out.read_bytes()


def fat(*slices: tuple[int, bytes]) -> bytes:
    """Put slices into one file: ``fat_header`` and ``fat_arch`` of <mach-o/fat.h>."""
    offset, table, body = 4096, b"", b""
    for machine, data in slices:
        table += struct.pack(">5I", machine, 0, offset + len(body), len(data), 12)
        body += data + b"\0" * (-len(data) % 4096)
    header = struct.pack(">2I", 0xCAFEBABE, len(slices)) + table
    return header + b"\0" * (offset - len(header)) + body


def recorded(command: int, version: tuple[int, int]) -> bytes:
    """A header as linkers wrote it before LC_BUILD_VERSION: ``version_min_command`` alone."""
    major, minor = version
    number = major << 16 | minor << 8
    load = struct.pack("<4I", command, 16, number, number)
    return struct.pack("<8I", 0xFEEDFACF, 0x01000007, 3, 6, 1, len(load), 0, 0) + load


def problems(data: bytes) -> list[str]:
    return list(deployment_problems("libggml.dylib", data, ARM))


def test_the_oldest_macos_is_that_of_the_wheel_tag() -> None:
    assert {name: deployment_target(TABLE.platforms[name]) for name in ("macosx_arm64",)} == {
        "macosx_arm64": "12.0"
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("aarch64-macos.11.0", []),
        ("aarch64-macos.12.0", []),
        ("aarch64-macos.12.7", ["libggml.dylib needs macOS 12.7, the tag promises 12.0"]),
        ("aarch64-macos.13.3", ["libggml.dylib needs macOS 13.3, the tag promises 12.0"]),
        ("aarch64-macos.14.0", ["libggml.dylib needs macOS 14.0, the tag promises 12.0"]),
        (
            "x86_64-macos.12.0",
            ["libggml.dylib has code for x86_64, the tag promises arm64 alone"],
        ),
        ("aarch64-ios.15.0", ["libggml.dylib is for iOS: nothing of it loads on macOS"]),
        (
            "aarch64-ios.15.0-simulator",
            ["libggml.dylib is for the simulator of iOS: nothing of it loads on macOS"],
        ),
    ],
)
def test_a_library_of_each_kind(folder: Path, target: str, said: list[str]) -> None:
    assert problems(link(folder, target)) == said


def test_every_slice_of_a_fat_file_is_read(folder: Path) -> None:
    arm, intel = link(folder, "aarch64-macos.12.0"), link(folder, "x86_64-macos.13.3")
    data = fat((0x0100000C, arm), (0x01000007, intel))
    assert [(each.machine, each.system, each.oldest) for each in read_slices(data)] == [
        ("arm64", "macOS", (12, 0)),
        ("x86_64", "macOS", (13, 3)),
    ]
    assert problems(data) == [
        "libggml.dylib has code for x86_64, the tag promises arm64 alone",
        "libggml.dylib needs macOS 13.3, the tag promises 12.0",
    ]


@pytest.mark.parametrize(
    ("command", "version", "said"),
    [
        (0x24, (10, 13), []),
        (0x24, (12, 1), ["libggml.dylib needs macOS 12.1, the tag promises 12.0"]),
        (0x25, (12, 0), ["libggml.dylib is for iOS: nothing of it loads on macOS"]),
    ],
    ids=["macOS-10.13", "macOS-12.1", "iOS"],
)
def test_a_header_from_before_macos_10_14(
    command: int, version: tuple[int, int], said: list[str]
) -> None:
    assert list(deployment_problems("libggml.dylib", recorded(command, version), INTEL)) == said


def test_a_header_that_says_nothing() -> None:
    # LC_UUID's place taken by a command that says nothing of a version
    data = recorded(0x1B, (12, 0))
    assert list(deployment_problems("libggml.dylib", data, INTEL)) == [
        "libggml.dylib says neither for which system it is nor from which version on"
    ]


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"no library"], ids=["empty", "elf", "text"])
def test_something_else(data: bytes) -> None:
    assert problems(data) == ["libggml.dylib is no library of macOS"]


def test_a_module_of_metal(folder: Path) -> None:
    frameworks = ("-F", ".", "-framework", "Metal", "-framework", "Foundation")
    target = "aarch64-macos.12.0"
    good = link(folder, target, *frameworks, sources=("metal.c", "shaders.s"))
    assert list(metal_problems("libggml-metal.so", good)) == []
    bare = link(folder, target, *frameworks, sources=("metal.c",))
    assert list(metal_problems("libggml-metal.so", bare)) == [
        (
            "libggml-metal.so (arm64) has no shaders embedded in __DATA,__ggml_metallib: it was"
            " built without GGML_METAL_EMBED_LIBRARY"
        )
    ]
    other = link(folder, target, sources=("plain.c", "shaders.s"))
    assert list(metal_problems("libggml-metal.so", other)) == [
        "libggml-metal.so (arm64) does not need Foundation: it is no module of Metal",
        "libggml-metal.so (arm64) does not need Metal: it is no module of Metal",
    ]


def test_check_reads_every_library_of_a_metal_wheel(folder: Path, tmp_path: Path) -> None:
    target = TABLE.target("metal", "macosx_arm64")
    wheel = read_wheel(write_built_wheel(tmp_path, target))
    too_new, simulator = (
        link(folder, name) for name in ("aarch64-macos.14.0", "aarch64-ios.15.0-simulator")
    )
    files = dict(wheel.files)
    stems = ["ggml-base", "ggml", "ggml-rpc", "llama", "mtmd", *target.family.modules]
    stems += [f"ggml-cpu-{variant}" for variant in target.platform.cpu_variants]
    for name in library_names(stems, "macos"):
        files[f"llama_cpp/lib/{name}"] = link(folder, "aarch64-macos.12.0")
    files["llama_cpp/lib/libllama.dylib"] = too_new
    files["llama_cpp/lib/libggml-metal.so"] = simulator
    path = tmp_path / "spoilt" / wheel.path.name
    path.parent.mkdir()
    write_wheel(path, files)
    with pytest.raises(WheelError) as caught:
        check(path, TABLE)
    said = [line.strip() for line in caught.value.what.splitlines()]
    assert "llama_cpp/lib/libllama.dylib needs macOS 14.0, the tag promises 12.0" in said
    assert (
        "llama_cpp/lib/libggml-metal.so is for the simulator of iOS: nothing of it loads on macOS"
        in said
    )
    assert any("libggml-metal.so (arm64) has no shaders embedded in" in line for line in said)
    assert not any("libggml-base.dylib" in line and "macOS" in line for line in said)
    assert not any("the table knows no library" in line or "there is no" in line for line in said)
