"""Rendering: from the entries of the catalogue to the bytes of every page, and nothing else.

The pages follow the "Simple repository API" 1.4: HTML as PEP 503 has it, JSON as PEP 691.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.version import Version

from ci.errors import CatalogueError
from index.catalogue import by_backend
from index.wheel import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ci.table import Table
    from index.catalogue import Entry

API_VERSION: Final = "1.4"
JSON_PAGE: Final = "index.v1_json"

_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, kw_only=True)
class Link:
    """One file as an index page links it; ``href`` is escaped for URLs already."""

    entry: Entry
    href: str


@dataclass(frozen=True, kw_only=True)
class BackendPages:
    """What is said of one backend for people and machines."""

    name: str
    title: str
    family: str
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


def folder_of(entry: Entry) -> str:
    """Return the folder of an entry's page, where its file lies unless it is somewhere else."""
    return f"whl/{entry.backend}/{entry.project}"


def url_of(entry: Entry, *, base_url: str | None) -> str | None:
    """Return the address of a wheel that does not lie beside the page, None where it does."""
    if entry.url is not None:
        return entry.url
    return None if base_url is None else f"{base_url.rstrip('/')}/{entry.name}"


def render(
    entries: Sequence[Entry],
    *,
    table: Table,
    base_url: str | None = None,
    site_url: str | None = None,
) -> dict[str, bytes]:
    """Return every page by its path in the site.

    ``base_url`` is the folder of the wheels and their ``.metadata`` where they do not lie beside
    the pages; ``site_url`` the address that the site will have, for the commands on its first
    page.

    Raises:
        CatalogueError: There are no entries, or an entry's backend is not in the table.
    """
    if not entries:
        cure = "add wheels with `python -m index add dist`"
        raise CatalogueError("the catalogue has no wheels: there is nothing to build", cure=cure)
    backends = tuple(
        _backend(name, group, table=table, base_url=base_url)
        for name, group in by_backend(entries).items()
    )
    root = "" if site_url is None else f"{site_url.rstrip('/')}/"
    pages = {
        "404.html": _page("404.html"),
        "backends.json": _json(_backends_json(backends)),
        "index.html": _page("site.html", backends=backends, root=root, project=PROJECT),
        "whl/index.html": _page("backends.html", backends=backends),
    }
    for backend in backends:
        folder = f"whl/{backend.name}"
        pages[f"{folder}/index.html"] = _page("projects.html", api=API_VERSION, project=PROJECT)
        pages[f"{folder}/{JSON_PAGE}"] = _json(
            {"meta": {"api-version": API_VERSION}, "projects": [{"name": PROJECT}]}
        )
        pages[f"{folder}/{PROJECT}/index.html"] = _page(
            "project.html", api=API_VERSION, project=PROJECT, links=backend.links
        )
        pages[f"{folder}/{PROJECT}/{JSON_PAGE}"] = _json(_project_json(backend))
    return dict(sorted(pages.items()))


def _backend(
    name: str, entries: Sequence[Entry], *, table: Table, base_url: str | None
) -> BackendPages:
    row = table.backends.get(name)
    if row is None:
        what = f"the catalogue has wheels of {name}, the table has no backend of this name"
        cure = "retire a backend by emptying its platforms in ci/targets.toml, keep its row"
        raise CatalogueError(what, cure=cure)
    return BackendPages(
        name=name,
        title=table.families[row.family].title,
        family=row.family,
        links=tuple(
            Link(entry=entry, href=_href(entry, base_url=base_url))
            for entry in sorted(entries, key=lambda entry: (Version(entry.version), entry.name))
        ),
    )


def _href(entry: Entry, *, base_url: str | None) -> str:
    """Return the link to a file; ``+`` becomes ``%2B``, since some servers read it as a space."""
    url = url_of(entry, base_url=base_url)
    if url is None:
        return quote(entry.name, safe="")
    folder, _, name = url.rpartition("/")
    # The folder was given as an address, perhaps with escapes of its own.
    return f"{folder}/{quote(name, safe='%')}"


def _project_json(backend: BackendPages) -> dict[str, object]:
    return {
        "meta": {"api-version": API_VERSION},
        "name": PROJECT,
        "versions": backend.versions,
        "files": [_file_json(link) for link in backend.links],
    }


def _file_json(link: Link) -> dict[str, object]:
    entry = link.entry
    file: dict[str, object] = {
        "filename": entry.name,
        "url": link.href,
        "hashes": {"sha256": entry.sha256},
        "size": entry.size,
        "upload-time": entry.upload_time,
        "core-metadata": {"sha256": entry.metadata_sha256},
        # PEP 691: "either a boolean … or a non empty, but otherwise arbitrary, string".
        "yanked": entry.yanked is not None and (entry.yanked or True),
    }
    if entry.requires_python is not None:
        file["requires-python"] = entry.requires_python
    return file


def _backends_json(backends: Sequence[BackendPages]) -> dict[str, object]:
    return {
        "schema": 1,
        "project": PROJECT,
        "backends": [
            {
                "name": backend.name,
                "family": backend.family,
                "index": f"whl/{backend.name}/",
                "newest": backend.newest,
                "wheels": [
                    {
                        "name": link.entry.name,
                        "version": link.entry.version,
                        "platform": link.entry.platform,
                        "yanked": link.entry.yanked is not None,
                    }
                    for link in backend.links
                ],
            }
            for backend in backends
        ],
    }


def _json(data: Mapping[str, object]) -> bytes:
    return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"


def _page(template: str, **values: object) -> bytes:
    return _TEMPLATES.get_template(template).render(values).encode()
