"""Media over http: the servers are real and on loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from llama_cpp import LlamaError, ValidationError
from llama_cpp._media import MediaPolicy, load_media
from llama_cpp._media_fetch import is_public

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = MediaPolicy(private_hosts=("127.0.0.1",), max_bytes=1000, timeout=5)
CONTENT = bytes(range(256))


class Handler(BaseHTTPRequestHandler):
    """Answers by path, well or badly."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args

    def do_GET(self) -> None:
        name, _, argument = self.path.lstrip("/").partition("/")
        getattr(self, f"answer_{name}")(argument)

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def answer_good(self, _argument: str) -> None:
        self.send(200, CONTENT)

    def answer_missing(self, _argument: str) -> None:
        self.send(404, b"no")

    def answer_to(self, target: str) -> None:
        self.send(302, Location=target.replace("PORT", str(self.server.server_port)))  # type: ignore[attr-defined]

    def answer_again(self, _argument: str) -> None:
        self.send(302, Location="/again/")

    def answer_nowhere(self, _argument: str) -> None:
        self.send(302)

    def answer_large(self, _argument: str) -> None:
        self.send(200, b"x" * 1001)

    def answer_endless(self, _argument: str) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 500)
        except OSError:
            self.close_connection = True

    def answer_short(self, _argument: str) -> None:
        self.send(200, CONTENT, Content_Length="300")

    def answer_huge(self, _argument: str) -> None:
        self.send(200, CONTENT, Content_Length=str(10**15))

    def answer_zipped(self, _argument: str) -> None:
        self.send(200, CONTENT, Content_Encoding="gzip")

    def answer_slow(self, _argument: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            self.close_connection = True


@contextmanager
def listening() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as number:
        yield number


def message(kind: type[Exception], source: object, policy: MediaPolicy = LOOPBACK) -> str:
    with pytest.raises(kind) as caught:
        load_media(source, policy)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    return str(caught.value)


def test_fetch(port: int) -> None:
    assert load_media(f"http://127.0.0.1:{port}/good/", LOOPBACK) == CONTENT


def test_fetch_through_redirects(port: int) -> None:
    for target in ("/good/", "http://127.0.0.1:PORT/good/"):
        assert load_media(f"http://127.0.0.1:{port}/to/{target}", LOOPBACK) == CONTENT


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]"])
def test_loopback_is_refused_by_default(host: str, port: int) -> None:
    words = message(ValidationError, f"http://{host}:{port}/good/", MediaPolicy())
    assert words.endswith(
        ", which is not public; if that is meant, name the host in MediaPolicy.private_hosts"
    )


def test_redirect_to_a_private_address_is_refused(port: int) -> None:
    words = message(ValidationError, f"http://127.0.0.1:{port}/to/http://localhost:PORT/good/")
    assert words.startswith("localhost has the address ")
    words = message(ValidationError, f"http://127.0.0.1:{port}/to/http://169.254.169.254/latest")
    assert words.startswith("169.254.169.254 has the address 169.254.169.254, which is not public")


def test_redirect_to_another_scheme_is_refused(port: int) -> None:
    assert message(ValidationError, f"http://127.0.0.1:{port}/to/file:///etc/passwd").endswith(
        "redirects to 'file:///etc/passwd', which is no http"
    )


def test_endless_redirects(port: int) -> None:
    assert message(LlamaError, f"http://127.0.0.1:{port}/again/").endswith(
        "redirects more than 5 times"
    )
    assert message(LlamaError, f"http://127.0.0.1:{port}/nowhere/").endswith("redirects to nowhere")


def test_only_allowed_hosts(port: int) -> None:
    policy = LOOPBACK._replace(hosts={"images.example.org"})
    assert message(ValidationError, f"http://127.0.0.1:{port}/good/", policy) == (
        "127.0.0.1 is none of the allowed hosts (MediaPolicy.hosts)"
    )
    assert message(ValidationError, "http://a.example/", LOOPBACK._replace(allow_urls=False)) == (
        "'http://a.example/' is not fetched (MediaPolicy.allow_urls is False): give a data: URL"
    )


def test_a_name_is_resolved_once_and_every_address_checked(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(host: str, number: int, **_options: object) -> list[object]:
        asked.append(host)
        found = ["127.0.0.1"] if len(asked) == 1 else ["93.184.215.14", "10.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, number)) for name in found]

    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *given, **named: (
            answer(host, *given[:1]) if host == "rebinding.test" else resolve(host, *given, **named)
        ),
    )
    policy = LOOPBACK._replace(private_hosts=("rebinding.test",))
    assert load_media(f"http://rebinding.test:{port}/good/", policy) == CONTENT
    assert asked == ["rebinding.test"]
    assert message(ValidationError, "http://rebinding.test/").startswith(
        "rebinding.test has the address 10.0.0.1, which is not public"
    )


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("missing", LlamaError, "answers 404 Not Found"),
        ("large", ValidationError, ": 1001 bytes, more than the 1000 that are allowed"),
        ("huge", ValidationError, ": 1000000000000000 bytes, more than the 1000 that are allowed"),
        ("endless", ValidationError, "is longer than the 1000 bytes that are allowed"),
        ("short", LlamaError, "ended after 256 of the 300 bytes it announced"),
        ("zipped", LlamaError, "is sent compressed (gzip), which was not asked for"),
    ],
)
def test_bad_answers(port: int, path: str, kind: type[Exception], words: str) -> None:
    assert words in message(kind, f"http://127.0.0.1:{port}/{path}/")


def test_a_slow_sender_meets_the_deadline(port: int) -> None:
    started = time.monotonic()
    words = message(LlamaError, f"http://127.0.0.1:{port}/slow/", LOOPBACK._replace(timeout=0.4))
    assert words == (
        f"cannot fetch 'http://127.0.0.1:{port}/slow/': no complete answer within 0.4 seconds "
        "(MediaPolicy.timeout)"
    )
    assert time.monotonic() - started < 3


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        words = message(LlamaError, f"http://127.0.0.1:{number}/")
    assert words.startswith(f"cannot fetch 'http://127.0.0.1:{number}/': ")


def test_tls_needs_a_certificate(port: int) -> None:
    assert message(LlamaError, f"https://127.0.0.1:{port}/good/").startswith(
        f"cannot fetch 'https://127.0.0.1:{port}/good/': "
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://", "'http://' names no host"),
        ("http:///a", "'http:///a' names no host"),
        ("http://a:b/", "is no URL"),
        ("http://a:99999/", "is no URL"),
        ("http://[::1/", "is no URL"),
        ("http://me:pw@a.example/", "a.example: a URL with a user name or password is not fetched"),
        ("http://a.example/a b", "has a space, a control character or one that is not ASCII"),
        ("http://a.example/\r\nX: y", "has a space, a control character or one that is not ASCII"),
        ("http://ä.example/", "has a space, a control character or one that is not ASCII"),
    ],
)
def test_bad_urls(url: str, words: str) -> None:
    assert words in message(ValidationError, url)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1"),
    ],
)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)
