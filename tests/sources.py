"""What the tests of source builds build from: a checkout, finished libraries, tools, an environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from ci.compiler import choose_compiler
from ci.host import host_platform
from ci.project import requirements
from ci.table import load_table
from tests.wheels import write_wheel

ROOT = Path(__file__).resolve().parents[1]

# what would change a build or an installer behind a test's back
_OUTSIDE = ("CMAKE_", "CUDA", "SKBUILD_", "LLAMA_CPP_", "UV_", "PIP_NO_", "PIP_CACHE", "GGML_",
            "FORCE_CMAKE", "VIRTUAL_ENV", "CC", "CXX", "CFLAGS", "CXXFLAGS", "PYTHONPATH")  # fmt: skip


def copy_checkout(folder: Path) -> Path:
    """Copy what a clone of this repository has: no llama.cpp, no finished wheels."""
    ignored = shutil.ignore_patterns(
        "build", "dist", "site", "llama.cpp", "__pycache__", ".[a-z]*", "lib", "_build_info.json"
    )
    return Path(shutil.copytree(ROOT, folder, ignore=ignored))


def write_prebuilt(folder: Path, libraries: Path) -> Path:
    """Write what `cmake --install` of llama.cpp leaves: libraries behind symlinks, headers."""
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


def build_environment(folder: Path) -> dict[str, str]:
    """Return an environment with a C and C++ compiler, whatever the machine has."""
    compiler = choose_compiler("auto", host_platform(load_table()), folder / "compiler", {})
    outside = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    env = {
        **outside,
        **compiler.env,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_CACHE_DIR": str(folder / "pip cache"),
        "UV_CACHE_DIR": str(folder / "uv cache"),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",
    }
    if "CMAKE_C_COMPILER" in compiler.defines:
        env["CC"] = compiler.defines["CMAKE_C_COMPILER"]
        env["CXX"] = compiler.defines["CMAKE_CXX_COMPILER"]
    return env


def download_build_requirements(folder: Path) -> Path:
    """Download what a build in isolation installs, so that the builds themselves are offline.

    Beside it lie stand-ins of what the package requires: that is not what is under test here.
    """
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", str(folder),
         "scikit-build-core==1.1.2"],
        check=True,
    )  # fmt: skip
    for requirement in requirements():
        project = Requirement(requirement).name
        write_wheel(folder, project=project, version="99", platform="any")
    return folder


def empty_environment(folder: Path) -> Path:
    """Make a virtual environment with nothing in it; installers name it from outside."""
    venv.create(folder, with_pip=False)
    return folder


def recorded(place: Path) -> dict[str, str]:
    """Return the options that a wheel, an environment or a ``--target`` folder records."""
    if place.suffix == ".whl":
        with zipfile.ZipFile(place) as archive:
            text = archive.read("llama_cpp/_build_info.json").decode()
    else:
        (file,) = place.rglob("llama_cpp/_build_info.json")
        text = file.read_text(encoding="utf-8")
    defines = json.loads(text)["defines"]
    assert isinstance(defines, dict)
    return defines
