"""Media over http and https, from public addresses only.

A name is resolved once per connection, all its addresses are checked, and the connection goes to one of
them, so that a second answer of the name server changes nothing. Redirects begin again.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._media import check_size, shortened

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from llama_cpp._media import MediaPolicy

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 16
# RFC 6052: an IPv4 address in the last 32 bits, which a translator connects to
_NAT64 = IPv6Network("64:ff9b::/96")


def fetch(url: str, policy: MediaPolicy) -> bytes:
    """Return what an http(s) URL leads to.

    Raises:
        ValidationError: the policy forbids it, or it is too large.
        LlamaError: it could not be fetched.
    """
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
            with connection.getresponse() as response:
                if response.status not in _REDIRECTS:
                    return _body(response, url, policy)
                target = response.getheader("Location")
        except (OSError, http.client.HTTPException) as error:
            raise LlamaError(f"cannot fetch {shortened(url)}: {_reason(error, policy)}") from error
        finally:
            connection.hang_up()
        if not target:
            raise LlamaError(f"{shortened(url)} redirects to nowhere")
        url = _redirected(url, target)
    raise LlamaError(f"{shortened(first)} redirects more than {policy.max_redirects} times")


def _redirected(url: str, target: str) -> str:
    following = urljoin(url, target)
    scheme = following.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise ValidationError(
            f"{shortened(url)} redirects to {shortened(following)}, which is no http"
        )
    if url.lower().startswith("https:") and scheme == "http":
        raise ValidationError(f"{shortened(url)} redirects from https to {shortened(following)}")
    return following


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValidationError(f"{shortened(url)} is no URL: {error}") from error
    if not parts.hostname:
        raise ValidationError(f"{shortened(url)} names no host")
    if parts.username is not None or parts.password is not None:
        raise ValidationError(
            f"{parts.hostname}: a URL with a user name or password is not fetched"
        )
    if any(character <= " " or character == "\x7f" for character in url) or not url.isascii():
        raise ValidationError(
            f"{shortened(url)} has a space, a control character or one that is not ASCII: "
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
        self._connected = self._reach()
        context = ssl.create_default_context()
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
        raise LlamaError(f"{shortened(url)} answers {response.status} {response.reason}")
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise LlamaError(
            f"{shortened(url)} is sent compressed ({encoding}), which was not asked for"
        )
    announced = response.length
    if announced is not None:
        check_size(announced, shortened(url), policy)
    data = bytearray()
    while part := response.read(_CHUNK):
        data += part
        if len(data) > policy.max_bytes:
            raise ValidationError(
                f"{shortened(url)} is longer than the {policy.max_bytes} bytes that are allowed "
                "(MediaPolicy.max_bytes)"
            )
    if announced is not None and len(data) != announced:
        raise LlamaError(
            f"{shortened(url)} ended after {len(data)} of the {announced} bytes it announced"
        )
    return bytes(data)
