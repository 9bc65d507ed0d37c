"""Images and audio from where messages name them: bytes, paths, data URLs, http(s) URLs.

A message may come from a stranger. So a string in it is a URL and never a path, unless the policy
says otherwise, and a URL leads to public addresses only: every address that a name resolves to is
checked, the connection goes to a checked address, and a redirect begins again at the start.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Union
from urllib.parse import unquote_to_bytes, urlsplit

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Collection

MediaSource = Union[str, bytes, bytearray, memoryview, "os.PathLike[str]"]
"""Content itself, a path, or a URL."""

_SHOWN = 80
_BINARY = getattr(os, "O_BINARY", 0)


class MediaPolicy(NamedTuple):
    """What may be loaded from where."""

    max_bytes: int = 64 * 2**20
    """Largest file; what is longer is refused, without reading it to its end."""
    max_files: int = 64
    """Most images and audio in one chat."""
    timeout: float = 20.0
    """Seconds for one http(s) URL, redirects included; resolving names has the system's own limit."""
    max_redirects: int = 5
    hosts: Collection[str] | None = None
    """The only hosts that URLs may name; None allows all."""
    private_hosts: Collection[str] = ()
    """Hosts that may have private, loopback or link-local addresses."""
    allow_urls: bool = True
    """Whether http(s) URLs are fetched at all."""
    allow_paths: bool = False
    """Whether a string may be a path or a file:// URL. Path objects always may: no JSON has them."""


def load_media(source: MediaSource, policy: MediaPolicy = MediaPolicy()) -> bytes:  # noqa: B008 - frozen
    """Return the bytes of an image or of audio.

    Args:
        source: the bytes themselves; a path object; or a string: a ``data:`` URL (RFC 2397), an
            ``http:`` or ``https:`` URL, or, where the policy allows it, a ``file:`` URL or a path.
        policy: what is allowed. URLs are fetched directly, whatever proxy the environment names,
            because a proxy would resolve names again.

    Raises:
        ValidationError: the policy forbids it, it is too large, or it is no such thing.
        LlamaError: it could not be fetched.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        check_size(len(source), "the given bytes", policy)
        return bytes(source)
    if isinstance(source, os.PathLike):
        return _read_file(os.fspath(source), policy)
    if not isinstance(source, str):
        raise ValidationError(
            f"expected an image as a URL, bytes or a path object, not {type(source).__name__}"
        )
    scheme = source[:6].partition(":")[0].lower() if ":" in source[:6] else ""
    if scheme == "data":
        return _decode_data_url(source, policy)
    if scheme in {"http", "https"}:
        if not policy.allow_urls:
            raise ValidationError(
                f"{shortened(source)} is not fetched (MediaPolicy.allow_urls is False): give a "
                "data: URL"
            )
        from llama_cpp._media_fetch import fetch  # noqa: PLC0415 - http.client imports ssl

        return fetch(source, policy)
    if not policy.allow_paths:
        raise ValidationError(
            f"{shortened(source)} is neither a data: nor an http(s): URL. A file is given as a "
            "pathlib.Path, as bytes, or as a data: URL; strings are taken as paths only with "
            "MediaPolicy(allow_paths=True)"
        )
    if scheme == "file":
        parts = urlsplit(source)
        if parts.netloc not in {"", "localhost"}:
            raise ValidationError(f"{shortened(source)} names another machine: {parts.netloc}")
        from urllib.request import url2pathname  # noqa: PLC0415 - imports ssl

        return _read_file(url2pathname(parts.path), policy)
    return _read_file(source, policy)


def shortened(text: str) -> str:
    """Return a URL's beginning, quoted, for a message."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def check_size(size: int, what: str, policy: MediaPolicy) -> None:
    """Raise :class:`ValidationError` for what is larger than the policy allows."""
    if size > policy.max_bytes:
        raise ValidationError(
            f"{what}: {size} bytes, more than the {policy.max_bytes} that are allowed "
            "(MediaPolicy.max_bytes)"
        )


def _read_file(path: str, policy: MediaPolicy) -> bytes:
    if "\0" in path:
        raise ValidationError(f"the path {path!r} contains a NUL character")
    try:
        # a FIFO would make open() wait
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ValidationError(f"{path} is not a file")
            check_size(status.st_size, path, policy)
            data = file.read(policy.max_bytes + 1)
    except OSError as error:
        raise ValidationError(f"cannot read {path}: {error.strerror}") from error
    check_size(len(data), path, policy)
    return data


def _decode_data_url(url: str, policy: MediaPolicy) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise ValidationError(f"{shortened(url)} has no comma: data:<type>;base64,<data>")
    is_base64 = head.lower().endswith(";base64")
    check_size(len(payload) * 3 // 4 if is_base64 else 0, "a data: URL", policy)
    try:
        data = payload.encode("ascii")
    except UnicodeEncodeError as error:
        raise ValidationError(
            f"the data: URL has a character that is not ASCII at {len(head) + 1 + error.start}"
        ) from error
    if b"%" in data or not is_base64:
        data = unquote_to_bytes(data)
    if is_base64:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValidationError(f"the data: URL is not base64: {error}") from error
    check_size(len(data), "a data: URL", policy)
    return data
