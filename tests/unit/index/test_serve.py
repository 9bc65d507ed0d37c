from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING

import pytest

from ci.errors import UsageError
from ci.table import load_table
from index import catalogue
from index.serve import Server, negotiate
from index.site import build
from tests.wheels import write_proven_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PLAIN = "text/html"
PAGE = "/whl/cpu/llama-cpp-python/"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param("", PLAIN, id="no-header"),
        pytest.param("*/*", PLAIN, id="anything"),
        pytest.param(JSON, JSON, id="json"),
        pytest.param("application/vnd.pypi.simple.latest+json", JSON, id="latest-json"),
        pytest.param("application/vnd.pypi.simple.latest+html", HTML, id="latest-html"),
        pytest.param(f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON, id="pip"),
        pytest.param(f"{JSON}, {HTML};q=0.2, text/html;q=0.01", JSON, id="uv"),
        pytest.param(f"{HTML}; q=0.5, text/html;q=0.1", HTML, id="html-first"),
        pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN, id="browser"),
        pytest.param(f"{JSON};q=0, text/html;q=0.5", PLAIN, id="json-forbidden"),
        pytest.param(f"{JSON};q=0, */*", PLAIN, id="specific-beats-wildcard"),
        pytest.param("text/html;q=0.1, application/*", HTML, id="type-wildcard"),
        pytest.param(f"TEXT/HTML;q=0.1, {JSON};Q=0.2", JSON, id="case"),
        pytest.param(f"text/html;q=high, {JSON};q=0.1", JSON, id="bad-quality"),
        pytest.param("application/json", None, id="plain-json"),
        pytest.param("text/html;q=0", None, id="nothing-left"),
    ],
)
def test_negotiate(accept: str, expected: str | None) -> None:
    assert negotiate(accept) == expected


class Site:
    """A running server and what it logged."""

    def __init__(self, root: Path) -> None:
        self.log: list[str] = []
        self.server = Server(root, port=0, log=self.log.append)

    def get(
        self, path: str, *, accept: str | None = None, method: str = "GET"
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request(method, path, headers={} if accept is None else {"Accept": accept})
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
    assert headers["Vary"] == "Accept"
    assert body == (root / PAGE[1:] / "index.html").read_bytes()


def test_json_for_who_asks_for_it(site: Site, root: Path) -> None:
    status, headers, body = site.get(PAGE, accept=JSON)

    assert status == 200
    assert headers["Content-Type"] == JSON
    assert headers["Vary"] == "Accept"
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
    missing = (root / "404.html").stat().st_size
    assert site.log == [f"GET {PAGE} 200 {page}", f"HEAD /none 404 {missing}"]


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
