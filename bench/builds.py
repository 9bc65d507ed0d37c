"""What the wheel is measured against: llama.cpp of the same commit, compiled here with g++."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ninja
from filelock import FileLock

from ci import paths
from ci.errors import BuildError, ToolMissingError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.vendor import Tree

_TARGETS = ("llama",)

# what has no influence on the speed of libllama and ggml, but on the time to compile
_LEAVE_OUT = {
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_COMMON": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_MTMD": "OFF",
    "LLAMA_BUILD_SERVER": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_TOOLS": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One build of llama.cpp: CMake definitions on top of llama.cpp's own defaults."""

    name: str
    title: str
    defines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Build:
    """A finished build: the folder of its shared libraries."""

    recipe: Recipe
    folder: Path
    compiler: str


NATIVE = Recipe(name="native", title="g++ -march=native", defines={"GGML_NATIVE": "ON"})
BASELINE = Recipe(
    name="avx2", title="g++, GGML_NATIVE=OFF alone (AVX2)", defines={"GGML_NATIVE": "OFF"}
)


def gnu_compiler() -> str:
    """Return g++'s version line.

    Raises:
        ToolMissingError: there is no g++.
    """
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        raise ToolMissingError(
            "the comparison needs gcc and g++, and they are not on this machine",
            cure="install them (Debian: apt install g++); the wheel itself needs neither",
        )
    return run(["g++", "--version"]).splitlines()[0]


def build_key(recipe: Recipe, *, commit: str, compiler: str, cpu: str) -> str:
    """Return the name of a build's folder: the same only for what compiles to the same.

    Args:
        recipe: its definitions count, not its name.
        commit: llama.cpp's.
        compiler: the version line.
        cpu: the CPU's name, which decides what ``-march=native`` is.
    """
    facts = {
        "commit": commit,
        "compiler": compiler,
        "cpu": cpu if recipe.defines.get("GGML_NATIVE") == "ON" else "",
        "defines": dict(recipe.defines),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def build(recipe: Recipe, tree: Tree, *, cpu: str, jobs: int, progress: Progress) -> Build:
    """Compile llama.cpp, or return what an earlier run has compiled.

    An interrupted build goes on where it stopped.

    Raises:
        ToolMissingError: there is no g++.
        BuildError: it does not compile.
    """
    compiler = gnu_compiler()
    key = build_key(recipe, commit=tree.commit or str(tree.path), compiler=compiler, cpu=cpu)
    folder = paths.cache_folder() / "bench" / key
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "finished"
    with FileLock(folder / "lock"):
        if not finished.is_file():
            progress.step(f"compiling {recipe.title} with {compiler}")
            _compile(recipe, tree, folder, jobs=jobs, progress=progress)
            finished.write_text(f"{recipe.title}\n", encoding="utf-8")
    return Build(recipe=recipe, folder=folder / "bin", compiler=compiler)


def _compile(recipe: Recipe, tree: Tree, folder: Path, *, jobs: int, progress: Progress) -> None:
    maker = Path(ninja.BIN_DIR) / ("ninja.exe" if os.name == "nt" else "ninja")
    defines = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_COMPILER": "gcc",
        "CMAKE_CXX_COMPILER": "g++",
        "CMAKE_MAKE_PROGRAM": str(maker),
        "BUILD_SHARED_LIBS": "ON",
        # the wheel's cache of objects would not know this compiler
        "GGML_CCACHE": "OFF",
        **_LEAVE_OUT,
        **recipe.defines,
    }
    cmake = [sys.executable, "-m", "cmake"]
    # each of these would change what is compiled behind the recipe's back
    env = dict.fromkeys(("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "LDFLAGS", "SOURCE_DATE_EPOCH"), "")
    env["NINJA_STATUS"] = "[%f/%t] "
    try:
        configure: list[str | Path] = [*cmake, "-G", "Ninja", "-S", tree.path, "-B", folder]
        run([*configure, *(f"-D{name}={value}" for name, value in defines.items())], env=env)
        with progress.compiling(recipe.name) as show:
            run(
                [*cmake, "--build", folder, "--parallel", str(jobs), "--target", *_TARGETS],
                env=env,
                on_line=show,
            )
    except ProcessError as error:
        raise BuildError(
            f"llama.cpp ({recipe.title}) was not built: {error.what}",
            cure=f"read its last lines above; delete {folder} to begin anew",
        ) from error
