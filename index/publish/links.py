"""Wheels that pages link somewhere else: are they there, and their METADATA with the right hash?"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import requests

from ci.errors import PublishError
from index.publish.tree import SHOWN
from index.wheel import PROJECT

if TYPE_CHECKING:
    from index.publish.past import Past
    from index.publish.tree import Link, Tree

_TIMEOUT: Final = 60
_WORKERS: Final = 8


def check_links(tree: Tree, past: Past) -> int:
    """See that each of our wheels that a page newly links at an address is there; return how many.

    Size and METADATA are compared; the wheel itself is not downloaded for this. Addresses that are
    published already, and projects that are not ours, are not asked again.

    Raises:
        PublishError: One is not there, or not like the page says.
    """
    known = {(link.url, link.sha256) for links in past.pages.values() for link in links}
    asked = sorted(
        {
            link.url: link
            for page, links in tree.pages.items()
            if page.rpartition("/")[2] == PROJECT
            for link in links
            if link.place is None and (link.url, link.sha256) not in known
        }.values(),
        key=lambda link: link.url,
    )
    with ThreadPoolExecutor(_WORKERS) as pool:
        problems = [problem for problem in pool.map(_problem, asked) if problem is not None]
    if problems:
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        what = f"pages link wheels that are not there like that:{shown}{more}"
        raise PublishError(what, cure="upload them with `python -m index publish-wheels` first")
    return len(asked)


def _problem(link: Link) -> str | None:
    try:
        answer = requests.head(link.url, allow_redirects=True, timeout=_TIMEOUT)
        if not answer.ok:
            return f"{link.url}: {answer.status_code} {answer.reason}"
        said = answer.headers.get("Content-Length")
        if said is not None and link.size is not None and int(said) != link.size:
            return f"{link.url}: {said} bytes, the page says {link.size}"
        if link.metadata_sha256 is None:
            return None
        answer = requests.get(f"{link.url}.metadata", timeout=_TIMEOUT)
        if not answer.ok:
            return f"{link.url}.metadata: {answer.status_code} {answer.reason}"
        found = hashlib.sha256(answer.content).hexdigest()
        if found != link.metadata_sha256:
            return f"{link.url}.metadata: sha256 {found}, the page says {link.metadata_sha256}"
    except (requests.RequestException, ValueError) as error:
        return f"{link.url}: {error}"
    return None
