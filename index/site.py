"""The site on disk: rendered pages, the wheels and their ``.metadata``, in place in one step."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ci.errors import CatalogueError, PublishError, UsageError
from index.render import folder_of, render, url_of
from index.staging import replacing
from index.wheel import parse_name, read_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ci.table import Table
    from index.catalogue import Entry

# Every site has it and nothing else is likely to: how a folder is known to be ours to replace.
MARK: Final = "backends.json"


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build put in place; sizes in bytes."""

    path: Path
    pages: int
    wheels: int
    linked: int
    size: int


def build(
    entries: Sequence[Entry],
    out: Path,
    *,
    table: Table,
    wheels: Sequence[Path] = (),
    base_url: str | None = None,
    site_url: str | None = None,
) -> Built:
    """Make the site, or leave the one that is there as it is.

    A wheel that lies beside its page is taken from the first of ``wheels``, or else from the site
    that is being replaced, whose bytes are those that the catalogue says.

    Raises:
        UsageError: ``out`` is something else than a site, or a folder of wheels is missing.
        CatalogueError: There is nothing to build, or a wheel is nowhere or not the one that the
            catalogue knows.
        PublishError: The file system refused.
    """
    out = out.resolve()
    _refuse_foreign(out)
    for folder in wheels:
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder", cure="give the folder of the wheels")
    pages = render(entries, table=table, base_url=base_url, site_url=site_url)
    local = [entry for entry in entries if url_of(entry, base_url=base_url) is None]
    try:
        with replacing(out) as staged:
            for name, content in pages.items():
                path = staged / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            for entry in local:
                folders = (*wheels, out / folder_of(entry))
                _place(entry, staged / folder_of(entry), folders=folders)
            size = sum(path.stat().st_size for path in staged.rglob("*") if path.is_file())
    except OSError as error:
        what = f"{out}: the site could not be written ({error})"
        raise PublishError(what, cure="mend that; the site that was there is unchanged") from error
    return Built(
        path=out,
        pages=len(pages),
        wheels=len(local),
        linked=len(entries) - len(local),
        size=size,
    )


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file()):
        what = f"{out}: not a site that this command made, so it is not replaced"
        raise UsageError(what, cure="give another --out, or remove it yourself")


def _place(entry: Entry, folder: Path, *, folders: Sequence[Path]) -> None:
    """Copy a wheel and its METADATA, and see that they are what the pages advertise.

    A copy and not a hard link: a build that writes a file in ``dist/`` anew must not reach into
    the site.
    """
    source = next((path for each in folders if (path := each / entry.name).is_file()), None)
    if source is None:
        what = f"{entry.name}: in the catalogue, but in none of: {', '.join(map(str, folders))}"
        cure = "give its folder with --wheels, or --base-url where the wheels lie somewhere else"
        raise CatalogueError(what, cure=cure)
    target = folder / entry.name
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        what = f"{source}: sha256 {found}, the catalogue says {entry.sha256}"
        cure = "give the folder with the wheel that was catalogued; a new build is a new version"
        raise CatalogueError(what, cure=cure)
    metadata = read_metadata(target, name=parse_name(entry.name))
    if hashlib.sha256(metadata).hexdigest() != entry.metadata_sha256:
        what = f"{source}: METADATA has another hash than the catalogue says"
        raise CatalogueError(what, cure="restore the catalogue from its version control")
    target.with_name(f"{entry.name}.metadata").write_bytes(metadata)
