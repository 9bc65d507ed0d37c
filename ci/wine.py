"""Wine: a Windows wheel computes on Linux, by its libraries alone and on Windows' own Pythons."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ci.driver import drive
from ci.errors import ToolMissingError
from ci.guest import write_program
from ci.installation import CLEAN
from ci.interpreters import Interpreter
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.screen import screen
from ci.smoke import broken, examine
from ci.table import Target
from ci.windows_python import WindowsPython, available, bring_windows_python

# Debian keeps it off PATH, where only a script is that wants the 32-bit one too
_DEBIAN = Path("/usr/lib/wine")
# the oldest and the newest; the free-threaded 3.13 does not get through importing ctypes and ssl
# under wine 8.0
SERIES = ("3.9", "3.14")
_BOOT_S = 300.0
_TIMEOUT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class Wine:
    """A Windows of its own: ``env`` are the variables of every command in it."""

    program: Path
    server: Path
    version: str
    env: dict[str, str]

    @property
    def emulator(self) -> str:
        """What a report says: ``wine 8.0``."""
        return f"wine {self.version}"

    def run(self, command: Sequence[str | Path], *, cwd: Path, timeout: float) -> str:
        """Run a Windows program and return what it printed.

        Raises:
            ProcessError: it ended with another exit code than 0.
        """
        return run([self.program, *command], cwd=cwd, env=self.env, timeout=timeout)


def can_prove(target: Target) -> bool:
    """Say whether wine runs a target's wheels: of Windows, for this kind of processor."""
    return target.platform.system == "windows" and target.platform.machine == "x86_64"


def prove(
    wheel: Path,
    target: Target,
    progress: Progress,
    *,
    now: datetime,  # noqa: ARG001 - every way of proving is called alike
    models: Path,
    scratch: Path,
    series: Sequence[str] = SERIES,
) -> list[dict[str, object]]:
    """Prove a Windows wheel: by the C driver, then installed by pip on Windows Pythons.

    A GPU wheel is proven on the Pythons alone, with a screen that nobody looks at: wine asks its driver
    of the screen for Vulkan, and so for what this machine has of it.

    Args:
        wheel: the finished wheel.
        target: what it claims to be; see :func:`can_prove`.
        progress: told of each.
        now: the date of the proof.
        models: folder of the tiny models and their answers.
        scratch: an empty folder.
        series: Pythons to prove it on, as far as this machine has one of the same series.

    Returns:
        The smoke report's ``interpreters``, each with its ``emulator``.

    Raises:
        ToolMissingError: wine is not on this machine, or it cannot be started; for a GPU wheel there
            is no Xvfb.
    """
    gpu = target.family.smoke == "gpu"
    results = []
    with screen() if gpu else nullcontext() as display:
        if gpu and display is None:
            progress.step("Xvfb does not start: without a screen wine knows no GPU")
        progress.step(f"starting a Windows {'with' if display else 'without'} a screen")
        with windows(scratch / "windows", display=display) as wine:
            if not gpu:
                driven = drive(
                    wheel,
                    target,
                    models,
                    scratch / "driver",
                    emulator=(wine.program,),
                    env=wine.env,
                )
                results.append({**driven, "emulator": wine.emulator})
            there = [each for each in available() if each.series in series]
            for interpreter in there:
                progress.step(
                    f"installing on Windows' Python {interpreter.series} in {wine.emulator}"
                )
                result = _prove_on(
                    wine,
                    wheel,
                    interpreter,
                    models,
                    scratch,
                    progress,
                    target=target,
                    brief=interpreter is not there[0],
                )
                results.append({**result, "emulator": wine.emulator})
    return results


def require_wine(debian: Path = _DEBIAN) -> tuple[Path, Path, str]:
    """Return wine's program, its server and its version; ``debian`` is looked at before PATH.

    Raises:
        ToolMissingError: it is not on this machine.
    """
    program = _find(debian, "wine64", "wine")
    server = _find(debian, "wineserver", "wineserver64")
    if program is None or server is None:
        raise ToolMissingError(
            "there is no wine64 on this machine",
            cure="install it (Debian: apt install wine64), or prove the wheel on Windows",
        )
    printed = run([program, "--version"]).splitlines()[-1]
    found = re.search(r"\d+(?:\.\d+)+", printed)
    return program, server, found[0] if found else printed


def _find(debian: Path, *names: str) -> Path | None:
    for name in names:
        for place in (debian / name, shutil.which(name)):
            if place is not None and Path(place).is_file():
                return Path(place)
    return None


@contextmanager
def windows(folder: Path, debian: Path = _DEBIAN, *, display: str | None = None) -> Iterator[Wine]:
    """Start a fresh Windows in ``folder``; all that runs in it ends at the end.

    ``debian`` is a folder of wine's programs that is looked at before PATH, ``display`` the X server
    of its screen; it needs none.

    Raises:
        ToolMissingError: there is no wine, or it does not start.
    """
    program, server, version = require_wine(debian)
    home, prefix = folder / "home", folder / "prefix"
    for each in (home, prefix):
        each.mkdir(parents=True)
    env = {
        **CLEAN,
        "HOME": str(home),
        "WINEPREFIX": str(prefix),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        # neither .NET nor a browser nor menus: they would be asked for on a screen
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
        "DISPLAY": display or "",
        "WAYLAND_DISPLAY": "",
    }
    wine = Wine(program=program, server=server, version=version, env=env)
    try:
        try:
            wine.run(["wineboot", "--init"], cwd=folder, timeout=_BOOT_S)
        except ProcessError as error:
            raise ToolMissingError(
                f"{program} does not start: {error.tail[-1] if error.tail else error.what}",
                cure="run it by hand with an empty WINEPREFIX; a container may forbid what it needs",
            ) from error
        yield wine
    finally:
        _end(server, env)


def _end(server: Path, env: dict[str, str]) -> None:
    for option in ("-k", "-w"):
        # exit code 1 where none runs any more
        with suppress(ProcessError):
            run([server, option], env=env, timeout=60)


def _prove_on(
    wine: Wine,
    wheel: Path,
    interpreter: Interpreter,
    models: Path,
    scratch: Path,
    progress: Progress,
    *,
    target: Target,
    brief: bool,
) -> dict[str, object]:
    """Install the wheel by Windows' pip and run the smoke scripts there."""
    python = bring_windows_python(interpreter, scratch / interpreter.tag, progress)
    try:
        _install(wine, python, wheel)
    except ProcessError as error:
        return broken(interpreter, "install", error)
    program = python.folder / "python"
    write_program(program, [str(wine.program), str(python.program)])
    return examine(
        program,
        interpreter,
        python.folder,
        models,
        target=target,
        brief_gpu=brief,
        env=wine.env,
    )


def _install(wine: Wine, python: WindowsPython, wheel: Path) -> None:
    pip: list[str | Path] = [python.program, "-I", "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "-q", "--no-cache-dir", "--no-index", "--no-deps"]
    wine.run(
        [*command, "--only-binary", ":all:", wheel.resolve()], cwd=python.folder, timeout=_TIMEOUT_S
    )
