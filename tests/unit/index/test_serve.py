from __future__ import annotations

import gzip
import http.client
import json
import threading
from typing import TYPE_CHECKING

import pytest

from ci.errors import UsageError
from ci.table import load_table
from index import catalogue
from index.serve import Server, negotiate, part_of, takes_gzip
from index.site import build
from tests.accept import ACCEPT, HTML, JSON, PLAIN
from tests.wheels import write_proven_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = "/whl/cpu/llama-cpp-python/"


@pytest.mark.parametrize(("accept", "expected"), ACCEPT)
def test_negotiate(accept: str, expected: str | None) -> None:
    assert negotiate(accept) == expected


class Site:
    """A running server and what it logged."""

    def __init__(self, root: Path) -> None:
        self.log: list[str] = []
        self.server = Server(root, port=0, log=self.log.append)

    def get(
        self, path: str, *, accept: str | None = None, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        # http.client itself asks for "identity", as curl does not and browsers do not.
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in {**({} if accept is None else {"Accept": accept}), **sent}.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers, body


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    wheel = write_proven_wheel(folder / "dist")
    file = folder / "catalogue.jsonl"
    table = load_table()
    catalogue.add(file, [wheel], table=table, upload_time="2026-11-21T12:00:00Z")
    build(catalogue.load(file), folder / "site", table=table, wheels=[folder / "dist"])
    return folder / "site"


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    site = Site(root)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


def test_html_for_a_browser(site: Site, root: Path) -> None:
    status, headers, body = site.get(PAGE, accept="text/html")

    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert body == (root / PAGE[1:] / "index.html").read_bytes()


def test_json_for_who_asks_for_it(site: Site, root: Path) -> None:
    status, headers, body = site.get(PAGE, accept=JSON)

    assert status == 200
    assert headers["Content-Type"] == JSON
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert body == (root / PAGE[1:] / "index.v1_json").read_bytes()


def test_versioned_html(site: Site) -> None:
    _, headers, _ = site.get(PAGE, accept=HTML)

    assert headers["Content-Type"] == f"{HTML}; charset=utf-8"


def test_a_page_for_people_is_html_whatever_is_accepted(site: Site) -> None:
    status, headers, body = site.get("/", accept=JSON)

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"prebuilt wheels" in body


def test_nothing_acceptable(site: Site) -> None:
    status, _, body = site.get(PAGE, accept="application/json")

    assert status == 406
    assert body == f"this page is served as {PLAIN}, {HTML}, {JSON}\n".encode()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param("/backends.json", "application/json", id="json"),
        pytest.param(f"{PAGE}index.v1_json", JSON, id="v1-json"),
        pytest.param(f"{PAGE}index.html", "text/html; charset=utf-8", id="html"),
    ],
)
def test_content_types(site: Site, path: str, kind: str) -> None:
    status, headers, _ = site.get(path)

    assert (status, headers["Content-Type"]) == (200, kind)


def test_wheel_and_metadata_under_the_address_of_the_page(site: Site, root: Path) -> None:
    _, _, page = site.get(PAGE, accept=JSON)
    (file,) = json.loads(page)["files"]

    wheel = site.get(PAGE + file["url"])
    metadata = site.get(f"{PAGE}{file['url']}.metadata")

    assert "%2B" in file["url"]
    assert wheel[0] == 200
    assert wheel[1]["Content-Type"] == "application/octet-stream"
    assert wheel[2] == (root / PAGE[1:] / file["filename"]).read_bytes()
    assert metadata[0] == 200
    assert metadata[2].startswith(b"Metadata-Version: 2.4\n")


@pytest.mark.parametrize(
    "path",
    [
        "/whl/cpu/numpy/",
        "/whl/cu128/",
        "/whl/cpu/llama-cpp-python/none.whl",
        "/backends.json/",
        "/../catalogue.jsonl",
        "/whl/%2e%2e/%2e%2e/catalogue.jsonl",
        "/whl/..%2f..%2fcatalogue.jsonl",
        "/%00",
        "/whl\\cpu",
    ],
)
def test_what_is_not_there_is_a_real_404(site: Site, root: Path, path: str) -> None:
    status, headers, body = site.get(path, accept=JSON)

    assert status == 404
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert body == (root / "404.html").read_bytes()


def test_a_folder_without_its_slash(site: Site) -> None:
    status, headers, _ = site.get("/whl/cpu?x=1")

    assert (status, headers["Location"]) == (301, "/whl/cpu/?x=1")


def test_head_has_no_body(site: Site, root: Path) -> None:
    status, headers, body = site.get(PAGE, method="HEAD")

    assert (status, body) == (200, b"")
    assert headers["Content-Length"] == str((root / PAGE[1:] / "index.html").stat().st_size)


def test_logs_a_line_per_request(site: Site, root: Path) -> None:
    site.get(PAGE)
    site.get("/none", method="HEAD")

    page = (root / PAGE[1:] / "index.html").stat().st_size
    assert site.log == [f"GET {PAGE} 200 {page}", "HEAD /none 404 0"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("br, *", True),
        ("*;q=0", False),
    ],
)
def test_who_takes_gzip(header: str, expected: bool) -> None:
    assert takes_gzip(header) is expected


