"""What is newer than the pins: release tags of llama.cpp, versions on the package index, CUDA's releases."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pypi_simple import DistributionPackage

from ci.download import files_of
from ci.errors import NetworkError
from ci.process import ProcessError, run
from ci.redistributable import has_release

OLDEST_PYTHON = "3.11"
"""The oldest Python that the toolchain runs on; its tools must, too."""

_TAG = re.compile(r"([0-9a-f]{40})\trefs/tags/b(\d+)(\^\{\})?")
_EXACT = re.compile(r"==\s*([^*,\s]+)")


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A release of llama.cpp: ``b1234``."""

    name: str
    commit: str


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A newer version that is not taken yet, and why."""

    name: str
    version: str
    why: str


def newest_tag(repository: str, commit: str) -> Tag | None:
    """Return the newest release of llama.cpp's repository, by its number; None where the commit is it.

    Raises:
        NetworkError: the repository cannot be reached, or has no release.
    """
    try:
        said = run(["git", "ls-remote", "--tags", repository], timeout=300)
    except ProcessError as error:
        raise NetworkError(
            f"{repository} cannot be asked for its tags: {' / '.join(error.tail[-2:])}",
            cure="check the network and `repository` in vendor/llama.cpp.toml",
        ) from error
    commits: dict[int, str] = {}
    for line in said.splitlines():
        match = _TAG.fullmatch(line)
        # "^{}" is what a tag with a message of its own points at; it comes after the tag
        if match is not None:
            commits[int(match[2])] = match[1]
    if not commits:
        raise NetworkError(
            f"{repository} has no tag of a release (such as b1234)",
            cure="check `repository` in vendor/llama.cpp.toml",
        )
    newest = max(commits)
    found = Tag(name=f"b{newest}", commit=commits[newest])
    return None if found.commit == commit else found


def pinned_version(requirement: str) -> tuple[str, str] | None:
    """Return project and version of ``name==1.2.3; marker``; None where it pins none."""
    parsed = Requirement(requirement)
    match = _EXACT.fullmatch(str(parsed.specifier))
    return None if match is None else (parsed.name, match[1])


def newest_version(
    project: str, version: str, *, now: datetime, cool_down: timedelta
) -> str | Waiting | None:
    """Return a project's newest version that may be taken, what is not old enough for that, or None.

    It is a release, has a file that is not withdrawn, runs on the oldest Python of the toolchain, and
    all of its files have been on the index for the time to cool down: what is bad about a version is
    found in its first days.

    Args:
        project: its name.
        version: the one that is pinned.
        now: the time.
        cool_down: how long ago the last of its files must have been uploaded.

    Raises:
        NetworkError: the index cannot be reached, or has no such project.
    """
    waiting: Waiting | None = None
    for found, files in sorted(_by_version(files_of(project)), reverse=True):
        if found <= Version(version):
            break
        there = [file for file in files if not file.is_yanked]
        if found.is_prerelease or not any(map(_runs, there)):
            continue
        if not cool_down:
            return str(found)
        times = [file.upload_time for file in files]
        known = [time for time in times if time is not None]
        if len(known) == len(times) and max(known) <= now - cool_down:
            return str(found)
        if waiting is None:
            when = (
                f"uploaded {max(known):%Y-%m-%d}" if known else "the index does not say since when"
            )
            waiting = Waiting(name=project, version=str(found), why=when)
    return waiting


def newest_patch(release: str) -> str | None:
    """Return the newest release of CUDA's archives with the same minor version, or None.

    Raises:
        NetworkError: NVIDIA's server cannot be reached.
    """
    minor, _, patch = release.rpartition(".")
    newest, number = None, int(patch) + 1
    while has_release(f"{minor}.{number}"):
        newest, number = f"{minor}.{number}", number + 1
    return newest


def newer_wheel(filename: str, *, now: datetime, cool_down: timedelta) -> str | None:
    """Return a newer version, of the same minor one, of a pinned wheel's project; None where none is.

    Raises:
        NetworkError: the index cannot be reached.
    """
    project, version, *_ = filename.split("-")
    minor = Version(version).release[:2]
    same = [
        (found, files)
        for found, files in _by_version(files_of(project))
        if found > Version(version) and found.release[:2] == minor and not found.is_prerelease
    ]
    old_enough = [
        found
        for found, files in same
        if all(file.upload_time and file.upload_time <= now - cool_down for file in files)
    ]
    return str(max(old_enough)) if old_enough else None


def _by_version(
    files: Iterable[DistributionPackage],
) -> Sequence[tuple[Version, list[DistributionPackage]]]:
    known = []
    for file in files:
        try:
            known.append((Version(file.version or ""), file))
        except InvalidVersion:
            continue
    known.sort(key=lambda each: each[0])
    groups = groupby(known, key=lambda each: each[0])
    return [(version, [file for _, file in group]) for version, group in groups]


def _runs(file: DistributionPackage) -> bool:
    """Say whether a file is for the oldest Python of the toolchain as far as it says."""
    if file.package_type not in {"wheel", "sdist"}:
        return False
    try:
        return file.requires_python is None or SpecifierSet(file.requires_python).contains(
            OLDEST_PYTHON
        )
    except InvalidSpecifier:
        return False
