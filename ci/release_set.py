"""The release set: are the wheels of a folder, with their records and reports, exactly the table's?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ci.errors import ReleaseError, SmokeError, ToolchainError
from ci.evidence import Evidence, Proof, kept
from ci.interpreters import tag_of
from ci.record import BuildRecord, File, read_record, record_path
from ci.relabel import AUTO
from ci.reports import BUILD_SUFFIX, SMOKE_SUFFIX, read_proofs
from ci.smoke_report import report_path
from ci.table import Table, Target
from ci.vendor import Pin

Kind: TypeAlias = Literal[
    "missing", "unfit", "failing", "unproven", "other commit", "dirty", "other version", "extra"
]

INSTALLED = "installed.json"
SUMS = "SHA256SUMS"
RELEASE = "release.json"
# what is beside the wheels when a release has come further than its set
OTHERS = (INSTALLED, SUMS, RELEASE, "costs.json", "costs.md", "proof.md", "notes.md")
_DIRTY = "-dirty"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What keeps a folder from being a release: of which target or file, and why."""

    kind: Kind
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One wheel of the set, with what its record and its report show; both are about its bytes."""

    target: Target
    file: File
    record: BuildRecord
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, kw_only=True)
class ReleaseSet:
    """The wheels of a folder in the table's order, and what is wrong with it.

    Attributes:
        folder: that was looked at.
        version: without a label.
        commit: of the checkout that all of it was made from; empty where nothing says one.
        targets: that it is to have.
        members: those that are there and whole.
        problems: none in a set that may be released.
    """

    folder: Path
    version: str
    commit: str
    targets: tuple[Target, ...]
    members: tuple[Member, ...]
    problems: tuple[Problem, ...]

    @property
    def evidence(self) -> Evidence:
        """What the records and reports show, by target."""
        return {member.target.name: member.proofs for member in self.members}


def wheel_name(target: Target, version: str) -> str:
    """Return the name of a target's wheel in a release."""
    return f"llama_cpp_python-{version}+{target.backend.name}-py3-none-{target.wheel_tag}.whl"


def sdist_name(version: str) -> str:
    """Return the name of a release's source distribution."""
    return f"llama_cpp_python-{version}.tar.gz"


def examine(
    folder: Path,
    targets: Sequence[Target],
    table: Table,
    pin: Pin,
    *,
    version: str,
    commit: str | None,
) -> ReleaseSet:
    """Compare a folder with the targets that a release is to have; find all problems at once.

    Args:
        folder: wheels, each with its ``.build.json`` and ``.smoke.json`` beside it.
        targets: one wheel each, no more and no less.
        table: the table.
        pin: of llama.cpp, that all wheels must hold.
        version: without a label.
        commit: of the checkout; None takes that of the first wheel, and compares the others.

    Raises:
        ReleaseError: there is no such folder.
    """
    if not folder.is_dir():
        raise ReleaseError(
            f"there is no folder {folder}", cure="name the folder of the wheels, such as dist"
        )
    members: list[Member] = []
    problems: list[Problem] = []
    for target in targets:
        path = folder / wheel_name(target, version)
        found = _missing(path, target) if not path.is_file() else _member(path, target, table, pin)
        if isinstance(found, Member):
            members.append(found)
        else:
            problems += found
    wanted = commit or next((_plain(member.record.commit) for member in members), "")
    for member in members:
        problems += _unproven(member)
        problems += _foreign(member, wanted)
    problems += _strays(folder, targets, table, version)
    return ReleaseSet(
        folder=folder,
        version=version,
        commit=wanted,
        targets=tuple(targets),
        members=tuple(members),
        problems=tuple(problems),
    )


def require_whole(found: ReleaseSet) -> None:
    """Raise all that keeps a set from being released.

    Raises:
        ReleaseError: something does.
    """
    if not found.problems:
        return
    count = len(found.problems)
    raise ReleaseError(
        f"{found.folder} is not the release {found.version} of {found.commit[:12] or 'no commit'}:"
        f" {count} problem{'s' if count > 1 else ''}\n"
        + "\n".join(f"  {problem}" for problem in found.problems),
        cure="build and prove what is not whole at this commit (nox -s build -- --backend NAME"
        " --platform NAME), take away what is extra, then run this again",
    )


def unproven_on(member: Member, pythons: Iterable[str]) -> str | None:
    """Say on which of these Pythons (``3.13t``) a wheel has not been proven; None if on all."""
    shown = {tag for proof in member.proofs for tag in proof.interpreters}
    missing = [name for name in pythons if tag_of(name) not in shown]
    if not missing:
        return None
    return f"{member.target.name} is not proven on Python {', '.join(missing)}"


