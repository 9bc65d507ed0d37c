"""Libraries that read package indexes: each lists, picks and downloads our wheel."""

from __future__ import annotations

import asyncio
import hashlib
import warnings
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import html5lib
import httpx
import mousebender.simple
import pypi_simple
import requests
from packaging.utils import parse_wheel_filename
from simple_repository.components.http import HttpRepository
from simple_repository.components.priority_selected import PrioritySelectedProjectsRepository
from unearth.errors import HashMismatchError
from unearth.finder import PackageFinder

from tests.installers.registry import NAME as REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PROJECT: Final = "llama-cpp-python"


class RefusedError(Exception):
    """The bytes of a file are not those that the page says."""


def with_pypi_simple(folder: Path, ours: str, _: str | None) -> str:
    """Use pypi-simple, which verifies digests itself."""
    with pypi_simple.PyPISimple(ours) as client:
        page = client.get_project_page(PROJECT)
        name = _newest(package.filename for package in page.packages)
        package = next(each for each in page.packages if each.filename == name)
        metadata = client.get_package_metadata(package, verify=True)
        assert f"\nVersion: {_version(name)}\n" in metadata, metadata
        try:
            client.download_package(package, folder / name, verify=True)
        except pypi_simple.DigestMismatchError as error:
            raise RefusedError(str(error)) from error
    return _version(name)


def with_mousebender(folder: Path, ours: str, _: str | None) -> str:
    """Use mousebender, which reads pages and leaves the rest to its caller."""
    address = mousebender.simple.create_project_url(ours, PROJECT)
    answer = requests.get(
        address, headers={"Accept": mousebender.simple.ACCEPT_SUPPORTED}, timeout=30
    )
    with warnings.catch_warnings():
        # mousebender 2025.1 knows 1.4 in JSON, and warns of everything after 1.1 in HTML
        warnings.simplefilter("ignore", mousebender.simple.APIVersionWarning)
        details = mousebender.simple.parse_project_details(
            answer.text, answer.headers["Content-Type"].partition(";")[0], PROJECT
        )
    name = _newest(file["filename"] for file in details["files"])
    file = next(each for each in details["files"] if each["filename"] == name)
    _download(urljoin(address, file["url"]), file["hashes"]["sha256"], folder / name)
    return _version(name)


def with_simple_repository(folder: Path, ours: str, registry: str | None) -> str:
    """Use simple-repository; beside another registry, ours comes first."""
    return asyncio.run(_with_simple_repository(folder, ours, registry))


async def _with_simple_repository(folder: Path, ours: str, registry: str | None) -> str:
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
        sources = [HttpRepository(url, client) for url in (ours, registry) if url is not None]
        repository = sources[0] if registry is None else PrioritySelectedProjectsRepository(sources)
        if registry is not None:
            other = await repository.get_project_page("downstream")
            assert [file.filename for file in other.files] == ["downstream-1.0-py3-none-any.whl"]
        page = await repository.get_project_page(PROJECT)
        name = _newest(file.filename for file in page.files)
        file = next(each for each in page.files if each.filename == name)
        # 0.11.1 quotes the address of a file once more than the page has it, and so cannot fetch
        # itself (`get_resource`) from any index that writes + as %2B
        assert "%252B" in file.url, file.url
        content = (await client.get(file.url.replace("%25", "%"))).content
    _verify(content, file.hashes["sha256"], folder / name)
    return _version(name)


def with_unearth(folder: Path, ours: str, registry: str | None) -> str:
    """Use unearth, which verifies the hash of the link itself."""
    indexes = [ours] if registry is None else [registry, ours]
    finder = PackageFinder(index_urls=indexes)
    best = finder.find_best_match(f"{PROJECT}>=0.3,<0.4").best
    assert best is not None
    assert best.version is not None
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    try:
        finder.download_and_unpack(best.link, unpacked, folder)
    except HashMismatchError as error:
        raise RefusedError(str(error)) from error
    return best.version


def with_html5lib(_: Path, ours: str, __: str | None) -> str:
    """Parse every page of the site strictly, following all links to pages from the first ones."""
    site = urljoin(ours, "../../")
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    waiting = [site, f"{site}whl/", f"{site}no-such-page"]
    seen: set[str] = set()
    newest = ""
    while waiting:
        address = waiting.pop()
        seen.add(address)
        answer = requests.get(address, headers={"Accept": "text/html"}, timeout=30)
        document = parser.parse(answer.content, transport_encoding="utf-8")
        names = []
        for link in document.iter("a"):
            target = urljoin(address, link.get("href")).partition("#")[0]
            inside = target.startswith(site) and f"/whl/{REGISTRY}/" not in target
            if inside and target.endswith("/") and target not in seen:
                waiting.append(target)
            if target.endswith(".whl"):
                names.append(link.text)
        if address == f"{ours}{PROJECT}/":
            newest = _version(_newest(names))
    assert {f"{ours}{PROJECT}/", f"{site}whl/cu128/{PROJECT}/"} <= seen, seen
    return newest


LIBRARIES: Final[dict[str, Callable[[Path, str, str | None], str]]] = {
    "unearth": with_unearth,
    "pypi-simple": with_pypi_simple,
    "mousebender": with_mousebender,
    "simple-repository": with_simple_repository,
    "html5lib": with_html5lib,
}


def _newest(names: Iterable[str]) -> str:
    wheels = [name for name in names if name.endswith(".whl")]
    return max(wheels, key=lambda name: parse_wheel_filename(name)[1])


def _version(name: str) -> str:
    return str(parse_wheel_filename(name)[1])


def _download(address: str, sha256: str, target: Path) -> None:
    _verify(requests.get(address, timeout=30).content, sha256, target)


def _verify(content: bytes, sha256: str, target: Path) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise RefusedError(f"{target.name}: sha256 {found}, the page says {sha256}")
    target.write_bytes(content)
