"""Stands between llama.cpp's RPC client and a server, so that a lost server is not a lost process.

The client in ggml-rpc.cpp ends the process (``GGML_ABORT``) as soon as a server closes the connection
or answers something unexpected. It therefore talks to a relay on the loopback interface, a thread of
this process that passes every message on. When the server is lost, the relay notes why and answers in
its place: empty answers of the right size, which nobody uses, because the binding asks
:attr:`Relay.failure` after each computation and before it looks at the result.

The messages are those of ggml-rpc.cpp at the pinned commit: a request is the command (1 byte), a size
(8 bytes) and that many bytes; an answer, where the command has one, a size and that many bytes. The
client sends one request at a time and waits for its answer.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT = 5.0
"""Seconds that a server has to take a connection and say hello."""

_HELLO, _DEVICE_COUNT = 14, 15
_HEAD = struct.Struct("<BQ")
_SIZE = struct.Struct("<Q")
# major, minor, patch, padding, then what the side can do besides TCP: nothing, as the relay cannot
_HELLO_ANSWER = struct.Struct("<4B24x")
_NO_CAPABILITIES = bytes(24)
# struct rpc_tensor: id, type, buffer, then ne[4] and nb[4]
_TENSOR_SHAPE = struct.Struct("<20x4I4I")
_TENSOR_SIZE = 296
_CHUNK = 1 << 20
# where the buffers of a lost server are said to begin: anything but NULL
_BASE = 1 << 40
_ALIGNMENT = 128


class ServerError(Exception):
    """A server cannot be reached, is none, or was lost; the text says why."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _number(value: int) -> Callable[[bytes], bytes]:
    return lambda _request: _SIZE.pack(value)


def _allocated(request: bytes) -> bytes:
    _device, size = struct.unpack_from("<IQ", request)
    return struct.pack("<QQ", 1, size)


def _allocation(request: bytes) -> bytes:
    shape = _TENSOR_SHAPE.unpack_from(request, 4)
    lengths, strides = shape[:4], shape[4:]
    # of a row nb[0] is the size of a block, so that only what is above it counts bytes
    return _SIZE.pack(max(n * stride for n, stride in zip(lengths[1:], strides[1:])))


# What a lost server would have answered, by command; a command that is not here has no answer. The
# tensors' contents (8) are written in pieces, and how many devices there are (15) the relay knows.
_GET_TENSOR = 8
_STAND_IN: dict[int, Callable[[bytes], bytes]] = {
    0: _allocated,
    1: _number(_ALIGNMENT),
    2: _number(2**62),
    3: _number(_BASE),
    7: lambda _request: b"\x01",  # "has the data already": it need not be sent
    _GET_TENSOR: lambda _request: b"",
    9: lambda _request: b"\x01",
    11: lambda _request: bytes(16),
    13: _allocation,
    _HELLO: lambda _request: _HELLO_ANSWER.pack(
        _abi.RPC_PROTO_MAJOR_VERSION,
        _abi.RPC_PROTO_MINOR_VERSION,
        _abi.RPC_PROTO_PATCH_VERSION,
        0,
    ),
    _DEVICE_COUNT: lambda _request: b"",
}


def greet(address: Address, timeout: float = TIMEOUT) -> socket.socket:
    """Connect to a server and exchange the hello.

    Raises:
        ServerError: nothing listens there, it is no RPC server, it speaks another version, or it does
            not answer because it serves somebody else.
    """
    try:
        connection = socket.create_connection((address.host, address.port), timeout)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"cannot connect: {_reason(error)}") from error
    try:
        _keep_alive(connection)
        connection.sendall(_HEAD.pack(_HELLO, len(_NO_CAPABILITIES)) + _NO_CAPABILITIES)
        (size,) = _SIZE.unpack(_read(connection, _SIZE.size))
        answer = _read(connection, size) if size == _HELLO_ANSWER.size else b""
        connection.settimeout(None)
    except socket.timeout as error:  # not TimeoutError before Python 3.10
        connection.close()
        raise ServerError(
            f"it does not answer within {timeout:g} s: a server has one client at a time, "
            "and may be busy with another"
        ) from error
    except OSError as error:
        connection.close()
        raise ServerError(
            "it closes the connection at once: no RPC server of llama.cpp, or another version"
        ) from error
    if (problem := _version_problem(answer)) is not None:
        connection.close()
        raise ServerError(problem)
    return connection


def _version_problem(answer: bytes) -> str | None:
    if not answer:
        return "what listens there is no RPC server of llama.cpp, or one of another version"
    major, minor, patch, _padding = _HELLO_ANSWER.unpack(answer)
    if major == _abi.RPC_PROTO_MAJOR_VERSION and minor <= _abi.RPC_PROTO_MINOR_VERSION:
        return None
    return (
        f"it speaks version {major}.{minor}.{patch} of the protocol, this package "
        f"{_abi.RPC_PROTO_MAJOR_VERSION}.{_abi.RPC_PROTO_MINOR_VERSION}."
        f"{_abi.RPC_PROTO_PATCH_VERSION}: install the same version on both machines"
    )


