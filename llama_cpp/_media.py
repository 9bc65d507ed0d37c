"""Images and audio from where messages name them: bytes, paths, data URLs, http(s) URLs.

A message may come from a stranger. So a string in it is a URL and never a path, unless the policy
says otherwise, and a URL leads to public addresses only: every address that a name resolves to is
checked, the connection goes to a checked address, and a redirect begins again at the start.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import os
import socket
import stat
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, NamedTuple, Union
from urllib.parse import SplitResult, unquote_to_bytes, urljoin, urlsplit
from urllib.request import url2pathname

from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection

    from typing_extensions import Buffer

MediaSource = Union[str, bytes, bytearray, memoryview, "os.PathLike[str]"]
"""Content itself, a path, or a URL."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
_SHOWN = 80
# RFC 6052: an IPv4 address in the last 32 bits, which a translator connects to
_NAT64 = IPv6Network("64:ff9b::/96")


class MediaPolicy(NamedTuple):
    """What may be loaded from where."""

    max_bytes: int = 64 * 2**20
    """Largest file; what is longer is refused, without reading it to its end."""
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
        _check_size(len(source), "the given bytes", policy)
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
        return _fetch(source, policy)
    if not policy.allow_paths:
        raise ValidationError(
            f"{_short(source)} is neither a data: nor an http(s): URL. A file is given as a "
            "pathlib.Path, as bytes, or as a data: URL; strings are taken as paths only with "
            "MediaPolicy(allow_paths=True)"
        )
    if scheme == "file":
        parts = urlsplit(source)
        if parts.netloc not in {"", "localhost"}:
            raise ValidationError(f"{_short(source)} names another machine: {parts.netloc}")
        return _read_file(url2pathname(parts.path), policy)
    return _read_file(source, policy)


