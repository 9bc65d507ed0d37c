"""Interpreters: every CPython on this machine that a wheel can be proven on."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run

_NAME = re.compile(r"python(3\.\d+t?)(?:\.exe)?")
_PROBE = (
    "import json, sys, sysconfig;"
    "t = bool(sysconfig.get_config_var('Py_GIL_DISABLED'));"
    "print(json.dumps({'version': '.'.join(map(str, sys.version_info[:3])) + "
    "('' if sys.version_info[3] == 'final' else sys.version_info[3] + str(sys.version_info[4])),"
    "'series': '%d.%d%s' % (*sys.version_info[:2], 't' if t else ''), 'free_threaded': t,"
    "'implementation': sys.implementation.name, 'real': sys.executable}))"
)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """One interpreter: ``series`` is ``3.13`` or ``3.13t``, ``path`` the program that was found."""

    path: Path
    version: str
    series: str
    free_threaded: bool

    @property
    def tag(self) -> str:
        """The interpreter's tag, see `tag_of`."""
        return tag_of(self.series)


def tag_of(series: str) -> str:
    """Return the tag of a series as cibuildwheel has it: ``cp313``, ``cp313t``."""
    return f"cp{series.replace('.', '')}"


def find_interpreters(wanted: tuple[str, ...]) -> list[Interpreter]:
    """Return one interpreter for each series in ``wanted`` that this machine has, in that order.

    Looked for on PATH, below pyenv's and uv's folders, and in ``~/.cache/interpreters/bin``.
    """
    found: dict[str, Interpreter] = {}
    for program in _candidates():
        if found.keys() >= _promised(program, wanted):
            continue  # to ask it takes longer than to read its name
        interpreter = probe(program)
        if interpreter is not None:
            found.setdefault(interpreter.series, interpreter)
    return [found[series] for series in wanted if series in found]


def _promised(program: Path, wanted: tuple[str, ...]) -> set[str]:
    """Return which series in ``wanted`` a program can be by its name."""
    named = _NAME.fullmatch(program.name)
    if named is None:
        return set(wanted)
    # python3.13 may be free-threaded; python3.13t is
    return {series for series in wanted if series in {named[1], f"{named[1].rstrip('t')}t"}}


def probe(program: Path, *, needs: tuple[str, ...] = ("venv", "ensurepip")) -> Interpreter | None:
    """Ask a program what it is; None where it is no CPython, or lacks what an environment needs."""
    code = f"import {', '.join(needs)};{_PROBE}" if needs else _PROBE
    try:
        answer = json.loads(run([program, "-I", "-c", code], timeout=60).splitlines()[-1])
    except (ProcessError, ValueError, IndexError, OSError):
        return None
    if not isinstance(answer, dict) or answer["implementation"] != "cpython":
        return None
    return Interpreter(
        path=program,
        version=answer["version"],
        series=answer["series"],
        free_threaded=answer["free_threaded"],
    )


def choose_interpreters(names: list[str], supported: tuple[str, ...]) -> list[Interpreter]:
    """Return the interpreters for ``--python`` (``3.9``, ``3.13t``, ``3.9 3.13t`` or a path).

    Raises:
        UsageError: one is not there or not supported.
    """
    chosen: list[Interpreter] = []
    for name in _one_by_one(names, supported):
        if name in supported:
            there = find_interpreters((name,))
            if not there:
                raise UsageError(
                    f"there is no Python {name} on this machine",
                    cure="install it (pyenv, `uv python install`, your system), or give a path",
                )
            chosen += there
            continue
        program = shutil.which(name)
        interpreter = probe(Path(program)) if program else None
        if interpreter is None or interpreter.series not in supported:
            raise UsageError(
                f"{name} is not a Python that wheels are proven on",
                cure=f"choose from {', '.join(supported)}, or give the path of one of these",
            )
        chosen.append(interpreter)
    return chosen


def require_interpreters(
    found: Sequence[Interpreter], required: Sequence[str], supported: tuple[str, ...]
) -> list[str]:
    """Return those of ``supported`` that are not there, none of which is required.

    Raises:
        UsageError: one that is required is not supported at all.
        ToolMissingError: one that is required is missing.
    """
    unknown = [name for name in required if name not in supported]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)} is not a Python that wheels are proven on",
            cure=f"choose from {', '.join(supported)}",
        )
    there = {interpreter.series for interpreter in found}
    missing = [name for name in supported if name not in there]
    needed = [name for name in missing if name in required]
    if needed:
        others = [name for name in missing if name not in required]
        also = f" (and {', '.join(others)}, which need not be)" if others else ""
        raise ToolMissingError(
            f"not on this machine, and required: Python {', '.join(needed)}{also}",
            cure=f"bring it with pyenv, your system, or: uv python install {' '.join(needed)}",
        )
    return missing


def _one_by_one(names: list[str], supported: tuple[str, ...]) -> list[str]:
    """Return the names, those apart that a workflow gives in one; a path may have spaces, too."""
    apart: list[str] = []
    for name in names:
        parts = name.split()
        apart += parts if all(part in supported for part in parts) else [name]
    return apart


def _candidates() -> list[Path]:
    home = Path.home()
    folders = [
        *(Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder),
        *sorted(home.glob(".pyenv/versions/*/bin"), reverse=True),
        *sorted(home.glob(".local/share/uv/python/*/bin"), reverse=True),
        # where uv puts python3.14t, on Windows too
        home / ".local" / "bin",
        home / ".cache" / "interpreters" / "bin",
    ]
    programs = [Path(sys.executable)]
    # /bin is /usr/bin on most systems
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if folder.is_dir() and folder.name != "shims":
            programs += sorted(entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    return list(dict.fromkeys(programs))
