"""ROCm: a folder that is looked over, programs made to run anywhere, what modules show and need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import lief
import pytest

from ci import paths, rocm
from ci.architectures import choose_architectures
from ci.compiler import Compiler
from ci.errors import ToolMissingError, UsageError
from ci.library import read_library
from ci.table import load_table
from ci.toolkit import Toolkit

TARGET = load_table().target("rocm6x", "manylinux_x86_64")
CLANG = "#!/bin/sh\necho 'AMD clang version 19.0.0git (https://github.com/RadeonOpenCompute/llvm-project)'\n"
HEADER = "#define HIP_VERSION_MAJOR 6\n#define HIP_VERSION_MINOR {minor}\n#define HIP_VERSION_PATCH 43484\n"
linux_x86_64 = pytest.mark.skipif(
    sys.platform != "linux" or not Path("/lib64/ld-linux-x86-64.so.2").exists(),
    reason="the pinned ROCm is for Linux on x86-64",
)


def write_rocm(folder: Path, *, minor: int = 4, debian: bool = False) -> Path:
    """Write the parts of a ROCm that are looked for, in AMD's layout or in that of packages."""
    root, llvm, libraries = folder, "llvm", "lib"
    bitcode = "amdgcn/bitcode"
    if debian:
        root, llvm, libraries = folder / "usr", "lib/llvm-21", "lib/x86_64-linux-gnu"
        bitcode = f"{llvm}/lib/clang/21/amdgcn/bitcode"
    files = {
        f"{llvm}/bin/clang++": CLANG,
        f"{bitcode}/ocml.bc": "",
        **{f"{bitcode}/oclc_isa_version_{name}.bc": "" for name in ("908", "90a", "1030", "1100")},
        "include/hip/hip_version.h": HEADER.format(minor=minor),
        f"{libraries}/libamdhip64.so": "",
        f"{libraries}/libhipblas.so": "",
        **{
            f"{libraries}/cmake/{name}/{name}-config.cmake": ""
            for name in ("hip", "hip-lang", "hipblas", "rocblas")
        },
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / llvm / "bin" / "clang++").chmod(0o755)
    return folder


def look_over(folder: Path, compiler: Compiler | None = None) -> Toolkit:
    return rocm.look_over(folder, TARGET, "--toolkit", compiler=compiler)


def test_an_installed_rocm_is_used(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path / "rocm")
    toolkit = look_over(folder)
    assert toolkit.label(TARGET) == "ROCm 6.4.43484"
    assert toolkit.defines == {
        "CMAKE_HIP_COMPILER": f"{folder}/llvm/bin/clang++",
        "CMAKE_HIP_COMPILER_ROCM_ROOT": str(folder),
        "CMAKE_HIP_PLATFORM": "amd",
        "HIP_PLATFORM": "amd",
        "CMAKE_HIP_VISIBILITY_PRESET": "hidden",
        "CMAKE_PREFIX_PATH": str(folder),
    }
    assert toolkit.env == {
        "ROCM_PATH": str(folder),
        "HIPFLAGS": "-fuse-ld=lld -static-libgcc -static-libstdc++ -Qunused-arguments"
        f" --rocm-path={folder} --rocm-device-lib-path={folder}/amdgcn/bitcode -L{folder}/lib"
        f" -fuse-cuid=none --offload-compress -ffile-prefix-map={folder}=toolkit",
        "COMPRESSED_BUNDLE_FORMAT_VERSION": "2",
    }
    assert toolkit.compiler is not None
    assert toolkit.compiler.name == "clang 19.0.0"
    assert toolkit.compiler.defines["CMAKE_CXX_COMPILER"] == f"{folder}/llvm/bin/clang++"


def test_unpacked_packages_are_compiled_with_the_pinned_libraries(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path / "with spaces", debian=True)
    gcc = Compiler(name="gcc 10, glibc 2.31", defines={"CMAKE_CXX_COMPILER": "/old/bin/g++"})
    toolkit = look_over(folder, gcc)
    root = f"{folder}/usr"
    assert toolkit.defines["CMAKE_HIP_COMPILER"] == f"{root}/lib/llvm-21/bin/clang++"
    bitcode = f"{root}/lib/llvm-21/lib/clang/21/amdgcn/bitcode"
    flags = toolkit.env["HIPFLAGS"]
    assert f'"--rocm-device-lib-path={bitcode}"' in flags
    assert f'"-L{root}/lib/x86_64-linux-gnu"' in flags
    assert f"--sysroot=/old -include {paths.ROOT}/cmake/glibc.h " in flags
    assert toolkit.compiler is not None
    assert toolkit.compiler.name == "clang 19.0.0, gcc 10, glibc 2.31"
    assert " --sysroot=/old " in toolkit.compiler.defines["CMAKE_CXX_FLAGS"]