def _short(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def _check_size(size: int, what: str, policy: MediaPolicy) -> None:
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
            _check_size(status.st_size, path, policy)
            data = file.read(policy.max_bytes + 1)
    except OSError as error:
        raise ValidationError(f"cannot read {path}: {error.strerror}") from error
    _check_size(len(data), path, policy)
    return data


_BINARY = getattr(os, "O_BINARY", 0)


def _decode_data_url(url: str, policy: MediaPolicy) -> bytes:
    head, comma, payload = url.partition(",")
    if not comma:
        raise ValidationError(f"{_short(url)} has no comma: data:<type>;base64,<data>")
    is_base64 = head.lower().endswith(";base64")
    _check_size(len(payload) * 3 // 4 if is_base64 else 0, "a data: URL", policy)
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
    _check_size(len(data), "a data: URL", policy)
    return data


# -- http ------------------------------------------------------------------------------------------


def _fetch(url: str, policy: MediaPolicy) -> bytes:
    if not policy.allow_urls:
        raise ValidationError(
            f"{_short(url)} is not fetched (MediaPolicy.allow_urls is False): give a data: URL"
        )
    deadline = time.monotonic() + policy.timeout
    first = url
    for _ in range(policy.max_redirects + 1):
        parts = _split(url)
        connection = _connect(parts, policy, deadline)
        try:
            connection.request(
                "GET",
                parts._replace(scheme="", netloc="", fragment="").geturl() or "/",
                headers={"Accept": "image/*, audio/*, */*;q=0.1", "Accept-Encoding": "identity"},
            )
            response = connection.getresponse()
            if response.status not in _REDIRECTS:
                return _body(response, url, policy)
            target = response.getheader("Location")
        except (OSError, http.client.HTTPException) as error:
            raise LlamaError(f"cannot fetch {_short(url)}: {_reason(error, policy)}") from error
        finally:
            connection.hang_up()
        if not target:
            raise LlamaError(f"{_short(url)} redirects to nowhere")
        url = _redirected(url, target)
    raise LlamaError(f"{_short(first)} redirects more than {policy.max_redirects} times")


def _redirected(url: str, target: str) -> str:
    following = urljoin(url, target)
    scheme = following.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise ValidationError(f"{_short(url)} redirects to {_short(following)}, which is no http")
    if url.lower().startswith("https:") and scheme == "http":
        raise ValidationError(f"{_short(url)} redirects from https to {_short(following)}")
    return following


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValidationError(f"{_short(url)} is no URL: {error}") from error
    if not parts.hostname:
        raise ValidationError(f"{_short(url)} names no host")
    if parts.username is not None or parts.password is not None:
        raise ValidationError(
            f"{parts.hostname}: a URL with a user name or password is not fetched"
        )
    if any(character <= " " or character == "\x7f" for character in url) or not url.isascii():
        raise ValidationError(
            f"{_short(url)} has a space, a control character or one that is not ASCII: "
            "percent-encode it (a host name: in its xn-- form)"
        )
    return parts


def _connect(parts: SplitResult, policy: MediaPolicy, deadline: float) -> _Plain:
    host = str(parts.hostname).rstrip(".")
    if policy.hosts is not None and host not in policy.hosts:
        raise ValidationError(f"{host} is none of the allowed hosts (MediaPolicy.hosts)")
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    addresses = _addresses(host, port, private=host in policy.private_hosts)
    kind = _Tls if parts.scheme.lower() == "https" else _Plain
    return kind(str(parts.hostname), port, addresses, deadline)


def _addresses(host: str, port: int, *, private: bool) -> list[str]:
    """Resolve once, check all, return them for the connection."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LlamaError(f"cannot resolve {host}: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not private and not is_public(address):
            raise ValidationError(
                f"{host} has the address {address}, which is not public; if that is meant, name the "
                "host in MediaPolicy.private_hosts"
            )
    return addresses


def is_public(address: str) -> bool:
    """Return whether an address belongs to the public internet, however it is written.

    An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4, Teredo) is as public as that.
    """
    parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            parsed = inner
        elif parsed.teredo is not None or parsed.is_site_local:
            return False
    return parsed.is_global and not (
        parsed.is_multicast or parsed.is_private or parsed.is_reserved or parsed.is_unspecified
    )


class _Stream(io.RawIOBase):
    """A socket's bytes until a deadline, which a slow sender cannot put off."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._socket.settimeout(_remaining(self._deadline))
        return self._socket.recv_into(buffer)


class _Socket:
    """What ``http.client`` needs of a socket."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_remaining(self._deadline))
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self._socket, self._deadline))

    def close(self) -> None:
        """Do nothing: ``http.client`` closes this while the answer is still to be read."""


class _Plain(http.client.HTTPConnection):
    """Connects to addresses that are resolved and checked already."""

    def __init__(self, host: str, port: int, addresses: list[str], deadline: float) -> None:
        super().__init__(host, port)
        self._addresses = addresses
        self._deadline = deadline
        self._connected: socket.socket | None = None

    def connect(self) -> None:
        self._connected = self._reach()
        self.sock = _Socket(self._connected, self._deadline)

    def hang_up(self) -> None:
        """Close the connection."""
        self.close()
        if self._connected is not None:
            self._connected.close()

    def _reach(self) -> socket.socket:
        failure: OSError | None = None
        for address in self._addresses:
            try:
                return socket.create_connection((address, self.port), _remaining(self._deadline))
            except OSError as error:  # noqa: PERF203 - the next address may answer
                failure = error
        raise failure or OSError("the name has no address")


class _Tls(_Plain):
    """The same over TLS; the certificate must be the name's, not the address's."""

    def connect(self) -> None:
        import ssl  # noqa: PLC0415 - for who asks for https

        self._connected = self._reach()
        context: ssl.SSLContext = ssl.create_default_context()
        self._connected = context.wrap_socket(self._connected, server_hostname=self.host)
        self.sock = _Socket(self._connected, self._deadline)


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _reason(error: Exception, policy: MediaPolicy) -> str:
    if isinstance(error, socket.timeout):
        return f"no complete answer within {policy.timeout:g} seconds (MediaPolicy.timeout)"
    return str(error) or type(error).__name__


def _body(response: http.client.HTTPResponse, url: str, policy: MediaPolicy) -> bytes:
    if response.status != 200:
        raise LlamaError(f"{_short(url)} answers {response.status} {response.reason}")
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise LlamaError(f"{_short(url)} is sent compressed ({encoding}), which was not asked for")
    announced = response.length
    if announced is not None:
        _check_size(announced, _short(url), policy)
    data = bytearray()
    while part := response.read(_CHUNK):
        data += part
        if len(data) > policy.max_bytes:
            raise ValidationError(
                f"{_short(url)} is longer than the {policy.max_bytes} bytes that are allowed "
                "(MediaPolicy.max_bytes)"
            )
    if announced is not None and len(data) != announced:
        raise LlamaError(
            f"{_short(url)} ended after {len(data)} of the {announced} bytes it announced"
        )
    return bytes(data)
