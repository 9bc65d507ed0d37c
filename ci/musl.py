"""musl: proving its wheels on a machine with glibc, by a Python or a C program linked with musl."""

from __future__ import annotations

import platform as python_platform
import shutil
from datetime import datetime
from pathlib import Path

from ci.driver import drive
from ci.errors import BuildError
from ci.guest import emulator_name, require_emulator
from ci.installation import without_dependencies
from ci.interpreters import probe
from ci.musl_python import MuslPython, bring_loaders, bring_pythons
from ci.progress import Progress
from ci.smoke import prove_on
from ci.table import Target
from ci.wheel import read_wheel

# the CPU that has all that the emulator can do
_CPU = "max"


def prove(
    wheel: Path,
    target: Target,
    progress: Progress,
    *,
    now: datetime,
    models: Path,
    scratch: Path,
) -> list[dict[str, object]]:
    """Prove a wheel on each pinned musl; return one of the report's ``interpreters`` for each.

    Each says in ``libc`` which musl that was. On this machine it is a Python, whose own pip installs
    the wheel, so that its tag is proven as well. For another machine there is none: the driver in C
    computes with the wheel's libraries under the emulator.

    Args:
        wheel: for musl; its dependencies are left out, as everywhere.
        target: what it is.
        progress: told what is done.
        now: of no use here.
        models: the tiny models and their answers.
        scratch: for the environments.

    Raises:
        ToolMissingError: something that the Python is built with is missing, or the emulator.
        BuildError: the Python could not be built.
    """
    del now
    results = []
    if target.platform.machine != python_platform.machine():
        return _emulated(wheel, target, progress, models, scratch)
    for python in bring_pythons(progress, target.platform):
        folder = scratch / f"musl-{python.musl}"
        results.append(_prove_on(python, wheel, target, folder, models))
        shutil.rmtree(folder, ignore_errors=True)
    return results


def _prove_on(
    python: MuslPython, wheel: Path, target: Target, folder: Path, models: Path
) -> dict[str, object]:
    interpreter = probe(python.program)
    if interpreter is None:
        raise BuildError(
            f"{python.program} does not run", cure="delete its folder: then it is built again"
        )
    folder.mkdir(parents=True)
    alone = without_dependencies(read_wheel(wheel))
    result = prove_on(wheel, interpreter, folder, models, target=target, dependencies=alone)
    return {**result, "libc": f"musl {python.musl}", "emulator": None}


def _emulated(
    wheel: Path, target: Target, progress: Progress, models: Path, scratch: Path
) -> list[dict[str, object]]:
    emulator = require_emulator(target.platform.machine)
    results = []
    for version, loader in bring_loaders(progress, target.platform).items():
        folder = scratch / f"musl-{version}"
        # the driver's loader is looked for below this folder
        command = (emulator, "-cpu", _CPU, "-L", loader.parent.parent)
        result = drive(wheel, target, models, folder, emulator=command)
        name = emulator_name(emulator, _CPU)
        results.append({**result, "libc": f"musl {version}", "emulator": name})
        shutil.rmtree(folder, ignore_errors=True)
    return results
