"""The relay and its hello, against servers that misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from llama_cpp import _abi
from llama_cpp._relay import Address, Relay, ServerError, count_devices, greet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELLO = struct.pack("<QBBBB24x", 28, 7, 0, 0, 0)
ONE_DEVICE = struct.pack("<QI", 4, 1)
TENSOR = struct.pack("<20x4I4I", 64, 3, 1, 1, 4, 256, 768, 768).ljust(296, b"\0")


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], object]) -> Iterator[Address]:
    """Listen, and give each connection to ``serve``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                serve(connection)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield Address(*listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def hello(answer: bytes) -> Callable[[socket.socket], object]:
    """Read a hello and answer it."""

    def serve(connection: socket.socket) -> None:
        assert exactly(connection, 33) == struct.pack("<BQ24x", 14, 24)
        connection.sendall(answer)
        connection.recv(1)

    return serve


def exactly(connection: socket.socket, size: int) -> bytes:
    """Read this many bytes; fewer where the connection ends."""
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data


def dies_after(
    answers: dict[int, bytes], last: int | None = None
) -> Callable[[socket.socket], object]:
    """Answer these commands, and close the connection at any other, or after the last."""

    def serve(connection: socket.socket) -> None:
        while True:
            command, size = struct.unpack("<BQ", exactly(connection, 9))
            exactly(connection, size)
            if command not in answers:
                return
            connection.sendall(answers[command])
            if command == last:
                return

    return serve


def test_the_protocol_is_the_one_that_the_relay_was_written_for() -> None:
    # where this fails, read ggml-rpc.cpp: the commands, their answers and struct rpc_tensor
    assert (_abi.RPC_PROTO_MAJOR_VERSION, _abi.RPC_PROTO_MINOR_VERSION) == (7, 0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (struct.pack("<QBBBB24x", 28, 6, 1, 2, 0),
         r"^it speaks version 6\.1\.2 of the protocol, this package 7\.0\.0: install the same"),
        (struct.pack("<QBBBB24x", 28, 7, 1, 0, 0), r"^it speaks version 7\.1\.0 of the protocol"),
        (b"HTTP/1.1 400 Bad Request", r"^what listens there is no RPC server of llama\.cpp, or one"),
        (struct.pack("<QI", 4, 7), r"^what listens there is no RPC server"),
    ],
    ids=["older", "newer", "a web server", "other size"],
)  # fmt: skip
def test_no_server_of_ours(answer: bytes, message: str) -> None:
    with server(hello(answer)) as address, pytest.raises(ServerError, match=message):
        greet(address)


def test_a_server_that_hangs_up() -> None:
    with (
        server(lambda _connection: None) as address,
        pytest.raises(ServerError, match=r"^it closes the connection at once: no RPC server"),
    ):
        greet(address)


def test_a_busy_server() -> None:
    # listens, and accepts nobody
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
        with pytest.raises(
            ServerError,
            match=r"^it does not answer within 0\.2 s: a server has one client at a time",
        ):
            greet(address, timeout=0.2)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())
    with pytest.raises(ServerError, match=r"^cannot connect: Connection refused$"):
        greet(address)


def test_a_server_without_devices() -> None:
    with (
        server(dies_after({14: HELLO, 15: struct.pack("<QI", 4, 0)})) as address,
        greet(address) as connection,
        pytest.raises(ServerError, match=r"^it offers no device$"),
    ):
        count_devices(connection)


@pytest.fixture
def client() -> Iterator[Callable[[Relay], Ask]]:
    """Connect to relays as ggml's client does."""
    with contextlib.ExitStack() as stack:

        def connect(relay: Relay) -> Ask:
            host, port = relay.endpoint.split(":")
            ask = Ask(stack.enter_context(socket.create_connection((host, int(port)), 10)))
            assert ask(14, bytes(24)) == HELLO[8:]
            return ask

        yield connect


