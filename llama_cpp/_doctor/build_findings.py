"""What the doctor says about a compile on this machine: notes alone, for nobody has to. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llama_cpp._build_info import version_pair
from llama_cpp._doctor.backends import Step
from llama_cpp._doctor.build_tools import cmake_arguments
from llama_cpp._doctor.findings import Finding, finding
from llama_cpp._gpu_code import architecture_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp._doctor.facts import Facts

_OLDEST_CMAKE = (3, 21)
_PROMPT = 'the "x64 Native Tools Command Prompt" of Visual Studio'
# NVIDIA's release notes: the first CUDA whose compiler makes code for a compute capability
_FIRST_CUDA = {
    (8, 0): (11, 0),
    (8, 6): (11, 1),
    (8, 9): (11, 8),
    (9, 0): (11, 8),
    (10, 0): (12, 8),
    (12, 0): (12, 8),
    (10, 3): (12, 9),
    (12, 1): (12, 9),
}
# and the last, of those that were dropped: CUDA 13 begins with Turing
_DROPPED_BY_13 = (7, 5)


def build_findings(facts: Facts) -> tuple[Finding, ...]:
    """Return the notes about a source build."""
    found = [
        *_tools(facts),
        *_compiler(facts),
        *_cuda(facts),
        *_arguments(facts),
        *_folders(facts),
    ]
    if not found:
        found = [finding("build-ready", "ok", "a source build would find a compiler and its tools")]
    return tuple(found)


def _note(identifier: str, message: str, cure: str = "", *commands: str) -> Finding:
    steps = tuple(Step("command", command) for command in commands)
    return finding(identifier, "note", message, cure, steps)


def _tools(facts: Facts) -> Iterator[Finding]:
    tools = facts.build_tools
    if tools.scikit_build_core is None:
        yield _note(
            "build-backend-missing",
            "scikit-build-core is not in this environment: installers fetch it, but with "
            "--no-build-isolation the build says \"Cannot import 'scikit_build_core.build'\"",
            "leave out --no-build-isolation, or install it:",
            'pip install "scikit-build-core>=1.1,<2"',
        )
    cmake = version_pair(tools.cmake.version) if tools.cmake else None
    if tools.cmake is None or (cmake is not None and cmake < _OLDEST_CMAKE):
        have = f"CMake {tools.cmake.version} is older than 3.21" if tools.cmake else "no CMake"
        yield _note("build-no-cmake", f"{have}: the build fetches its own", "nothing is to do")
    if tools.ninja is None:
        yield _note("build-no-ninja", "no Ninja: the build fetches its own", "nothing is to do")
    if tools.git is None:
        yield _note(
            "build-no-git",
            "no git: a build from a git URL needs it, one from the sdist does not (llama.cpp is inside)",
            "install git, or build from the sdist",
        )


def _compiler(facts: Facts) -> Iterator[Finding]:
    system, compiler = facts.system.name, facts.build_tools.compiler
    if system == "macos" and facts.build_tools.command_line_tools is None:
        yield _note(
            "build-no-command-line-tools",
            "Xcode's command line tools are not installed",
            "",
            "xcode-select --install",
        )
    if compiler is None and system == "windows":
        studio = facts.build_tools.visual_studio
        yield _note(
            "build-no-compiler",
            "cl.exe is not on PATH: "
            + (f"{studio} is installed" if studio else "no Visual Studio with C++ tools was found"),
            f"open {_PROMPT} and build there"
            if studio
            else 'install Visual Studio\'s build tools with "Desktop development with C++"',
        )
    elif compiler is None:
        yield _note(
            "build-no-compiler",
            "there is no C++ compiler on PATH",
            "Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++",
        )
    elif compiler.target == "x86":
        yield _note(
            "build-wrong-prompt",
            f"{compiler.path} compiles for 32 bits (x86)",
            f"open {_PROMPT}: `cl` must say x64",
        )


def _cuda(facts: Facts) -> Iterator[Finding]:
    tools, nvidia = facts.build_tools, facts.accelerators.nvidia
    if tools.nvcc is None:
        if nvidia.gpus:
            yield _note(
                "build-no-cuda",
                "there is no nvcc on PATH, in CUDA_PATH or in /usr/local/cuda: GGML_CUDA=ON would stop. "
                "The driver's CUDA version is not a toolkit",
                "install NVIDIA's CUDA toolkit, or take a finished wheel, which needs none",
            )
        return
    toolkit = version_pair(tools.nvcc.version)
    if toolkit is None:
        return
    shown = f"CUDA {_dotted(toolkit)} ({tools.nvcc.path})"
    for gpu in dict.fromkeys(gpu.compute for gpu in nvidia.gpus if gpu.compute):
        first = _FIRST_CUDA.get(gpu)
        if first is not None and toolkit < first:
            yield _note(
                "build-cuda-older-than-gpu",
                f"{shown} makes no code for compute {_dotted(gpu)}",
                f"install CUDA {_dotted(first)} or newer",
            )
        if toolkit[0] >= 13 and gpu < _DROPPED_BY_13:
            yield _note(
                "build-cuda-older-than-gpu",
                f"{shown} no longer makes code for compute {_dotted(gpu)}",
                "install CUDA 12.8",
            )
    if nvidia.cuda is not None and toolkit[0] > nvidia.cuda[0]:
        yield _note(
            "build-cuda-newer-than-driver",
            f"{shown} is newer than the driver, which speaks CUDA {_dotted(nvidia.cuda)}: "
            "what it builds does not run here",
            f"update the driver, or build with CUDA {nvidia.cuda[0]}",
        )
    yield from _host_compiler(facts, shown)
    if " " in tools.nvcc.path:
        yield _note(
            "build-cuda-spaces",
            f"{tools.nvcc.path} has spaces: inside CMAKE_ARGS a path ends at the first of them",
            "leave it to CUDA_PATH or PATH, or give it apart from the others:",
            f'CUDACXX="{tools.nvcc.path.replace(chr(92), "/")}"',
        )


def _host_compiler(facts: Facts, shown: str) -> Iterator[Finding]:
    compiler, limits = facts.build_tools.compiler, facts.build_tools.host_limits
    version = version_pair(compiler.version) if compiler else None
    if compiler is None or version is None:
        return
    newest = {"gcc": limits.gcc, "clang": limits.clang}.get(compiler.kind)
    if newest is not None and version[0] > newest:
        yield _note(
            "build-host-compiler",
            f"{shown} refuses {compiler.kind} {compiler.version}: {newest} is the newest that it takes",
            f"install {compiler.kind} {newest} and name it for CUDA alone:",
            f"CUDAHOSTCXX={'g++' if compiler.kind == 'gcc' else 'clang++'}-{newest}",
        )
    # _MSC_VER is 1944 for 19.44
    if compiler.kind == "msvc" and limits.msvc and version[0] * 100 + version[1] >= limits.msvc:
        yield _note(
            "build-host-compiler",
            f"{shown} refuses MSVC {compiler.version}: it takes those below "
            f"{limits.msvc // 100}.{limits.msvc % 100}",
            "install an older toolset of Visual Studio or a newer CUDA; at your own risk:",
            "set CUDAFLAGS=-allow-unsupported-compiler",
        )


def _arguments(facts: Facts) -> Iterator[Finding]:
    given = cmake_arguments(facts.environment.get("CMAKE_ARGS", ""))
    if given.problem is not None:
        yield _note(
            "build-cmake-args", f"CMAKE_ARGS cannot be split: {given.problem}", "mend the quotes"
        )
    if given.stray:
        yield _note(
            "build-cmake-args",
            f"in CMAKE_ARGS {' '.join(given.stray)!r} stands alone: a space tore it off",
            "quote the whole option: CMAKE_ARGS='\"-DNAME=C:/Path With Spaces\"'",
        )
    architectures = given.definitions.get("CMAKE_CUDA_ARCHITECTURES")
    gpus = [gpu for gpu in facts.accelerators.nvidia.gpus if gpu.compute]
    if not architectures or not gpus:
        return
    names = [re.match(r"[0-9]+", each) for each in architectures.split(";")]
    given_digits = {each[0] for each in names if each}
    wanted = {f"{gpu.compute[0]}{gpu.compute[1]}" for gpu in gpus if gpu.compute}
    if given_digits and given_digits != wanted:
        ours = ";".join(sorted({architecture_name(gpu.compute) for gpu in gpus if gpu.compute}))
        yield _note(
            "build-architectures",
            f"CMAKE_CUDA_ARCHITECTURES={architectures}; this machine's is {ours} "
            "(each one more takes as long again)",
            f"for this machine alone: -DCMAKE_CUDA_ARCHITECTURES={ours}",
        )


def _folders(facts: Facts) -> Iterator[Finding]:
    tools = facts.build_tools
    folder = tools.temporary_folder
    if folder is None:
        yield _note(
            "build-temporary-folder",
            "there is no folder for temporary files that can be written to",
            "set TEMP and TMP (TMPDIR on Linux and macOS) to one",
        )
    elif " " in folder or not folder.isascii():
        yield _note(
            "build-temporary-folder",
            f"builds run in {folder}: compilers stumble over its name",
            "set TEMP and TMP (TMPDIR on Linux and macOS) to a short plain folder",
        )
    if tools.long_paths is False:
        yield _note(
            "build-long-paths",
            "Windows refuses paths over 260 characters, and git stops at them",
            "as administrator:",
            "reg add HKLM\\SYSTEM\\CurrentControlSet\\Control\\FileSystem /v LongPathsEnabled "
            "/t REG_DWORD /d 1 /f",
            "git config --system core.longpaths true",
        )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
