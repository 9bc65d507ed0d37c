"""Building from source the standard ways: sdist, a wrapped prebuilt llama.cpp, editable, errors.

The compile itself goes through the toolchain's compiler and its cache, as in `nox -s build`, so
that these tests do not need a compiler on the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from ci.compiler import CompilerCache, choose_compiler
from ci.host import host_platform
from ci.table import load_table
from ci.tarfiles import tarfile
from ci.vendor import commit_of, extract, load_pin
from tests.sources import (
    build_environment,
    copy_checkout,
    download_build_requirements,
    empty_environment,
    recorded,
    write_prebuilt,
)

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.build


def run(*args: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; what fails shows all of it."""
    done = subprocess.run(
        [str(arg) for arg in args],
        cwd=cwd,
        env={**os.environ, "LLAMA_CPP_LIB_PATH": "", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT,
        cwd=folder)  # fmt: skip
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as tar:
        extract(tar, folder)
    (tree,) = folder.iterdir()
    return tree


def compiler_defines(folder: Path, basedirs: tuple[Path, ...]) -> tuple[list[str], CompilerCache]:
    prefixes = {basedirs[0]: "llama.cpp", folder.parent / "build": "build"}
    compiler = choose_compiler("auto", host_platform(load_table()), folder, prefixes)
    cache = CompilerCache(basedirs=basedirs, compiler=compiler)
    defines = {**compiler.defines, **cache.defines}
    return [f"-Ccmake.define.{name}={value}" for name, value in defines.items()], cache


def test_the_sdist_holds_what_a_build_needs_and_nothing_more(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert "vendor/llama.cpp/src/llama.cpp" in names
    tops = {"/".join(name.split("/")[:3]) for name in names if name.startswith("vendor/llama.cpp/")}
    assert tops == {
        f"vendor/llama.cpp/{name}"
        for name in ("CMakeLists.txt", "LICENSE", "cmake", "ggml", "include", "src", "tools",
                     "vendor")
    }  # fmt: skip
    assert not [name for name in names if name.endswith((".so", ".gguf", ".pyc"))]
    assert not [name for name in names if "/.git/" in name or "/tests/" in name]
    assert sdist.stat().st_size < 8_000_000


def test_an_sdist_builds_offline(sdist: Path, tmp_path: Path) -> None:
    tree = unpacked(sdist, tmp_path / "tree")
    defines, cache = compiler_defines(
        tmp_path / "compiler",
        (tree / "vendor" / "llama.cpp", tree, tmp_path / "build", Path(sys.prefix)),
    )
    nowhere = "http://127.0.0.1:9"
    offline = {
        "PIP_INDEX_URL": nowhere, "http_proxy": nowhere, "https_proxy": nowhere, "PIP_NO_INDEX": "1"
    }  # fmt: skip
    with cache.serving():
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
            "--wheel-dir", tmp_path / "out", *defines, f"-Cbuild-dir={tmp_path / 'build'}", tree,
            cwd=tmp_path, env={**cache.env, **offline})  # fmt: skip
    (wheel,) = (tmp_path / "out").glob("*.whl")
    assert wheel.name == "llama_cpp_python-0.3.100-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = json.loads(archive.read("llama_cpp/_build_info.json"))
    assert len([name for name in names if name.endswith(".so")]) == 19
    assert (info["backend"], info["version"]) == ("source", "0.3.100")


def test_a_prebuilt_llama_cpp_is_wrapped(libraries: Path, tiny: Path, tmp_path: Path) -> None:
    folder = write_prebuilt(tmp_path / "pre built", libraries)
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    with cache.serving():
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
            "--wheel-dir", tmp_path / "out", *defines, f"-Cbuild-dir={tmp_path / 'build'}",
            f"-Ccmake.define.LLAMA_CPP_PREBUILT={folder}", ROOT,
            cwd=tmp_path, env=dict(cache.env))  # fmt: skip
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = [name for name in archive.namelist() if ".so" in name]
        assert len(shipped) == 19
        assert all(name.endswith(".so") for name in shipped)
        assert json.loads(archive.read("llama_cpp/_build_info.json"))["prebuilt"] is True
    venv.create(tmp_path / "env", with_pip=False)
    run(sys.executable, "-m", "pip", "--python", tmp_path / "env", "install", "--no-index", "--no-deps", wheel,
        cwd=tmp_path)  # fmt: skip
    text = run(tmp_path / "env/bin/python", "-I", "-c",
               "import llama_cpp; print(llama_cpp.Llama(r'" + str(tiny / "llama-f32.gguf") + "',"
               " n_threads=1, verbose=False).n_vocab() > 200)", cwd=tmp_path)  # fmt: skip
    assert text.strip() == "True"


