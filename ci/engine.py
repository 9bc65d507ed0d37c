"""Engines: what compiles a wheel whole, on this machine or through cibuildwheel in a container."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ci import paths, zig
from ci.compiler import CacheStats, Choice, Compiler, CompilerCache, choose_compiler
from ci.deployment_target import deployment_target
from ci.errors import (
    BuildError,
    ToolchainError,
    ToolMissingError,
    UsageError,
    disk_error,
)
from ci.host import container_engine, installs_here
from ci.interpreters import Interpreter
from ci.msvc import require_short_paths
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.record import Compilation, Stopwatch
from ci.registry import Reference
from ci.table import Target
from ci.vendor import Pin, Tree

Engine: TypeAlias = Literal["auto", "host", "cibuildwheel"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build: the engine, the compiler, the tree, what to prove it on, and more defines.

    ``toolkit`` is the folder of an installed one, ``toolkit_image`` the container image (and then
    ``toolkit`` the folder there) that it is taken out of; without them the pinned one is brought. With
    ``compatible_toolkit`` one of the same major version will do, with ``clang`` the pinned one that
    clang compiles with. ``architectures`` are GPUs of one's own in place of the table's. ``runtime``:
    see :func:`ci.smoke.smoke`.
    """

    engine: Engine = "auto"
    compiler: Choice = "auto"
    tree: Tree
    interpreters: list[Interpreter]
    defines: dict[str, str] = field(default_factory=dict)
    out: Path = paths.DIST
    toolkit: Path | None = None
    toolkit_image: Reference | None = None
    compatible_toolkit: bool = False
    clang: bool = False
    architectures: tuple[str, ...] | None = None
    runtime: bool = False


@dataclass(frozen=True, kw_only=True)
class Built:
    """A wheel as it leaves a build engine, before repair."""

    wheel: Path
    engine: str
    seconds: float
    cache: CacheStats | None
    compilation: Compilation


def build(target: Target, options: Options, progress: Progress, *, pin: Pin) -> Built:
    """Run the build engine and return the wheel that it made.

    Raises:
        BuildError: CMake or the compiler failed; its last lines are in the message.
    """
    out = paths.BUILD / target.name / "built"
    shutil.rmtree(out, ignore_errors=True)
    watch = Stopwatch()
    engine = options.engine
    if engine == "auto":
        engine = "cibuildwheel" if _container_runs(target) else "host"
    if engine == "host":
        cache = _build_on_host(target, options, progress, out, pin=pin)
    else:
        cache = None
        _build_with_cibuildwheel(target, options, progress, out, pin=pin)
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildError(
            f"the build made {len(wheels)} wheels in {out}", cure="delete build/ and try again"
        )
    return Built(
        wheel=wheels[0],
        engine=engine,
        seconds=watch.seconds,
        cache=cache,
        compilation=watch.compilation(engine, cache),
    )


