"""The upstream index: what is asked there of our dependencies, and what is written down of it."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from pydantic import ValidationError
from pypi_simple import (
    ACCEPT_JSON_PREFERRED,
    PYPI_SIMPLE_ENDPOINT,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)

from ci.errors import CatalogueError, NetworkError, UsageError
from index.catalogue import by_backend
from index.dependencies import (
    Dependency,
    load,
    needed,
    objection,
    objection_to_address,
    updated,
    write,
)
from index.requirement import name_and_version
from index.staging import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pypi_simple import DistributionPackage

    from ci.table import Table
    from index.catalogue import Entry

_TIMEOUT: Final = 60
# Files that are read at once; the session keeps ten connections.
_AT_ONCE: Final = 8
# Archives of wheels have their metadata at the end, as the specification recommends.
_TAIL: Final = 1 << 16
# What is downloaded whole, at most, to read metadata out of it.
_WHOLE: Final = 64 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_AGAIN: Final = "check the network and the address of the index (--upstream), then run this again"


@dataclass(frozen=True, kw_only=True)
class Updated:
    """What `update` wrote, and what it has to tell of the rest, a sentence each."""

    new: tuple[Dependency, ...]
    changed: tuple[Dependency, ...]
    notes: tuple[str, ...]


def upstream_url(environment: Mapping[str, str], *, chosen: str | None = None) -> str:
    """Return the address of the index to ask: the chosen one, pip's, uv's, or everybody's.

    ``environment`` is read as pip (``PIP_INDEX_URL``) and uv (``UV_DEFAULT_INDEX``) read it.

    Raises:
        UsageError: The address is not one that may be asked.
    """
    named = environment.get("UV_DEFAULT_INDEX", "")
    # uv lets it have a name: "<name>=<address>".
    uv = named if re.match(r"\w+://", named) else named.partition("=")[2]
    url = chosen or environment.get("PIP_INDEX_URL") or uv or PYPI_SIMPLE_ENDPOINT
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        what = f"{url!r} is not the address of a package index"
        raise UsageError(what, cure="give one with --upstream, such as https://example.org/simple/")
    return url


def update(
    path: Path,
    entries: Sequence[Entry],
    *,
    table: Table,
    upstream: str,
    log: Callable[[str], None] = lambda _: None,
) -> Updated:
    """Ask an index for what our wheels require, and append to the file what it did not say yet.

    Nothing is taken out of the file. All is written or, on any error, nothing. ``log`` gets a line
    per project and per file that is read.

    Raises:
        CatalogueError: The file is damaged, a known file has other bytes now, or there is nothing
            that a wheel of ours requires.
        NetworkError: The index does not answer, or not what an index answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        known = {dependency.name: dependency for dependency in load(path)}
        # JSON says more: sizes and upload times.
        with PyPISimple(endpoint=upstream, accept=ACCEPT_JSON_PREFERRED) as client:
            asked = _Upstream(client, known, log)
            found = [
                needed(
                    group,
                    table=table,
                    offers=asked.offers,
                    known=known,
                    complete=asked.complete,
                )
                for group in by_backend(entries).values()
            ]
        missing = [each for one in found for each in one.missing]
        if missing:
            what = (
                f"{missing[0].by} requires {missing[0].requirement}, and the index has no file of"
                f" it for {missing[0].platform}"
            )
            cure = "name an index that has it with --upstream, or yank that wheel"
            raise CatalogueError(what, cure=cure)
        files = {
            file.name: file
            for one in found
            for by_name in one.files.values()
            for file in by_name.values()
        }
        new = sorted((file for file in files.values() if file.name not in known), key=_order)
        changed = sorted(asked.changed, key=_order)
        if new or changed:
            write(path, [*new, *changed])
    return Updated(new=tuple(new), changed=tuple(changed), notes=tuple(sorted(asked.notes)))


def _order(dependency: Dependency) -> tuple[str, str]:
    return (dependency.project, dependency.name)


