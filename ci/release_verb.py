"""``python -m ci release``: its arguments, and what each action does."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ci import paths, project
from ci.errors import ReleaseError, UsageError
from ci.interpreters import Interpreter
from ci.matrix import select_targets
from ci.progress import Progress
from ci.release import (
    CHANGELOG,
    Commit,
    dry_run,
    make_sdist,
    makers,
    plan,
    prove,
    this_commit,
    work_folder,
)
from ci.release_folder import assemble, verify
from ci.release_set import ReleaseSet, examine, require_pythons, require_whole
from ci.staging import stage
from ci.table import Table, Target
from ci.vendor import load_pin

_FOLDER = paths.BUILD / "release"
_SITE = paths.ROOT / "site"


def add_release(
    add_parser: Callable[..., argparse.ArgumentParser],
    add_pythons: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the verb to the command line."""
    release = add_parser("release", help="from proven wheels to a release folder and its index")
    release.add_argument(
        "--dry-run",
        action="store_true",
        help="build, prove, check, stage, install and assemble what this machine can build",
    )
    release.add_argument(
        "--folder",
        type=Path,
        default=_FOLDER,
        help="the release folder of the dry run (default: build/release); what it works with lies"
        " beside it, in FOLDER.work",
    )
    release.add_argument(
        "--take",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="dry run: take wheels from here that are of this commit and proven, such as dist",
    )
    _add_targets(release)
    add_pythons(release)
    actions = release.add_subparsers(dest="action", metavar="ACTION")

    check = actions.add_parser("check", help="is a folder exactly the table's set, all proven?")
    stage_ = actions.add_parser("stage", help="make the index of a set, in site/")
    prove_ = actions.add_parser("prove", help="serve that index here and install from it")
    assemble_ = actions.add_parser("assemble", help="write the release folder of a set")
    verify_ = actions.add_parser("verify", help="check a release folder: hashes, reports, SBOMs")
    for parser in (check, stage_, prove_, assemble_, verify_):
        parser.add_argument("folder", type=Path, metavar="FOLDER")
    for parser in (check, stage_, prove_, assemble_):
        _add_targets(parser)
        parser.add_argument(
            "--tag", help="the release's, such as v0.3.100: the version must be its"
        )
    check.add_argument(
        "--all-pythons",
        action="store_true",
        help="each wheel must be proven on every Python that there is for its platform",
    )
    for parser in (stage_, prove_):
        parser.add_argument(
            "--site", type=Path, default=_SITE, metavar="FOLDER", help="default: site/"
        )
        add_pythons(parser)
    assemble_.add_argument(
        "--out", type=Path, default=_FOLDER, metavar="FOLDER", help="default: build/release"
    )


def run_release(
    options: argparse.Namespace,
    table: Table,
    progress: Progress,
    interpreters: Callable[[], list[Interpreter]],
) -> None:
    """Do what ``python -m ci release`` was asked for.

    Args:
        options: of the command line.
        table: the table.
        progress: where steps are told.
        interpreters: those that ``--python`` names, or all that are found; asked for when needed.

    Raises:
        ToolchainError: of the step that failed.
    """
    actions = {
        "check": _check,
        "stage": _stage,
        "prove": _prove,
        "assemble": _assemble,
        "verify": _verify,
    }
    if options.action is not None:
        if options.dry_run:
            raise UsageError(
                f"--dry-run does everything, {options.action} one part of it",
                cure="leave one of the two away",
            )
        actions[options.action](options, table, progress, interpreters)
        return
    if not options.dry_run:
        raise UsageError(
            "a release is published by the pipeline, part by part",
            cure="see what it would be with --dry-run, or name a part: check, stage, prove,"
            " assemble, verify",
        )
    _dry_run(options, table, progress, interpreters)


_Interpreters = Callable[[], list[Interpreter]]


def _dry_run(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    commit, pin = this_commit(), load_pin()
    planned = plan(table, options.target)
    progress.summary(
        f"release {project.version()} of {commit.name[:12]}, a dry run",
        [(target.name, "is made") for target in planned.targets]
        + [(name, f"is left out: {reason}") for name, reason in planned.left_out.items()],
    )
    found = dry_run(
        planned,
        options.folder,
        commit=commit,
        interpreters=interpreters(),
        taken=options.take,
        table=table,
        pin=pin,
        progress=progress,
        makers=makers(commit.epoch, options.python, progress, pin=pin),
    )
    rows = [(member.file.name, f"sha256 {member.file.sha256}") for member in found.members]
    progress.summary(str(options.folder), rows)
    progress.step(f"nothing was published; the staged index is {work_folder(options.folder)}/site")


def _check(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    del interpreters
    found = _set(options, table, this_commit())
    require_whole(found)
    if options.all_pythons:
        require_pythons(found, table)
    progress.step(
        f"{options.folder} is the release {found.version} of {found.commit[:12]}:"
        f" {len(found.members)} wheels, all proven"
    )


def _stage(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    commit = this_commit()
    stage(
        _set(options, table, commit),
        options.site,
        catalogue=paths.BUILD / "catalogue.jsonl",
        interpreters=interpreters(),
        table=table,
        progress=progress,
        epoch=commit.epoch,
    )
    progress.step(f"wrote {options.site}")


def _prove(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    found = _set(options, table, this_commit())
    require_whole(found)
    installed = prove(found, options.site, interpreters(), table, progress)
    runs = sum(len(wheel.runs) for wheel in installed.wheels)
    progress.step(f"{len(installed.wheels)} wheels came from the index, {runs} times")


def _assemble(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    del interpreters
    commit, pin = this_commit(), load_pin()
    found = _set(options, table, commit)
    require_whole(found)
    left_out = {
        target.name: "not asked for" for target in table.targets if target not in found.targets
    }
    with tempfile.TemporaryDirectory(prefix="sdist-") as scratch:
        sdist = make_sdist(
            Path(scratch), found.version, makers(commit.epoch, (), progress, pin=pin)
        )
        assemble(
            found,
            options.out,
            sdist=sdist,
            changelog=CHANGELOG.read_text(encoding="utf-8"),
            table=table,
            pin=pin,
            left_out=left_out,
        )
    progress.step(f"wrote {options.out}")


def _verify(
    options: argparse.Namespace, table: Table, progress: Progress, interpreters: _Interpreters
) -> None:
    del interpreters
    verified = verify(options.folder, table, load_pin())
    contents = verified.contents
    lacks = f"; it lacks {len(contents.left_out)} of the table's" if contents.left_out else ""
    progress.step(
        f"{options.folder} is what it says: {contents.version} of {contents.commit[:12]},"
        f" {len(contents.wheels)} wheels, {verified.files} files{lacks}"
    )


def _set(options: argparse.Namespace, table: Table, commit: Commit) -> ReleaseSet:
    return examine(
        options.folder,
        _targets(options.target, table),
        table,
        load_pin(),
        version=_version(options.tag),
        commit=commit.name,
    )


def _targets(patterns: Sequence[str], table: Table) -> list[Target]:
    return select_targets(table, patterns)


def _version(tag: str | None) -> str:
    """Return the version to be released, which a tag must name.

    Raises:
        ReleaseError: the tag names another one than the package.
    """
    version = project.version()
    if tag is not None and tag != f"v{version}":
        raise ReleaseError(
            f"the tag is {tag}, llama_cpp/_version.py says {version}",
            cure=f"tag the commit v{version}, or set the version and tag that commit",
        )
    return version


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a part of the table's targets, such as 'cpu-*' (can be repeated)",
    )
