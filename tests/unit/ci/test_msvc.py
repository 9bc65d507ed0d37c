"""Visual Studio's compilers, with stand-ins for vswhere, vcvarsall.bat and cmd."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ci.errors import BuildError, ToolMissingError
from ci.msvc import (
    VisualStudio,
    choose_toolset,
    choose_windows_compiler,
    environment,
    find_visual_studio,
    host_limits,
    parse_variables,
    require_short_paths,
)
from ci.table import load_table

PLATFORMS = load_table().platforms

# what vswhere was asked is kept beside it
VSWHERE = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__)
here.with_suffix(".asked").write_text(json.dumps(sys.argv[1:]))
print(here.with_suffix(".answer").read_text())
"""
# prints what it sets, for the stand-in of cmd to take over
VCVARSALL = """#!{python}
import json, pathlib, sys
if sys.argv[1] == "arm64" and "-vcvars_ver=14.1" in sys.argv:
    print("[ERROR:vcvars.bat] Toolset directory for version '14.1' was not found.")
    sys.exit(1)
print(json.dumps({{"INCLUDE": "C:\\\\Program Files\\\\VC\\\\include", "LIB": "C:\\\\VC\\\\lib",
                   "Path": "C:\\\\VC\\\\bin;C:\\\\Windows", "VSCMD_ARGS": " ".join(sys.argv[1:])}}))
"""
# as much of cmd as the batch file uses: call, chcp, echo and set
CMD = """#!{python}
import json, os, pathlib, shlex, subprocess, sys
assert sys.argv[1:3] == ["/d", "/c"], sys.argv
variables = {{"SYSTEMROOT": "C:\\\\Windows", "=C:": "C:\\\\work"}}
text = pathlib.Path(sys.argv[3]).read_bytes().decode("utf-8")
assert text.endswith("\\r\\n"), text
for line in text.split("\\r\\n"):
    words = shlex.split(line, posix=True)
    if words[:1] == ["call"]:
        end = words.index(">nul")
        done = subprocess.run(words[1:end], capture_output=True, text=True)
        if done.returncode:
            print(done.stdout, end="")
            sys.exit(1)
        variables.update(json.loads(done.stdout))
    elif words == ["set"]:
        for name, value in variables.items():
            print(f"{{name}}={{value}}\\r")
    else:
        assert words[:1] in ([], ["@echo"], ["chcp"]), words
"""

