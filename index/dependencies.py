"""Pass-through pages: the dependencies of our wheels, so that one index is enough for an installer.

What is known of them is an append-only file like the catalogue, one JSON line per file, from which
the pages follow without any network. A later line about a file may differ in what an upstream
index may change: where it is, whether it is yanked, and what it did not say before.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import CatalogueError
from index.catalogue import Sha256, Time, Url
from index.page import File, Project
from index.problems import told
from index.requirement import (
    extras_of,
    may_hold,
    may_use,
    name_and_version,
    names_a_platform,
    parse,
    pins,
)
from index.staging import replace_file
from index.wheel import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from ci.table import Table
    from index.catalogue import Entry

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_RESTORE: Final = (
    "restore the file from its version control, then run `python -m index dependencies`"
)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Dependency:
    """One file of a project that our wheels require, as an upstream index links it.

    ``size`` is in bytes. ``metadata_sha256`` is the hash of the file at ``url`` with ``.metadata``
    added, None where there is no such file. ``requires`` are its requirements as its METADATA has
    them. ``yanked`` is the reason, None where it was not taken back.
    """

    project: str
    version: str
    name: str
    url: Url
    sha256: Sha256
    size: Annotated[int, Field(gt=0)] | None
    upload_time: Time | None
    requires_python: str | None
    metadata_sha256: Sha256 | None
    requires: tuple[str, ...]
    yanked: str | None


_PARSER = TypeAdapter(Dependency)


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What a wheel of ours cannot be installed without on its platform, and nothing serves it."""

    by: str
    requirement: str
    platform: str


@dataclass(frozen=True, kw_only=True)
class Needed:
    """The files that serve some requirement, by name by project, and what is missing."""

    files: dict[str, dict[str, Dependency]]
    missing: tuple[Missing, ...]


@dataclass(frozen=True, kw_only=True)
class _Need:
    """A requirement, and the platforms that it counts on; None is every machine there is."""

    requirement: str
    platforms: frozenset[str] | None


def load(path: Path) -> tuple[Dependency, ...]:
    """Read the file of dependencies; a missing file is an empty one.

    Raises:
        CatalogueError: A line is cut off, malformed, contradicts itself, or says something else
            of a file than an earlier line; the message says which line.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ()
    known: dict[str, Dependency] = {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        where = f"{path}:{number}"
        if not line.endswith(b"\n"):
            raise CatalogueError(f"{where}: the line is cut off (no newline)", cure=_RESTORE)
        try:
            said = _PARSER.validate_json(line)
        except ValidationError as error:
            raise CatalogueError(f"{where}: {told(error, whole='line')}", cure=_RESTORE) from error
        wrong = objection(said)
        if wrong is not None:
            raise CatalogueError(f"{where}: {said.name}: {wrong}", cure=_RESTORE)
        there = known.get(said.name)
        if there is not None and updated(there, said) != said:
            what = (
                f"{where}: {said.name} is there already, and only its place and yanked may change"
            )
            raise CatalogueError(what, cure=_RESTORE)
        known[said.name] = said
    return tuple(known.values())


def updated(known: Dependency, said: Dependency) -> Dependency:
    """Return what is known of a file after an upstream index has said something of it."""
    return replace(
        known,
        url=said.url,
        yanked=said.yanked,
        metadata_sha256=said.metadata_sha256,
        size=known.size if known.size is not None else said.size,
        upload_time=known.upload_time if known.upload_time is not None else said.upload_time,
    )


def objection(said: Dependency) -> str | None:
    """Say what is wrong with a line, None where nothing is."""
    try:
        name, version = name_and_version(said.name)
        requirements = [parse(text) for text in said.requires]
    except ValueError as error:
        return f"not the name of a wheel or an sdist ({error})"
    except CatalogueError as error:
        return error.what
    if said.project == PROJECT:
        return f"{PROJECT} is ours: its files are in the catalogue, and nowhere else"
    if (said.project, said.version) != (name, str(version)):
        return f"{said.project} {said.version} does not follow from the file name"
    if (direct := next((each for each in requirements if each.url is not None), None)) is not None:
        return f"it requires {direct.name} at an address, which no index can carry"
    return objection_to_address(said.url, file=said.name)


def objection_to_address(url: str, *, file: str) -> str | None:
    """Say what is wrong with the address of a file, None where nothing is."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return f"the address must begin with https:// ({parts.scheme}://{parts.hostname})"
    if parts.username is not None or parts.password is not None:
        return "the address holds a name or a password, which everybody would read"
    # pip takes the file name from the address, uv from what the page says.
    if unquote(parts.path.rpartition("/")[2]) != file:
        return f"the address ends with another file name ({parts.path.rpartition('/')[2]})"
    return None