def test_a_prebuilt_of_another_abi_is_refused(libraries: Path, tmp_path: Path) -> None:
    folder = write_prebuilt(tmp_path / "prebuilt", libraries)
    header = folder / "include" / "llama.h"
    text = header.read_text(encoding="utf-8")
    assert text.count("uint32_t n_ctx; ") == 1
    header.write_text(text.replace("uint32_t n_ctx; ", "uint64_t n_ctx; "), encoding="utf-8")
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    with cache.serving():
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", *defines,
             f"-Cbuild-dir={tmp_path / 'build'}", "--wheel-dir", str(tmp_path / "out"),
             f"-Ccmake.define.LLAMA_CPP_PREBUILT={folder}", str(ROOT)],
            env={**os.environ, **cache.env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "llama_context_params" in done.stdout + done.stderr
    assert "nox -s generate" in done.stdout + done.stderr


def test_cmake_names_the_cure(tmp_path: Path) -> None:
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    options = [each.replace("-Ccmake.define.", "-D") for each in defines if "LAUNCHER" not in each]
    for place, message in (
        ("/nowhere", "LLAMA_CPP_PREBUILT=/nowhere has no library ggml-base"),
        (__file__, f"LLAMA_CPP_PREBUILT={__file__} is a file. -> give the folder that has lib/"),
    ):
        done = subprocess.run(
            ["cmake", "-S", str(ROOT), "-B", str(tmp_path / "build"), "-G", "Ninja", *options,
             f"-DLLAMA_CPP_PREBUILT={place}"],
            env={**os.environ, **cache.env,
                 "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        text = " ".join(done.stderr.split())
        assert message in text
        assert " -> " in text


def test_an_editable_install_uses_the_checkout(libraries: Path, tiny: Path, tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    defines, cache = compiler_defines(tmp_path / "compiler", (checkout,))
    target = empty_environment(tmp_path / "env")
    with cache.serving():
        # without isolation the build backend must be in the environment
        run(sys.executable, "-m", "pip", "--python", target, "install", "-q",
            "scikit-build-core==1.1.2", "ninja==1.13.2", "cmake==4.4.4", cwd=tmp_path)  # fmt: skip
        run(sys.executable, "-m", "pip", "--python", target, "install", "--no-deps",
            "--no-build-isolation", "--no-index", *defines,
            f"-Ccmake.define.LLAMA_CPP_PREBUILT={write_prebuilt(tmp_path / 'pre', libraries)}",
            "-e", checkout, cwd=tmp_path, env=dict(cache.env))  # fmt: skip
    source = checkout / "llama_cpp" / "_version.py"
    source.write_text(source.read_text("utf-8") + '\nEDITED = "yes"\n', encoding="utf-8")
    printed = run(target / "bin/python", "-I", "-c",
                  "import llama_cpp, llama_cpp._version as v;"
                  f"m = llama_cpp.Llama(r'{tiny / 'llama-f32.gguf'}', n_threads=1, verbose=False);"
                  "print(v.EDITED, m.n_vocab() > 200, llama_cpp.build_info().prebuilt)",
                  cwd=tmp_path)  # fmt: skip
    assert printed.split() == ["yes", "True", "True"]


def test_cmake_fetches_the_pinned_commit_when_asked_to(tmp_path: Path) -> None:
    # what `pip install git+<url> -C cmake.define.LLAMA_CPP_FETCH=ON` does; git is told that the
    # repository is a folder here
    pin = load_pin()
    upstream = tmp_path / "upstream.git"
    run("git", "clone", "-q", "--bare", ROOT / "vendor" / "llama.cpp", upstream, cwd=tmp_path)
    run("git", "-C", upstream, "branch", "-f", "main", pin.commit, cwd=tmp_path)
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    options = [each.replace("-Ccmake.define.", "-D") for each in defines if "LAUNCHER" not in each]
    run("cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", *options,
        f"-DLLAMA_CPP_SOURCE={tmp_path / 'none'}", "-DLLAMA_CPP_FETCH=ON",
        cwd=tmp_path, env={
            **cache.env,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{upstream.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": pin.repository,
        })  # fmt: skip
    fetched = tmp_path / "build" / "_deps" / "llama_cpp_tree-src"
    assert commit_of(fetched) == pin.commit
    info = json.loads((tmp_path / "build" / "_build_info.json").read_text(encoding="utf-8"))
    assert info["llama_cpp_commit"] == pin.commit
    graph = (tmp_path / "build" / "build.ninja").read_text(encoding="utf-8")
    assert str(fetched / "src" / "llama.cpp") in graph


# ---- options, each way that a tool has for them ------------------------------------------------


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("clone") / "llama cpp python")


@pytest.fixture(scope="session")
def finished(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prebuilt(tmp_path_factory.mktemp("finished") / "pre built", libraries)


@pytest.fixture(scope="session")
def requirements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download_build_requirements(tmp_path_factory.mktemp("requirements"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return build_environment(tmp_path)


PIP = (sys.executable, "-m", "pip")
UV = (sys.executable, "-m", "uv")


def install(
    tool: str,
    what: Path | str,
    requirements: Path,
    tmp_path: Path,
    env: dict[str, str],
    *options: str,
) -> Path:
    """Install into an empty environment with pip or uv, in build isolation; return its folder."""
    target = empty_environment(tmp_path / "env")
    offline = ["--no-index", "--find-links", str(requirements)]
    command = (
        [*PIP, "--python", str(target), "install", *offline, *options]
        if tool == "pip"
        else [*UV, "pip", "install", "--python", str(target), *offline, *options]
    )
    done = subprocess.run([*command, str(what)], cwd=tmp_path, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return target


LIST = {"CMAKE_CUDA_ARCHITECTURES": "86;89;120"}


@pytest.mark.network
@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-Ccmake.define.GGML_LTO=on"], {"GGML_LTO": "on"}),
        (["-C", "cmake.define.GGML_LTO=on", "-C", "cmake.define.GGML_RPC=OFF"],
         {"GGML_LTO": "on", "GGML_RPC": "OFF"}),
        (["-Ccmake.args=-DGGML_LTO=ON"], {"GGML_LTO": "ON"}),
        (["-Ccmake.args=-DGGML_LTO=ON;-DGGML_RPC=OFF"], {"GGML_LTO": "ON", "GGML_RPC": "OFF"}),
        (["-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=86;89;120"], LIST),
    ],
    ids=["define", "defines", "args", "several args", "list"],
)  # fmt: skip
def test_config_settings(
    tool: str, options: list[str], expected: dict[str, str], checkout: Path, finished: Path,
    requirements: Path, environment: dict[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    prebuilt = f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}"
    target = install(tool, checkout, requirements, tmp_path, environment, prebuilt, *options)
    assert recorded(target).items() >= expected.items()


@pytest.mark.network
@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-DGGML_LTO=on -DGGML_RPC=OFF", {"GGML_LTO": "on", "GGML_RPC": "OFF"}),
        ("-G Ninja -DGGML_LTO:BOOL=on", {"GGML_LTO": "on"}),
        ('-DCMAKE_CUDA_ARCHITECTURES="86;89;120"', LIST),
        ("-DCMAKE_CUDA_ARCHITECTURES=86;89;120", LIST),
        ('"-DGGML_BLAS_VENDOR=All of \\"them\\""', {"GGML_BLAS_VENDOR": 'All of "them"'}),
    ],
    ids=["several", "generator", "list", "bare list", "quotes"],
)
def test_cmake_args(
    tool: str, text: str, expected: dict[str, str], checkout: Path, finished: Path,
    requirements: Path, environment: dict[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    # the folder's name has a space in it: a quoted path arrives whole
    assert " " in str(finished)
    environment["CMAKE_ARGS"] = f'-DLLAMA_CPP_PREBUILT="{finished}" {text}'
    target = install(tool, checkout, requirements, tmp_path, environment)
    assert recorded(target).items() >= expected.items()


@pytest.mark.network
def test_force_cmake_is_harmless(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    # as the guides have it, with the option in the environment, too
    environment |= {"FORCE_CMAKE": "1", "GGML_LTO": "1",
                    "CMAKE_ARGS": f"-DGGML_LTO=on '-DLLAMA_CPP_PREBUILT={finished}'"}  # fmt: skip
    target = install("pip", checkout, requirements, tmp_path, environment)
    assert recorded(target)["GGML_LTO"] == "on"


@pytest.mark.network
def test_what_is_given_last_holds(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["CMAKE_ARGS"] = f"-DGGML_LTO=on '-DLLAMA_CPP_PREBUILT={finished}'"
    target = install("pip", checkout, requirements, tmp_path, environment,
                     "-Ccmake.define.GGML_LTO=off", "-Ccmake.define.GGML_RPC=off")  # fmt: skip
    # the environment comes after -C
    assert recorded(target).items() >= {"GGML_LTO": "on", "GGML_RPC": "off"}.items()


UV_PROJECT = """
[project]
name = "app"
version = "1"
requires-python = ">=3.11"
dependencies = ["llama-cpp-python"]

[tool.uv]
no-index = true
find-links = ["{requirements}"]

[tool.uv.sources]
llama-cpp-python = {{ path = "{checkout}" }}
"""
CONFIG_SETTINGS_PACKAGE = """
[tool.uv.config-settings-package]
llama-cpp-python = {{ "cmake.define.GGML_LTO" = "on", "cmake.define.LLAMA_CPP_PREBUILT" = "{finished}" }}
"""
EXTRA_BUILD_VARIABLES = """
[tool.uv.extra-build-variables]
llama-cpp-python = {{ CMAKE_ARGS = "-DGGML_LTO=on '-DLLAMA_CPP_PREBUILT={finished}'" }}
"""


@pytest.mark.network
@pytest.mark.parametrize("table", [CONFIG_SETTINGS_PACKAGE, EXTRA_BUILD_VARIABLES],
                         ids=["config-settings-package", "extra-build-variables"])  # fmt: skip
def test_uv_project(
    table: str, checkout: Path, finished: Path, requirements: Path, environment: dict[str, str],
    tmp_path: Path,
) -> None:  # fmt: skip
    project = tmp_path / "app"
    project.mkdir()
    text = (UV_PROJECT + table).format(
        checkout=checkout, finished=finished, requirements=requirements
    )
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    run(*UV, "sync", cwd=project, env=environment)
    assert recorded(project / ".venv")["GGML_LTO"] == "on"
    # another option, and uv builds again
    changed = text.replace('LTO" = "on"', 'LTO" = "off"').replace("LTO=on", "LTO=off")
    assert changed != text
    (project / "pyproject.toml").write_text(changed, encoding="utf-8")
    run(*UV, "sync", cwd=project, env=environment)
    assert recorded(project / ".venv")["GGML_LTO"] == "off"


@pytest.mark.network
def test_pip_brings_the_build_backend(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    setting = f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}"
    target = install("pip", checkout, requirements, tmp_path, environment, setting)
    assert recorded(target)["GGML_NATIVE"] == "OFF"
    assert not list(target.rglob("scikit_build_core"))


def test_without_isolation_the_build_backend_must_be_there(
    checkout: Path, finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    setting = f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}"
    command = ["install", "--no-build-isolation", "--no-index", setting, str(checkout)]
    done = subprocess.run([*PIP, "--python", str(empty_environment(tmp_path / "env")), *command],
                          env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "Cannot import build backend 'scikit_build_core.build'" in done.stdout + done.stderr


def test_without_isolation(
    checkout: Path, finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    # also what `--target` does when the folder is not empty
    setting = f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}"
    command = [*PIP, "install", "--no-build-isolation", "--no-index", "--no-deps", setting,
               "--target", str(tmp_path / "portable python"), str(checkout)]  # fmt: skip
    run(*command, "-Ccmake.define.GGML_LTO=on", cwd=tmp_path, env=environment)
    assert recorded(tmp_path / "portable python")["GGML_LTO"] == "on"
    done = subprocess.run([*command, "-Ccmake.define.GGML_LTO=off"], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "already exists. Specify --upgrade to force replacement." in done.stdout + done.stderr
    assert recorded(tmp_path / "portable python")["GGML_LTO"] == "on"
    run(*command, "-Ccmake.define.GGML_LTO=off", "--upgrade", cwd=tmp_path, env=environment)
    assert recorded(tmp_path / "portable python")["GGML_LTO"] == "off"


@pytest.mark.network
def test_another_temporary_folder(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    environment |= {"TMPDIR": str(elsewhere), "TEMP": str(elsewhere), "TMP": str(elsewhere)}
    command = [*PIP, "--python", str(empty_environment(tmp_path / "env")), "install", "-v",
               "--no-index", "--find-links", str(requirements),
               f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}", str(checkout)]  # fmt: skip
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=True)  # fmt: skip
    assert f"Build files have been written to: {elsewhere}/" in done.stdout


@pytest.mark.network
def test_no_python_library_is_looked_for(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [*PIP, "--python", str(empty_environment(tmp_path / "env")), "install", "-v",
               "--no-index", "--find-links", str(requirements),
               f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}", str(checkout)]  # fmt: skip
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=True)  # fmt: skip
    assert "Build files have been written to" in done.stdout
    assert "Can't find a Python library" not in done.stdout


@pytest.mark.network
def test_pip_no_binary(
    sdist: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["CMAKE_ARGS"] = f"-DGGML_LTO=on '-DLLAMA_CPP_PREBUILT={finished}'"
    target = install("pip", "llama-cpp-python", requirements, tmp_path, environment,
                     "--find-links", str(sdist.parent), "--no-binary", "llama-cpp-python",
                     "--force-reinstall", "--verbose")  # fmt: skip
    assert recorded(target)["GGML_LTO"] == "on"


@pytest.mark.network
def test_pip_wheel_saves_the_build(
    checkout: Path, finished: Path, requirements: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["LLAMA_CPP_VERSION_LABEL"] = "mine"
    target = empty_environment(tmp_path / "env")
    run(*PIP, "--python", target, "wheel", "--no-cache-dir", "--no-index", "--find-links", requirements,
        "-w", tmp_path / "wheels", f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}",
        "-Ccmake.define.GGML_LTO=on", checkout, cwd=tmp_path, env=environment)  # fmt: skip
    (wheel,) = (tmp_path / "wheels").glob("llama_cpp_python-*")
    assert wheel.name == "llama_cpp_python-0.3.100+mine-py3-none-linux_x86_64.whl"
    assert recorded(wheel)["GGML_LTO"] == "on"


def test_a_kept_build_folder_records_new_options(
    checkout: Path, finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for number, (option, expected) in enumerate(
        [("GGML_LTO=on", {"GGML_LTO": "on"}),
         ("GGML_RPC=off", {"GGML_LTO": "on", "GGML_RPC": "off"}),
         ("GGML_LTO=off", {"GGML_LTO": "off", "GGML_RPC": "off"})]
    ):  # fmt: skip
        out = tmp_path / str(number)
        run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", out,
            f"-Cbuild-dir={tmp_path / 'build'}", f"-Ccmake.define.LLAMA_CPP_PREBUILT={finished}",
            f"-Ccmake.define.{option}", checkout, cwd=tmp_path, env=environment)  # fmt: skip
        (wheel,) = out.iterdir()
        assert recorded(wheel).items() >= expected.items()