def test_the_version_is_that_of_rocm_where_it_is_stated(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path / "rocm")
    (folder / ".info").mkdir()
    (folder / ".info" / "version").write_text("6.4.3-128\n", encoding="utf-8")
    assert look_over(folder).version == "6.4.3"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        look_over(tmp_path / "no")
    assert str(caught.value) == (
        f"--toolkit: there is no folder {tmp_path / 'no'}\n  -> check the path"
    )


def test_a_folder_that_is_no_rocm_lists_what_one_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        look_over(tmp_path)
    assert str(caught.value) == (
        f"--toolkit: {tmp_path} is not a whole ROCm, it lacks the compiler (llvm/bin/clang++), the"
        " device libraries (amdgcn/bitcode), HIP's headers (include/hip/hip_version.h), HIP's"
        " runtime (libamdhip64.so), hipBLAS (libhipblas.so), CMake's hip"
        " (lib/cmake/hip/hip-config.cmake), CMake's hip-lang"
        " (lib/cmake/hip-lang/hip-lang-config.cmake), CMake's hipblas"
        " (lib/cmake/hipblas/hipblas-config.cmake), CMake's rocblas"
        " (lib/cmake/rocblas/rocblas-config.cmake)\n"
        "  -> give the folder of a complete ROCm with its development files (/opt/rocm after `apt"
        " install rocm-hip-sdk`), or leave --toolkit and ROCM_PATH away: the pinned one is brought"
    )


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("llvm/bin/clang++", "the compiler (llvm/bin/clang++)"),
        ("amdgcn/bitcode/ocml.bc", "the device libraries (amdgcn/bitcode)"),
        ("include/hip/hip_version.h", "HIP's headers (include/hip/hip_version.h)"),
        ("lib/libamdhip64.so", "HIP's runtime (libamdhip64.so)"),
        ("lib/libhipblas.so", "hipBLAS (libhipblas.so)"),
        (
            "lib/cmake/rocblas/rocblas-config.cmake",
            "CMake's rocblas (lib/cmake/rocblas/rocblas-config.cmake)",
        ),
    ],
    ids=["compiler", "device libraries", "headers", "runtime", "hipBLAS", "rocBLAS"],
)
def test_an_incomplete_rocm_is_named(tmp_path: Path, missing: str, part: str) -> None:
    folder = write_rocm(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(UsageError) as caught:
        look_over(folder)
    assert caught.value.what == f"--toolkit: {folder} is not a whole ROCm, it lacks {part}"


def test_a_rocm_of_another_version(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path, minor=1)
    with pytest.raises(UsageError) as caught:
        look_over(folder)
    assert str(caught.value) == (
        f"--toolkit: {folder} is ROCm 6.1.43484; rocm6x is built with ROCm 6.4\n"
        "  -> name a ROCm 6.4, or leave --toolkit and ROCM_PATH away: the pinned one is brought"
    )


def test_headers_that_say_no_version(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path)
    header = folder / "include/hip/hip_version.h"
    header.write_text("#define HIP_VERSION_MAJOR 6\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        look_over(folder)
    assert str(caught.value) == f"{header} says no version\n  -> give a complete ROCm"


def test_a_compiler_that_does_not_run(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path)
    clang = folder / "llvm/bin/clang++"
    clang.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    with pytest.raises(ToolMissingError) as caught:
        look_over(folder)
    assert str(caught.value) == (
        f"--toolkit: {clang} does not run: {clang} --version ended with exit code 1\n"
        "  -> give a ROCm for this machine's processor and system, or leave --toolkit away; where"
        " it is the pinned one, delete toolkits/ in the cache folder"
    )


def test_architectures_are_those_that_the_toolkit_knows(tmp_path: Path) -> None:
    toolkit = look_over(write_rocm(tmp_path))
    assert choose_architectures(TARGET, toolkit, ("gfx1100", "gfx90a")) == ("gfx1100", "gfx90a")
    with pytest.raises(UsageError) as caught:
        choose_architectures(TARGET, toolkit, ("gfx1100", "gfx1250", "gfx1300"))
    assert str(caught.value) == (
        "ROCm 6.4.43484 makes no code for gfx1250, gfx1300; it knows gfx908, gfx90a, gfx1030,"
        " gfx1100\n  -> leave it out, or take a newer backend; `rocminfo` names your GPU's"
    )


@pytest.mark.parametrize("name", ["rocm6x", "rocm7x"])
def test_a_module_needs_the_runtime_of_its_own_major_version(name: str) -> None:
    target = load_table().target(name, "manylinux_x86_64")
    # HIP's soname has ROCm's major version, hipBLAS's has not
    wanted = {"rocm6x": ["libamdhip64.so.6", "libhipblas.so.2"]}
    wanted["rocm7x"] = ["libamdhip64.so.7", "libhipblas.so.3"]
    assert target.runtime.externals == wanted[name]
    assert target.runtime.run_paths == []
    assert target.requirements == ()


@linux_x86_64
def test_rocblas_is_an_empty_library_for_the_linker(tmp_path: Path) -> None:
    folder = write_rocm(tmp_path, debian=True)
    libraries = folder / "usr/lib/x86_64-linux-gnu"
    (libraries / "cmake/rocblas/rocblas-targets-release.cmake").write_text(
        '  IMPORTED_LOCATION_RELEASE "${_IMPORT_PREFIX}/lib/x86_64-linux-gnu/librocblas.so.4.4"\n'
        'list(APPEND files "${_IMPORT_PREFIX}/lib/x86_64-linux-gnu/librocblas.so.4.4" )\n',
        encoding="utf-8",
    )
    rocm.arrange(folder)
    stand_in = libraries / "librocblas.so.4.4"
    subprocess.run(
        ["cc", "-shared", "-o", "module.so", "-x", "none", str(stand_in)], cwd=tmp_path, check=True
    )
    library = read_library((tmp_path / "module.so").read_bytes())
    assert library is not None
    assert library.needed == ()


@linux_x86_64
def test_programs_run_with_their_own_loader_wherever_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "rocm 1"
    libraries = folder / "usr/lib/x86_64-linux-gnu"
    programs = folder / "usr/lib/llvm-21/bin"
    libraries.mkdir(parents=True)
    programs.mkdir(parents=True)
    shutil.copy2("/lib64/ld-linux-x86-64.so.2", libraries)
    # clang needs libLLVM, and that a library that the system does not have
    compile_c(tmp_path, "int of_its_own(void) { return 7; }", "-shared", libraries / "libown.so.1")
    compile_c(
        tmp_path,
        "int of_its_own(void); int answer(void) { return of_its_own(); }",
        *("-shared", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib"),
        *(libraries / "libLLVM.so.21.1", f"-L{libraries}", "-l:libown.so.1"),
    )
    for name in ("clang", "lld", "clang-offload-bundler"):
        compile_c(
            tmp_path,
            "int answer(void); int main(void) { return answer(); }",
            *(programs / name, f"-L{libraries}", "-l:libLLVM.so.21.1", "-l:libown.so.1"),
        )
    (programs / "clang++").symlink_to("clang")

    rocm.arrange(folder)
    rocm.make_runnable(folder)

    for name in ("clang", "clang++", "lld", "clang-offload-bundler"):
        assert subprocess.run([programs / name], check=False).returncode == 7
    moved = folder.rename(tmp_path / "rocm 2")
    clang = moved / "usr/lib/llvm-21/bin/clang"
    with pytest.raises(FileNotFoundError):
        subprocess.run([clang], check=False)
    rocm.make_runnable(moved)
    assert subprocess.run([clang], check=False).returncode == 7


@linux_x86_64
def test_the_newest_mathematics_of_an_old_glibc_are_not_needed(tmp_path: Path) -> None:
    text = (
        "#include <math.h>\n"
        "double f(double x, float y) { return exp(x) + exp2(x) + log(x) + log2(x) + pow(x, x)"
        " + expf(y) + exp2f(y) + logf(y) + log2f(y) + powf(y, y); }"
    )
    options = ("-shared", "-fPIC", "-O2")
    for flags, wanted in (((), (2, 29)), (("-include", paths.ROOT / "cmake/glibc.h"), (2, 2))):
        compile_c(tmp_path, text, *options, *flags, tmp_path / "f.so", "-lm")
        library = read_library((tmp_path / "f.so").read_bytes())
        assert library is not None
        assert library.glibc == wanted


@linux_x86_64
def test_a_module_shows_what_ggml_asks_for_and_nothing_of_its_runtime(tmp_path: Path) -> None:
    source = tmp_path / "module.cpp"
    source.write_text(
        "#include <string>\n#include <vector>\n"
        '#define SHOWN extern "C" __attribute__((visibility("default")))\n'
        "SHOWN int ggml_backend_init() {"
        " std::vector<std::string> v; v.emplace_back(std::to_string(7.5)); return v.size(); }\n"
        "SHOWN int other() { return 0; }\n",
        encoding="utf-8",
    )
    module = tmp_path / "module.so"
    subprocess.run(
        [
            *("c++", "-O0", "-fPIC", "-shared", "-fvisibility=hidden"),
            *("-static-libstdc++", "-static-libgcc"),
            *(f"-Wl,--version-script={paths.ROOT}/cmake/module.map", "-o", module, source),
        ],
        check=True,
    )
    binary = lief.ELF.parse(module)
    assert binary is not None
    assert {symbol.name for symbol in binary.exported_symbols} == {"ggml_backend_init"}


def compile_c(folder: Path, text: str, *arguments: str | Path) -> None:
    """Compile text; the first argument that is a path below ``folder`` is what is written."""
    source = folder / "source.c"
    source.write_text(text, encoding="utf-8")
    out = next(each for each in arguments if isinstance(each, Path) and each.is_relative_to(folder))
    others = list(arguments)
    others[others.index(out)] = source
    subprocess.run(["cc", "-fPIC", "-o", out, *others], check=True)
