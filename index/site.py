"""The site on disk: rendered pages, the wheels and their ``.metadata``, in place in one step.

What is the same in the site that is there is not written again: the new tree takes it over by a
hard link, so that a build costs what is new, and a copy to a server sees what has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.errors import CatalogueError, PublishError, UsageError
from index.backends import url_of
from index.page import JSON_PAGE
from index.render import folder_of, render
from index.staging import replacing
from index.wheel import parse_name, read_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ci.table import Table
    from index.catalogue import Entry
    from index.dependencies import Dependency

# Every site has it and nothing else is likely to: how a folder is known to be ours to replace.
MARK: Final = "backends.json"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build put in place; ``new`` are the files that the site before did not have like this.

    ``size`` is in bytes.
    """

    path: Path
    pages: int
    wheels: int
    linked: int
    new: tuple[str, ...]
    size: int


def build(
    entries: Sequence[Entry],
    out: Path,
    *,
    table: Table,
    wheels: Sequence[Path] = (),
    base_url: str | None = None,
    site_url: str | None = None,
    history: bytes | None = None,
    dependencies: Sequence[Dependency] = (),
    changelog: str = "",
) -> Built:
    """Make the site, or leave the one that is there as it is.

    A wheel that lies beside its page is taken from the site that is being replaced, or else from
    the first of ``wheels`` that has it. The other arguments are those of `index.render.render`.

    Raises:
        UsageError: ``out`` is something else than a site, or a folder of wheels is missing.
        CatalogueError: There is nothing to build, a wheel is nowhere or not the one that the
            catalogue knows, or the new site would lose a file that the old one has.
        PublishError: The file system refused.
    """
    out = out.resolve()
    refuse_foreign(out)
    for folder in wheels:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder", cure="give the folder of the wheels")
    pages = render(
        entries,
        table=table,
        base_url=base_url,
        site_url=site_url,
        history=history,
        dependencies=dependencies,
        changelog=changelog,
    )
    _refuse_loss(out, pages)
    local = [entry for entry in entries if url_of(entry, base_url=base_url) is None]
    try:
        with replacing(out) as staged:
            tree = _Tree(old=out, new=staged)
            for name, content in pages.items():
                tree.put(name, content)
            for entry in local:
                tree.place(entry, folders=wheels)
    except OSError as error:
        what = f"{out}: the site could not be written ({error})"
        raise PublishError(what, cure="mend that; the site that was there is unchanged") from error
    return Built(
        path=out,
        pages=len(pages),
        wheels=len(local),
        linked=len(entries) - len(local),
        new=tuple(sorted(tree.written)),
        size=tree.size,
    )


def refuse_foreign(out: Path) -> None:
    """Stop where a folder is something else than a site, so that it is not replaced.

    Raises:
        UsageError: It is.
    """
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
        what = f"{out}: not a site that this command made, so it is not replaced"
        raise UsageError(what, cure="give another --out, or remove it yourself")


def _refuse_loss(out: Path, pages: Mapping[str, bytes]) -> None:
    """Stop where the new pages lack a file that the old ones link, or link other bytes."""
    for old in sorted(out.glob(f"whl/*/*/{JSON_PAGE}")):
        name = old.relative_to(out).as_posix()
        there = _files(old.read_bytes(), path=old)
        here = _files(pages[name], path=old) if name in pages else {}
        lost = sorted(file for file, sha256 in there.items() if here.get(file) != sha256)
        if lost:
            gone = "would be lost" if lost[0] not in here else "would get other bytes"
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            what = f"{out}: {lost[0]}{more} on {Path(name).parent.as_posix()}/ {gone}"
            cure = (
                "restore the catalogue that the site was made from (the site has a copy,"
                " catalogue.jsonl); to begin anew, give another --out or remove the site yourself"
            )
            raise CatalogueError(what, cure=cure)


def _files(page: bytes, *, path: Path) -> dict[str, str]:
    """Return the hash of every file that a project page links, but for files made of others."""
    try:
        files = json.loads(page)["files"]
        return {
            file["filename"]: file["hashes"]["sha256"]
            for file in files
            if not file["filename"].endswith(".json")
        }
    except (ValueError, KeyError, TypeError) as error:
        what = f"{path}: the page of the site that is there cannot be read ({error!r})"
        raise CatalogueError(
            what, cure="remove that site yourself, or give another --out"
        ) from error


class _Tree:
    """The new tree while it is made, and the old one that it takes over from."""

    def __init__(self, *, old: Path, new: Path) -> None:
        self._old = old
        self._new = new
        self.written: list[str] = []
        self.size = 0

    def put(self, name: str, content: bytes) -> None:
        """Give the new tree a file with this content."""
        there, target = self._old / name, self._target(name)
        self.size += len(content)
        if not (_has(there, content) and _link(there, target)):
            target.write_bytes(content)
            self.written.append(name)

    def place(self, entry: Entry, *, folders: Sequence[Path]) -> None:
        """Give the new tree a wheel and its METADATA, which must be what the pages advertise."""
        name = f"{folder_of(entry)}/{entry.name}"
        there, target = self._old / name, self._target(name)
        uploaded = datetime.fromisoformat(entry.upload_time).timestamp()
        self.size += entry.size
        # Hashing gigabytes again in every build would find what `publish` looks for anyway.
        if not (_is_untouched(there, size=entry.size, time=uploaded) and _link(there, target)):
            self._copy(entry, target, folders=(*folders, there.parent))
            os.utime(target, (uploaded, uploaded))
            self.written.append(name)
        kept = there.with_name(f"{entry.name}.metadata")
        if kept.is_file() and _sha256(content := kept.read_bytes()) == entry.metadata_sha256:
            self.put(f"{name}.metadata", content)
            return
        metadata = read_metadata(target, name=parse_name(entry.name))
        if _sha256(metadata) != entry.metadata_sha256:
            what = f"{target.name}: METADATA has another hash than the catalogue says"
            raise CatalogueError(what, cure="restore the catalogue from its version control")
        self.put(f"{name}.metadata", metadata)

    def _target(self, name: str) -> Path:
        target = self._new / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _copy(self, entry: Entry, target: Path, *, folders: Sequence[Path]) -> None:
        """Copy a wheel, not link it: a later build in ``dist/`` must not reach into the site."""
        source = next((path for each in folders if (path := each / entry.name).is_file()), None)
        if source is None:
            what = f"{entry.name}: in the catalogue, but in none of: {', '.join(map(str, folders))}"
            cure = (
                "give its folder with --wheels, or --base-url where the wheels lie somewhere else"
            )
            raise CatalogueError(what, cure=cure)
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            what = f"{source}: sha256 {found}, the catalogue says {entry.sha256}"
            cure = (
                "give the folder with the wheel that was catalogued; a new build is a new version"
            )
            raise CatalogueError(what, cure=cure)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _has(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _is_untouched(path: Path, *, size: int, time: float) -> bool:
    """Whether a file is the one that an earlier build put there: it gave it the upload time."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_size == size and found.st_mtime == time


def _link(there: Path, target: Path) -> bool:
    """Take over a file of the old tree; False on a file system without hard links."""
    try:
        target.hardlink_to(there)
    except OSError:
        return False
    return True