def count_devices(connection: socket.socket) -> int:
    """Ask a server that was greeted how many devices it offers.

    Raises:
        ServerError: it does not say.
    """
    try:
        connection.settimeout(TIMEOUT)
        connection.sendall(_HEAD.pack(_DEVICE_COUNT, 0))
        size, count = struct.unpack("<QI", _read(connection, 12))
        connection.settimeout(None)
    except OSError as error:
        raise ServerError("it does not say what devices it has") from error
    if size != 4 or count == 0:
        raise ServerError("it offers no device")
    return int(count)


class Relay:
    """Passes the messages between this process's RPC client and one server.

    Attributes:
        address: the server.
        endpoint: where the client finds the relay.
        failure: why the server is lost; None while all is well. It stays until the client, having
            freed all it had there, connects again.
    """

    def __init__(self, address: Address, devices: int) -> None:
        """Listen on the loopback interface.

        Args:
            address: the server.
            devices: how many devices it has.
        """
        self.address = address
        self.devices = devices
        self.failure: str | None = None
        self._active = threading.Lock()
        self._server: socket.socket | None = None
        self._buffer = memoryview(bytearray(_CHUNK))
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.endpoint = f"{host}:{port}"
        threading.Thread(target=self._run, name=f"rpc {address}", daemon=True).start()

    @property
    def in_use(self) -> bool:
        """Whether the client holds a connection; the server then answers nobody else."""
        return self._active.locked()

    def let_go(self, seconds: float = 1.0) -> bool:
        """Wait for a client that just closed its connection; say whether there is none."""
        if self._active.acquire(timeout=seconds):
            self._active.release()
            return True
        return False

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the interpreter ends
                return
            with self._active, client, suppress(OSError):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(client)
            self._hang_up()

    def _serve(self, client: socket.socket) -> None:
        self.failure = None
        try:
            self._server = self._dial()
        except ServerError as error:
            self._lose(str(error))
        while True:
            command, size = _HEAD.unpack(_read(client, _HEAD.size))
            request = self._pass_on(client, command, size)
            if command in _STAND_IN:
                self._answer(client, command, request)

    def _dial(self) -> socket.socket:
        server = greet(self.address)
        try:
            now = count_devices(server)
        except ServerError:
            server.close()
            raise
        if now != self.devices:
            server.close()
            raise ServerError(f"it has {now} devices now and had {self.devices} before")
        return server

    def _pass_on(self, client: socket.socket, command: int, size: int) -> bytes:
        """Read a request and send it to the server; return its first part."""
        head = _HEAD.pack(command, size)
        first = _read(client, min(size, 4096))
        if command == _HELLO:  # was said already
            return first
        self._send(head + first)
        left = size - len(first)
        while left:
            count = _receive(client, self._buffer[:left])
            self._send(self._buffer[:count])
            left -= count
        return first

    def _answer(self, client: socket.socket, command: int, request: bytes) -> None:
        """Give the client the server's answer, or one in its place."""
        expected = self._size(command, request)
        sent = None if command == _HELLO else self._copy_answer(client, expected)
        if sent is None:
            client.sendall(_SIZE.pack(expected))
            sent = 0
        if answer := self._stand_in(command, request):
            client.sendall(answer[sent:])
            return
        zeros = bytes(min(expected - sent, _CHUNK))
        while sent < expected:
            client.sendall(zeros[: expected - sent])
            sent += min(len(zeros), expected - sent)

    def _copy_answer(self, client: socket.socket, expected: int) -> int | None:
        """Copy what the server answers; return how much came before it was lost, None for nothing."""
        sent: int | None = None
        piece: bytes | memoryview
        while self._server is not None and (sent is None or sent < expected):
            try:
                if sent is None:
                    (size,) = _SIZE.unpack(_read(self._server, _SIZE.size))
                    piece = _SIZE.pack(size)
                else:
                    count = _receive(self._server, self._buffer[: expected - sent])
                    piece = self._buffer[:count]
            except OSError as error:
                self._lose(_reason(error))
                break
            if sent is None and size != expected:
                self._lose(f"it answered {size} bytes where {expected} were due")
                break
            client.sendall(piece)
            sent = 0 if sent is None else sent + count
        return sent

    def _size(self, command: int, request: bytes) -> int:
        if command == _GET_TENSOR:
            (size,) = struct.unpack_from("<Q", request, _TENSOR_SIZE + 8)
            return int(size)
        return len(self._stand_in(command, request))

    def _stand_in(self, command: int, request: bytes) -> bytes:
        if command == _DEVICE_COUNT:
            return struct.pack("<I", self.devices)
        return _STAND_IN[command](request)

    def _send(self, data: bytes | memoryview) -> None:
        if self._server is not None:
            try:
                self._server.sendall(data)
            except OSError as error:
                self._lose(_reason(error))

    def _lose(self, why: str) -> None:
        self.failure = why
        self._hang_up()

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _read(connection: socket.socket, size: int) -> bytes:
    """Read exactly ``size`` bytes."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        view = view[_receive(connection, view) :]
    return bytes(data)


def _receive(connection: socket.socket, view: memoryview) -> int:
    """Read what is there, at least a byte and at most what fits."""
    count = connection.recv_into(view)
    if count == 0:
        raise ConnectionError("it closed the connection")
    return count


def _keep_alive(connection: socket.socket) -> None:
    """Have the system notice within half a minute that the other machine is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # not every system has them
    for name, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),
    ):
        with suppress(OSError, AttributeError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