def build_env(compiler: Compiler, cache: CompilerCache) -> dict[str, str]:
    """Return the environment of a build: the compiler's, and nothing of this machine's own."""
    return {
        **compiler.env,
        **cache.env,
        # all of these would change what is compiled behind the table's back
        **dict.fromkeys(("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "LDFLAGS", "SKBUILD_CMAKE_ARGS"), ""),
        "NINJA_STATUS": "[%f/%t] ",
        "PYTHONUNBUFFERED": "1",
    }


def fresh_folder(target: Target) -> Path:
    """Return the empty folder that CMake works in.

    Raises:
        BuildError: it is too deep for this Windows.
    """
    folder = paths.BUILD / target.name / "cmake"
    require_short_paths(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _container_runs(target: Target) -> bool:
    # a container of another machine would be emulated: ziglang cross-compiles
    platform = target.platform
    return platform.system == "linux" and installs_here(platform) and container_engine() is not None


def settings_of(target: Target, options: Options, pin: Pin) -> dict[str, str]:
    """Return the CMake definitions of a target, those that were asked for last."""
    defines = {**target.platform.defines, **target.family.defines}
    defines["LLAMA_CPP_BACKEND"] = target.backend.name
    if not target.platform.cpu_variants:
        defines |= {"GGML_BACKEND_DL": "OFF", "GGML_CPU_ALL_VARIANTS": "OFF"}
    elif target.platform.system == "windows":
        # ggml has more for other compilers than MSVC: one wheel, whichever compiler
        defines["LLAMA_CPP_CPU_VARIANTS"] = ";".join(target.platform.cpu_variants)
    if options.tree.commit != pin.commit:
        defines["LLAMA_CPP_COMMIT"] = options.tree.commit or "unknown"
    return {**defines, **options.defines}


def _build_on_host(
    target: Target, options: Options, progress: Progress, out: Path, *, pin: Pin
) -> CacheStats:
    folder = fresh_folder(target)
    compiler = choose_compiler(
        options.compiler,
        target.platform,
        paths.BUILD / target.name / "compiler",
        {options.tree.path: "llama.cpp", folder: "build"},
    )
    progress.step(f"building {target.name} with {compiler.name}")
    cache = CompilerCache(
        basedirs=(folder, options.tree.path, paths.ROOT, Path(sys.prefix)), compiler=compiler
    )
    defines = {
        **compiler.defines,
        **cache.defines,
        **settings_of(target, options, pin),
        "LLAMA_CPP_SOURCE": str(options.tree.path),
    }
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    command += [f"-Cbuild-dir={folder}"]
    command += [f"-Ccmake.define.{name}={value}" for name, value in defines.items()]
    env = {**build_env(compiler, cache), "LLAMA_CPP_VERSION_LABEL": target.backend.name}
    with cache.serving():
        try:
            with progress.compiling("compiling") as show:
                run([*command, str(paths.ROOT)], cwd=paths.ROOT, env=env, on_line=show)
        except ProcessError as error:
            raise build_error(target, error) from error
        return cache.stats()


def _build_with_cibuildwheel(
    target: Target, options: Options, progress: Progress, out: Path, *, pin: Pin
) -> None:
    platform = target.platform
    if platform.system == "linux" and container_engine() is None:
        raise ToolMissingError(
            "no container engine runs on this machine",
            cure="start docker or podman, or use --engine host (on Linux ziglang makes it portable)",
        )
    if not options.tree.path.is_relative_to(paths.ROOT):
        raise UsageError(
            f"cibuildwheel sees only the checkout, not {options.tree.path}",
            cure="use --engine host with --source, or run `nox -s vendor -- --source PATH` first",
        )
    settings = settings_of(target, options, pin)
    env = {"CIBW_ENVIRONMENT": f"LLAMA_CPP_VERSION_LABEL={target.backend.name}"}
    # repair and test are verbs of ours, the same after either engine
    env |= {"CIBW_REPAIR_WHEEL_COMMAND": "", "CIBW_TEST_COMMAND": ""}
    if platform.system == "macos":
        env["CIBW_ENVIRONMENT"] += f" MACOSX_DEPLOYMENT_TARGET={deployment_target(platform)}"
    if platform.system == "linux" and platform.zig_target is not None:
        # the host's toolchain inside the container: the same wheel from either engine
        folder = Path("/tmp/zig")  # noqa: S108 - inside a container of its own
        version = zig.installed_version()
        env["CIBW_BEFORE_BUILD"] = (
            f"python -m pip install -q ziglang=={version} &&"
            f" python {{project}}/ci/zig.py {platform.zig_target} {folder}"
            " {project}/vendor/llama.cpp=llama.cpp"
        )
        settings = {**zig.cmake_defines(platform.zig_target, folder, version), **settings}
    env["CIBW_CONFIG_SETTINGS"] = " ".join(
        f"cmake.define.{name}={value!r}" for name, value in settings.items()
    )
    progress.step(f"building {target.name} with cibuildwheel ({platform.cibuildwheel})")
    command = [sys.executable, "-m", "cibuildwheel", "--only", platform.cibuildwheel]
    try:
        with progress.compiling("compiling") as show:
            run([*command, "--output-dir", out, paths.ROOT], env=env, on_line=show)
    except ProcessError as error:
        raise build_error(target, error) from error


def build_error(target: Target, error: ProcessError) -> ToolchainError:
    """Return the error for a build that failed, with its last lines or what they mean."""
    tail = [line for line in error.tail if line.strip()]
    if any(os.strerror(errno.ENOSPC) in line for line in tail):
        return disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), paths.BUILD)
    return BuildError(
        f"{target.name} was not built:\n" + "\n".join(f"  | {line}" for line in tail),
        cure="read the first error above; a compiler that was killed for memory is cured by"
        " CMAKE_BUILD_PARALLEL_LEVEL=1",
    )
