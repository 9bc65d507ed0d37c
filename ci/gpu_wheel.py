"""GPU wheels: the toolkit, the module that it compiles or has compiled before, and the CPU wheel."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ci import paths, vulkan_cross
from ci.architectures import choose_architectures, cmake_architectures
from ci.compiler import CacheStats, Compiler, CompilerCache, choose_compiler
from ci.engine import Built, Options, build_env, build_error, fresh_folder, settings_of
from ci.errors import UsageError
from ci.module import (
    Module,
    ModuleStore,
    assemble,
    compile_module,
    version_of,
)
from ci.process import ProcessError
from ci.progress import Progress
from ci.provision import PINNED, bring_toolkit
from ci.record import Stopwatch
from ci.table import Target
from ci.toolkit import Toolkit
from ci.vendor import Pin, settled
from ci.wheel import Wheel


def build_module(
    target: Target,
    options: Options,
    progress: Progress,
    *,
    pin: Pin,
    cpu_wheel: Callable[[], Wheel],
) -> Built:
    """Compile the backend's module alone and put it into the platform's CPU wheel.

    ``cpu_wheel`` returns that; it is asked for when all that may be wrong with the command is known.

    Raises:
        UsageError: toolkit, architectures or engine do not go with the target.
        BuildError: CMake or the compiler failed; its last lines are in the message.
    """
    if options.engine == "cibuildwheel":
        raise UsageError(
            f"{target.name} is one module more in the CPU wheel: it is compiled on the host",
            cure="leave --engine away (on Linux ziglang makes it as portable)",
        )
    toolkit = bring_toolkit(
        progress,
        target,
        installed=options.toolkit,
        image=options.toolkit_image,
        compatible=options.compatible_toolkit,
        clang=options.clang,
    )
    architectures = choose_architectures(target, toolkit, options.architectures)
    cpu = cpu_wheel()
    watch = Stopwatch()
    folder = fresh_folder(target)
    source = settled(options.tree)
    compiler = toolkit.compiler or choose_compiler(
        options.compiler,
        target.platform,
        paths.BUILD / target.name / "compiler",
        {source: "llama.cpp", folder: "build", toolkit.folder: "toolkit"},
        cuda=toolkit.folder if toolkit.name == "CUDA" else None,
        unsupported="-allow-unsupported-compiler" in options.defines.get("CMAKE_CUDA_FLAGS", ""),
    )
    defines = {
        **compiler.defines,
        **toolkit.defines,
        **cmake_architectures(architectures, toolkit),
        **settings_of(target, options, pin),
        "LLAMA_CPP_SOURCE": str(source),
        "LLAMA_CPP_TOOLKIT": toolkit.title,
        "LLAMA_CPP_GPU_ARCHITECTURES": ";".join(architectures),
        "LLAMA_CPP_RUN_PATHS": ";".join(target.runtime.run_paths),
        "LLAMA_CPP_COMPILER": compiler.defines.get("LLAMA_CPP_COMPILER", compiler.name),
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
    env = {**build_env(compiler, cache), **_tools_env(compiler), **toolkit.env}
    try:
        return compile_module(target, folder, progress, defines=defines, env=env, cache=cache)
    except ProcessError as error:
        raise build_error(target, error) from error


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
    if vulkan_cross.TOOLCHAIN in toolkit.defines:
        # it has made the loader
        files.append(Path(vulkan_cross.__file__))
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


def _tools_env(compiler: Compiler) -> dict[str, str]:
    """Return what makes the tools of a build (vulkan-shaders-gen) come from the same compiler."""
    names = {"CC": "CMAKE_C_COMPILER", "CXX": "CMAKE_CXX_COMPILER"}
    return {
        variable: compiler.defines[define]
        for variable, define in names.items()
        if define in compiler.defines
    }
