"""What a target has already, and that a publish loses none of it."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.errors import PublishError
from index.publish.tree import CATALOGUE, JSON_PAGE, catalogued, read_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from index.publish.tree import Link, Tree

# The files of a target that say what it has: small, also where the wheels are large.
SAID: Final = (CATALOGUE, f"whl/*/*/{JSON_PAGE}")


@dataclass(frozen=True, kw_only=True)
class Past:
    """The catalogue of a target, what its project pages name, and the pages' own hashes."""

    catalogue: bytes | None
    pages: Mapping[str, tuple[Link, ...]]
    hashes: Mapping[str, str]

    @property
    def links(self) -> frozenset[tuple[str, str]]:
        """Name and hash of every file that a page names."""
        return frozenset(
            (link.name, link.sha256) for links in self.pages.values() for link in links
        )


NOTHING: Final = Past(catalogue=None, pages={}, hashes={})


def read_past(root: Path) -> Past:
    """Read what is published, from the target itself or from a copy of its `SAID` files.

    Raises:
        PublishError: A page there cannot be read.
    """
    catalogue = root / CATALOGUE
    try:
        pages = read_pages(root)
    except PublishError as error:
        what = f"what is published there is damaged: {error.what}"
        raise PublishError(what, cure="mend or remove it yourself; nothing was changed") from error
    return Past(
        catalogue=catalogue.read_bytes() if catalogue.is_file() else None,
        pages=pages,
        hashes={page: _sha256(root / page / JSON_PAGE) for page in pages},
    )


def fetch_past(names: Iterable[str], read: Callable[[str], bytes]) -> Past:
    """Read what is published where the files are no files: ``read`` gives one by its name.

    Raises:
        PublishError: A page there cannot be read.
    """
    said = [name for name in names if any(fnmatch(name, pattern) for pattern in SAID)]
    if not said:
        return NOTHING
    with tempfile.TemporaryDirectory(prefix="published-") as folder:
        for name in said:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(name))
        return read_past(Path(folder))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed_pages(tree: Tree, past: Past) -> tuple[str, ...]:
    """Return the project pages that the publish brings or changes."""
    return tuple(
        page
        for page in tree.pages
        if past.hashes.get(page) != tree.files[f"{page}/{JSON_PAGE}"].sha256
    )


def refuse_loss(tree: Tree, past: Past, *, where: str) -> None:
    """Stop where the target has something that it would not have any more.

    Raises:
        PublishError: Our catalogue does not begin with the target's, one of our project's wheels
            would leave its page, or a file name would get other bytes.
    """
    if past.catalogue is not None:
        _continue(tree, past.catalogue, where=where)
    for page, links in past.pages.items():
        ours = {link.name: link.sha256 for link in tree.pages.get(page, ())}
        for link in links:
            # An index of variants (.json) is made anew from the wheels; it names them by hash.
            if link.name.endswith(".json"):
                continue
            there = ours.get(link.name)
            if there is None and link.name.startswith("llama_cpp_python-"):
                what = f"{link.name} is published on {where}: {page}/, and this site has lost it"
                cure = "add it to the catalogue again; to take a wheel back, `python -m index yank`"
                raise PublishError(what, cure=cure)
            if there is not None and there != link.sha256:
                what = (
                    f"{link.name} is published on {where}: {page}/ with other bytes"
                    f" (sha256 {link.sha256}, this site has {there})"
                )
                raise PublishError(what, cure="a published name never changes: give a new label")


def _continue(tree: Tree, theirs: bytes, *, where: str) -> None:
    cure = (
        "fetch the catalogue that is published, add the new wheels to it, build the site again;"
        " to take a wheel back, `python -m index yank`"
    )
    if tree.catalogue is None:
        what = f"{where} has a {CATALOGUE}, this site has none"
        raise PublishError(what, cure=cure)
    if tree.catalogue.startswith(theirs):
        return
    ours = catalogued(tree.catalogue, where=CATALOGUE)
    for name, sha256 in catalogued(theirs, where=f"{where}: {CATALOGUE}").items():
        if ours.get(name) != sha256:
            wrong = "not in this site's" if name not in ours else "with other bytes in this site's"
            what = f"{where}: {name} is in its {CATALOGUE} and {wrong}"
            raise PublishError(what, cure=cure)
    lines = zip(theirs.splitlines(), tree.catalogue.splitlines(), strict=False)
    number = next((n for n, (old, new) in enumerate(lines, start=1) if old != new), None)
    told = "is longer" if number is None else f"differs in line {number}"
    what = f"{where}: its {CATALOGUE} {told}, ours must begin with it (it is append-only)"
    raise PublishError(what, cure=cure)
