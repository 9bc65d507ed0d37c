"""Pages for installers: a project's files and an index's projects, in HTML and JSON.

Source: the "Simple repository API" 1.4: HTML as PEP 503 has it, JSON as PEP 691, both with core
metadata (PEP 658, 714), sizes and upload times (PEP 700), yanking (PEP 592) and status (PEP 792).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API_VERSION: Final = "1.4"
HTML_PAGE: Final = "index.html"
JSON_PAGE: Final = "index.v1_json"

TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, kw_only=True)
class File:
    """One file as a page links it; ``href`` is escaped for URLs already, ``size`` in bytes.

    ``metadata_sha256`` is the hash of the file at ``href`` with ``.metadata`` added, None where
    there is no such file. ``yanked`` is the reason, None where the file was not taken back.
    """

    name: str
    href: str
    sha256: str
    size: int | None
    upload_time: str | None
    requires_python: str | None
    metadata_sha256: str | None
    yanked: str | None


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of an index: its versions and files, oldest first.

    ``archived`` is the reason why nothing new will come, None where that is not so.
    """

    name: str
    versions: tuple[str, ...]
    files: tuple[File, ...]
    archived: str | None = None


def project_pages(folder: str, project: Project) -> dict[str, bytes]:
    """Return both pages of a project, by path; ``folder`` is the index's, such as ``whl/cpu``."""
    page = f"{folder}/{project.name}"
    return {
        f"{page}/{HTML_PAGE}": html("project.html", api=API_VERSION, project=project),
        f"{page}/{JSON_PAGE}": compact(_project_json(project)),
    }


def list_pages(folder: str, projects: Sequence[str]) -> dict[str, bytes]:
    """Return both pages of an index's list of projects, by path."""
    names = sorted(projects)
    listed = {
        "meta": {"api-version": API_VERSION},
        "projects": [{"name": name} for name in names],
    }
    return {
        f"{folder}/{HTML_PAGE}": html("projects.html", api=API_VERSION, projects=names),
        f"{folder}/{JSON_PAGE}": compact(listed),
    }


def html(template: str, **values: object) -> bytes:
    """Render a template; everything is escaped."""
    return TEMPLATES.get_template(template).render(values).encode()


def compact(data: Mapping[str, object]) -> bytes:
    """Return JSON for installers, in as few bytes as it takes."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def file_href(name: str, *, folder: str | None) -> str:
    """Return the link to a file in ``folder``, an address, or beside its page where that is None.

    ``+`` becomes ``%2B``, since some servers read it as a space.
    """
    escaped = quote(name, safe="")
    return escaped if folder is None else f"{folder.rstrip('/')}/{escaped}"


def _project_json(project: Project) -> dict[str, object]:
    page: dict[str, object] = {
        "meta": {"api-version": API_VERSION},
        "name": project.name,
        "versions": project.versions,
        "files": [_file_json(file) for file in project.files],
    }
    if project.archived is not None:
        page["project-status"] = {"status": "archived", "reason": project.archived}
    return page


def _file_json(file: File) -> dict[str, object]:
    said: dict[str, object] = {
        "filename": file.name,
        "url": file.href,
        "hashes": {"sha256": file.sha256},
    }
    metadata = file.metadata_sha256
    optional = {
        "requires-python": file.requires_python,
        "core-metadata": None if metadata is None else {"sha256": metadata},
        "size": file.size,
        "upload-time": file.upload_time,
        # PEP 691: "either a boolean … or a non empty, but otherwise arbitrary, string".
        "yanked": None if file.yanked is None else file.yanked or True,
    }
    return said | {key: value for key, value in optional.items() if value is not None}