class Ask:
    """ggml's client, as far as the relay sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def tell(self, command: int, request: bytes = b"") -> None:
        """Send a command that has no answer."""
        self.connection.sendall(struct.pack("<BQ", command, len(request)) + request)

    def __call__(self, command: int, request: bytes = b"") -> bytes:
        """Send a command and return its answer."""
        self.tell(command, request)
        (size,) = struct.unpack("<Q", exactly(self.connection, 8))
        return exactly(self.connection, size) if size else b""


def test_answers_pass_through(client: Callable[[Relay], Ask]) -> None:
    alignment = struct.pack("<QQ", 8, 32)
    with server(
        dies_after({14: HELLO, 15: ONE_DEVICE, 1: alignment, 8: struct.pack("<Q", 0)})
    ) as address:
        relay = Relay(address, 1)
        ask = client(relay)
        assert ask(15) == struct.pack("<I", 1)
        assert ask(1, bytes(4)) == struct.pack("<Q", 32)
        assert ask(8, TENSOR + struct.pack("<QQ", 0, 0)) == b""
        assert relay.failure is None
        assert relay.in_use


def test_a_lost_server_is_stood_in_for(client: Callable[[Relay], Ask]) -> None:
    with server(dies_after({14: HELLO, 15: ONE_DEVICE})) as address:
        relay = Relay(address, 1)
        ask = client(relay)
        # allocate: the server is gone, and from here on the relay answers
        assert ask(0, struct.pack("<IQ", 0, 4096)) == struct.pack("<QQ", 1, 4096)
        assert relay.failure == "it closed the connection"
        (base,) = struct.unpack("<Q", ask(3, bytes(8)))
        assert base > 0
        assert base % 128 == 0
        ask.tell(6, bytes(3_000_000))
        assert ask(8, TENSOR + struct.pack("<QQ", 0, 5_000_000)) == bytes(5_000_000)
        assert ask(13, bytes(4) + TENSOR * 11) == struct.pack("<Q", 768)
        assert ask(11, bytes(4)) == bytes(16)
        assert ask(15) == struct.pack("<I", 1)


def test_an_answer_cut_short_is_filled_up(client: Callable[[Relay], Ask]) -> None:
    short = struct.pack("<Q", 1000) + b"x" * 10
    with server(dies_after({14: HELLO, 15: ONE_DEVICE, 8: short}, last=8)) as address:
        relay = Relay(address, 1)
        ask = client(relay)
        ask.tell(8, TENSOR + struct.pack("<QQ", 0, 1000))
        assert exactly(ask.connection, 1008) == short + bytes(990)
        assert relay.failure == "it closed the connection"


def test_an_answer_of_another_size_is_a_failure(client: Callable[[Relay], Ask]) -> None:
    with server(dies_after({14: HELLO, 15: ONE_DEVICE, 1: ONE_DEVICE})) as address:
        relay = Relay(address, 1)
        ask = client(relay)
        assert ask(1, bytes(4)) == struct.pack("<Q", 128)
        assert relay.failure == "it answered 4 bytes where 8 were due"


def test_other_devices_than_before_are_a_failure(client: Callable[[Relay], Ask]) -> None:
    with server(dies_after({14: HELLO, 15: ONE_DEVICE})) as address:
        relay = Relay(address, 2)
        ask = client(relay)
        assert ask(15) == struct.pack("<I", 2)
        assert relay.failure == "it has 1 devices now and had 2 before"


def test_a_new_connection_forgets_the_failure(client: Callable[[Relay], Ask]) -> None:
    with server(dies_after({14: HELLO, 15: ONE_DEVICE})) as address:
        relay = Relay(address, 1)
        ask = client(relay)
        ask(1, bytes(4))
        failures = [relay.failure]
        assert not relay.let_go(0.05)
        ask.connection.close()
        assert relay.let_go(10)
        client(relay)
        failures.append(relay.failure)
        assert failures == ["it closed the connection", None]
