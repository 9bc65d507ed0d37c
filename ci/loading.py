"""Loading: a GPU wheel's module with its runtime's oldest packages, and a driver without a device.

What a machine without a GPU can show of a module: that it finds the runtime where pip puts it, that all
of its symbols are there, and that the process computes on the CPU with it loaded.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from ci import cuda, paths, zig
from ci.installation import CLEAN, installed_packages, make_environment
from ci.interpreters import Interpreter
from ci.library import read_library
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.table import Target
from ci.wheel import Wheel, library_names

_SCRIPT = paths.ROOT / "tests" / "smoke" / "module.py"
# CUDA_ERROR_NO_DEVICE and hipErrorNoDevice
_NO_DEVICE = 100
_DRIVERS = {"cuda": (cuda.DRIVER["linux"], re.compile(r"cu[A-Z]\w+"))}


def can_load(target: Target) -> bool:
    """Say whether this is known of a target: its runtime comes from the index, a driver can be stood in."""
    return target.family.name in _DRIVERS and target.platform.system == "linux"


def prove_loading(
    wheel: Wheel, target: Target, interpreter: Interpreter, models: Path, progress: Progress
) -> dict[str, object]:
    """Load a wheel's module with the oldest runtime that it accepts; return what was seen.

    Returns:
        ``passed``, the ``checks``, the packages of the ``runtime`` with their versions, and the
        libraries that were ``mapped``.
    """
    progress.step(f"loading the module of {target.name} with {', '.join(oldest(target))}")
    with tempfile.TemporaryDirectory(prefix="loading-") as scratch:
        folder = Path(scratch)
        try:
            python = make_environment(interpreter, folder / "env")
            pip = [str(python), "-I", "-m", "pip", "--disable-pip-version-check"]
            command = [*pip, "install", "-q", "--no-deps", "--only-binary", ":all:"]
            run([*command, wheel.path.resolve()], env={**CLEAN, "PIP_NO_INDEX": "1"})
            run([*command, *oldest(target)], env=CLEAN)
            packages = installed_packages(python)
            write_driver(wheel, target, folder / "driver")
            out = folder / "result.json"
            script = [str(python), "-I", "-X", "faulthandler", str(_SCRIPT)]
            (stem,) = target.family.modules
            run(
                [*script, "--models", models, "--module", stem, "--json", out],
                cwd=folder,
                # every symbol, now
                env={**CLEAN, "LD_LIBRARY_PATH": str(folder / "driver"), "LD_BIND_NOW": "1"},
                timeout=600,
            )
        except ProcessError as error:
            tail = " / ".join(error.tail[-3:])
            check = {"name": "gpu module", "passed": False, "seconds": 0.0, "detail": tail}
            return {"passed": False, "checks": [check], "runtime": [], "mapped": []}
        found: dict[str, object] = json.loads(out.read_text(encoding="utf-8"))
        names = {Requirement(text).name for text in target.requirements}
        runtime = [f"{name} {version}" for name, version in packages.items() if name in names]
        return {**found, "runtime": runtime}


def oldest(target: Target) -> list[str]:
    """Return the requirements of the runtime at the toolkit's own minor version, its newest patch."""
    version = target.backend.toolkit_version
    return [f"{Requirement(text).name}=={version}.*" for text in target.requirements]


def write_driver(wheel: Wheel, target: Target, folder: Path) -> None:
    """Link a driver into ``folder`` that has what the module asks for, and knows no device."""
    file, pattern = _DRIVERS[target.family.name]
    (name,) = library_names(target.family.modules, target.platform.system)
    library = read_library(wheel.files[f"llama_cpp/lib/{name}"])
    wanted = sorted(filter(pattern.fullmatch, library.undefined if library else ()))
    folder.mkdir()
    source = folder / "driver.c"
    lines = [f"int {function}(void) {{ return {_NO_DEVICE}; }}\n" for function in wanted]
    source.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", f"-Wl,-soname,{file}"]
    # what zig compiles of its own for a system, it compiles once
    cache = str(zig.cache_folder(paths.cache_folder() / "zig"))
    env = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    run([*command, "-o", folder / file, source], env=env)
