"""Registries of container images: manifests and blobs, as installers of images ask for them.

Source: "Open Container Initiative Distribution Specification" 1.1 (its pull side), and "Token
Authentication Specification" of the CNCF's Distribution.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import parse_http_list

import requests
from requests.auth import AuthBase

from ci.docker_login import HUB, HUB_NAMES, config_path, find_login
from ci.errors import NetworkError, UsageError, VendorError
from ci.progress import Progress

_HUB_HOST = "registry-1.docker.io"
_MEDIA_TYPES = ", ".join(
    f"application/vnd.{name}+json"
    for name in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)
# what is lost of a blob where it breaks off
_BLOCK = 1 << 16
_LONGEST_MANIFEST = 4 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:[.]|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>[A-Za-z0-9.-]+(?::\d+)?|\[::1\](?::\d+)?)/)?(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The name of an image: ``docker.io/nvidia/cuda:12.8.1-devel-rockylinux8@sha256:…``.

    Attributes:
        registry: the host, with its port where it has one.
        repository: the image's name there.
        tag: what its publisher calls it today.
        digest: what it is: ``sha256:`` and the hash of its manifest or index.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """Return it whole, with the registry."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    def at(self, digest: str) -> Reference:
        """Return it with a digest."""
        return replace(self, digest=digest)


def parse_reference(text: str) -> Reference:
    """Read the name of an image, as container engines do: without a registry it is Docker Hub's.

    Raises:
        UsageError: it is none.
    """
    # "The first component is a host if it has a dot or a port, or is localhost": else a part of the name
    first, slash, _ = text.partition("/")
    hosted = bool(slash) and (first == "localhost" or any(mark in first for mark in ".:["))
    match = _REFERENCE.fullmatch(text if hosted else f"{HUB}/{text}")
    if match is None or not (match["tag"] or match["digest"]):
        raise UsageError(
            f"{text!r} is not the name of an image with a tag or a digest",
            cure="write it such as nvidia/cuda:12.8.1-devel-rockylinux8 or"
            " registry.example/team/cuda@sha256:… (64 hexadecimal digits)",
        )
    registry, repository = match["registry"], match["repository"]
    if registry in HUB_NAMES:
        registry = HUB
    if registry == HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(
        registry=registry, repository=repository, tag=match["tag"], digest=match["digest"]
    )


def is_digest(text: str) -> bool:
    """Say whether a text is a digest that can be checked."""
    return _DIGEST.fullmatch(text) is not None


