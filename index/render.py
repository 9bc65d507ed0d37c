"""Rendering: from the entries of the catalogue to the bytes of every page, and nothing else."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from ci.errors import CatalogueError
from index.backends import backends_json, backends_of
from index.catalogue import line_of
from index.commands import load_commands
from index.dependencies import dependency_projects
from index.landing import landing
from index.page import File, Project, file_href, html, list_pages, project_pages
from index.variants import variants_json, variants_name
from index.wheel import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ci.table import Table
    from index.backends import BackendPages, Link
    from index.catalogue import Entry
    from index.dependencies import Dependency

CATALOGUE: Final = "catalogue.jsonl"
SUMS: Final = "SHA256SUMS"

_RETIRED: Final = "this backend is retired: its wheels stay, no new ones are built"


def folder_of(entry: Entry) -> str:
    """Return the folder of an entry's page, where its file lies unless it is somewhere else."""
    return f"whl/{entry.backend}/{entry.project}"


def render(
    entries: Sequence[Entry],
    *,
    table: Table,
    base_url: str | None = None,
    site_url: str | None = None,
    history: bytes | None = None,
    dependencies: Sequence[Dependency] = (),
    changelog: str = "",
) -> dict[str, bytes]:
    """Return every page by its path in the site.

    ``base_url`` is the folder of the wheels and their ``.metadata`` where they do not lie beside
    the pages; ``site_url`` the address that the site will have, for the commands on its first
    page; ``history`` the catalogue as it was read, which the site holds as well (without it: a
    line per entry); ``dependencies`` the files of others that our wheels may require;
    ``changelog`` is Markdown for the first page.

    Raises:
        CatalogueError: There are no entries, an entry's backend is not in the table, or nothing
            in ``dependencies`` serves a requirement of a wheel.
    """
    if not entries:
        cure = "add wheels with `python -m index add dist`"
        raise CatalogueError("the catalogue has no wheels: there is nothing to build", cure=cure)
    backends = backends_of(entries, table=table, base_url=base_url)
    root = "" if site_url is None else f"{site_url.rstrip('/')}/"
    pages = {
        "404.html": html("404.html"),
        "backends.json": backends_json(backends),
        "index.html": landing(
            backends, table=table, root=root, commands=load_commands(), changelog=changelog
        ),
        "whl/index.html": html("backends.html", backends=backends),
        CATALOGUE: _lines(entries) if history is None else history,
        SUMS: _sums(entries),
    }
    for backend in backends:
        folder = f"whl/{backend.name}"
        ours = [link.entry for link in backend.links]
        projects = dependency_projects(ours, dependencies, table=table)
        pages |= list_pages(folder, [PROJECT, *(project.name for project in projects)])
        for project in projects:
            pages |= project_pages(folder, project)
        variants = _variants(backend, table=table)
        pages |= {
            f"{folder}/{PROJECT}/{_place(content)}/{name}": content
            for name, content in variants.items()
        }
        pages |= project_pages(folder, _project(backend, variants))
    return dict(sorted(pages.items()))


def _lines(entries: Sequence[Entry]) -> bytes:
    return b"".join(line_of(entry) for entry in sorted(entries, key=lambda entry: entry.name))


def _sums(entries: Sequence[Entry]) -> bytes:
    """Return the hash of every wheel, as ``sha256sum --check --ignore-missing`` reads it."""
    lines = (f"{entry.sha256}  {entry.name}\n" for entry in sorted(entries, key=lambda e: e.name))
    return "".join(lines).encode()


def _variants(backend: BackendPages, *, table: Table) -> dict[str, bytes]:
    """Return the index of the variants of each version that has some, by its file name."""
    found: dict[str, list[Entry]] = {}
    for link in backend.links:
        if link.entry.variant is not None:
            found.setdefault(link.entry.version, []).append(link.entry)
    return {
        variants_name(version): variants_json(entries, table=table)
        for version, entries in found.items()
    }


def _place(content: bytes) -> str:
    """Return the folder of a file whose content changes under its name, by that content.

    So a page that was read a moment ago still leads to the file that it was made for.
    """
    return hashlib.sha256(content).hexdigest()[:16]


def _project(backend: BackendPages, variants: dict[str, bytes]) -> Project:
    files = [_file(link) for link in backend.links]
    for version in backend.versions:
        if (content := variants.get(variants_name(version))) is not None:
            times = [e.entry.upload_time for e in backend.links if e.entry.version == version]
            files.append(_beside(variants_name(version), content, upload_time=max(times)))
    return Project(
        name=PROJECT,
        versions=backend.versions,
        files=tuple(files),
        archived=_RETIRED if backend.retired else None,
    )


def _file(link: Link) -> File:
    entry = link.entry
    return File(
        name=entry.name,
        href=link.href,
        sha256=entry.sha256,
        size=entry.size,
        upload_time=entry.upload_time,
        requires_python=entry.requires_python,
        metadata_sha256=entry.metadata_sha256,
        yanked=entry.yanked,
    )


def _beside(name: str, content: bytes, *, upload_time: str) -> File:
    return File(
        name=name,
        href=file_href(name, folder=_place(content)),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        upload_time=upload_time,
        requires_python=None,
        metadata_sha256=None,
        yanked=None,
    )
