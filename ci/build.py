"""Build: from the tree to a wheel that is repaired, checked and proven, in ``dist/``."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from ci import paths, zig
from ci.architectures import choose_architectures, cmake_architectures
from ci.check import check
from ci.compiler import CacheStats, Choice, Compiler, CompilerCache, choose_compiler
from ci.deployment_target import deployment_target
from ci.errors import (
    BuildError,
    ToolchainError,
    ToolMissingError,
    UsageError,
    WheelError,
    disk_error,
)
from ci.host import container_engine, require_platform
from ci.interpreters import Interpreter
from ci.module import (
    Module,
    ModuleStore,
    assemble,
    compile_module,
    find_cpu_wheel,
    version_of,
)
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.provision import PINNED, bring_toolkit
from ci.record import Compilation, Stopwatch, recording
from ci.repair import repair
from ci.smoke import report_path, require_passed, smoke, write_report
from ci.table import Table, Target
from ci.toolkit import Toolkit
from ci.vendor import Pin, Tree, settled
from ci.wheel import Wheel, read_wheel

Engine: TypeAlias = Literal["auto", "host", "cibuildwheel"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build: the engine, the compiler, the tree, what to prove it on, and more defines.

    ``toolkit`` is the folder of an installed one; without it the pinned one is brought. With
    ``compatible_toolkit`` one of the same major version will do, with ``clang`` the pinned one that
    clang compiles with. ``architectures`` are GPUs of one's
    own in place of the table's. ``runtime``: see :func:`ci.smoke.smoke`.
    """

    engine: Engine = "auto"
    compiler: Choice = "auto"
    tree: Tree
    interpreters: list[Interpreter]
    defines: dict[str, str] = field(default_factory=dict)
    out: Path = paths.DIST
    toolkit: Path | None = None
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