def require_pythons(found: ReleaseSet, table: Table) -> None:
    """Raise where a wheel has not been proven on every Python that there is for its platform.

    One for musl is proven on the Pythons that its proof brings, whatever the machine has.

    Raises:
        ReleaseError: one has not.
    """
    lacking = []
    for member in found.members:
        platform = member.target.platform
        problem = unproven_on(member, table.pythons(platform))
        if problem is not None and platform.libc != "musl":
            lacking.append(f"  {problem}")
    if lacking:
        raise ReleaseError(
            f"{found.folder} is not proven on every Python of the table:\n" + "\n".join(lacking),
            cure="prove these wheels where those Pythons are: nox -s smoke -- --all-pythons",
        )


def _missing(path: Path, target: Target) -> list[Problem]:
    detail = f"there is no {path.name}"
    stopped = path.with_name(f"{target.name}{BUILD_SUFFIX}")
    if stopped.is_file():
        detail += f"; its build stopped when it was {read_record(stopped).level}"
    return [Problem(kind="missing", name=target.name, detail=detail)]


def _member(path: Path, target: Target, table: Table, pin: Pin) -> Member | list[Problem]:
    def problem(kind: Kind, detail: str) -> list[Problem]:
        return [Problem(kind=kind, name=target.name, detail=detail)]

    record, report = record_path(path), report_path(path)
    if not record.is_file():
        return problem("unfit", f"there is no build record {record.name}")
    if not report.is_file():
        return problem("unproven", f"there is no smoke report {report.name}")
    proofs: list[Proof] = []
    for file in (record, report):
        try:
            proofs += read_proofs(file, table, pin)[1]
        except SmokeError as error:
            return problem("failing", error.what)
        except ToolchainError as error:
            return problem("unfit", error.what)
    built = read_record(record)
    # a record that shows a repaired wheel names it
    assert built.wheel is not None
    whole = tuple(kept([], proofs, target, pin))
    return Member(target=target, file=built.wheel, record=built, proofs=whole)


def _unproven(member: Member) -> Iterator[Problem]:
    if not any(proof.level == "computed" for proof in member.proofs):
        detail = "its smoke test found no GPU, so it has computed on none"
        yield Problem(kind="unproven", name=member.target.name, detail=detail)


def _foreign(member: Member, wanted: str) -> Iterator[Problem]:
    commits = {proof.commit for proof in member.proofs}
    for commit in sorted(commits):
        if _plain(commit) != wanted:
            detail = f"it is of {_plain(commit)[:12]}, the release of {wanted[:12]}"
            yield Problem(kind="other commit", name=member.target.name, detail=detail)
    if any(commit.endswith(_DIRTY) for commit in commits):
        detail = "the checkout had changes that are in no commit"
        yield Problem(kind="dirty", name=member.target.name, detail=detail)


def _strays(
    folder: Path, targets: Sequence[Target], table: Table, version: str
) -> Iterator[Problem]:
    wheels = {wheel_name(target, version) for target in targets}
    ours = {f"{name}{suffix}" for name in wheels for suffix in ("", BUILD_SUFFIX, SMOKE_SUFFIX)}
    # the record of a build that stopped is told where its wheel is missing
    ours |= {f"{target.name}{BUILD_SUFFIX}" for target in targets}
    ours |= {*OTHERS, sdist_name(version), AUTO}
    for path in sorted(folder.iterdir()):
        # a name with a dot is a file that a command was killed at; nothing reads it
        if path.name in ours or path.name.startswith("."):
            continue
        base = path.name.removesuffix(BUILD_SUFFIX).removesuffix(SMOKE_SUFFIX)
        if path.name != base and (folder / base).is_file():
            # the wheel itself is told
            continue
        yield _stray(path, base, table, version)


def _stray(path: Path, base: str, table: Table, version: str) -> Problem:
    found = _version_of(base, table)
    if found is not None and found != version:
        detail = f"it is of version {found}, the release of {version}"
        return Problem(kind="other version", name=path.name, detail=detail)
    detail = "the release has no such file"
    return Problem(kind="extra", name=path.name, detail=detail)


def _version_of(name: str, table: Table) -> str | None:
    """Return the version of one of the table's wheels by its name; None for any other name."""
    try:
        _, version, _, _ = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return None
    names = {wheel_name(target, version.public) for target in table.targets}
    return version.public if name in names else None


def _plain(commit: str | None) -> str:
    return (commit or "").removesuffix(_DIRTY)
