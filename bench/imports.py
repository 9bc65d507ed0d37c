"""Time of ``import llama_cpp`` and size of the wheel, beside the package that the index has.

That package is the sdist that the pin names as a mirror: it carries the same commit of llama.cpp, so
the difference is in the packaging and in the Python code alone. It is built with its own defaults.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock

from bench import machine
from bench.builds import gnu_compiler
from bench.figures import Spread, spread
from ci import paths
from ci.download import download_sdist
from ci.errors import BuildError, NetworkError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.vendor import Mirror

Moment: TypeAlias = Literal["import", "libraries"]

OURS, THEIRS = "wheel", "sdist"

# what the module's name alone brings, and what a program needs before it can load a model; one
# package loads its libraries in the import, the other at first use
PROGRAMS: Mapping[str, Mapping[Moment, str]] = {
    OURS: {
        "import": "import llama_cpp",
        "libraries": "import llama_cpp; from llama_cpp import _library; _library.load()",
    },
    THEIRS: {
        "import": "import llama_cpp",
        "libraries": "import llama_cpp; llama_cpp.llama_backend_init()",
    },
}
MOMENTS: tuple[Moment, ...] = ("import", "libraries")

_CLEAN = ("PYTHON", "LLAMA_", "GGML_", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A wheel and the interpreter of an environment that it is installed in."""

    name: str
    title: str
    wheel: Path
    python: Path
    programs: Mapping[Moment, str]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a wheel: the file, its contents, and how many shared libraries it holds."""

    file_bytes: int
    content_bytes: int
    libraries: int


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds on top of the bare interpreter's, round by round, for each package and moment."""

    bare_s: Sequence[float]
    extra_s: Mapping[str, Mapping[Moment, Sequence[float]]]

    def spread(self, name: str, moment: Moment) -> Spread:
        """Return the spread of one package's seconds."""
        return spread(self.extra_s[name][moment])

    def ratio(self, moment: Moment, name: str = THEIRS, base: str = OURS) -> float:
        """Return how many times longer a package takes than another, by the medians."""
        return self.spread(name, moment).median / self.spread(base, moment).median


def sdist_wheel(mirror: Mirror, *, jobs: int, progress: Progress) -> Path:
    """Return the wheel of the other package, built once with pip and g++ and kept in the cache.

    Raises:
        ToolMissingError: there is no g++.
        NetworkError: the sdist cannot be downloaded.
        VendorError: it is not the file of the pin.
        BuildError: pip cannot build it.
    """
    gnu_compiler()
    folder = paths.cache_folder() / "bench" / f"{mirror.project}-{mirror.project_version}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        finished = sorted(folder.glob("*.whl"))
        if finished:
            return finished[0]
        progress.step(f"building {mirror.project} {mirror.project_version} with its own defaults")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = _build_sdist(mirror, Path(scratch), jobs, progress)
            return built.rename(folder / built.name)


