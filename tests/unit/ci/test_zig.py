"""ziglang's clang as a compiler: what its scripts hand on to zig."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci import paths, zig

# stands in for zig, which a script calls beside itself
SHOW = '#!/bin/sh\nprintf "%s\\n" "$@"\n'

# ggml's flag for each CPU variant of ARM, and zig's
ARM_FLAGS = {
    "-march=armv8-a": "-mcpu=generic+v8a",
    "-march=armv8.2-a+dotprod": "-mcpu=generic+v8_2a+dotprod",
    "-march=armv8.2-a+dotprod+fp16": "-mcpu=generic+v8_2a+dotprod+fullfp16",
    "-march=armv8.2-a+dotprod+fp16+sve": "-mcpu=generic+v8_2a+dotprod+fullfp16+sve",
    "-march=armv8.6-a+dotprod+fp16+sve+i8mm": "-mcpu=generic+v8_6a+dotprod+fullfp16+sve+i8mm",
    "-march=armv8.6-a+dotprod+fp16+sve+i8mm+sve2": (
        "-mcpu=generic+v8_6a+dotprod+fullfp16+sve+i8mm+sve2"
    ),
    "-march=armv9.2-a+dotprod+fp16+sve+i8mm+sme": (
        "-mcpu=generic+v9_2a+dotprod+fullfp16+sve+i8mm+sme"
    ),
}
APPLE_FLAGS = {
    "-march=armv8.2-a+dotprod": "-mcpu=generic+v8_2a+dotprod",
    "-march=armv8.6-a+dotprod+i8mm": "-mcpu=generic+v8_6a+dotprod+i8mm",
    "-march=armv9.2-a+dotprod+i8mm+nosve+sme": "-mcpu=generic+v8_7a+dotprod+i8mm+sme",
}


def handed_on(target: str, folder: Path, tool: str, *arguments: str) -> list[str]:
    zig.write_scripts(target, folder, {Path("/src"): "llama.cpp"})
    (folder / "zig").unlink()
    (folder / "zig").write_text(SHOW, encoding="utf-8")
    (folder / "zig").chmod(0o755)
    command = [str(folder / tool), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("flag", ARM_FLAGS)
def test_an_arm_processor_is_named_in_zigs_words(flag: str, tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    target = "aarch64-linux-gnu.2.17"

    words = handed_on(target, folder, "c++", "-DA=a b", flag, "-DB=-march=armv8-a", "*.cpp")

    own = ["c++", "-target", target, "-g0", f"@{folder}/prefixes"]
    assert words == [*own, "-DA=a b", ARM_FLAGS[flag], "-DB=-march=armv8-a", "*.cpp"]


@pytest.mark.parametrize("flag", APPLE_FLAGS)
def test_an_apple_processor_is_named_in_zigs_words(flag: str, tmp_path: Path) -> None:
    assert handed_on("aarch64-macos.12.0", tmp_path, "cc", flag)[-1] == APPLE_FLAGS[flag]


# what clang defines where it may use a feature
SVE, SME = "__ARM_FEATURE_SVE", "__ARM_FEATURE_SME"


@pytest.mark.build
@pytest.mark.parametrize(
    ("target", "flag", "has"),
    [
        ("aarch64-linux-gnu.2.17", "-march=armv8-a", set()),
        ("aarch64-linux-gnu.2.17", "-march=armv8.2-a+dotprod+fp16+sve", {SVE}),
        ("aarch64-linux-gnu.2.17", "-march=armv9.2-a+dotprod+fp16+sve+i8mm+sme", {SVE, SME}),
        ("aarch64-macos.12.0", "-march=armv8.6-a+dotprod+i8mm", set()),
        ("aarch64-macos.12.0", "-march=armv9.2-a+dotprod+i8mm+nosve+sme", {SME}),
    ],
)
def test_zig_compiles_for_what_the_flag_says(
    target: str, flag: str, has: set[str], tmp_path: Path
) -> None:
    zig.write_scripts(target, tmp_path, {})
    (tmp_path / "empty.c").write_text("", encoding="utf-8")
    defined = subprocess.run(
        [tmp_path / "cc", flag, "-E", "-dM", "empty.c"],
        cwd=tmp_path,
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(paths.cache_folder() / "zig")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {SVE, SME} & set(defined) == has


def test_an_x86_processor_is_handed_on_as_it_is(tmp_path: Path) -> None:
    words = handed_on("x86_64-linux-musl", tmp_path, "cc", "-march=armv8-a", "-mavx2")
    own = ["cc", "-target", "x86_64-linux-musl", "-g0", f"@{tmp_path}/prefixes"]
    assert words == [*own, "-march=armv8-a", "-mavx2"]


@pytest.mark.parametrize("target", ["aarch64-macos.12.0", "x86_64-macos.12.0"])
def test_a_bundle_of_macos_is_a_library(target: str, tmp_path: Path) -> None:
    words = handed_on(target, tmp_path, "c++", "-bundle", "-march=armv8.2-a+dotprod", "-o", "a.so")
    arm = "-mcpu=generic+v8_2a+dotprod" if "aarch64" in target else "-march=armv8.2-a+dotprod"
    assert words[4:] == [f"@{tmp_path}/prefixes", "-dynamiclib", arm, "-o", "a.so"]


def test_install_names_are_not_changed_unseen(tmp_path: Path) -> None:
    zig.write_scripts("aarch64-macos.12.0", tmp_path, {})
    tool = zig.cmake_defines("aarch64-macos.12.0", tmp_path, "0")["CMAKE_INSTALL_NAME_TOOL"]
    done = subprocess.run([tool, "-id", "a", "b"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "install_name_tool: there is none, and none should be needed\n",
    )


@pytest.mark.parametrize("tool", ["ar", "ranlib"])
def test_an_archiver_is_told_no_target(tool: str, tmp_path: Path) -> None:
    words = handed_on("aarch64-linux-musl", tmp_path, tool, "qc", "a.a", "-march=armv8-a")
    assert words == [tool, "qc", "a.a", "-march=armv8-a"]


def test_the_scripts_are_the_same_in_every_folder(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        version = zig.write_scripts("aarch64-linux-gnu.2.17", folder, {folder: name})
        texts.append({tool: (folder / tool).read_text(encoding="utf-8") for tool in zig.TOOLS})
        assert version == zig.installed_version()
        assert f'"-ffile-prefix-map={folder}={name}"' in (folder / "prefixes").read_text().split(
            "\n"
        )
    assert texts[0] == texts[1]
