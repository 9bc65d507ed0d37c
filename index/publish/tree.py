"""A finished site as a tree of files, seen to be whole before any of it goes anywhere."""

from __future__ import annotations

import hashlib
import json
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from ci.errors import PublishError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HTML_PAGE: Final = "index.html"
JSON_PAGE: Final = "index.v1_json"
CATALOGUE: Final = "catalogue.jsonl"
SUMS: Final = "SHA256SUMS"
MARK: Final = "backends.json"
SHOWN: Final = 10
_REBUILD: Final = "make the site again with `nox -s index`; nothing was published"


@dataclass(frozen=True, kw_only=True)
class Content:
    """One file of the tree; ``size`` in bytes."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Link:
    """One file as a project page names it.

    ``place`` is its path in the site, None where ``url`` is an address somewhere else.
    ``metadata_sha256`` is the hash of the file ``.metadata`` beside it, None where there is none.
    """

    name: str
    url: str
    place: str | None
    sha256: str
    metadata_sha256: str | None
    size: int | None
    yanked: bool


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Every file of a site by its path, and what its project pages name, by their folders."""

    root: Path
    files: Mapping[str, Content]
    pages: Mapping[str, tuple[Link, ...]]
    catalogue: bytes | None

    @property
    def fixed(self) -> frozenset[str]:
        """Paths whose bytes never change: wheels and their METADATA, by their names."""
        return frozenset(name for name in self.files if name.endswith((".whl", ".metadata")))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(content.size for content in self.files.values())

    @property
    def digest(self) -> str:
        """One hash of all paths and contents, in hexadecimal."""
        lines = (f"{content.sha256}  {name}\n" for name, content in sorted(self.files.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_tree(root: Path) -> Tree:
    """Read a site and see that it is whole.

    Every file that a project page names beside it is there with the hash that the page says, so
    is its ``.metadata``; both forms of a page name the same; every wheel of ``SHA256SUMS`` that
    lies here has that hash; every wheel of the catalogue is on a page.

    Raises:
        UsageError: ``root`` is not a site.
        PublishError: Something is missing or is not what the pages say.
    """
    if not (root / MARK).is_file():
        raise UsageError(f"{root}: no site is there", cure="make one with `nox -s index`")
    paths = sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
    if strange := [path for path in paths if path.is_symlink() or not path.is_file()]:
        raise PublishError(f"{strange[0]}: not a plain file", cure=_REBUILD)
    with ThreadPoolExecutor() as pool:
        contents = pool.map(content_of, paths)
        files = {
            path.relative_to(root).as_posix(): content
            for path, content in zip(paths, contents, strict=True)
        }
    pages = read_pages(root)
    problems = [
        *(
            problem
            for page, links in pages.items()
            for problem in _page_problems(page, links, files)
        ),
        *(
            problem
            for page, links in pages.items()
            for problem in _html_problems(root, page, links)
        ),
        *_sums_problems(root, files),
        *_catalogue_problems(root, pages),
    ]
    if problems:
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        raise PublishError(f"{root}: the site is not whole:{shown}{more}", cure=_REBUILD)
    catalogue = root / CATALOGUE
    return Tree(
        root=root,
        files=files,
        pages=pages,
        catalogue=catalogue.read_bytes() if catalogue.is_file() else None,
    )


def content_of(path: Path) -> Content:
    """Return hash and size of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Content(path=path, sha256=sha256, size=file.tell())


def read_pages(root: Path) -> dict[str, tuple[Link, ...]]:
    """Return what each project page under ``root`` names, by its folder (``whl/cpu/…``).

    Raises:
        PublishError: A page cannot be read.
    """
    found = {}
    for path in sorted(root.glob(f"whl/*/*/{JSON_PAGE}")):
        page = path.parent.relative_to(root).as_posix()
        try:
            said = json.loads(path.read_bytes())
            found[page] = tuple(_link(page, file) for file in said["files"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{page}/{JSON_PAGE}: not a page of an index ({error!r})"
            raise PublishError(what, cure=_REBUILD) from error
    return found


def _link(page: str, file: Mapping[str, object]) -> Link:
    hashes, size, metadata = file["hashes"], file.get("size"), file.get("core-metadata")
    if not isinstance(hashes, dict):
        raise TypeError("hashes")
    url = str(file["url"])
    return Link(
        name=str(file["filename"]),
        url=url,
        place=_place(page, url),
        sha256=str(hashes["sha256"]),
        metadata_sha256=str(metadata["sha256"]) if isinstance(metadata, dict) else None,
        size=size if isinstance(size, int) else None,
        yanked=file.get("yanked", False) is not False,
    )


def _place(page: str, url: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return None
    return posixpath.normpath(posixpath.join(page, unquote(parts.path)))


def _page_problems(page: str, links: Sequence[Link], files: Mapping[str, Content]) -> list[str]:
    problems = []
    for link in links:
        if link.place is None:
            continue
        wanted = {link.place: link.sha256}
        if link.metadata_sha256 is not None:
            wanted[f"{link.place}.metadata"] = link.metadata_sha256
        for place, sha256 in wanted.items():
            if place not in files:
                problems.append(f"{page}/ names {place}, which is not there")
            elif files[place].sha256 != sha256:
                problems.append(f"{place}: sha256 {files[place].sha256}, {page}/ says {sha256}")
    return problems


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _html_problems(root: Path, page: str, links: Sequence[Link]) -> list[str]:
    path = root / page / HTML_PAGE
    if not path.is_file():
        return [f"{page}/{HTML_PAGE} is not there, {JSON_PAGE} is"]
    anchors = _Anchors()
    anchors.feed(path.read_text(encoding="utf-8"))
    said = {f"{link.url}#sha256={link.sha256}" for link in links}
    if set(anchors.found) == said:
        return []
    differing = sorted(set(anchors.found) ^ said)
    return [f"{page}/: {HTML_PAGE} and {JSON_PAGE} do not name the same: {differing[0]}"]


def _sums_problems(root: Path, files: Mapping[str, Content]) -> list[str]:
    """Compare SHA256SUMS, which names wheels wherever they are, with those that are here."""
    path = root / SUMS
    if not path.is_file():
        return []
    said = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        sha256, _, name = line.partition("  ")
        said[posixpath.basename(name)] = sha256
    return [
        f"{place}: sha256 {content.sha256}, {SUMS} says {said.get(name, 'nothing of it')}"
        for place, content in files.items()
        if (name := posixpath.basename(place)).endswith(".whl")
        if said.get(name) != content.sha256
    ]


def _catalogue_problems(root: Path, pages: Mapping[str, Sequence[Link]]) -> list[str]:
    path = root / CATALOGUE
    if not path.is_file():
        return []
    shown = {(link.name, link.sha256) for links in pages.values() for link in links}
    lost = set(catalogued(path.read_bytes(), where=str(path)).items()) - shown
    return [f"{name} is in {CATALOGUE} and on no page" for name, _ in sorted(lost)]


def catalogued(catalogue: bytes, *, where: str) -> dict[str, str]:
    """Return the hash of every wheel that a catalogue names.

    Raises:
        PublishError: A line is cut off or not one of a catalogue.
    """
    found = {}
    for number, line in enumerate(catalogue.splitlines(keepends=True), start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("the line is cut off")  # noqa: TRY301
            entry = json.loads(line)
            found[str(entry["name"])] = str(entry["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            what = f"{where}:{number}: not a line of a catalogue ({error})"
            raise PublishError(what, cure="restore it from its version control") from error
    return found
