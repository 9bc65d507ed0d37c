"""Installation: a fresh environment with one wheel in it, as a user would have it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from ci import cuda, project
from ci.errors import SmokeError
from ci.interpreters import Interpreter
from ci.process import ProcessError, run
from ci.table import Target
from ci.wheel import Wheel, split_variant

# the test must see the wheel, not a checkout, a configuration or a library of this machine
CLEAN: Mapping[str, str] = {
    **dict.fromkeys(
        ("PYTHONPATH", "PYTHONHOME", "LLAMA_CPP_LIB_PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"), ""
    ),
    "PYTHONDONTWRITEBYTECODE": "1",
}
# nothing but what is named on the command line
NO_OTHER_INDEX: Mapping[str, str] = {
    "PIP_CONFIG_FILE": os.devnull,
    **dict.fromkeys(("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"), ""),
}
_NOT_NEEDED = "the models compute without them"
# what a family's driver brings and its wheels do not
_DRIVERS = {"cuda": cuda.DRIVER}


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """What a wheel requires besides Python, and whether it is installed with it, and why."""

    declared: tuple[str, ...]
    installed: bool
    reason: str


def plan_dependencies(wheel: Wheel, target: Target) -> Dependencies:
    """Decide whether a wheel's dependencies are installed with it.

    A GPU's runtime is some hundred megabytes per interpreter, and without the driver nothing can come
    of it: then all are left out, and the wheel must compute on the CPU without them.
    """
    declared = declared_by(wheel)
    if not declared:
        return Dependencies(declared=(), installed=True, reason="the wheel requires nothing")
    driver = _DRIVERS.get(target.family.name, {}).get(target.platform.system)
    if driver is None:
        return Dependencies(declared=declared, installed=True, reason="the wheel requires them")
    try:
        # in a process of its own: a broken driver may take it down
        run([sys.executable, "-I", "-c", f"import ctypes; ctypes.CDLL({driver!r})"], timeout=60)
    except ProcessError as error:
        why = error.tail[-1] if error.tail else f"exit code {error.returncode}"
        reason = f"{driver} does not load here, so no GPU can use them ({why})"
        return Dependencies(declared=declared, installed=False, reason=reason)
    return Dependencies(declared=declared, installed=True, reason=f"{driver} loads here")


def without_dependencies(wheel: Wheel) -> Dependencies:
    """Say that a wheel was installed alone, as for an emulator, under which there is no GPU."""
    declared = declared_by(wheel)
    if not declared:
        return Dependencies(declared=(), installed=True, reason="the wheel requires nothing")
    plain = set(declared) <= set(project.requirements())
    reason = _NOT_NEEDED if plain else "there is no GPU under an emulator"
    return Dependencies(declared=declared, installed=False, reason=reason)


def declared_by(wheel: Wheel) -> tuple[str, ...]:
    """Return what a wheel requires besides Python, without its extras."""
    return tuple(
        text
        for text in wheel.metadata.get_all("Requires-Dist", [])
        if "extra" not in str(Requirement(text).marker or "")
    )


def make_environment(interpreter: Interpreter, folder: Path) -> Path:
    """Make a virtual environment in ``folder`` and return its interpreter.

    Raises:
        ProcessError: venv failed.
    """
    run([interpreter.path, "-I", "-m", "venv", folder], env=CLEAN)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """Return the interpreter of the virtual environment in ``folder``."""
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(
    python: Path, wheel: Path, folder: Path, dependencies: Dependencies, *, index: str | None = None
) -> list[str]:
    """Install a wheel into the environment of ``python``; return what came with it, with versions.

    Args:
        python: the environment's interpreter.
        wheel: the file; pip never takes another.
        folder: for a copy under a name that pip takes.
        dependencies: whether they are installed.
        index: where they are; without it pip's own configuration says.

    Raises:
        ProcessError: pip failed.
    """
    pip = pip_of(python)
    env = {**CLEAN, "PIP_FIND_LINKS": ""}
    command = [*pip, "install", "-q", "--only-binary", ":all:"]
    if not dependencies.declared or not dependencies.installed:
        # what the wheel needs to compute is in the wheel
        command += ["--no-index", "--no-cache-dir", "--no-deps"]
        env |= NO_OTHER_INDEX
    elif index is not None:
        command += ["--index-url", index]
        env |= NO_OTHER_INDEX
    run([*command, installable(wheel, folder)], env=env)
    packages = installed_packages(python)
    own = {"pip", "setuptools", "wheel", "llama-cpp-python", "llama_cpp_python"}
    return [f"{name} {version}" for name, version in packages.items() if name not in own]


def installed_packages(python: Path) -> dict[str, str]:
    """Return the versions of the distributions in an environment, by name.

    Raises:
        ProcessError: pip failed.
    """
    listed = run([*pip_of(python), "list", "--format", "json"], env=CLEAN).splitlines()
    # pip warns of its own age on the same stream, whatever it is told
    packages = json.loads(next(line for line in listed if line.startswith("[{")))
    return {one["name"]: one["version"] for one in packages}


def fetch(
    index: str, backend: str, interpreter: Interpreter, folder: Path, *, version: str | None
) -> Path:
    """Download the wheel that pip would install from an index; return it, in ``folder``.

    Args:
        index: the address of the index as a whole; the backend's own is in ``whl/`` there.
        backend: of the table.
        interpreter: the Python whose pip asks.
        folder: made if missing.
        version: ``0.3.100``, or with a label of a respin (``0.3.100+cu128.1``); None is the newest.

    Raises:
        SmokeError: the index cannot be asked or has no such wheel; pip's last words are in it.
    """
    wanted = "llama-cpp-python"
    if version is not None:
        wanted += f"=={version}" if "+" in version else f"=={version}+{backend}"
    url = backend_index(index, backend)
    scratch = folder / "fetching"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        python = make_environment(interpreter, scratch / "env")
        command = [*pip_of(python), "download", "-q", "--no-deps", "--no-cache-dir"]
        command += ["--only-binary", ":all:", "--index-url", url, "--dest", str(scratch / "wheel")]
        run([*command, wanted], env={**CLEAN, **NO_OTHER_INDEX})
    except ProcessError as error:
        last = "".join(f"\n  | {line}" for line in error.tail[-3:])
        raise SmokeError(
            f"{wanted} cannot be had from {url}{last}",
            cure="see in a browser what the index has, or name another --version or --backend",
        ) from error
    (found,) = (scratch / "wheel").iterdir()
    place = found.replace(folder / found.name)
    shutil.rmtree(scratch)
    return place


def backend_index(index: str, backend: str) -> str:
    """Return the address of a backend's own index."""
    return f"{index.rstrip('/')}/whl/{backend}/"


def pip_of(python: Path) -> list[str]:
    """Return the command of an environment's own pip."""
    return [str(python), "-I", "-m", "pip", "--disable-pip-version-check"]


def installable(wheel: Path, folder: Path) -> Path:
    """Return the wheel, or a copy in ``folder`` under a name without a variant label."""
    plain, variant = split_variant(wheel.name)
    if variant is None:
        return wheel.resolve()
    # pip knows no variants: "not a valid wheel filename"
    return Path(shutil.copy(wheel, folder / plain))
