"""The build record beside a wheel: what it was built with, what that cost, and how far it came."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.compiler import CacheStats
from ci.errors import ToolchainError, WheelError
from ci.host import cpu_name
from ci.problems import told
from ci.process import run
from ci.table import Target
from ci.vendor import commit_of
from ci.wheel import Wheel, library_names, read_wheel

Level: TypeAlias = Literal["configured", "built", "repaired"]
Commit: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
CheckoutCommit: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}(-dirty)?$")]
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Date: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
]

STRICT = ConfigDict(extra="forbid", strict=True)
_BUILD_INFO = "_build_info.json"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class File:
    """A finished file: its name, the SHA-256 of its bytes, how many there are."""

    name: str
    sha256: Sha256
    size: int


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Compilation:
    """How a wheel's libraries were compiled, and what that cost.

    Attributes:
        engine: ``host`` or ``cibuildwheel``.
        toolkit_source: where the toolkit came from; None where there is none.
        seconds: by the clock on the wall.
        cpu_seconds: of every process, the compiler cache's server among them; None where that
            cannot be told.
        cache_hits: objects that came from the compiler cache; None without one.
        cache_misses: objects that it did not have; None without one.
    """

    engine: str
    toolkit_source: str | None
    seconds: float
    cpu_seconds: float | None
    cache_hits: int | None
    cache_misses: int | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BuildRecord:
    """One build of one target.

    Attributes:
        target: its name, ``cu130-manylinux_x86_64``.
        level: how far it came; ``repaired`` is repaired and checked.
        commit: the checkout's, with ``-dirty`` where it was changed; None outside of git.
        date: when the build began, UTC.
        cpu: the machine's.
        units: objects that were compiled or came from the cache; None where nothing counted them.
        compilation: None where it was not finished.
        wheel: the finished one; None unless it came that far.
        modules: the backend's own libraries in it.

    The others are those of the wheel's build info.
    """

    schema: Literal[1] = 1
    target: str
    level: Level
    commit: CheckoutCommit | None
    date: Date
    cpu: str
    llama_cpp_commit: str
    llama_cpp_version: str
    compiler: str
    toolkit: str | None
    gpu_architectures: list[str]
    defines: dict[str, str]
    units: int | None
    compilation: Compilation | None
    wheel: File | None
    modules: list[File]


_PARSER = TypeAdapter(BuildRecord)


class Stopwatch:
    """The time since it was made: on the wall, and of the processes that were started since."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _children_seconds()

    @property
    def seconds(self) -> float:
        """Seconds by the clock on the wall."""
        return time.monotonic() - self._wall

    def cpu_seconds(self, cache: CacheStats | None) -> float | None:
        """CPU seconds of the processes that ended, and of the cache's server; None if unknown."""
        # a container's processes are no children, and Windows counts none
        if cache is None or cache.seconds is None or sys.platform == "win32":
            return None
        return _children_seconds() - self._cpu + cache.seconds

    def compilation(
        self,
        engine: str,
        cache: CacheStats | None,
        toolkit_source: str | None = None,
        *,
        seconds: float | None = None,
    ) -> Compilation:
        """Return what was compiled while it ran; ``seconds`` in place of its own."""
        cpu_seconds = self.cpu_seconds(cache)
        return Compilation(
            engine=engine,
            toolkit_source=toolkit_source,
            seconds=round(self.seconds if seconds is None else seconds, 1),
            cpu_seconds=None if cpu_seconds is None else round(cpu_seconds, 1),
            cache_hits=None if cache is None else cache.hits,
            cache_misses=None if cache is None else cache.misses,
        )


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


@contextmanager
def recording(
    target: Target,
    out: Path,
    *,
    now: datetime,
    build: Path = paths.BUILD,
    root: Path = paths.ROOT,
) -> Iterator[Callable[[Path, Compilation], Path]]:
    """Yield the function that writes the record of a finished wheel beside it.

    Args:
        target: what is built inside of the ``with``.
        out: where a record goes without a wheel, ``<target>.build.json``: of a build that fails
            after CMake has configured it.
        now: when the build begins.
        build: the folder with a folder per target.
        root: the checkout.
    """
    folder = build / target.name
    # what an earlier build got to must not be taken for what this one gets to
    for name in ("cmake", "built", "repaired"):
        shutil.rmtree(folder / name, ignore_errors=True)
    facts: dict[str, Any] = {
        "target": target.name,
        "commit": checkout_commit(root),
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": cpu_name(),
    }
    stopped = out / f"{target.name}.build.json"

    def finished(path: Path, compilation: Compilation) -> Path:
        wheel = read_wheel(path)
        units = _units(folder / "cmake" / ".ninja_log")
        if units is None and compilation.cache_hits is not None:
            units = compilation.cache_hits + (compilation.cache_misses or 0)
        record = BuildRecord(
            **facts,
            **_build_facts(wheel.files[f"llama_cpp/{_BUILD_INFO}"]),
            level="repaired",
            units=units,
            compilation=compilation,
            wheel=File(name=path.name, sha256=wheel.sha256, size=wheel.size),
            modules=_modules(wheel, target),
        )
        stopped.unlink(missing_ok=True)
        return write_record(record_path(path), record)

    try:
        yield finished
    except ToolchainError:
        reached = _reached(folder)
        if reached is not None:
            level, build_info = reached
            record = BuildRecord(
                **facts,
                **_build_facts(build_info),
                level=level,
                units=_units(folder / "cmake" / ".ninja_log"),
                compilation=None,
                wheel=None,
                modules=[],
            )
            write_record(stopped, record)
        raise


def _reached(folder: Path) -> tuple[Level, bytes] | None:
    """Return how far a build came that is not finished, and its build info, from what it left."""
    for wheel in (folder / "built").glob("*.whl"):
        return "built", read_wheel(wheel).files[f"llama_cpp/{_BUILD_INFO}"]
    # CMake writes the first while it configures, the second when all of that went well
    info, generated = folder / "cmake" / _BUILD_INFO, folder / "cmake" / "build.ninja"
    if info.is_file() and generated.is_file():
        return "configured", info.read_bytes()
    return None


def _build_facts(build_info: bytes) -> dict[str, Any]:
    info = json.loads(build_info)
    return {
        "llama_cpp_commit": info["llama_cpp_commit"] or "unknown",
        "llama_cpp_version": info["llama_cpp_version"] or "unknown",
        "compiler": info["compiler"],
        "toolkit": info["toolkit"],
        "gpu_architectures": info["gpu_architectures"],
        "defines": info["defines"],
    }


def _units(log: Path) -> int | None:
    """Return how many objects ninja's log names, each once."""
    if not log.is_file():
        return None
    # start, end, mtime, output, hash of the command
    fields = [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()]
    outputs = {line[3] for line in fields if len(line) == 5}
    return sum(output.endswith((".o", ".obj")) for output in outputs)


def _modules(wheel: Wheel, target: Target) -> list[File]:
    names = library_names(target.family.modules, target.platform.system)
    return [
        File(name=PurePosixPath(path).name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for path, data in wheel.libraries.items()
        if PurePosixPath(path).name in names
    ]


def checkout_commit(root: Path = paths.ROOT) -> str | None:
    """Return the checkout's commit, ``-dirty`` behind it where a file was changed; None without."""
    commit = commit_of(root)
    if commit is None:
        return None
    changed = run(["git", "-C", root, "status", "--porcelain"])
    return f"{commit}-dirty" if changed else commit


def record_path(wheel: Path) -> Path:
    """Return where the build record of a wheel lies: beside it."""
    return wheel.with_name(f"{wheel.name}.build.json")


def write_record(place: Path, record: BuildRecord) -> Path:
    """Write a record, whole or not at all."""
    content: Mapping[str, object] = asdict(record)
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(place)
    return place


def read_record(path: Path) -> BuildRecord:
    """Read a build record.

    Raises:
        WheelError: it is not one; every key that is missing, unknown or malformed is listed.
    """
    try:
        return _PARSER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise WheelError(
            f"{path.name} is no build record:\n{told(error, whole='record')}",
            cure="build the wheel again: nox -s build",
        ) from error