stand_ins = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are scripts of POSIX")


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Windows with a Visual Studio in a folder with spaces, as far as these modules look."""
    programs = tmp_path / "Program Files (x86)"
    installer = programs / "Microsoft Visual Studio" / "Installer"
    write_program(installer / "vswhere.exe", VSWHERE)
    studio = tmp_path / "Program Files" / "Microsoft Visual Studio" / "2022" / "Build Tools é"
    for name in ("14.9.1", "14.38.33130", "14.44.35207", "notes"):
        (studio / "VC" / "Tools" / "MSVC" / name).mkdir(parents=True)
    write_program(studio / "VC" / "Auxiliary" / "Build" / "vcvarsall.bat", VCVARSALL)
    found = [{"installationPath": str(studio), "displayName": "Visual Studio Build Tools 2022"}]
    (installer / "vswhere.answer").write_text(json.dumps(found), encoding="utf-8")
    write_program(tmp_path / "bin" / "cmd", CMD)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PROGRAMFILES(X86)", str(programs))
    return studio


@stand_ins
def test_the_newest_visual_studio_with_the_tools(machine: Path, tmp_path: Path) -> None:
    studio = find_visual_studio("x64")
    assert studio == VisualStudio(
        folder=machine,
        name="Visual Studio Build Tools 2022",
        # by number, not by letter
        toolsets=("14.44.35207", "14.38.33130", "14.9.1"),
    )
    asked = next(tmp_path.rglob("vswhere.asked"))
    assert json.loads(asked.read_text(encoding="utf-8")) == [
        *("-latest", "-products", "*", "-format", "json", "-utf8"),
        *("-requires", "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"),
    ]


@stand_ins
def test_arm_needs_clang_as_well(machine: Path, tmp_path: Path) -> None:
    assert find_visual_studio("arm64").folder == machine
    asked = next(tmp_path.rglob("vswhere.asked"))
    assert json.loads(asked.read_text(encoding="utf-8"))[-3:] == [
        "-requires",
        "Microsoft.VisualStudio.Component.VC.Tools.ARM64",
        "Microsoft.VisualStudio.Component.VC.Llvm.Clang",
    ]


@stand_ins
def test_no_tools_in_any_visual_studio(machine: Path, tmp_path: Path) -> None:
    next(tmp_path.rglob("vswhere.answer")).write_text("[]", encoding="utf-8")
    with pytest.raises(ToolMissingError) as caught:
        find_visual_studio("arm64")
    assert caught.value.what == "no Visual Studio on this machine has C++ tools for arm64"
    assert caught.value.cure == (
        "in the Visual Studio installer add Microsoft.VisualStudio.Component.VC.Tools.ARM64 and"
        " Microsoft.VisualStudio.Component.VC.Llvm.Clang (or: winget install"
        ' Microsoft.VisualStudio.2022.BuildTools --override "--wait --quiet'
        " --add Microsoft.VisualStudio.Component.VC.Tools.ARM64"
        ' --add Microsoft.VisualStudio.Component.VC.Llvm.Clang")'
    )


@stand_ins
def test_no_toolset_in_the_visual_studio(machine: Path) -> None:
    shutil.rmtree(machine / "VC" / "Tools")
    with pytest.raises(ToolMissingError) as caught:
        find_visual_studio("x64")
    assert caught.value.what == f"{machine / 'VC' / 'Tools' / 'MSVC'} holds no MSVC"


def test_no_visual_studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PROGRAMFILES(X86)", str(tmp_path))
    with pytest.raises(ToolMissingError) as caught:
        find_visual_studio("x64")
    assert caught.value.what == "there is no Visual Studio on this machine"
    assert caught.value.exit_code == 5


@stand_ins
def test_vswhere_on_path(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installer = next(tmp_path.rglob("vswhere.exe")).parent
    (installer / "vswhere.exe").rename(installer / "vswhere")
    monkeypatch.delenv("PROGRAMFILES(X86)")
    monkeypatch.setenv("PATH", str(installer))
    assert find_visual_studio("x64").folder == machine


@stand_ins
def test_the_environment_of_a_toolset(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", r"C:\Windows")
    studio = find_visual_studio("x64")
    found = environment(studio, "x64", "14.38.33130", shell=("cmd", "/d", "/c"))
    # what was there before (SYSTEMROOT) is not repeated, what is cmd's own is left out
    assert found == {
        "INCLUDE": r"C:\Program Files\VC\include",
        "LIB": r"C:\VC\lib",
        "PATH": r"C:\VC\bin;C:\Windows",
        "VSCMD_ARGS": "x64 -vcvars_ver=14.38",
    }


@stand_ins
def test_a_prompt_that_fails(machine: Path) -> None:
    studio = find_visual_studio("arm64")
    with pytest.raises(ToolMissingError) as caught:
        environment(studio, "arm64", "14.1.2", shell=("cmd", "/d", "/c"))
    batch = machine / "VC" / "Auxiliary" / "Build" / "vcvarsall.bat"
    assert caught.value.what == (
        f"{batch} fails: [ERROR:vcvars.bat] Toolset directory for version '14.1' was not found."
    )


@stand_ins
def test_a_prompt_that_sets_nothing(machine: Path) -> None:
    batch = machine / "VC" / "Auxiliary" / "Build" / "vcvarsall.bat"
    write_program(batch, "#!{python}\nprint('{{}}')\n")
    with pytest.raises(ToolMissingError) as caught:
        environment(find_visual_studio("x64"), "x64", "14.44.35207", shell=("cmd", "/d", "/c"))
    assert caught.value.what == f"{batch} sets neither INCLUDE nor LIB"


def test_what_set_prints() -> None:
    printed = "=C:=C:\\work\r\nPath=C:\\a;C:\\b=c\r\nEMPTY=\r\nno variable\r\nPROMPT=$P$G\r\n"
    assert parse_variables(printed) == {"PATH": r"C:\a;C:\b=c", "EMPTY": "", "PROMPT": "$P$G"}


@stand_ins
def test_cl_compiles_for_x64(machine: Path) -> None:
    compiler = choose_windows_compiler(
        PLATFORMS["win_amd64"], {Path("/src/llama.cpp"): "llama.cpp", Path("/b u"): "build"}
    )
    assert compiler.name == "MSVC 14.44.35207"
    assert compiler.defines == {
        "CMAKE_C_COMPILER": "cl",
        "CMAKE_CXX_COMPILER": "cl",
        "CMAKE_MSVC_RUNTIME_LIBRARY": "MultiThreaded",
    }
    assert {name: compiler.env[name] for name in ("CL", "LINK", "CMAKE_GENERATOR", "LIB")} == {
        "CL": '/Brepro "/d1trimfile:/src/llama.cpp" "/d1trimfile:/b u"',
        "LINK": "/Brepro /NODEFAULTLIB:libucrt.lib /DEFAULTLIB:ucrt.lib",
        "CMAKE_GENERATOR": "Ninja",
        "LIB": r"C:\VC\lib",
    }
    assert compiler.env["VSCMD_ARGS"] == "x64 -vcvars_ver=14.44"


@stand_ins
def test_clang_cl_compiles_for_arm(machine: Path) -> None:
    compiler = choose_windows_compiler(PLATFORMS["win_arm64"], {Path("/src"): "llama.cpp"})
    clang = (machine / "VC/Tools/Llvm/ARM64/bin/clang-cl.exe").as_posix()
    assert compiler.name == "clang-cl of Visual Studio Build Tools 2022"
    assert compiler.defines["CMAKE_C_COMPILER"] == compiler.defines["CMAKE_CXX_COMPILER"] == clang
    assert compiler.env["CL"] == '/Brepro "/clang:-ffile-prefix-map=/src=llama.cpp"'
    assert compiler.env["VSCMD_ARGS"] == "arm64 -vcvars_ver=14.44"


def write_header(folder: Path, condition: str) -> Path:
    header = folder / "include" / "crt" / "host_config.h"
    header.parent.mkdir(parents=True)
    header.write_text(f"#if defined(_MSC_VER)\n#endif\n\n#if {condition}\n#error\n#endif\n")
    return folder


@pytest.mark.parametrize(
    ("condition", "limits", "toolset"),
    [
        pytest.param("_MSC_VER < 1910 || _MSC_VER >= 1940", (1910, 1940), "14.38.33130", id="12.1"),
        pytest.param("_MSC_VER < 1910 || _MSC_VER >= 1950", (1910, 1950), "14.44.35207", id="12.4"),
        pytest.param("_MSC_VER < 1920 || _MSC_VER >= 1950", (1920, 1950), "14.44.35207", id="13.0"),
        pytest.param("__GNUC__ > 13", None, "14.50.35717", id="without-limits"),
    ],
)
def test_the_newest_toolset_that_a_cuda_takes(
    tmp_path: Path, condition: str, limits: tuple[int, int] | None, toolset: str
) -> None:
    cuda = write_header(tmp_path / "v 1", condition)
    assert host_limits(cuda) == limits
    studio = VisualStudio(
        folder=tmp_path,
        name="Visual Studio 2026",
        toolsets=("14.50.35717", "14.44.35207", "14.38.33130", "14.16.27023"),
    )
    assert choose_toolset(studio, limits) == toolset


def test_no_toolset_that_a_cuda_takes(tmp_path: Path) -> None:
    studio = VisualStudio(folder=tmp_path, name="Visual Studio 2026", toolsets=("14.50.35717",))
    with pytest.raises(ToolMissingError) as caught:
        choose_toolset(studio, (1920, 1950))
    assert caught.value.what == (
        "this CUDA takes MSVC toolsets from 14.20 to 14.49; Visual Studio 2026 has 14.50.35717"
    )
    assert caught.value.cure == (
        "in the Visual Studio installer, under individual components, add MSVC build tools up to"
        " 14.49; or, at your own risk, --define CMAKE_CUDA_FLAGS=-allow-unsupported-compiler"
    )


@stand_ins
def test_an_unsupported_toolset_only_on_request(machine: Path, tmp_path: Path) -> None:
    cuda = write_header(tmp_path / "cuda", "_MSC_VER < 1910 || _MSC_VER >= 1940")
    platform = PLATFORMS["win_amd64"]
    assert choose_windows_compiler(platform, {}, cuda=cuda).name == "MSVC 14.38.33130"
    asked = choose_windows_compiler(platform, {}, cuda=cuda, unsupported=True)
    assert asked.name == "MSVC 14.44.35207"


@pytest.mark.parametrize(
    ("length", "long_paths", "passes"),
    [(128, False, True), (129, False, False), (129, True, True), (400, True, True)],
)
def test_long_paths(length: int, long_paths: bool, passes: bool) -> None:
    folder = Path("/" + "a" * (length - 1))
    if passes:
        require_short_paths(folder, long_paths=long_paths)
        return
    with pytest.raises(BuildError) as caught:
        require_short_paths(folder, long_paths=long_paths)
    assert caught.value.what == (
        f"{folder} is too deep: files in it would have paths of up to 260 characters, and this"
        " Windows takes 259"
    )
    assert caught.value.cure == (
        "move the checkout up, to a folder of at most 128 characters with build\\<target>\\cmake;"
        " or as administrator: reg add HKLM\\SYSTEM\\CurrentControlSet\\Control\\FileSystem"
        " /v LongPathsEnabled /t REG_DWORD /d 1 /f"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there it depends on the registry")
def test_other_systems_take_long_paths() -> None:
    require_short_paths(Path("/" + "a" * 400))


def test_a_platform_of_windows_is_x64_or_arm() -> None:
    machines = {each.machine for each in PLATFORMS.values() if each.system == "windows"}
    assert machines == {"x86_64", "aarch64"}