class _Upstream:
    """One run of questions to an index; each project and each file is asked for once."""

    def __init__(
        self, client: PyPISimple, known: Mapping[str, Dependency], log: Callable[[str], None]
    ) -> None:
        self._client = client
        self._known = known
        self._log = log
        self._offers: dict[str, tuple[Dependency, ...]] = {}
        self._complete: dict[str, Dependency | None] = {}
        self._stated: set[str] = set()
        self.changed: list[Dependency] = []
        self.notes: set[str] = set()

    def offers(self, project: str) -> tuple[Dependency, ...]:
        """Return the files of a project, the known ones among them as they are now."""
        if project not in self._offers:
            self._offers[project] = self._ask(project)
        return self._offers[project]

    def complete(self, offers: Sequence[Dependency]) -> list[Dependency | None]:
        """Read the requirements of files, several at once; None for one that cannot be linked."""
        unread = [
            offer
            for offer in offers
            if offer.name not in self._known and offer.name not in self._complete
        ]
        # a project can have hundreds, and an answer is waited for longer than it is read
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            for offer, file in zip(unread, pool.map(self._read, unread), strict=True):
                self._complete[offer.name] = file
        return [
            offer if offer.name in self._known else self._complete[offer.name] for offer in offers
        ]

    def _ask(self, project: str) -> tuple[Dependency, ...]:
        self._log(f"asking for {project}")
        there = {file.name: file for file in self._known.values() if file.project == project}
        try:
            packages = self._client.get_project_page(project, timeout=_TIMEOUT).packages
        except NoSuchProjectError:
            self.notes.add(f"{project}: the index has no such project")
            return tuple(there.values())
        except (
            requests.RequestException,
            UnsupportedContentTypeError,
            UnsupportedRepoVersionError,
            # Not JSON, or JSON of another shape; the first is a ValueError of `requests`.
            ValidationError,
            ValueError,
        ) as error:
            raise NetworkError(
                f"{project}: the index does not say ({error})", cure=_AGAIN
            ) from error
        found = dict(there)
        for package in packages:
            offer = self._offer(package, project)
            if offer is not None:
                found[offer.name] = self._merged(offer, there.get(offer.name))
        for name in sorted(there.keys() - {package.filename for package in packages}):
            self.notes.add(f"{name}: the index no longer lists it; it stays linked")
        return tuple(found.values())

    def _offer(self, package: DistributionPackage, project: str) -> Dependency | None:
        """Say a link as a line; None where installers pass over it, or where it must not be."""
        try:
            name, version = name_and_version(package.filename)
        except ValueError:
            return None
        if name != project:
            return None
        sha256 = package.digests.get("sha256", "").lower()
        problem = None if _SHA256.fullmatch(sha256) else "the index states no sha256"
        problem = problem or objection_to_address(package.url, file=package.filename)
        if problem is None and re.search(r"[\s?#]", package.url):
            problem = "its address has a query or a space"
        if problem is not None:
            self.notes.add(f"{package.filename}: left out, {problem}")
            return None
        if package.has_metadata:
            self._stated.add(package.filename)
        time = package.upload_time
        metadata = (package.metadata_digests or {}).get("sha256", "").lower()
        return Dependency(
            project=project,
            version=str(version),
            name=package.filename,
            url=package.url,
            sha256=sha256,
            size=package.size or None,
            upload_time=None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}",
            requires_python=package.requires_python,
            metadata_sha256=metadata if _SHA256.fullmatch(metadata) else None,
            requires=(),
            yanked=(package.yanked_reason or "") if package.is_yanked else None,
        )

    def _merged(self, offer: Dependency, there: Dependency | None) -> Dependency:
        if there is None:
            return offer
        for what, said, known in (
            ("sha256", offer.sha256, there.sha256),
            ("METADATA with sha256", offer.metadata_sha256, there.metadata_sha256),
        ):
            if said is not None and known is not None and said != known:
                text = f"{there.name}: the index has {what} {said}, known is {known}"
                cure = (
                    "a published file never changes: do not use it, find out what happened upstream"
                )
                raise CatalogueError(text, cure=cure)
        now = updated(there, offer)
        if now != there:
            self.changed.append(now)
        return now

    def _read(self, offer: Dependency) -> Dependency | None:
        self._log(f"reading {offer.name}")
        try:
            if offer.name in self._stated:
                metadata = self._stated_metadata(offer)
            elif offer.name.endswith(".whl"):
                metadata = _metadata_of_wheel(self._client.s, offer)
            else:
                metadata = _metadata_of_sdist(self._client.s, offer)
        except requests.RequestException as error:
            what = f"{offer.name}: its metadata could not be read ({error})"
            raise NetworkError(what, cure=_AGAIN) from error
        fields, _ = parse_email(metadata)
        stated = offer.name in self._stated
        said = replace(
            offer,
            requires=tuple(fields.get("requires_dist", ())),
            requires_python=fields.get("requires_python", offer.requires_python),
            metadata_sha256=hashlib.sha256(metadata).hexdigest() if stated else None,
        )
        problem = objection(said)
        if canonicalize_name(fields.get("name", "")) != offer.project:
            problem = "its METADATA names another project"
        if problem is not None:
            self.notes.add(f"{offer.name}: left out, {problem}")
            return None
        return said

    def _stated_metadata(self, offer: Dependency) -> bytes:
        response = self._client.s.get(f"{offer.url}.metadata", timeout=_TIMEOUT)
        response.raise_for_status()
        found = hashlib.sha256(response.content).hexdigest()
        if offer.metadata_sha256 is not None and found != offer.metadata_sha256:
            # pip and uv end with an error where these differ.
            what = f"{offer.name}: the index says METADATA has sha256 {offer.metadata_sha256}"
            cure = "the index is at fault: name another one with --upstream"
            raise CatalogueError(f"{what}, the file there has {found}", cure=cure)
        return response.content


