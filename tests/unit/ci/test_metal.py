"""Apple's tools, by stand-ins for xcode-select and xcrun: what is taken, and what each failure says."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ci.compiler import choose_compiler
from ci.errors import ToolMissingError, UsageError
from ci.metal import look_over, selected_folder
from ci.table import load_table

TABLE = load_table()
METAL = TABLE.target("metal", "macosx_arm64")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")

# answers as Apple's does, from the developer folder that DEVELOPER_DIR names
XCRUN = """\
case "$*" in
  "--find clang"|"--find clang++") echo "$DEVELOPER_DIR/usr/bin/$2" ;;
  "--sdk macosx --show-sdk-path") echo "$DEVELOPER_DIR/SDKs/MacOSX.sdk" ;;
  "--sdk macosx --show-sdk-version") cat "$DEVELOPER_DIR/SDKs/version" ;;
  *) echo "xcrun: error: unexpected: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("DEVELOPER_DIR", raising=False)
    write(folder / "xcrun", XCRUN)
    return folder


def write(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
    path.chmod(0o755)


def write_tools(folder: Path, sdk: str = "15.5", *, metal: bool = True) -> Path:
    (folder / "usr/bin").mkdir(parents=True)
    frameworks = folder / "SDKs/MacOSX.sdk/System/Library/Frameworks"
    frameworks.mkdir(parents=True)
    (folder / "SDKs/version").write_text(f"{sdk}\n", encoding="utf-8")
    if metal:
        (frameworks / "Metal.framework").mkdir()
    return folder


@pytest.mark.usefixtures("programs")
def test_command_line_tools_are_enough(tmp_path: Path) -> None:
    tools = write_tools(tmp_path / "Command Line Tools")
    toolkit = look_over(tools, METAL, "xcode-select")
    assert (toolkit.name, toolkit.version, toolkit.folder, toolkit.source) == (
        "macOS SDK",
        "15.5",
        tools,
        "xcode-select",
    )
    assert toolkit.defines == {
        "CMAKE_C_COMPILER": f"{tools}/usr/bin/clang",
        "CMAKE_CXX_COMPILER": f"{tools}/usr/bin/clang++",
        "CMAKE_OSX_SYSROOT": f"{tools}/SDKs/MacOSX.sdk",
    }
    assert toolkit.env == {"DEVELOPER_DIR": str(tools)}


@pytest.mark.usefixtures("programs")
def test_an_xcode_is_its_developer_folder(tmp_path: Path) -> None:
    tools = write_tools(tmp_path / "Xcode 26.app/Contents/Developer", "26.0")
    for named in (tmp_path / "Xcode 26.app", tools):
        assert look_over(named, METAL, "--toolkit").folder == tools


def test_what_is_selected_is_taken(programs: Path) -> None:
    write(programs / "xcode-select", 'test "$1" = -p && echo /Library/Developer/CommandLineTools\n')
    assert selected_folder() == Path("/Library/Developer/CommandLineTools")


def test_nothing_installed(programs: Path) -> None:
    message = "xcode-select: error: unable to get active developer directory"
    write(programs / "xcode-select", f'echo "{message}" >&2\nexit 2\n')
    with pytest.raises(ToolMissingError) as caught:
        selected_folder()
    assert str(caught.value) == (
        f"neither Xcode nor its command line tools are installed: {message}\n"
        "  -> xcode-select --install"
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac has one in /usr/bin")
@pytest.mark.usefixtures("programs")
def test_no_mac() -> None:
    with pytest.raises(ToolMissingError) as caught:
        selected_folder()
    assert str(caught.value) == (
        "there is no xcode-select: this is no Mac\n"
        "  -> build Metal's module on macOS; here build another backend (`--backend cpu`)"
    )


@pytest.mark.usefixtures("programs")
def test_a_folder_that_is_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        look_over(tmp_path, METAL, "--toolkit")
    assert str(caught.value) == (
        f"--toolkit: {tmp_path} holds no developer tools of Apple (there is no usr/bin in it)\n"
        "  -> give /Applications/Xcode.app or /Library/Developer/CommandLineTools, or leave"
        " --toolkit and DEVELOPER_DIR away: what `xcode-select -p` says is taken"
    )


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        (
            'xcrun: error: unable to find utility "clang", not a developer tool or in PATH',
            "xcode-select --install",
        ),
        (
            "You have not agreed to the Xcode license agreements.",
            "sudo xcodebuild -license accept",
        ),
    ],
    ids=["no-clang", "no-license"],
)
def test_what_xcrun_refuses(programs: Path, tmp_path: Path, said: str, cure: str) -> None:
    write(programs / "xcrun", f"echo '{said}' >&2\nexit 69\n")
    with pytest.raises(ToolMissingError) as caught:
        look_over(write_tools(tmp_path / "tools"), METAL, "DEVELOPER_DIR")
    assert str(caught.value) == f"DEVELOPER_DIR: `xcrun --find clang` says: {said}\n  -> {cure}"


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("version", ["12.3", "14.5"])
def test_an_sdk_that_is_too_old(tmp_path: Path, version: str) -> None:
    tools = write_tools(tmp_path / "tools", version)
    with pytest.raises(ToolMissingError) as caught:
        look_over(tools, METAL, "xcode-select")
    assert str(caught.value) == (
        f"xcode-select: {tools} has the SDK of macOS {version}; metal-macosx_arm64 is built with"
        " 15 or newer\n  -> install a newer Xcode, or newer command line tools: sudo rm -rf"
        " /Library/Developer/CommandLineTools, then xcode-select --install"
    )


@pytest.mark.usefixtures("programs")
def test_an_sdk_without_metal(tmp_path: Path) -> None:
    tools = write_tools(tmp_path / "tools", metal=False)
    with pytest.raises(ToolMissingError) as caught:
        look_over(tools, METAL, "--toolkit")
    assert str(caught.value) == (
        f"--toolkit: the SDK {tools}/SDKs/MacOSX.sdk has no Metal.framework\n"
        "  -> install it anew: xcode-select --install"
    )


@pytest.mark.parametrize("name", ["macosx_arm64", "macosx_x86_64"])
def test_the_compiler_is_told_what_the_tag_promises(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # elsewhere than on such a Mac it is ziglang that compiles for one
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: name.removeprefix("macosx_"))
    write(programs / "c++", "echo 'Apple clang version 17.0.0 (clang-1700.0.13.5)'\n")
    platform = TABLE.platforms[name]
    compiler = choose_compiler("auto", platform, tmp_path / "scripts", {})
    assert compiler.name == "Apple clang version 17.0.0 (clang-1700.0.13.5)"
    assert compiler.defines == {
        "CMAKE_OSX_DEPLOYMENT_TARGET": "12.0",
        "CMAKE_OSX_ARCHITECTURES": platform.machine,
    }
    assert compiler.env == {
        "MACOSX_DEPLOYMENT_TARGET": "12.0",
        "ARCHFLAGS": f"-arch {platform.machine}",
    }


def test_what_a_mac_turns_on_by_itself_is_off_but_for_metals_own_wheel() -> None:
    off = {"GGML_METAL": "OFF", "GGML_BLAS": "OFF"}
    for platform in ("macosx_arm64", "macosx_x86_64"):
        target = TABLE.target("cpu", platform)
        assert {**target.platform.defines, **target.family.defines} == off
    assert {**METAL.platform.defines, **METAL.family.defines} == {
        "GGML_METAL": "ON",
        "GGML_BLAS": "OFF",
        "GGML_METAL_EMBED_LIBRARY": "ON",
    }
