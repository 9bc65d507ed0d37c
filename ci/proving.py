"""Proving: a finished wheel is proven in the way that this machine has for its platform."""

from __future__ import annotations

import platform as python_platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ci import emulation, musl, wine
from ci.guest import require_emulator
from ci.host import installs_here
from ci.installation import without_dependencies
from ci.interpreters import Interpreter
from ci.musl_python import require_make
from ci.progress import Progress
from ci.screen import require_screen
from ci.smoke import smoke, write_models
from ci.smoke_report import called, report_of
from ci.table import Platform, Target
from ci.wheel import read_wheel

# each has prove(): the results of its own interpreters, which it brings along
_WAYS = {"glibc": emulation.prove, "musl": musl.prove, "windows": wine.prove}


def prove(
    path: Path,
    target: Target,
    interpreters: Sequence[Interpreter],
    progress: Progress,
    *,
    now: datetime,
    index: str | None = None,
    runtime: bool = False,
) -> dict[str, object] | None:
    """Prove a wheel and return the report, whether or not all passed; None where there is no way.

    A wheel that installs here is proven on ``interpreters``. One for another Linux, machine or for
    Windows runs under an emulator, on the interpreters that there are for it. Nothing here runs a
    wheel for macOS but a Mac.

    Args:
        path: the finished wheel.
        target: what it is.
        interpreters: of this machine.
        progress: told what is done.
        now: UTC.
        index: where the wheel's dependencies are; without it pip's own configuration says.
        runtime: see `ci.smoke.smoke`.

    Raises:
        ToolMissingError: the emulator is not on this machine.
    """
    if installs_here(target.platform):
        return smoke(path, target, interpreters, progress, now=now, index=index, runtime=runtime)
    way = _way(target.platform)
    if way is None:
        return None
    wheel = read_wheel(path)
    with tempfile.TemporaryDirectory(prefix="proving-") as folder:
        scratch = Path(folder)
        models = scratch / "models"
        write_models(models)
        results = way(path, target, progress, now=now, models=models, scratch=scratch / "scratch")
    for result in results:
        progress.step(f"smoke test on {called(result)}: {'ok' if result['passed'] else 'FAILED'}")
    return report_of(wheel, target, results, now, dependencies=without_dependencies(wheel))


def can_prove(platform: Platform) -> bool:
    """Say whether this machine has a way to prove a platform's wheels."""
    return installs_here(platform) or _way(platform) is not None


def require_provers(target: Target) -> None:
    """See that the programs are here by which this machine proves a target's wheels.

    Raises:
        ToolMissingError: one is not; nothing is said of what they bring along by the network.
    """
    platform = target.platform
    if installs_here(platform):
        return
    if platform.system == "windows":
        wine.require_wine()
        if target.family.smoke == "gpu":
            require_screen()
    elif platform.machine != python_platform.machine():
        require_emulator(platform.machine)
    elif platform.libc == "musl":
        require_make()


def not_provable(wheel: Path, target: Target) -> str:
    """Say that this machine has no way to prove a wheel, and which one has."""
    platform = target.platform
    return (
        f"{wheel.name} is not proven: nothing here runs programs of {platform.title}"
        f" (in the pipeline: runner {platform.runner})"
    )


def _way(platform: Platform) -> Callable[..., list[dict[str, object]]] | None:
    """Return what proves a platform's wheels on a machine that they do not install on."""
    if sys.platform != "linux":
        return None
    if platform.system == "windows" and platform.machine != python_platform.machine():
        return None  # wine runs the programs of its own machine
    return _WAYS.get(platform.libc or platform.system)