def test_pages_are_compressed_for_who_takes_it(site: Site, root: Path) -> None:
    status, headers, body = site.get(PAGE, accept=JSON, Accept_Encoding="gzip, deflate, br")

    assert (status, headers["Content-Encoding"], headers["Content-Type"]) == (200, "gzip", JSON)
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(body) == (root / PAGE[1:] / "index.v1_json").read_bytes()
    assert len(body) < len(gzip.decompress(body))
    assert site.log == [f"GET {PAGE} 200 {len(body)}"]


def test_wheels_are_not_compressed(site: Site, root: Path) -> None:
    wheel = wheel_in(root)

    _, headers, body = site.get(f"{PAGE}{wheel.name}", Accept_Encoding="gzip")

    assert headers["Content-Encoding"] is None
    assert headers["Vary"] is None
    assert body == wheel.read_bytes()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("bytes=0-3", range(4), id="start"),
        pytest.param("bytes=2-", range(2, 10), id="rest"),
        pytest.param("bytes=-3", range(7, 10), id="end"),
        pytest.param("bytes=-30", range(10), id="more-than-all"),
        pytest.param("bytes=8-99", range(8, 10), id="beyond-the-end"),
        pytest.param("bytes=10-", range(0), id="nothing"),
        pytest.param("bytes=-0", range(10, 10), id="end-of-nothing"),
        pytest.param("bytes=3-1", None, id="backwards"),
        pytest.param("bytes=0-1,4-5", None, id="several"),
        pytest.param("lines=0-1", None, id="another-unit"),
    ],
)
def test_part_of(header: str, expected: range | None) -> None:
    assert part_of(header, 10) == expected


def wheel_in(root: Path) -> Path:
    (wheel,) = (root / PAGE[1:]).glob("*.whl")
    return wheel


def test_a_download_goes_on_where_it_ended(site: Site, root: Path) -> None:
    wheel = wheel_in(root)
    content = wheel.read_bytes()
    path = f"{PAGE}{wheel.name}"
    _, first, _ = site.get(path, method="HEAD")

    status, headers, body = site.get(path, Range="bytes=100-", If_Range=first["ETag"])

    assert (status, body) == (206, content[100:])
    assert headers["Content-Range"] == f"bytes 100-{len(content) - 1}/{len(content)}"
    assert headers["Accept-Ranges"] == "bytes"
    assert site.log[-1] == f"GET {path} 206 {len(content) - 100}"


def test_of_another_file_the_whole_is_sent(site: Site, root: Path) -> None:
    wheel = wheel_in(root)

    status, _, body = site.get(f"{PAGE}{wheel.name}", Range="bytes=100-", If_Range='"another"')

    assert (status, body) == (200, wheel.read_bytes())


def test_a_part_that_is_not_there(site: Site, root: Path) -> None:
    wheel = wheel_in(root)

    status, headers, body = site.get(f"{PAGE}{wheel.name}", Range="bytes=9999999-")

    assert (status, body) == (416, b"")
    assert headers["Content-Range"] == f"bytes */{wheel.stat().st_size}"


def test_head_of_a_part_says_the_whole(site: Site, root: Path) -> None:
    wheel = wheel_in(root)

    status, headers, _ = site.get(f"{PAGE}{wheel.name}", method="HEAD", Range="bytes=-5")

    assert (status, headers["Content-Length"]) == (200, str(wheel.stat().st_size))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_who_has_it_already_gets_no_body(site: Site, encoding: str) -> None:
    _, first, _ = site.get(PAGE, accept=JSON, Accept_Encoding=encoding)

    known = f'"other", W/{first["ETag"]}'
    status, headers, body = site.get(
        PAGE, accept=JSON, Accept_Encoding=encoding, If_None_Match=known
    )

    assert (status, body, headers["ETag"]) == (304, b"", first["ETag"])
    assert site.log[-1] == f"GET {PAGE} 304 0"


def test_each_form_of_a_page_has_its_own_tag(site: Site) -> None:
    tags = {
        site.get(PAGE, accept=accept, Accept_Encoding=encoding)[1]["ETag"]
        for accept in (JSON, PLAIN)
        for encoding in ("identity", "gzip")
    }

    assert len(tags) == 4


def test_listens_on_loopback_only(site: Site) -> None:
    assert site.server.server_address[0] == "127.0.0.1"
    assert site.server.url == f"http://127.0.0.1:{site.server.server_port}/"


def test_a_folder_that_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Server(tmp_path / "none", port=0, log=print)

    assert str(caught.value) == (
        f"{tmp_path / 'none'}: no site is there\n  -> make one with `nox -s index`, or give --root"
    )


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist(root: Path, port: int) -> None:
    with pytest.raises(UsageError, match=f"port {port} cannot be used"):
        Server(root, port=port, log=print)


def test_a_port_that_is_taken(site: Site, root: Path) -> None:
    port = site.server.server_port

    with pytest.raises(UsageError, match=f"port {port} cannot be used"):
        Server(root, port=port, log=print)
