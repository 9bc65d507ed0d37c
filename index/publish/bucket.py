"""A bucket of S3 or a server that speaks like it: files first, then pages from the inside out."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from ci.errors import PublishError, UsageError
from index.publish.objects import WORKERS, Headers, LostRaceError, Objects
from index.publish.past import fetch_past
from index.publish.target import Outcome
from index.publish.tree import CATALOGUE, HTML_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from index.publish.objects import Seen
    from index.publish.target import Approve
    from index.publish.tree import Content, Tree

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl; charset=utf-8",
    ".metadata": "text/plain; charset=utf-8",
    ".v1_json": "application/vnd.pypi.simple.v1+json",
    ".whl": "application/octet-stream",
    "": "text/plain; charset=utf-8",
}
# A file never changes under its name; a page that is a minute old still names only what is there.
_FOREVER: Final = "public, max-age=31536000, immutable"
_BRIEFLY: Final = "public, max-age=60"


def headers(name: str) -> Headers:
    """Return what a file of a site is served with."""
    suffix = ".html" if name.endswith("/") else Path(name).suffix
    fixed = suffix in {".whl", ".metadata"}
    return Headers(
        content_type=_TYPES.get(suffix, "application/octet-stream"),
        cache_control=_FOREVER if fixed else _BRIEFLY,
    )


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The objects of a bucket below a prefix.

    ``folder_pages`` also stores each page under its folder's key (``whl/cpu/``), for buckets that
    are read without a web server that knows ``index.html``.
    """

    objects: Objects
    folder_pages: bool = False

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.objects.bucket}/{self.objects.prefix}".rstrip("/")

    def put(self, tree: Tree, approve: Approve) -> Outcome:
        """Write files, then pages; no page ever names something that is not there.

        Raises:
            PublishError: A name is there with other bytes, another publish is under way, or the
                server refused.
        """
        with explained(self.name):
            there = self.objects.listing()
            past = fetch_past(there, self.objects.read)
            approve(past)
            known = {
                place
                for links in past.pages.values()
                for link in links
                if link.place is not None
                for place in (link.place, f"{link.place}.metadata")
            }
            sent = self._put_fixed(tree, there, known)
            sent += self._put_pages(tree, there)
        notes = () if self.objects.is_conditional else (
            "this server knows no conditional writes: see yourself that only one publish runs",
        )  # fmt: skip
        return Outcome(
            sent=len(sent),
            size=sum(content.size for content in sent),
            served=None,
            back="take a wheel back with `python -m index yank` and publish again",
            notes=notes,
        )

    def go_back(self) -> str:
        """Refuse: a bucket has no tree from before.

        Raises:
            UsageError: Always.
        """
        what = f"{self.name}: a bucket has no tree from before"
        raise UsageError(what, cure="take wheels back with `python -m index yank`, publish again")

    def _put_fixed(self, tree: Tree, there: Mapping[str, Seen], known: set[str]) -> list[Content]:
        """Write what never changes: all that is not there; return it."""

        def put(name: str) -> Content | None:
            content, seen = tree.files[name], there.get(name)
            if seen is not None and name in known and seen.size == content.size:
                return None
            return content if put_file(self.objects, name, content, seen) else None

        with ThreadPoolExecutor(WORKERS) as pool:
            sent = [content for content in pool.map(put, sorted(tree.fixed)) if content]
        if sent:
            now = self.objects.listing()
            for name in tree.fixed:
                if name not in now or now[name].size != tree.files[name].size:
                    what = f"{self.name}: {name} was written and is not listed like that"
                    raise PublishError(what, cure="run this again; no page names it yet")
        return sent

    def _put_pages(self, tree: Tree, there: Mapping[str, Seen]) -> list[Content]:
        sent = []
        for name, content in self._pages(tree):
            seen = there.get(name)
            if seen is not None and self.objects.sha256(name) == content.sha256:
                continue
            try:
                self.objects.put(name, content.path.read_bytes(), headers(name), seen=seen)
            except LostRaceError as error:
                what = f"{self.name}: another publish has written {name} meanwhile"
                cure = "wait for it, then run this again: it begins with what is there then"
                raise PublishError(what, cure=cure) from error
            sent.append(content)
        return sent

    def _pages(self, tree: Tree) -> Iterator[tuple[str, Content]]:
        """Yield what changes, each thing after everything that it names.

        The catalogue comes first: who writes it has claimed the bucket, since everybody else's
        must begin with it. What a page links comes before the pages, a project before its list.
        """
        linked = {link.place for links in tree.pages.values() for link in links}

        def order(name: str) -> tuple[bool, bool, int, bool, str]:
            return (
                name != CATALOGUE,
                name not in linked,
                -name.count("/"),
                name == HTML_PAGE,
                name,
            )

        for name in sorted(tree.files.keys() - tree.fixed, key=order):
            yield name, tree.files[name]
            folder = name.removesuffix(HTML_PAGE)
            if self.folder_pages and folder != name and self.objects.prefix + folder:
                yield folder, tree.files[name]


def put_file(objects: Objects, name: str, content: Content, seen: Seen | None) -> bool:
    """Write a file that never changes, unless it is there; False where it is.

    Raises:
        PublishError: The name is there with other bytes.
    """
    if seen is None:
        with contextlib.suppress(LostRaceError):
            objects.put_file(name, content.path, content.sha256, headers(name))
            return True
    said = objects.sha256(name)
    if said != content.sha256:
        # It has no hash of ours, or that of an interrupted upload that this one went on with.
        said = objects.computed_sha256(name)
    if said != content.sha256:
        what = (
            f"s3://{objects.bucket}/{objects.prefix}{name} is there with other bytes"
            f" (sha256 {said}, ours has {content.sha256})"
        )
        raise PublishError(what, cure="a published name never changes: give a new label")
    return False


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Say what a server refused, instead of a traceback."""
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        what = f"{name}: {error.operation_name}: {said.get('Code')} {said.get('Message', '')}"
        cure = "see that the bucket exists and may be listed, read and written, then run this again"
        raise PublishError(what.strip(), cure=cure) from error
    except BotoCoreError as error:
        cure = "set the credentials, region and --endpoint-url, then run this again: it goes on"
        raise PublishError(f"{name}: {error}", cure=cure) from error