class _Remote(io.RawIOBase):
    """A file on a server, of which only what is read is fetched (RFC 9110, 14: byte ranges)."""

    def __init__(self, session: requests.Session, url: str) -> None:
        super().__init__()
        self._session = session
        self._url = url
        self._position = 0
        self._tail, self._size = self._fetch(f"bytes=-{_TAIL}")

    def _fetch(self, span: str) -> tuple[bytes, int]:
        headers = {"Range": span, "Accept-Encoding": "identity"}
        with self._session.get(
            self._url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            response.raise_for_status()
            match = re.fullmatch(
                r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range", "").strip()
            )
            if response.status_code == requests.codes.partial_content and match is not None:
                return response.content, int(match[1])
            length = int(response.headers.get("Content-Length") or _WHOLE + 1)
            if length > _WHOLE:
                text = "the server neither states metadata nor sends parts of a file"
                raise requests.RequestException(text)
            return response.content, length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        end = self._size if size is None or size < 0 else self._position + size
        start, end = self._position, min(end, self._size)
        if start >= end:
            return b""
        begins = self._size - len(self._tail)
        if start >= begins:
            content = self._tail[start - begins : end - begins]
        else:
            content, _ = self._fetch(f"bytes={start}-{end - 1}")
        self._position = start + len(content)
        return content


def _metadata_of_wheel(session: requests.Session, offer: Dependency) -> bytes:
    """Read METADATA out of a wheel without all of its bytes, so its hash is not seen to.

    What comes of it is which pages there are; every installer sees to the hash of every file.
    """
    try:
        with zipfile.ZipFile(_Remote(session, offer.url)) as archive:
            names = [
                name
                for name in archive.namelist()
                if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
            ]
            if len(names) == 1:
                return archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise requests.RequestException(f"not a wheel: {error}") from error
    raise requests.RequestException("not a wheel: no METADATA in it")


def _metadata_of_sdist(session: requests.Session, offer: Dependency) -> bytes:
    response = session.get(offer.url, timeout=_TIMEOUT)
    response.raise_for_status()
    found = hashlib.sha256(response.content).hexdigest()
    if found != offer.sha256:
        what = f"{offer.name}: the index says sha256 {offer.sha256}, the file there has {found}"
        raise CatalogueError(what, cure="the index is at fault: name another one with --upstream")
    try:
        with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
            for member in archive:
                if re.fullmatch(r"[^/]+/PKG-INFO", member.name):
                    file = archive.extractfile(member)
                    if file is not None:
                        return file.read()
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise requests.RequestException(f"not an sdist: {error}") from error
    raise requests.RequestException("not an sdist: no PKG-INFO in it")
