"""The backends of an index: what is said of each, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.version import Version

from ci.errors import CatalogueError
from index.catalogue import by_backend
from index.page import file_href
from index.wheel import AUTO, PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ci.table import Table
    from index.catalogue import Entry

_AUTO_TITLE: Final = "Chosen by the installer"


@dataclass(frozen=True, kw_only=True)
class Link:
    """One wheel as an index page links it; ``href`` is escaped for URLs already."""

    entry: Entry
    href: str


@dataclass(frozen=True, kw_only=True)
class BackendPages:
    """What is said of one backend: its wheels by version, oldest first.

    ``retired`` means that the table gives it no platform any more: its pages stay, nothing new
    will come. ``auto`` is the index from which an installer that knows variants chooses.
    """

    name: str
    title: str
    family: str
    retired: bool
    links: tuple[Link, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version once, oldest first."""
        return tuple(dict.fromkeys(link.entry.version for link in self.links))

    @property
    def newest(self) -> str:
        """The version to recommend: the newest that was not yanked, if there is one."""
        good = [link.entry.version for link in self.links if link.entry.yanked is None]
        return good[-1] if good else self.versions[-1]


def backends_of(
    entries: Sequence[Entry], *, table: Table, base_url: str | None
) -> tuple[BackendPages, ...]:
    """Return the backends that have wheels: in the table's order, then ``auto``.

    Raises:
        CatalogueError: An entry's backend is not in the table.
    """
    groups = by_backend(entries)
    if unknown := [name for name in groups if name not in table.backends and name != AUTO]:
        what = f"the catalogue has wheels of {unknown[0]}, the table has no backend of this name"
        cure = "retire a backend by emptying its platforms in ci/targets.toml, keep its row"
        raise CatalogueError(what, cure=cure)
    order = [name for name in (*table.backends, AUTO) if name in groups]
    return tuple(_backend(name, groups[name], table=table, base_url=base_url) for name in order)


def _backend(
    name: str, entries: Sequence[Entry], *, table: Table, base_url: str | None
) -> BackendPages:
    links = tuple(
        Link(entry=entry, href=href_of(entry, base_url=base_url))
        for entry in sorted(entries, key=lambda entry: (Version(entry.version), entry.name))
    )
    if name == AUTO:
        return BackendPages(name=AUTO, title=_AUTO_TITLE, family=AUTO, retired=False, links=links)
    row = table.backends[name]
    family = table.families[row.family]
    return BackendPages(
        name=name,
        title=f"{family.title} {row.toolkit_version or ''}".strip(),
        family=row.family,
        retired=not row.platforms,
        links=links,
    )


def href_of(entry: Entry, *, base_url: str | None) -> str:
    """Return the link to a wheel from its page."""
    url = url_of(entry, base_url=base_url)
    # The folder was given as an address, perhaps with escapes of its own.
    return file_href(entry.name, folder=None if url is None else url.rpartition("/")[0])


def url_of(entry: Entry, *, base_url: str | None) -> str | None:
    """Return the address of a wheel that does not lie beside the page, None where it does."""
    if entry.url is not None:
        return entry.url
    return None if base_url is None else f"{base_url.rstrip('/')}/{entry.name}"


def backends_json(backends: Sequence[BackendPages]) -> bytes:
    """Return ``backends.json``: every backend, and every wheel with what tells it from others."""
    said = {
        "schema": 1,
        "project": PROJECT,
        "backends": [
            {
                "name": backend.name,
                "title": backend.title,
                "family": backend.family,
                "retired": backend.retired,
                "index": f"whl/{backend.name}/",
                "newest": backend.newest,
                "wheels": [_wheel_json(link) for link in backend.links],
            }
            for backend in backends
        ],
    }
    return json.dumps(said, ensure_ascii=False, indent=1).encode() + b"\n"


def _wheel_json(link: Link) -> dict[str, object]:
    entry = link.entry
    return {
        "name": entry.name,
        "version": entry.version,
        "platform": entry.platform,
        "variant": entry.variant.label if entry.variant else None,
        "sha256": entry.sha256,
        "size": entry.size,
        "upload_time": entry.upload_time,
        "yanked": entry.yanked,
        "proven_on": [run.version for run in entry.report.interpreters],
    }