def write(path: Path, lines: Iterable[Dependency]) -> None:
    """Append lines in one step: a reader sees the old file or the new one."""
    before = path.read_bytes() if path.exists() else b""
    added = b"".join(
        json.dumps(asdict(line), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        for line in lines
    )
    replace_file(path, before + added)


def dependency_projects(
    entries: Sequence[Entry], dependencies: Sequence[Dependency], *, table: Table
) -> tuple[Project, ...]:
    """Return the projects that one backend's wheels require, directly or not, sorted by name.

    ``entries`` are the wheels of that one backend. Every file is linked that some machine of
    their platforms can use and that a requirement lets through.

    Raises:
        CatalogueError: Nothing serves a requirement of a wheel that is not yanked.
    """
    found = _served(entries, dependencies, table=table)
    if found.missing:
        need = found.missing[0]
        what = (
            f"{need.by} requires {need.requirement}, and no file of it for {need.platform} is known"
        )
        cure = "run `python -m index dependencies`, which asks the package index for it"
        raise CatalogueError(what, cure=cure)
    return tuple(
        _project(project, found.files[project].values()) for project in sorted(found.files)
    )


def missing(
    entries: Sequence[Entry], dependencies: Sequence[Dependency], *, table: Table
) -> tuple[Missing, ...]:
    """Return what one backend's wheels require and ``dependencies`` have no file of."""
    return _served(entries, dependencies, table=table).missing


def _served(
    entries: Sequence[Entry], dependencies: Sequence[Dependency], *, table: Table
) -> Needed:
    by_project: dict[str, list[Dependency]] = defaultdict(list)
    for dependency in dependencies:
        by_project[dependency.project].append(dependency)
    return needed(
        entries,
        table=table,
        offers=lambda project: by_project.get(project, ()),
        known={dependency.name for dependency in dependencies},
        complete=lambda dependency: dependency,
    )


def _project(name: str, files: Iterable[Dependency]) -> Project:
    ordered = sorted(files, key=lambda each: (Version(each.version), each.name))
    return Project(
        name=name,
        versions=tuple(dict.fromkeys(each.version for each in ordered)),
        files=tuple(
            File(
                name=each.name,
                href=each.url,
                sha256=each.sha256,
                size=each.size,
                upload_time=each.upload_time,
                requires_python=each.requires_python,
                metadata_sha256=each.metadata_sha256,
                yanked=each.yanked,
            )
            for each in ordered
        ),
    )


def needed(
    entries: Sequence[Entry],
    *,
    table: Table,
    offers: Callable[[str], Sequence[Dependency]],
    known: Collection[str],
    complete: Callable[[Sequence[Dependency]], Sequence[Dependency | None]],
) -> Needed:
    """Follow the requirements of one backend's wheels, and those of what serves them, to the end.

    ``offers`` returns the files of a project; ``complete`` reads the requirements of those that are
    chosen, with None for one that cannot be used after all. What is in ``known``, file names, stays
    even where it would not be taken in today: a yanked file, an sdist beside a wheel.

    Raises:
        CatalogueError: Something is required at an address.
    """
    search = _Search(table=table, known=known)
    files: dict[str, dict[str, Dependency]] = {}
    served: dict[str, list[Dependency]] = defaultdict(list)
    waiting = search.first(entries)
    seen: set[_Need] = set()
    while waiting:
        need = waiting.pop()
        wanted = parse(need.requirement)
        project = canonicalize_name(wanted.name)
        # Our own page is there; what it requires is followed from the catalogue.
        if need in seen or project == PROJECT:
            continue
        seen.add(need)
        for file in complete(search.chosen(need, offers(project))):
            if file is not None:
                served[need.requirement].append(file)
                files.setdefault(project, {})[file.name] = file
                waiting += search.of(
                    file.requires,
                    by=file.name,
                    extras=frozenset(map(canonicalize_name, wanted.extras)),
                    platforms=need.platforms,
                )
    missing = [
        each
        for each in search.strict
        if canonicalize_name(parse(each.requirement).name) != PROJECT
        and not any(search.runs(file, each.platform) for file in served[each.requirement])
    ]
    missing.sort(key=lambda each: (each.by, each.requirement))
    return Needed(files=files, missing=tuple(missing))


class _Search:
    """What is to be found for the wheels of one backend, and by which rules."""

    def __init__(self, *, table: Table, known: Collection[str]) -> None:
        self._pythons = table.interpreters.all
        self._supported = tuple(table.platforms)
        self._known = known
        self.strict: list[Missing] = []

    def first(self, entries: Sequence[Entry]) -> list[_Need]:
        """Return what our wheels require, and write down what they cannot do without."""
        platforms = frozenset(entry.platform for entry in entries)
        groups: dict[tuple[tuple[str, ...], str], Entry] = {}
        for entry in sorted(entries, key=lambda entry: (entry.yanked is not None, entry.name)):
            groups.setdefault((entry.requires, entry.platform), entry)
        found: list[_Need] = []
        for (requires, platform), entry in groups.items():
            options = extras_of(requires)
            found += self.of(requires, by=entry.name, extras=options, platforms=platforms)
            self.strict += [
                Missing(by=entry.name, requirement=text, platform=platform)
                for text in requires
                if entry.yanked is None and self._holds(text, platform, frozenset())
            ]
        return found

    def of(
        self,
        requires: Iterable[str],
        *,
        by: str,
        extras: frozenset[str],
        platforms: frozenset[str] | None,
    ) -> list[_Need]:
        """Return the needs that some requirements bring with them.

        One whose marker asks for a platform counts on each supported one that it asks for, not
        only on those that the backend has wheels for: uv locks for all of them at once, and fails
        where one requirement is nowhere.
        """
        found = []
        for text in requires:
            wanted = parse(text)
            if wanted.url is not None:
                what = f"{by} requires {wanted.name} at an address, which no index can carry"
                raise CatalogueError(what, cure="require it by name")
            if not self._holds(text, None, extras):
                continue
            counts = platforms
            if wanted.marker is not None and names_a_platform(str(wanted.marker)):
                there = (name for name in self._supported if self._holds(text, name, extras))
                counts = frozenset(there) or None
            found.append(_Need(requirement=text, platforms=counts))
        return found

    def _holds(self, requirement: str, platform: str | None, extras: frozenset[str]) -> bool:
        marker = parse(requirement).marker
        return marker is None or may_hold(
            str(marker), platform=platform, pythons=self._pythons, extras=extras
        )

    def runs(self, file: Dependency, platform: str | None) -> bool:
        """Say whether some machine of a platform can install a file."""
        return may_use(file.name, file.requires_python, platform=platform, pythons=self._pythons)

    def chosen(self, need: _Need, offers: Sequence[Dependency]) -> list[Dependency]:
        """Return the files that an installer may take for a need; all versions of them.

        All, and not the newest alone: somebody who has this index beside another, with an installer
        that takes a project from the first index that has it, may need an older one.
        """
        specifiers = parse(need.requirement).specifier
        pinned = pins(specifiers)
        usable = [
            offer
            for offer in offers
            if (offer.yanked is None or pinned or offer.name in self._known)
            and any(self.runs(offer, platform) for platform in need.platforms or (None,))
        ]
        versions = set(specifiers.filter(offer.version for offer in usable))
        admitted = [
            offer
            for offer in usable
            if offer.version in versions
            or (offer.name in self._known and specifiers.contains(offer.version, prereleases=True))
        ]
        wheels = any(offer.name.endswith(".whl") for offer in admitted)
        return [
            offer
            for offer in admitted
            if offer.name.endswith(".whl") or offer.name in self._known or not wheels
        ]