def _build_sdist(mirror: Mirror, scratch: Path, jobs: int, progress: Progress) -> Path:
    sdist = download_sdist(
        progress,
        project=mirror.project,
        version=mirror.project_version,
        sha256=mirror.sha256,
        folder=scratch,
    )
    # its options would come from the environment
    env = dict.fromkeys(("CMAKE_ARGS", "CFLAGS", "CXXFLAGS", "SKBUILD_CMAKE_ARGS"), "")
    env |= {"CC": "gcc", "CXX": "g++", "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
    python = environment(scratch / "venv")
    out = scratch / "out"
    try:
        run([python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, sdist], env=env)
    except ProcessError as error:
        raise BuildError(
            f"{sdist.name} was not built: {error.what}",
            cure="read pip's last lines above; without the network it cannot fetch its build"
            " requirements",
        ) from error
    return next(out.glob("*.whl"))


def install(name: str, title: str, wheel: Path, folder: Path) -> Installed:
    """Install a wheel and what it requires into a fresh environment.

    Raises:
        NetworkError: pip cannot get what it requires.
    """
    python = environment(folder)
    try:
        run([python, "-m", "pip", "install", "--quiet", wheel])
    except ProcessError as error:
        raise NetworkError(
            f"{wheel.name} could not be installed: {error.what}", cure="check pip's index-url"
        ) from error
    programs = PROGRAMS.get(name, PROGRAMS[OURS])
    return Installed(name=name, title=title, wheel=wheel, python=python, programs=programs)


def measure(
    packages: Sequence[Installed],
    *,
    rounds: int,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> Timed:
    """Start interpreters in turns; the first round fills the disk cache and does not count.

    Args:
        packages: what to start.
        rounds: how often.
        progress: where to say so.
        clock: its difference is what a start costs, in seconds.

    Raises:
        BuildError: a package cannot be imported.
    """
    progress.step(f"importing: {rounds} rounds")
    bare: list[float] = []
    extra: dict[str, dict[Moment, list[float]]] = {
        package.name: {moment: [] for moment in MOMENTS} for package in packages
    }
    for number in range(rounds + 1):
        for moment in MOMENTS:
            for package in packages:
                start = _seconds(package, "pass", clock)
                whole = _seconds(package, package.programs[moment], clock)
                if number:
                    bare.append(start)
                    extra[package.name][moment].append(whole - start)
    return Timed(bare_s=bare, extra_s=extra)


def size(wheel: Path) -> Size:
    """Return a wheel's sizes."""
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    return Size(
        file_bytes=wheel.stat().st_size,
        content_bytes=sum(entry.file_size for entry in entries),
        libraries=sum(_is_library(entry.filename) for entry in entries),
    )


def _is_library(name: str) -> bool:
    return name.endswith((".so", ".dylib", ".dll")) or ".so." in name


def environment(folder: Path) -> Path:
    """Return the Python of an environment, made where it is not there yet."""
    if not (folder / "pyvenv.cfg").is_file():
        run([sys.executable, "-m", "venv", folder])
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those that would change what is imported."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_CLEAN)}


def devices(package: Installed) -> tuple[str, ...]:
    """Return the names of what a package of ours computes on here.

    Raises:
        BuildError: it cannot be imported.
    """
    said = _run(package, "import llama_cpp; print(*(each.name for each in llama_cpp.devices()))")
    return tuple(said.split())


def _seconds(package: Installed, program: str, clock: Callable[[], float]) -> float:
    start = clock()
    _run(package, program)
    return clock() - start


def _run(package: Installed, program: str) -> str:
    call = subprocess.run(
        [package.python, "-c", program],
        env=clean_environment(),
        cwd=package.python.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if call.returncode != 0:
        printed = "".join(f"\n  | {line}" for line in call.stderr.splitlines()[-10:])
        raise BuildError(
            f"{package.title}: `{program}` ended with exit code {call.returncode}{printed}",
            cure="run `nox -s smoke`: it says what the wheel lacks",
        )
    return call.stdout


def report(
    timed: Timed,
    packages: Sequence[Installed],
    *,
    date: datetime,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return the content of ``results/import.json``."""
    sizes = {package.name: size(package.wheel) for package in packages}
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "cpus": machine.cpu_count(),
        **circumstances,
        "rounds": len(timed.extra_s[OURS]["import"]),
        "bare_interpreter_s": spread(timed.bare_s).rounded(4),
        "packages": {
            package.name: {
                "title": package.title,
                "wheel": package.wheel.name,
                "wheel_bytes": sizes[package.name].file_bytes,
                "unpacked_bytes": sizes[package.name].content_bytes,
                "library_files": sizes[package.name].libraries,
                "programs": dict(package.programs),
                "seconds": {
                    moment: timed.spread(package.name, moment).rounded(4) for moment in MOMENTS
                },
            }
            for package in packages
        },
        "ratio": {
            "import_seconds": round(timed.ratio("import"), 2),
            "libraries_seconds": round(timed.ratio("libraries"), 2),
            "wheel_bytes": round(sizes[THEIRS].file_bytes / sizes[OURS].file_bytes, 2),
            "unpacked_bytes": round(sizes[THEIRS].content_bytes / sizes[OURS].content_bytes, 2),
        },
    }