class Registry:
    """A repository of a registry, to pull from. Loopback is asked without TLS, every other with it."""

    def __init__(self, reference: Reference) -> None:
        """Prepare for the repository of a reference; nothing is asked yet."""
        self.name = reference.registry
        self.repository = reference.repository
        host = _HUB_HOST if self.name == HUB else self.name
        scheme = "http" if _is_loopback(f"//{host}") else "https"
        self._base = f"{scheme}://{host}/v2/{self.repository}"
        self._auth: AuthBase | None = None

    def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """Return a manifest or an index, and its digest.

        Raises:
            NetworkError: there is none, or the registry cannot be reached or does not give it.
            VendorError: it is another than the digest says.
        """
        separator = "@" if is_digest(tag_or_digest) else ":"
        what = f"{self.name}/{self.repository}{separator}{tag_or_digest}"
        with self._answer(f"manifests/{tag_or_digest}", what, {"Accept": _MEDIA_TYPES}) as response:
            content = b""
            for block in response.iter_content(_BLOCK):
                content += block
                if len(content) > _LONGEST_MANIFEST:
                    raise VendorError(
                        f"{what} is larger than any manifest", cure="check the image's name"
                    )
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if is_digest(tag_or_digest) and digest != tag_or_digest:
            raise _other_content(what, digest)
        return content, digest

    def bring_blob(
        self, progress: Progress, digest: str, size: int, place: Path, *, title: str
    ) -> Path:
        """Return ``place`` with a blob, downloaded unless it is there; what was begun is gone on with.

        Args:
            progress: told how far it is.
            digest: which one.
            size: its number of bytes.
            place: where it goes once it is whole.
            title: what it is called for a person.

        Raises:
            NetworkError: the registry does not give it, or it ends early.
            VendorError: it is another than the digest says.
        """
        if place.is_file():
            return place
        partial = place.with_name(f"{place.name}.part")
        furthest = -1
        with progress.bytes(title, size) as advance:
            advance(min(_size(partial), size))
            while True:
                begun = _size(partial)
                if begun == size:
                    hashed = _hash_of(partial)
                    break
                if begun <= furthest:
                    # as far as the last time: once more brings nothing
                    raise NetworkError(
                        f"{title} ended after {begun:,} of {size:,} bytes",
                        cure="run the command again: it goes on from there",
                    )
                furthest = begun
                try:
                    hashed = self._go_on(digest, size, partial, title, advance)
                except requests.RequestException as error:
                    if _size(partial) <= begun:
                        raise _unreachable(title, error) from error
                    continue
                if _size(partial) == size:
                    break
        if f"sha256:{hashed.hexdigest()}" != digest:
            partial.unlink()
            raise _other_content(f"{title}, {digest},", f"sha256:{hashed.hexdigest()}")
        return partial.replace(place)

    def _go_on(
        self, digest: str, size: int, partial: Path, title: str, advance: Callable[[int], None]
    ) -> hashlib._Hash:
        """Append what is missing of a blob, and return the hash of all of it."""
        begun = _size(partial)
        headers = {"Range": f"bytes={begun}-"} if begun else {}
        with self._answer(f"blobs/{digest}", title, headers) as response:
            goes_on = response.status_code == requests.codes.partial_content
            if goes_on:
                _require_start(response, begun, title)
            else:
                partial.write_bytes(b"")
            hashed, count = _hash_of(partial), _size(partial)
            with partial.open("ab") as out:
                for block in response.iter_content(_BLOCK):
                    count += len(block)
                    if count > size:
                        break
                    out.write(block)
                    hashed.update(block)
                    advance(len(block))
        if count > size:
            partial.unlink()
            raise VendorError(
                f"{title}, {digest}, is longer than the {size:,} bytes that its manifest says",
                cure="do not use it: the registry gives other files than the image is made of",
            )
        return hashed

    @contextmanager
    def _answer(
        self, path: str, what: str, headers: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        """Ask for something below the repository; log in where the registry wants that."""
        # nothing on the way may pack it once more: its bytes are what the digest is of
        headers = {**headers, "Accept-Encoding": "identity"}
        url = f"{self._base}/{path}"
        response = _get(url, what, headers, self._auth)
        if response.status_code == requests.codes.unauthorized:
            # nothing was shown yet, or a token of an earlier request has run out
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            self._auth = self._log_in(challenge, what)
            response = _get(url, what, headers, self._auth)
        with response:
            if not response.ok:
                raise self._refused(response, what)
            yield response

    def _log_in(self, challenge: str, what: str) -> AuthBase:
        """Return what a challenge asks for: a token, which anybody gets for a public image."""
        scheme, _, text = challenge.partition(" ")
        login = find_login(self.name)
        if scheme.lower() == "basic" and login is not None:
            return login
        if scheme.lower() != "bearer":
            raise NetworkError(f"{self.name} asks for a login for {what}", cure=self._login_cure)
        told = dict(part.partition("=")[::2] for part in parse_http_list(text))
        told = {name: value.strip('"') for name, value in told.items()}
        realm = told.get("realm") or ""
        if urlsplit(realm).scheme != "https" and not _is_loopback(realm):
            raise NetworkError(
                f"{self.name} names {realm or 'nothing'} to log in at: that is not safe",
                cure="check the image's name; a registry without TLS is used on loopback alone",
            )
        query = {"scope": told.get("scope") or f"repository:{self.repository}:pull"}
        if told.get("service"):
            query["service"] = told["service"]
        with _get(realm, what, {}, login, query) as response:
            if not response.ok:
                raise self._refused(response, what)
            try:
                content = json.loads(response.content)
                token = content.get("token") or content.get("access_token")
            except (ValueError, AttributeError):
                token = None
        if not isinstance(token, str):
            raise NetworkError(
                f"{realm} gives no token for {what}", cure="check the image's name, or try later"
            )
        return _Bearer(token)

    @property
    def _login_cure(self) -> str:
        host = "" if self.name == HUB else f" {self.name}"
        return (
            f"check the image's name; if it is private, log in with `docker login{host}`, or write"
            f" the entry that it would write into {config_path()} (`auths`; the programs of"
            " `credHelpers` and `credsStore` are not asked)"
        )

    def _refused(self, response: requests.Response, what: str) -> NetworkError:
        status, said = response.status_code, _said(response)
        if status == requests.codes.not_found:
            return NetworkError(
                f"{self.name} has no {what}{said}", cure="see its page there for the tags there are"
            )
        if status in {requests.codes.unauthorized, requests.codes.forbidden}:
            return NetworkError(
                f"{self.name} does not give {what}: {status}{said}", cure=self._login_cure
            )
        if status == requests.codes.too_many_requests:
            after = response.headers.get("Retry-After", "")
            wait = f"wait {after} seconds" if after.isdecimal() else "wait"
            host = "" if self.name == HUB else f" {self.name}"
            return NetworkError(
                f"{self.name} gives no more for now: its limit of requests is reached{said}",
                cure=f"{wait}, or log in (`docker login{host}`): who is logged in has a higher limit;"
                " or name the same image, by its digest, in another registry",
            )
        return NetworkError(
            f"{self.name} answers {status} for {what}{said}", cure="try again later"
        )


class _Bearer(AuthBase):
    """A token, for the registry alone: requests drops it where an answer leads to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _get(
    url: str,
    what: str,
    headers: Mapping[str, str],
    auth: AuthBase | None,
    query: Mapping[str, str] | None = None,
) -> requests.Response:
    try:
        return requests.get(url, params=query, headers=headers, auth=auth, stream=True, timeout=60)
    except requests.RequestException as error:
        raise _unreachable(what, error) from error


def _said(response: requests.Response) -> str:
    """Return what a registry says of an error, in its own words."""
    try:
        first = json.loads(response.content[:_BLOCK])["errors"][0]
        return f" ({str(first.get('message') or first['code'])[:200]})"
    except (ValueError, LookupError, TypeError, AttributeError, requests.RequestException):
        return ""


def _unreachable(what: str, error: requests.RequestException) -> NetworkError:
    return NetworkError(
        f"{what} could not be downloaded: {error}",
        cure="check the network, then run the command again: it goes on where it ended",
    )


def _other_content(what: str, found: str) -> VendorError:
    return VendorError(
        f"{what} is something else: its digest is {found}",
        cure="it was damaged or replaced: do not use it; try again, or check the digest",
    )


def _require_start(response: requests.Response, begun: int, title: str) -> None:
    start = response.headers.get("Content-Range", "")
    if not start.startswith(f"bytes {begun}-"):
        raise NetworkError(
            f"the server was asked for {title} from byte {begun:,} on and gives {start or 'no range'}",
            cure="run the command again; if it stays, delete toolkits/ in the cache folder",
        )


def _hash_of(path: Path) -> hashlib._Hash:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK
