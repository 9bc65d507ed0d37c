"""Reproduce: build the wheel again, elsewhere and without the compiler cache, and compare bytes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ci import paths
from ci.check import target_of
from ci.errors import BuildError, ToolMissingError, WheelError
from ci.host import require_platform
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.reproduction import FOLDER, write_reproduction
from ci.table import Table, Target
from ci.wheel import Wheel, read_wheel

_CURE = "build from this very checkout and try again; what still differs depends on folder, time or order"


def reproduce_all(
    wheels: Sequence[Path], table: Table, progress: Progress, *, cached: bool
) -> None:
    """Reproduce every wheel that this machine can build, for whatever platform; tell the others.

    Args:
        wheels: finished ones.
        table: what they are is in it.
        progress: where steps are shown.
        cached: see `reproduce`.

    Raises:
        WheelError: one or more came out with other bytes; all of them are named.
        ToolMissingError: this machine builds none of them.
    """
    differing: list[str] = []
    elsewhere: list[ToolMissingError] = []
    for wheel in wheels:
        target = target_of(read_wheel(wheel), table)
        try:
            require_platform(target, table)
        except ToolMissingError as error:
            progress.warn(f"{wheel.name} is not built again here: {error.what}")
            elsewhere.append(error)
            continue
        try:
            reproduce(wheel, target, progress, cached=cached)
        except WheelError as error:
            progress.fail(error.what)
            differing.append(error.what)
    if differing:
        raise WheelError(
            "\n".join(differing),
            cure=f"{_CURE} (the others are in {FOLDER})",
        )
    if elsewhere and len(elsewhere) == len(wheels):
        raise elsewhere[0]


def reproduce(wheel: Path, target: Target, progress: Progress, *, cached: bool) -> None:
    """Build ``target`` from a copy of this checkout in another folder and compare it with ``wheel``.

    Args:
        wheel: the wheel to be reproduced.
        target: what it is.
        progress: where steps are shown.
        cached: whether objects may come from the compiler cache (quick, and proves less).

    Raises:
        BuildError: the copy was not built.
        WheelError: the bytes differ; the message names the files and where in them, and the wheel that
            was built again is kept.
    """
    first = read_wheel(wheel)
    with tempfile.TemporaryDirectory(prefix="reproduce-in-another-folder-") as folder:
        checkout = Path(folder) / "checkout"
        _copy_checkout(checkout)
        progress.step(f"building {target.name} again in {checkout}")
        command = [sys.executable, "-m", "ci", "build", "--engine", "host"]
        command += ["--backend", target.backend.name, "--platform", target.platform.name]
        command += _asked_for(first)
        if target.family.toolkit != "none":
            _give_cpu_wheel(wheel.parent, target, checkout / "dist")
        try:
            with progress.compiling("compiling again") as show:
                run(
                    [*command, "--python", sys.executable],
                    cwd=checkout,
                    env={} if cached else {"SCCACHE_RECACHE": "1"},
                    on_line=show,
                )
        except ProcessError as error:
            raise BuildError(f"the copy was not built: {error.what}", cure=error.cure) from error
        # a build with --archs leaves its wheel one folder down
        (again,) = (checkout / "dist").rglob(wheel.name)
        second = read_wheel(again)
        if first.sha256 == second.sha256:
            progress.step(f"{wheel.name}: the same bytes, sha256 {first.sha256}")
            if not cached:
                place = write_reproduction(first, now=datetime.now(UTC))
                progress.step(f"report: {place}")
            return
        kept = FOLDER / wheel.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(again, kept)
    differing = [
        f"  {name}: {difference}"
        for name in sorted({*first.files, *second.files})
        if (difference := _difference(first.files.get(name), second.files.get(name)))
    ]
    raise WheelError(
        f"{wheel.name} came out with other bytes:\n"
        + "\n".join(differing or ["  the archive itself"]),
        cure=f"{_CURE} (the other one is {kept})",
    )


def _difference(first: bytes | None, second: bytes | None) -> str | None:
    """Say how a file differs from the one that was built again; None where it does not."""
    if first == second:
        return None
    if first is None:
        return "only in the one that was built again"
    if second is None:
        return "not in the one that was built again"
    if len(first) != len(second):
        return f"{len(first):,} bytes, {len(second):,} when built again"
    places = [place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    return f"{len(places):,} of {len(first):,} bytes, from {places[0]:#x} to {places[-1]:#x}"


def _asked_for(wheel: Wheel) -> list[str]:
    """Return the arguments of the build that the wheel says of itself."""
    info = json.loads(wheel.files["llama_cpp/_build_info.json"])
    arguments: list[str] = []
    if "." in (wheel.label or ""):
        arguments += ["--archs", ";".join(info["gpu_architectures"])]
    if "compatible with" in (info["toolkit"] or ""):
        arguments.append("--compatible-toolkit")
    return arguments


def _give_cpu_wheel(wheels: Path, target: Target, to: Path) -> None:
    """Put the CPU wheel beside the one that is built again: it is a part of it, byte by byte."""
    to.mkdir()
    for folder in (wheels, paths.DIST):
        for path in folder.glob(f"llama_cpp_python-*+cpu-*{target.platform.wheel_tag}.whl*"):
            shutil.copy2(path, to)


def _copy_checkout(to: Path) -> None:
    listed = run(
        ["git", "-C", paths.ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    )
    for name in filter(None, listed.split("\0")):
        source = paths.ROOT / name
        if source.is_file():
            place = to / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, place)