def build_and_prove(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> Path:
    """Build, repair, check and smoke-test one target; return the finished wheel in ``options.out``.

    Raises:
        ToolchainError: the step that failed, with its cure. A wheel that does not pass its check
            never gets into ``options.out``; one that fails its smoke test keeps its report there.
    """
    require_platform(target, table)
    now = datetime.now(UTC)
    with _only_build_of(target, progress), recording(target, options.out, now=now) as record:
        wheel, built = _build_checked(target, options, table, progress, pin=pin)
        record(wheel, built.compilation)
    report = smoke(
        wheel,
        target,
        options.interpreters,
        progress,
        now=datetime.now(UTC),
        runtime=options.runtime,
    )
    write_report(wheel, report)
    require_passed(report)
    progress.summary(f"{target.name} is built and proven", _summary(wheel, built, report, progress))
    return wheel


@contextmanager
def _only_build_of(target: Target, progress: Progress) -> Iterator[None]:
    """Hold the target's build folder, waiting for another build in this checkout to end."""
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.BUILD / f"{target.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress.step(f"another build of {target.name} runs in this checkout; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build_checked(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> tuple[Path, Built]:
    if target.family.toolkit == "none":
        built = build(target, options, progress, pin=pin)
    else:
        built = _build_module(target, options, table, progress, pin=pin)
    progress.step(f"repairing {built.wheel.name} for {target.wheel_tag}")
    staging = paths.BUILD / target.name / "repaired"
    shutil.rmtree(staging, ignore_errors=True)
    repaired = repair(built.wheel, target, staging)
    progress.step(f"checking {repaired.name}")
    check(repaired, table, own_paths=(paths.ROOT, options.tree.path, Path(sys.prefix)))
    options.out.mkdir(parents=True, exist_ok=True)
    # a report of older bytes must not lie beside these
    report_path(options.out / repaired.name).unlink(missing_ok=True)
    # the folder may be on another file system: a copy beside its place, then one rename
    partial = options.out / f".{repaired.name}.part"
    shutil.copyfile(repaired, partial)
    return partial.replace(options.out / repaired.name), built


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


def _build_module(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> Built:
    """Compile the backend's module alone and put it into the platform's CPU wheel."""
    if options.engine == "cibuildwheel":
        raise UsageError(
            f"{target.name} is one module more in the CPU wheel: it is compiled on the host",
            cure="leave --engine away (on Linux ziglang makes it as portable)",
        )
    toolkit = bring_toolkit(
        progress,
        target,
        installed=options.toolkit,
        compatible=options.compatible_toolkit,
        clang=options.clang,
    )
    architectures = choose_architectures(target, toolkit, options.architectures)
    cpu = _cpu_wheel(target, options, table, progress, pin=pin)
    watch = Stopwatch()
    folder = _fresh_folder(target)
    source = settled(options.tree)
    compiler = toolkit.compiler or choose_compiler(
        options.compiler,
        target.platform,
        paths.BUILD / target.name / "compiler",
        {source: "llama.cpp", folder: "build", toolkit.folder: "toolkit"},
    )
    defines = {
        **compiler.defines,
        **toolkit.defines,
        **cmake_architectures(architectures, toolkit),
        **_settings(target, options, pin),
        "LLAMA_CPP_SOURCE": str(source),
        "LLAMA_CPP_TOOLKIT": toolkit.title,
        "LLAMA_CPP_GPU_ARCHITECTURES": ";".join(architectures),
        "LLAMA_CPP_RUN_PATHS": ";".join(target.runtime.run_paths),
        "LLAMA_CPP_COMPILER": compiler.name,
    }
    store = ModuleStore(_inputs(target, options, toolkit, compiler, defines))
    module = store.find()
    if module is None:
        module = _compile(target, options, toolkit, compiler, defines, folder, progress)
        store.keep(module)
    else:
        progress.step(f"the module of {target.name} was compiled before, with all of this the same")
    if toolkit.is_compatible(target):
        info = {**module.build_info, "toolkit": toolkit.label(target)}
        module = replace(module, build_info=info)
    out = paths.BUILD / target.name / "built"
    shutil.rmtree(out, ignore_errors=True)
    version = version_of(cpu, target, options.architectures or ())
    wheel = assemble(cpu, module, target, version, out)
    cost = module.cost
    stats = CacheStats(hits=cost.cached, misses=cost.objects - cost.cached, seconds=cost.seconds)
    return Built(
        wheel=wheel,
        engine="host",
        seconds=watch.seconds,
        cache=stats,
        # of a module that was compiled before: what that took
        compilation=watch.compilation("host", stats, toolkit.source, seconds=cost.elapsed),
    )


def _compile(
    target: Target,
    options: Options,
    toolkit: Toolkit,
    compiler: Compiler,
    defines: dict[str, str],
    folder: Path,
    progress: Progress,
) -> Module:
    progress.step(
        f"compiling the module of {target.name} with {compiler.name}, {toolkit.label(target)}"
    )
    basedirs = (folder, options.tree.path, toolkit.folder, paths.ROOT, Path(sys.prefix))
    cache = CompilerCache(basedirs=basedirs, compiler=compiler)
    env = {**_build_env(compiler, cache), **_tools_env(compiler), **toolkit.env}
    try:
        return compile_module(target, folder, progress, defines=defines, env=env, cache=cache)
    except ProcessError as error:
        raise _build_error(target, error) from error


def _inputs(
    target: Target,
    options: Options,
    toolkit: Toolkit,
    compiler: Compiler,
    defines: dict[str, str],
) -> dict[str, object] | None:
    """Return all that decides what a module becomes; None where a part of it may change unseen."""
    pinned = toolkit.source == PINNED
    if not pinned or options.tree.commit is None or options.tree.path != paths.TREE:
        return None
    files = [paths.ROOT / "CMakeLists.txt", *sorted((paths.ROOT / "cmake").iterdir())]
    settings = {**defines, **toolkit.env}
    own = {name: value.replace(str(paths.ROOT), "") for name, value in settings.items()}
    # which backend asks is said in the wheel, not in the module
    del own["LLAMA_CPP_BACKEND"]
    return {
        "family": target.family.name,
        "platform": target.platform.name,
        "commit": options.tree.commit,
        "toolkit": str(toolkit.folder),
        "compiler": compiler.name,
        "defines": own,
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }


def _cpu_wheel(
    target: Target, options: Options, table: Table, progress: Progress, *, pin: Pin
) -> Wheel:
    """Return the finished CPU wheel of a target's platform, built first if need be."""
    plain = next(
        other
        for other in table.targets
        if other.platform == target.platform and other.family.toolkit == "none"
    )
    commit = options.tree.commit or pin.commit
    if options.out != paths.DIST:
        with suppress(WheelError):
            return find_cpu_wheel(plain, options.out, commit=commit)
    try:
        return find_cpu_wheel(plain, paths.DIST, commit=commit)
    except WheelError as error:
        progress.step(f"building {plain.name} first: {error.what}")
    plainly = replace(options, defines={}, toolkit=None, architectures=None, out=paths.DIST)
    path = build_and_prove(plain, plainly, table, progress, pin=pin)
    return read_wheel(path)


def _tools_env(compiler: Compiler) -> dict[str, str]:
    """Return what makes the tools of a build (vulkan-shaders-gen) come from the same compiler."""
    names = {"CC": "CMAKE_C_COMPILER", "CXX": "CMAKE_CXX_COMPILER"}
    return {
        variable: compiler.defines[define]
        for variable, define in names.items()
        if define in compiler.defines
    }


def _build_env(compiler: Compiler, cache: CompilerCache) -> dict[str, str]:
    return {
        **compiler.env,
        **cache.env,
        # all of these would change what is compiled behind the table's back
        **dict.fromkeys(("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "LDFLAGS", "SKBUILD_CMAKE_ARGS"), ""),
        "NINJA_STATUS": "[%f/%t] ",
        "PYTHONUNBUFFERED": "1",
    }


def _fresh_folder(target: Target) -> Path:
    folder = paths.BUILD / target.name / "cmake"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _container_runs(target: Target) -> bool:
    return target.platform.system == "linux" and container_engine() is not None


def _settings(target: Target, options: Options, pin: Pin) -> dict[str, str]:
    defines = {**target.platform.defines, **target.family.defines}
    defines["LLAMA_CPP_BACKEND"] = target.backend.name
    if not target.platform.cpu_variants:
        defines |= {"GGML_BACKEND_DL": "OFF", "GGML_CPU_ALL_VARIANTS": "OFF"}
    if options.tree.commit != pin.commit:
        defines["LLAMA_CPP_COMMIT"] = options.tree.commit or "unknown"
    return {**defines, **options.defines}


def _build_on_host(
    target: Target, options: Options, progress: Progress, out: Path, *, pin: Pin
) -> CacheStats:
    folder = _fresh_folder(target)
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
        **_settings(target, options, pin),
        "LLAMA_CPP_SOURCE": str(options.tree.path),
    }
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    command += [f"-Cbuild-dir={folder}"]
    command += [f"-Ccmake.define.{name}={value}" for name, value in defines.items()]
    env = {**_build_env(compiler, cache), "LLAMA_CPP_VERSION_LABEL": target.backend.name}
    with cache.serving():
        try:
            with progress.compiling("compiling") as show:
                run([*command, str(paths.ROOT)], cwd=paths.ROOT, env=env, on_line=show)
        except ProcessError as error:
            raise _build_error(target, error) from error
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
    settings = _settings(target, options, pin)
    env = {"CIBW_ENVIRONMENT": f"LLAMA_CPP_VERSION_LABEL={target.backend.name}"}
    # repair and test are verbs of ours, the same after either engine
    env |= {"CIBW_REPAIR_WHEEL_COMMAND": "", "CIBW_TEST_COMMAND": ""}
    if platform.system == "macos":
        env["CIBW_ENVIRONMENT"] += f" MACOSX_DEPLOYMENT_TARGET={deployment_target(platform)}"
    if platform.zig_target is not None:
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
        raise _build_error(target, error) from error


def _build_error(target: Target, error: ProcessError) -> ToolchainError:
    tail = [line for line in error.tail if line.strip()]
    if any(os.strerror(errno.ENOSPC) in line for line in tail):
        return disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), paths.BUILD)
    return BuildError(
        f"{target.name} was not built:\n" + "\n".join(f"  | {line}" for line in tail),
        cure="read the first error above; a compiler that was killed for memory is cured by"
        " CMAKE_BUILD_PARALLEL_LEVEL=1",
    )


def _summary(
    wheel: Path, built: Built, report: dict[str, object], progress: Progress
) -> list[tuple[str, str]]:
    interpreters = report["interpreters"]
    assert isinstance(interpreters, list)
    rows = [
        ("wheel", str(wheel)),
        ("size", f"{wheel.stat().st_size:,} bytes"),
        ("sha256", str(report["sha256"])),
        ("tag", wheel.stem.split("-", 2)[2]),
        ("engine", built.engine),
    ]
    if built.cache is not None:
        compiled = built.cache.hits + built.cache.misses
        rows.append(("compiler cache", f"{built.cache.hits} of {compiled} objects came from it"))
    rows.append(("elapsed", f"{progress.elapsed:.0f} s (build {built.seconds:.0f} s)"))
    for result in interpreters:
        series = f"{result['version']}{' free-threaded' if result['free_threaded'] else ''}"
        proof = f"{len(result['checks'])} checks passed, {result['cpu_variant']}"
        rows.append((f"Python {series}", proof))
    return rows
