"""musl: proving its wheels on a machine with glibc, by a Python that is linked with musl."""

from __future__ import annotations

import platform as python_platform
import shutil
from datetime import datetime
from pathlib import Path

from ci.errors import BuildError, ToolMissingError
from ci.installation import plan_dependencies
from ci.interpreters import probe
from ci.musl_python import MuslPython, bring_pythons
from ci.progress import Progress
from ci.smoke import prove_on
from ci.table import Target
from ci.wheel import read_wheel


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

    Each says in ``libc`` which musl that was. The Python's own pip installs the wheel, so that its tag
    is proven as well.

    Args:
        wheel: for musl; its dependencies are left out, as everywhere.
        target: what it is.
        progress: told what is done.
        now: of no use here.
        models: the tiny models and their answers.
        scratch: for the environments.

    Raises:
        ToolMissingError: something that the Python is built with is missing.
        BuildError: the Python could not be built.
    """
    del now
    if target.platform.machine != python_platform.machine():
        raise ToolMissingError(
            f"{wheel.name} is for {target.platform.machine}: no Python with musl runs here for that",
            cure="prove it on such a machine",
        )
    results = []
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
    alone = plan_dependencies(read_wheel(wheel), target)
    result = prove_on(wheel, interpreter, folder, models, target=target, dependencies=alone)
    return {**result, "libc": f"musl {python.musl}", "emulator": None}
