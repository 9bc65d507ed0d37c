"""Building from source the standard ways: sdist, a wrapped prebuilt llama.cpp, editable, errors.

The compile itself goes through the toolchain's compiler and its cache, as in `nox -s build`, so
that these tests do not need a compiler on the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from ci.compiler import CompilerCache, choose_compiler
from ci.host import host_platform
from ci.table import load_table
from ci.vendor import commit_of, extract, load_pin

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


def prebuilt(folder: Path, libraries: Path) -> Path:
    """What `cmake --install` of llama.cpp leaves: versioned libraries behind symlinks, headers."""
    (folder / "lib").mkdir(parents=True)
    for library in libraries.glob("*.so"):
        real = folder / "lib" / f"{library.name}.0"
        shutil.copy(library, real)
        (folder / "lib" / library.name).symlink_to(real.name)
    include = folder / "include"
    include.mkdir()
    tree = ROOT / "vendor" / "llama.cpp"
    for pattern in ("include/*.h", "ggml/include/*.h", "tools/mtmd/mtmd*.h"):
        for header in tree.glob(pattern):
            shutil.copy(header, include)
    return folder


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
    assert len([name for name in names if name.endswith(".so")]) == 18
    assert (info["backend"], info["version"]) == ("source", "0.3.100")


def test_a_prebuilt_llama_cpp_is_wrapped(libraries: Path, tiny: Path, tmp_path: Path) -> None:
    folder = prebuilt(tmp_path / "pre built", libraries)
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    with cache.serving():
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
            "--wheel-dir", tmp_path / "out", *defines, f"-Cbuild-dir={tmp_path / 'build'}",
            f"-Ccmake.define.LLAMA_CPP_PREBUILT={folder}", ROOT,
            cwd=tmp_path, env=dict(cache.env))  # fmt: skip
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = [name for name in archive.namelist() if ".so" in name]
        assert len(shipped) == 18
        assert all(name.endswith(".so") for name in shipped)
        assert json.loads(archive.read("llama_cpp/_build_info.json"))["prebuilt"] is True
    venv.create(tmp_path / "env", with_pip=False)
    run(sys.executable, "-m", "pip", "--python", tmp_path / "env", "install", "--no-index", wheel,
        cwd=tmp_path)  # fmt: skip
    text = run(tmp_path / "env/bin/python", "-I", "-c",
               "import llama_cpp; print(llama_cpp.Llama(r'" + str(tiny / "llama-f32.gguf") + "',"
               " n_threads=1, verbose=False).n_vocab() > 200)", cwd=tmp_path)  # fmt: skip
    assert text.strip() == "True"


def test_a_prebuilt_of_another_abi_is_refused(libraries: Path, tmp_path: Path) -> None:
    folder = prebuilt(tmp_path / "prebuilt", libraries)
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


@pytest.mark.parametrize(
    ("define", "message"),
    [
        ("LLAMA_CPP_SOURCE=/nowhere", "There is no source tree of llama.cpp in /nowhere"),
        ("LLAMA_CPP_PREBUILT=/nowhere", "LLAMA_CPP_PREBUILT=/nowhere has no library ggml-base"),
    ],
)
def test_cmake_names_the_cure(tmp_path: Path, define: str, message: str) -> None:
    defines, cache = compiler_defines(tmp_path / "compiler", (ROOT,))
    options = [each.replace("-Ccmake.define.", "-D") for each in defines if "LAUNCHER" not in each]
    done = subprocess.run(
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path / "build"), "-G", "Ninja", *options,
         f"-D{define}"],
        env={**os.environ, **cache.env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert message in text
    assert " -> " in text


def test_an_editable_install_uses_the_checkout(libraries: Path, tiny: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("build", "dist", ".nox", ".venv", ".git", "llama.cpp", "site")
    shutil.copytree(ROOT, checkout, ignore=ignored)
    defines, cache = compiler_defines(tmp_path / "compiler", (checkout,))
    target = tmp_path / "env"
    venv.create(target, with_pip=False, system_site_packages=False)
    with cache.serving():
        # without isolation the build backend must be in the environment
        run(sys.executable, "-m", "pip", "--python", target, "install", "-q",
            "scikit-build-core==1.1.2", "ninja==1.13.2", "cmake==4.4.4", cwd=tmp_path)  # fmt: skip
        run(sys.executable, "-m", "pip", "--python", target, "install", "--no-deps",
            "--no-build-isolation", "--no-index", *defines,
            f"-Ccmake.define.LLAMA_CPP_PREBUILT={prebuilt(tmp_path / 'pre', libraries)}",
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
