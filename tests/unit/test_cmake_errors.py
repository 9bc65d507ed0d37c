"""What CMake says before anything is compiled: each mistake with its cure, by the real cmake.

The checks come before ``project()``, so most of these need no compiler; where one is looked at it
is a script that answers like it. What only Windows has goes into the functions as plain values.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = Path(sys.executable).with_name("cmake")

# what a toolkit's crt/host_config.h says of host compilers
HOST_CONFIG = """
#if defined(__GNUC__)
#if __GNUC__ > 13
#error -- unsupported GNU version! gcc versions later than 13 are not supported!
#endif
#if (__clang_major__ >= 18) || (__clang_major__ < 3)
#error -- unsupported clang version!
#endif
#endif
#if _MSC_VER < 1910 || _MSC_VER >= 1950
#error -- unsupported Microsoft Visual Studio version!
#endif
"""

# project() looks for ninja, which is not on PATH here
REACHED_PROJECT = "CMAKE_C_COMPILER not set, after EnableLanguage"

NEEDS_NONE = "a prebuilt wheel needs no toolkit: `llama-cpp select` prints its command"


def said(text: str) -> str:
    return " ".join(text.split())


def run(args: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, env=env, capture_output=True, text=True, check=False)


def configure(
    tmp_path: Path, *options: str, env: dict[str, str] | None = None, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Configure this checkout; nothing but ``path`` is on PATH, no toolkit is installed."""
    return run(
        [str(CMAKE), "-S", str(ROOT), "-B", str(tmp_path / "build"), "-G", "Ninja",
         f"-DLLAMA_CPP_CUDA_FOLDERS={tmp_path / 'nowhere'}", *options],
        {"PATH": str(path or tmp_path), "HOME": str(tmp_path), **(env or {})},
    )  # fmt: skip


def refused(tmp_path: Path, *options: str, env: dict[str, str] | None = None,
            path: Path | None = None) -> str:  # fmt: skip
    done = configure(tmp_path, *options, env=env, path=path)
    assert done.returncode != 0
    text = said(done.stderr)
    assert " -> " in text
    # told at once, before a compiler was looked at
    assert "compiler identification" not in done.stdout
    return text


