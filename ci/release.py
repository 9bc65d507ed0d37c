"""Release: everything that this machine can build of the table, from the commit to a release folder.

There is no list of what was done: each step looks at what is there, so a run that was killed at any
point goes on where it was. Nothing that others could take for a release exists before the end.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ci import paths, project
from ci.attached import attached
from ci.errors import ReleaseError, ToolMissingError, UsageError
from ci.host import here, installs_here, require_platform
from ci.installed import (
    Installed,
    is_about,
    read_installed,
    require_installed,
    write_installed,
)
from ci.interpreters import Interpreter
from ci.matrix import select_targets
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.proving import can_prove, require_provers
from ci.record import checkout_commit, record_path
from ci.release_folder import assemble, remove
from ci.release_set import (
    INSTALLED,
    Member,
    ReleaseSet,
    examine,
    require_whole,
    sdist_name,
    unproven_on,
    wheel_name,
)
from ci.smoke_report import report_path
from ci.staging import serving, stage
from ci.table import Table, Target
from ci.trial import try_index
from ci.vendor import Pin, pinned_tree

CHANGELOG = paths.ROOT / "CHANGELOG.md"

_STEP = re.compile(r"\[ *[0-9.]+ s\] (.*)")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a dry run makes: the targets, and why it leaves the table's others out."""

    targets: tuple[Target, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The commit that a release is made of, and when it was made, in seconds since 1970."""

    name: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Makers:
    """What makes the files: the toolchain's own commands, but for tests of what stands around them.

    ``wheel`` leaves a target's wheel with record and report in a folder, ``sdist`` the source
    distribution.
    """

    wheel: Callable[[Target, Path], None]
    sdist: Callable[[Path], None]


def work_folder(folder: Path) -> Path:
    """Return where a dry run keeps wheels and the staged index, beside the release folder."""
    return folder.with_name(f"{folder.name}.work")


def plan(table: Table, patterns: Sequence[str]) -> Plan:
    """Say which targets a dry run makes on this machine.

    Without patterns those that it can build, prove and finish within the hour; what is named is
    made, whatever it takes.

    Raises:
        UsageError: a pattern matches nothing, or nothing is left to be made.
        ToolMissingError: a target that is named cannot be built or proven here.
    """
    chosen = select_targets(table, patterns)
    named = any(text.split() for text in patterns)
    left_out: dict[str, str] = {}
    for target in table.targets:
        if target not in chosen:
            left_out[target.name] = "not asked for"
        elif (reason := _obstacle(target, table, named=named)) is not None:
            left_out[target.name] = reason
    targets = tuple(target for target in chosen if target.name not in left_out)
    if not targets:
        raise UsageError(
            "there is nothing that this machine could build", cure="see `nox -s matrix`"
        )
    return Plan(targets=targets, left_out=left_out)


def this_commit(root: Path = paths.ROOT) -> Commit:
    """Return the commit of the checkout.

    Raises:
        ReleaseError: it is none, or has changes that are in no commit.
    """
    name = checkout_commit(root)
    if name is None or name.endswith("-dirty"):
        changed = "" if name is None else run(["git", "-C", root, "status", "--short"])
        raise ReleaseError(
            "this folder is no checkout of git"
            if name is None
            else f"the checkout has changes that are in no commit:\n{changed}",
            cure="a release is made of a commit: commit or stash them",
        )
    return Commit(name=name, epoch=int(run(["git", "-C", root, "log", "-1", "--format=%ct"])))


def makers(epoch: int, pythons: Sequence[str], progress: Progress, *, pin: Pin) -> Makers:
    """Return the toolchain's own: ``python -m ci build`` and the build backend.

    Args:
        epoch: the date of what is in the sdist.
        pythons: arguments of ``--python``; none prove on every one that is found.
        progress: where steps are told.
        pin: of llama.cpp.
    """

    def wheel(target: Target, folder: Path) -> None:
        command = attached("ci", "build", "--backend", target.backend.name)
        command += ["--platform", target.platform.name, "--out", str(folder.resolve())]
        for python in pythons:
            command += ["--python", python]
        run(command, cwd=paths.ROOT, on_line=tell)

    def tell(line: str) -> None:
        # its steps have times of their own
        if found := _STEP.match(line):
            progress.step(f"  {found[1]}")

    def sdist(folder: Path) -> None:
        pinned_tree(progress, pin=pin)
        command = [sys.executable, "-m", "build", "--sdist", "--no-isolation"]
        env = {"SOURCE_DATE_EPOCH": str(epoch)}
        run([*command, "--outdir", folder, paths.ROOT], cwd=paths.ROOT, env=env)

    return Makers(wheel=wheel, sdist=sdist)


def dry_run(
    planned: Plan,
    folder: Path,
    *,
    commit: Commit,
    interpreters: Sequence[Interpreter],
    taken: Sequence[Path],
    table: Table,
    pin: Pin,
    progress: Progress,
    makers: Makers,
) -> ReleaseSet:
    """Build, prove, check, stage, install and assemble; return the set that is in ``folder`` then.

    Args:
        planned: the targets.
        folder: the release folder; there at the end, whole, or not at all.
        commit: that it is made of.
        interpreters: to prove and to install on.
        taken: folders whose wheels are taken where they are of this commit and proven.
        table: the table.
        pin: of llama.cpp.
        progress: where steps are told.
        makers: of wheels and sdist.

    Raises:
        ToolchainError: of the step that failed. Before the set is whole neither the site nor the
            release folder is there.
    """
    work, version = work_folder(folder), project.version()
    wheels, site = work / "wheels", work / "site"
    wheels.mkdir(parents=True, exist_ok=True)

    def look(targets: Sequence[Target]) -> ReleaseSet:
        return examine(wheels, targets, table, pin, version=version, commit=commit.name)

    def unfit(target: Target) -> list[str]:
        found = look([target])
        # its neighbours in the folder are no problem of its own
        problems = [str(each) for each in found.problems if each.name == target.name]
        return problems or not_proven_on(found.members, interpreters)

    with _alone(work):
        # what an earlier run has left must not be taken for what this one makes
        remove(folder)
        _clear(wheels, planned.targets, version)
        if any(map(unfit, planned.targets)):
            remove(site)
        for target in planned.targets:
            _bring(target, wheels, taken, unfit, makers, progress)
        found = look(planned.targets)
        require_whole(found)
        progress.step(f"the set is whole: {len(found.members)} wheels of {commit.name[:12]}")
        stage(
            found,
            site,
            catalogue=work / "catalogue.jsonl",
            interpreters=interpreters,
            table=table,
            progress=progress,
            epoch=commit.epoch,
        )
        prove(found, site, interpreters, table, progress)
        progress.step(f"assembling {folder}")
        sdist = make_sdist(work, version, makers)
        assemble(
            found,
            folder,
            sdist=sdist,
            changelog=CHANGELOG.read_text(encoding="utf-8"),
            table=table,
            pin=pin,
            left_out=planned.left_out,
        )
    return found


def prove(
    found: ReleaseSet,
    site: Path,
    interpreters: Sequence[Interpreter],
    table: Table,
    progress: Progress,
) -> Installed:
    """Serve a staged site, install from it, and keep what came of it in the set's folder.

    What is there about these very wheels on these interpreters is not done again.

    Raises:
        SmokeError: an installation failed; what is kept says so.
    """
    place = found.folder / INSTALLED
    if place.is_file():
        known = read_installed(place)
        if is_about(known, found, interpreters):
            progress.step("what the index gives was installed and has computed before")
            return known
        place.unlink()
    progress.step(f"installing from the index on {len(interpreters)} Pythons")
    with serving(site) as address:
        installed = try_index(found, address, interpreters, table, progress)
    write_installed(place, installed)
    require_installed(installed)
    return installed


def make_sdist(work: Path, version: str, makers: Makers) -> Path:
    """Make the source distribution in a folder of its own and return it."""
    folder = work / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        makers.sdist(folder)
    except ProcessError as error:
        raise ReleaseError(f"there is no sdist: {error.what}", cure=error.cure) from error
    return folder / sdist_name(version)


def _bring(
    target: Target,
    wheels: Path,
    taken: Sequence[Path],
    unfit: Callable[[Target], list[str]],
    makers: Makers,
    progress: Progress,
) -> None:
    """See that a target's wheel is there and proven, at this commit."""
    if not unfit(target):
        progress.step(f"{target.name} is there")
        return
    name = wheel_name(target, project.version())
    for folder in taken:
        if not all(path.is_file() for path in _three(folder / name)):
            continue
        for path in _three(folder / name):
            _copy(path, wheels / path.name)
        if not unfit(target):
            progress.step(f"{target.name} is taken from {folder}")
            return
    for path in _three(wheels / name):
        path.unlink(missing_ok=True)
    progress.step(f"building and proving {target.name}")
    try:
        makers.wheel(target, wheels)
    except ProcessError as error:
        last = "\n".join(f"  | {line}" for line in error.tail)
        raise ReleaseError(
            f"{target.name} was not built and proven, so nothing is staged:\n{last}",
            cure=f"mend that (nox -s build -- --backend {target.backend.name} --platform"
            f" {target.platform.name}), then run this again: it goes on here",
        ) from error
    problems = unfit(target)
    if problems:
        raise ReleaseError(
            f"{target.name} is not fit for a release, so nothing is staged:\n"
            + "\n".join(f"  {problem}" for problem in problems),
            cure="mend that, then run this again: it goes on here",
        )


def not_proven_on(members: Sequence[Member], interpreters: Sequence[Interpreter]) -> list[str]:
    """Say on which of these Pythons a wheel that installs here has not been proven."""
    names = [each.series for each in interpreters]
    found = [
        unproven_on(member, names) for member in members if installs_here(member.target.platform)
    ]
    return [problem for problem in found if problem is not None]


def _three(wheel: Path) -> Iterator[Path]:
    """Yield a wheel's files in the order in which they are put beside each other."""
    return iter((wheel, record_path(wheel), report_path(wheel)))


def _copy(source: Path, place: Path) -> None:
    staged = place.with_name(f".{place.name}.part")
    shutil.copyfile(source, staged)
    staged.replace(place)


def _clear(wheels: Path, targets: Sequence[Target], version: str) -> None:
    """Remove what an earlier run has left of other targets or another version."""
    ours = {path.name for target in targets for path in _three(Path(wheel_name(target, version)))}
    for path in sorted(wheels.iterdir()):
        if path.is_file() and path.name not in {*ours, INSTALLED}:
            path.unlink()


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the folder, so that two runs do not write there at once; a killed run holds nothing."""
    lock = FileLock(work / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ReleaseError(
            f"another run works in {work}", cure="wait for it, or give another --folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _obstacle(target: Target, table: Table, *, named: bool) -> str | None:
    """Return why a target is not made here; None where it is.

    Raises:
        ToolMissingError: it was named and cannot be.
    """
    try:
        require_platform(target, table)
    except ToolMissingError:
        if named:
            raise
        return f"it is built on {_machine(target)}"
    if not can_prove(target.platform):
        reason = f"it would be built, but nothing here runs it: it is proven on {_machine(target)}"
        if named:
            raise ToolMissingError(
                f"{target.name}: {reason}",
                cure="build it alone (nox -s build), or leave it out: a release is proven whole",
            )
        return reason
    try:
        require_provers(target)
    except ToolMissingError as error:
        if named:
            raise
        return f"{error.what}: it is proven on {_machine(target)}"
    if not named and target.family.toolkit in {"CUDA", "ROCm"}:
        return "it takes hours of compiling and a GPU to prove it on: name it with --target"
    emulated = target.platform.machine != here()[1]
    if not named and emulated and target.family.smoke == "gpu":
        return "its GPU is emulated, which takes the better part of an hour: name it with --target"
    return None


def _machine(target: Target) -> str:
    platform = target.platform
    return f"{platform.title} (in the pipeline: runner {platform.runner})"