def script(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run CMake code that has the modules included."""
    file = tmp_path / "script.cmake"
    modules = "".join(
        f"include([[{ROOT / 'cmake' / name}.cmake]])\n" for name in ("options", "compiler", "cuda")
    )
    required = "cmake_minimum_required(VERSION 3.21...4.4)\n"
    file.write_text(required + modules + text, encoding="utf-8")
    return run([str(CMAKE), "-P", str(file)], {"PATH": str(tmp_path)})


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def toolkit(
    root: Path, version: str = "12.4", architectures: str = "50 60 61 70 75 80 86 89 90"
) -> Path:
    """A CUDA toolkit that answers what is asked at configure time."""
    listed = " ".join(f"compute_{each}" for each in architectures.split())
    program(
        root / "bin" / "nvcc",
        f"""case "$1" in
        --version) echo "Cuda compilation tools, release {version}, V{version}.99";;
        --list-gpu-arch) printf '%s\\n' {listed};;
        esac""",
    )
    config = root / "include" / "crt" / "host_config.h"
    config.parent.mkdir(parents=True)
    config.write_text(HOST_CONFIG, encoding="utf-8")
    return root


def gcc(folder: Path, version: str, name: str = "gcc") -> Path:
    program(folder / name, f"echo '{name} (Debian {version}-1) {version}'")
    return folder


def passes(tmp_path: Path, *options: str, env: dict[str, str] | None = None,
           path: Path | None = None) -> None:  # fmt: skip
    """Our checks have nothing to say; what stops next is CMake, which finds no ninja on PATH."""
    done = configure(tmp_path, *options, "-DCMAKE_CXX_COMPILER=c++", env=env, path=path)
    assert REACHED_PROJECT in said(done.stderr)
    assert "CMakeLists.txt:" not in done.stderr, done.stderr


# ---- names of options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LLAMA_CUBLAS", "GGML_CUDA"),
        ("GGML_CUBLAS", "GGML_CUDA"),
        ("LLAMA_CUDA", "GGML_CUDA"),
        ("LLAMA_CUDA_FORCE_MMQ", "GGML_CUDA_FORCE_MMQ"),
        ("LLAMA_METAL", "GGML_METAL"),
        ("LLAMA_HIPBLAS", "GGML_HIP"),
        ("GGML_HIPBLAS", "GGML_HIP"),
        ("LLAMA_VULKAN", "GGML_VULKAN"),
        ("LLAMA_CLBLAST", "GGML_VULKAN"),
        ("LLAMA_BLAS", "GGML_BLAS"),
        ("LLAMA_BLAS_VENDOR", "GGML_BLAS_VENDOR"),
        ("LLAMA_SYCL", "GGML_SYCL"),
        ("LLAMA_NATIVE", "GGML_NATIVE"),
        ("LLAMA_AVX2", "GGML_AVX2"),
        ("LLAMA_CUDA_ARCHITECTURES", "CMAKE_CUDA_ARCHITECTURES"),
        ("CUDA_DOCKER_ARCH", "CMAKE_CUDA_ARCHITECTURES"),
    ],
)
def test_an_old_option_name(tmp_path: Path, old: str, new: str) -> None:
    text = refused(tmp_path, f"-D{old}=5")
    assert f"{old} is now {new}." in text
    assert f"-> -D{new}=5 in place of it (pip, uv: -C cmake.define.{new}=5)" in text


def test_openblas_is_a_vendor_now(tmp_path: Path) -> None:
    text = refused(tmp_path, "-DLLAMA_OPENBLAS=on")
    assert "-> -DGGML_BLAS=on in place of it" in text
    assert ", and GGML_BLAS_VENDOR=OpenBLAS" in text


def test_llama_build_off_is_a_prebuilt_now(tmp_path: Path) -> None:
    assert "-> to wrap what somebody else built: -DLLAMA_CPP_PREBUILT=FOLDER" in refused(
        tmp_path, "-DLLAMA_BUILD=OFF"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GGML_CUBA", "GGML_CUDA"),
        ("GGML_VULCAN", "GGML_VULKAN"),
        ("GGML_METEL", "GGML_METAL"),
        ("GGML_CPU_ALL_VARIANT", "GGML_CPU_ALL_VARIANTS"),
        ("LLAMA_CPP_PREBULT", "LLAMA_CPP_PREBUILT"),
    ],
)
def test_an_unknown_option_names_the_nearest(tmp_path: Path, name: str, meant: str) -> None:
    text = refused(tmp_path, f"-D{name}:STRING=ON")
    assert f"{name} is no option of " in text
    assert f"-> did you mean {meant}?" in text


def test_an_unknown_option_without_a_neighbour(tmp_path: Path) -> None:
    text = refused(tmp_path, "-DGGML_QUANTUM_TELEPORT=ON")
    assert "GGML_QUANTUM_TELEPORT is no option of llama.cpp." in text
    assert f"listed in {ROOT / 'vendor/llama.cpp/ggml/CMakeLists.txt'}" in text


def test_all_wrong_names_are_told_at_once(tmp_path: Path) -> None:
    text = refused(tmp_path, "-DGGML_CUBA=1;2", "-DLLAMA_CUBLAS=ON")
    assert "did you mean GGML_CUDA?" in text
    assert "LLAMA_CUBLAS is now GGML_CUDA" in text


def test_options_without_effect_are_named(tmp_path: Path) -> None:
    text = said(configure(tmp_path, "-DLLAVA_BUILD=OFF", "-DLLAMA_CURL=OFF").stderr)
    assert "LLAVA_BUILD has no effect: the multimodal library mtmd is always built." in text
    assert "LLAMA_CURL has no effect: " in text


# ---- values and environment --------------------------------------------------------------------


@pytest.mark.parametrize("partner", ["GGML_CPU_ALL_VARIANTS", "GGML_BACKEND_DL"])
def test_native_with_all_cpu_variants(tmp_path: Path, partner: str) -> None:
    text = refused(tmp_path, "-DGGML_NATIVE=ON", f"-D{partner}=ON")
    assert "GGML_NATIVE=ON compiles for this machine's CPU alone" in text
    assert "-> give one of them" in text


def test_cpu_variants_without_loadable_backends(tmp_path: Path) -> None:
    text = refused(tmp_path, "-DGGML_CPU_ALL_VARIANTS=ON", "-DGGML_BACKEND_DL=OFF")
    assert "-> leave GGML_BACKEND_DL out" in text


@pytest.mark.parametrize("option", ["BUILD_SHARED_LIBS=OFF", "GGML_STATIC=ON"])
def test_static_libraries_are_refused(tmp_path: Path, option: str) -> None:
    assert "Python loads shared libraries" in refused(tmp_path, f"-D{option}")


def test_cpu_levels_have_no_effect_with_all_variants(tmp_path: Path) -> None:
    text = said(configure(tmp_path, "-DGGML_AVX2=OFF", "-DGGML_FMA=OFF").stderr)
    assert "No effect have: GGML_AVX2, GGML_FMA." in text
    single = configure(tmp_path, "-DGGML_AVX2=OFF", "-DGGML_CPU_ALL_VARIANTS=OFF",
                       "-DGGML_BACKEND_DL=OFF")  # fmt: skip
    assert "No effect have" not in single.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="Metal is there")
def test_metal_is_apples(tmp_path: Path) -> None:
    text = refused(tmp_path, "-DGGML_METAL=on")
    assert f"GGML_METAL=ON, but this is {'Windows' if os.name == 'nt' else 'Linux'}" in text
    assert "-> GGML_CUDA=ON (NVIDIA), GGML_HIP=ON (AMD), GGML_VULKAN=ON (any GPU)" in text


def test_metal_for_a_mac_passes(tmp_path: Path) -> None:
    done = script(tmp_path, "set(GGML_METAL ON)\nset(CMAKE_SYSTEM_NAME Darwin)\n"
                  "llama_cpp_check_values(GGML_METAL)")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_llama_cpp_lib_in_the_environment(tmp_path: Path) -> None:
    text = refused(tmp_path, env={"LLAMA_CPP_LIB": "/opt/llama.dll"})
    assert "LLAMA_CPP_LIB=/opt/llama.dll is set, a variable of older versions" in text
    assert "-C cmake.define.LLAMA_CPP_PREBUILT=FOLDER" in text
    assert "LLAMA_CPP_LIB_PATH=FOLDER" in text


def test_scb_local_version_in_the_environment(tmp_path: Path) -> None:
    text = said(configure(tmp_path, env={"SCB_LOCAL_VERSION": "cu128"}).stderr)
    assert "-> LLAMA_CPP_VERSION_LABEL=cu128 puts the label into the version" in text


def test_an_option_as_environment_variable(tmp_path: Path) -> None:
    text = said(configure(tmp_path, env={"GGML_CUDA": "1"}).stderr)
    assert "GGML_CUDA=1 in the environment does nothing" in text
    assert "-> -C cmake.define.GGML_CUDA=ON, or CMAKE_ARGS=-DGGML_CUDA=ON" in text


def test_a_prebuilt_without_the_backend_asked_for(tmp_path: Path) -> None:
    done = script(tmp_path, "set(GGML_CUDA ON)\nset(LLAMA_CPP_PREBUILT /opt/llama)\n"
                  'llama_cpp_check_prebuilt("ggml;ggml-base;llama")')  # fmt: skip
    text = said(done.stderr)
    assert "LLAMA_CPP_PREBUILT=/opt/llama has no library ggml-cuda (it has ggml, " in text
    assert "-> name a folder whose llama.cpp was built with GGML_CUDA=ON" in text


# ---- compilers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "cure"),
    [
        ("CMAKE_HOST_APPLE", "xcode-select --install"),
        ("CMAKE_HOST_WIN32", 'open the "x64 Native Tools Command Prompt" of Visual Studio'),
        ("NONE_OF_THEM", "Debian, Ubuntu: apt install g++"),
    ],
)
def test_no_compiler_says_what_to_install(tmp_path: Path, host: str, cure: str) -> None:
    done = script(tmp_path, "unset(CMAKE_HOST_APPLE)\nunset(CMAKE_HOST_WIN32)\n"
                  f"set({host} ON)\nllama_cpp_check_compiler()")  # fmt: skip
    assert done.returncode != 0
    text = said(done.stderr)
    assert "There is no C++ compiler on PATH, and CXX is not set." in text
    assert f"-> {cure}" in text
    assert "a prebuilt wheel needs none" in text


def test_no_compiler_on_this_machine(tmp_path: Path) -> None:
    assert "There is no C++ compiler on PATH" in refused(tmp_path)


def test_a_32_bit_compiler(tmp_path: Path) -> None:
    done = script(tmp_path, "llama_cpp_check_pointer(4 cl.exe)")
    text = said(done.stderr)
    assert "The compiler (cl.exe) makes 32-bit code" in text
    assert '-> on Windows open the "x64 Native Tools Command Prompt"' in text
    assert script(tmp_path, "llama_cpp_check_pointer(8 cl.exe)").returncode == 0


# ---- CUDA --------------------------------------------------------------------------------------


def test_cuda_without_nvcc(tmp_path: Path) -> None:
    gcc(tmp_path / "bin", "13.2.0", "c++")
    text = refused(tmp_path, "-DGGML_CUDA=on", path=tmp_path / "bin",
                   env={"CUDA_PATH": str(tmp_path / "cuda")})  # fmt: skip
    assert "there is no CUDA compiler (nvcc)" in text
    assert "CUDACXX (not set), CUDAToolkit_ROOT (not set)," in text
    assert f"CUDA_PATH ({tmp_path / 'cuda'}/bin has no nvcc), CUDA_HOME (not set), PATH," in text
    assert "-> install the CUDA toolkit (the driver alone has no compiler), or say where" in text
    assert NEEDS_NONE in text


@pytest.mark.parametrize("way", ["PATH", "CUDA_PATH", "CUDA_HOME", "CUDACXX", "define", "system"])
def test_nvcc_in_a_folder_with_spaces(tmp_path: Path, way: str) -> None:
    root = toolkit(tmp_path / "a tool kit")
    tools = gcc(tmp_path / "tools", "13.2.0")
    options = ["-DGGML_CUDA=on"]
    env: dict[str, str] = {}
    match way:
        case "PATH":
            env["PATH"] = os.pathsep.join([str(tools), str(root / "bin")])
        case "CUDACXX":
            env["CUDACXX"] = str(root / "bin" / "nvcc")
        case "define":
            options.append(f"-DCMAKE_CUDA_COMPILER={root / 'bin' / 'nvcc'}")
        case "system":
            options.append(f"-DLLAMA_CPP_CUDA_FOLDERS={tmp_path}/a tool*")
        case _:
            env[way] = str(root)
    passes(tmp_path, *options, env=env, path=tools)


@pytest.mark.parametrize("value", ["c:PERSONAL", "/opt/with", "."])
@pytest.mark.parametrize("variable", ["CMAKE_CUDA_COMPILER", "CUDACXX"])
def test_a_cuda_compiler_that_does_not_exist(tmp_path: Path, variable: str, value: str) -> None:
    value = str(tmp_path) if value == "." else value
    gcc(tmp_path / "bin", "13.2.0", "c++")
    given = [f"-DCMAKE_CUDA_COMPILER={value}"] if variable == "CMAKE_CUDA_COMPILER" else []
    text = refused(tmp_path, "-DGGML_CUDA=on", *given, path=tmp_path / "bin",
                   env={} if given else {"CUDACXX": value})  # fmt: skip
    why = "it is a folder" if value == str(tmp_path) else "it does not exist"
    assert f"{variable}={value} names no CUDA compiler: {why}." in text
    assert "-> In CMAKE_ARGS a path ends at its first space, and backslashes vanish" in text
    assert "CMAKE_ARGS='-DCMAKE_CUDA_COMPILER=\"C:/Path With Spaces/bin/nvcc.exe\"'" in text


def test_a_cuda_compiler_that_does_not_run(tmp_path: Path) -> None:
    nvcc = program(tmp_path / "nvcc", "echo 'libnvvm is missing' >&2; exit 3")
    gcc(tmp_path / "bin", "13.2.0", "c++")
    text = refused(tmp_path, "-DGGML_CUDA=on", f"-DCMAKE_CUDA_COMPILER={nvcc}",
                   path=tmp_path / "bin")  # fmt: skip
    assert f"{nvcc} --version fails (3): libnvvm is missing" in text


@pytest.mark.parametrize(
    ("version", "known", "asked", "message"),
    [
        ("12.4", "50 60 70 75 80 86 89 90", "86;89;120",
         ("CUDA 12.4 cannot make code for 120; it knows 50 60 70 75 80 86 89 90."
         " -> 120 needs CUDA 12.8 or newer; or leave it out")),
        ("12.8", "50 90 100 120", "120a-real;121a-real",
         ("CUDA 12.8 cannot make code for 121; it knows 50 90 100 120."
         " -> 121 needs CUDA 12.9 or newer")),
        ("13.0", "75 80 86 89 90 120", "50;61-virtual;120",
         ("CUDA 13.0 no longer makes code for 50 61; it knows 75 80 86 89 90 120."
         " -> an older toolkit for older GPUs (CUDA 12 is the last below 75)")),
        ("12.8", "50 90 120", "8.9", "what is no architecture: 8.9 -> whole numbers"),
        ("12.8", "50 90 120", "sm_90", "what is no architecture: sm_90 -> whole numbers"),
        ("12.8", "50 90 120", "90,120", "what is no architecture: 90,120 -> whole numbers"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["define", "CUDAARCHS"])
def test_architectures_that_the_toolkit_cannot_emit(
    tmp_path: Path, version: str, known: str, asked: str, message: str, way: str
) -> None:
    root = toolkit(tmp_path / "cuda", version, known)
    tools = gcc(gcc(tmp_path / "tools", "13.2.0"), "13.2.0", "c++")
    given = [f"-DCMAKE_CUDA_ARCHITECTURES={asked}"] if way == "define" else []
    text = refused(tmp_path, "-DGGML_CUDA=on", *given, path=tools,
                   env={"CUDA_PATH": str(root), **({} if given else {"CUDAARCHS": asked})})  # fmt: skip
    assert message in text


@pytest.mark.parametrize("asked", ["native", "all-major", "75;86-real;90-virtual", "90a;120a-real"])
def test_architectures_that_it_can_emit(tmp_path: Path, asked: str) -> None:
    root = toolkit(tmp_path / "cuda", "12.8", "75 86 90 120")
    tools = gcc(tmp_path / "tools", "13.2.0")
    passes(tmp_path, "-DGGML_CUDA=on", f"-DCMAKE_CUDA_ARCHITECTURES={asked}", path=tools,
                env={"CUDA_PATH": str(root)})  # fmt: skip


def test_a_host_compiler_too_new_for_cuda(tmp_path: Path) -> None:
    root = toolkit(tmp_path / "cuda")
    tools = gcc(gcc(tmp_path / "tools", "15.1.0"), "15.1.0", "c++")
    text = refused(tmp_path, "-DGGML_CUDA=on", path=tools, env={"CUDA_PATH": str(root)})
    assert "CUDA 12.4 does not take GNU 15.1.0 as its host compiler." in text
    assert "-> take g++ 13: -C cmake.define.CMAKE_CUDA_HOST_COMPILER=g++-13" in text
    # and the cure works
    gcc(tools, "13.2.0", "g++-13")
    passes(tmp_path, "-DGGML_CUDA=on", "-DCMAKE_CUDA_HOST_COMPILER=g++-13", path=tools,
                env={"CUDA_PATH": str(root)})  # fmt: skip


def test_no_host_compiler_for_nvcc(tmp_path: Path) -> None:
    root = toolkit(tmp_path / "cuda")
    tools = gcc(tmp_path / "tools", "17.0.0", "clang++")
    text = refused(tmp_path, "-DGGML_CUDA=on", path=tools, env={"CUDA_PATH": str(root)})
    assert "nvcc compiles its host code with gcc, which is not on PATH." in text


@pytest.mark.parametrize(
    ("kind", "release", "message"),
    [
        ("GNU", "13.4.0", None),
        ("GNU", "14.2.0", "take g++ 13"),
        ("Clang", "17.0.6", None),
        ("Clang", "18.1.0", "take clang 17"),
        ("MSVC", "19.44.35208.0", None),
        ("MSVC", "19.50.35719.0", "an MSVC from 19.10 to 19.49"),
        ("MSVC", "19.0.24215.1", "an MSVC from 19.10 to 19.49"),
        ("IntelLLVM", "2025.1.0", None),
    ],
)
def test_the_toolkits_own_header_decides(
    tmp_path: Path, kind: str, release: str, message: str | None
) -> None:
    call = f'llama_cpp_check_host_compiler({kind} {release} [==[{HOST_CONFIG}]==] 12.4 "")'
    done = script(tmp_path, call)
    if message is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        text = said(done.stderr)
        assert f"CUDA 12.4 does not take {kind} {release} as its host compiler. ->" in text
        assert message in text
        assert "at your own risk, -C cmake.define.CMAKE_CUDA_FLAGS=-allow-unsupported" in text


@pytest.mark.parametrize("way", ["define", "CUDAFLAGS", "NVCC_PREPEND_FLAGS"])
def test_an_unsupported_host_compiler_on_request(tmp_path: Path, way: str) -> None:
    root = toolkit(tmp_path / "cuda")
    tools = gcc(gcc(tmp_path / "tools", "15.1.0"), "15.1.0", "c++")
    flag = "-allow-unsupported-compiler"
    given = [f"-DCMAKE_CUDA_FLAGS={flag}"] if way == "define" else []
    done = configure(tmp_path, "-DGGML_CUDA=on", *given, path=tools,
                     env={"CUDA_PATH": str(root), **({} if given else {way: flag})})  # fmt: skip
    text = said(done.stderr)
    assert "CMake Warning at cmake/cuda.cmake" in text
    assert f"as its host compiler; {flag} was given, so it is tried." in text
    assert REACHED_PROJECT in text


def test_visual_studio_without_a_cuda_toolset(tmp_path: Path) -> None:
    studio = "Visual Studio 17 2022"
    text = said(script(tmp_path, f'llama_cpp_check_toolset("{studio}" "")').stderr)
    assert f'GGML_CUDA=ON with the generator "{studio}", which has no CUDA toolset' in text
    assert "-> build with Ninja, which needs neither: set CMAKE_GENERATOR=Ninja" in text
    for generator, toolset in ((studio, "12.8"), ("Ninja", "")):
        done = script(tmp_path, f'llama_cpp_check_toolset("{generator}" "{toolset}")')
        assert (done.returncode, done.stderr) == (0, "")


# ---- the source tree ---------------------------------------------------------------------------


def test_no_source_tree(tmp_path: Path) -> None:
    text = refused(tmp_path, f"-DLLAMA_CPP_SOURCE={tmp_path / 'none'}", "-DGGML_LTO=ON")
    assert f"There is no source tree of llama.cpp in {tmp_path / 'none'}." in text
    assert "-> there is no submodule to update: in a checkout run `nox -s vendor`;" in text
    assert "`-C cmake.define.LLAMA_CPP_FETCH=ON` (needs git and the network)" in text
    assert "`-C cmake.define.LLAMA_CPP_SOURCE=PATH`" in text


def test_every_error_ends_with_its_cure() -> None:
    files = [ROOT / "CMakeLists.txt", *sorted((ROOT / "cmake").glob("*.cmake"))]
    assert len(files) == 4
    calls = [
        call
        for file in files
        for call in re.findall(
            r"message\(FATAL_ERROR (.+?\"\))$", file.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
    ]
    assert len(calls) > 20
    # the names' problems are collected first, each with its cure
    assert [call for call in calls if "  -> " not in call] == ['"${problems}")']


def test_a_cpu_variant_that_ggml_does_not_have(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        "set(LLAMA_CPP_CPU_VARIANTS x64 haswel)\n"
        "set(libraries ggml ggml-cpu-x64 ggml-cpu-haswell llama)\n"
        "llama_cpp_choose_variants(libraries)\n",
    )
    assert done.returncode != 0
    assert (
        "LLAMA_CPP_CPU_VARIANTS names haswel, which ggml does not have for this compiler."
        " -> choose from: x64 haswell"
    ) in said(done.stderr)


def test_chosen_cpu_variants_are_all_that_is_left(tmp_path: Path) -> None:
    done = script(
        tmp_path,
        "set(LLAMA_CPP_CPU_VARIANTS x64 haswell)\n"
        "set(libraries ggml ggml-cpu-x64 ggml-cpu-haswell llama)\n"
        "llama_cpp_choose_variants(libraries)\n"
        'message(STATUS "${libraries}")\n',
    )
    assert done.stdout == "-- ggml;ggml-cpu-x64;ggml-cpu-haswell;llama\n"
