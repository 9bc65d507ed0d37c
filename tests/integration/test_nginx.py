"""The snippet for hosts that negotiate, with the real nginx, real pip and real uv."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ci.table import load_table
from index import catalogue
from index.site import build
from tests.accept import ACCEPT, HTML, JSON, PLAIN
from tests.wheels import write_proven_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
NGINX: Final = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PAGE: Final = "/whl/cpu/llama-cpp-python/"

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="nginx is not here (Debian: apt install nginx)"
)

_AROUND: Final = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{ }}
http {{
    log_format short "$request_method $request_uri $status $sent_http_content_type";
    access_log {folder}/access.log short;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/html html; application/json json; text/plain txt; }}
    default_type application/octet-stream;
    include {folder}/index.conf;
}}
"""


class Nginx:
    """A running nginx that serves a site with our snippet."""

    def __init__(self, root: Path, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        snippet = (ROOT / "index" / "nginx.conf").read_text(encoding="utf-8")
        for ours, here in (
            ("    listen 80;\n", f"    listen 127.0.0.1:{self.port};\n"),
            ("    root /srv/index;\n", f"    root {root};\n"),
        ):
            assert snippet.count(ours) == 1
            snippet = snippet.replace(ours, here)
        (folder / "index.conf").write_text(snippet, encoding="utf-8")
        (folder / "nginx.conf").write_text(_AROUND.format(folder=folder), encoding="utf-8")
        assert NGINX is not None
        self.process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(200):
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"nginx does not answer: {self.process.communicate()[1]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(
        self, path: str, *, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, response.headers, body

    def requests(self) -> list[str]:
        """Return the requests so far: ``METHOD ADDRESS STATUS TYPE``."""
        return (self.folder / "access.log").read_text(encoding="utf-8").splitlines()

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("negotiated")
    wheels = [
        write_proven_wheel(folder / "dist", version=f"0.3.{number}+cpu")
        for number in range(95, 101)
    ]
    file = folder / "catalogue.jsonl"
    table = load_table()
    catalogue.add(file, wheels, table=table, upload_time="2026-11-21T12:00:00Z")
    build(catalogue.load(file), folder / "site", table=table, wheels=[folder / "dist"])
    return folder / "site"


@pytest.fixture(scope="module")
def nginx(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    server = Nginx(root, tmp_path_factory.mktemp("nginx") / "run")
    yield server
    server.stop()


@pytest.mark.parametrize(("accept", "expected"), ACCEPT)
def test_chooses_as_the_server_for_a_try_does(
    nginx: Nginx, root: Path, accept: str, expected: str | None
) -> None:
    status, headers, body = nginx.get(PAGE, Accept=accept)

    if expected is None:
        assert status == 406
        return
    kinds = {JSON: JSON, HTML: f"{HTML}; charset=utf-8", PLAIN: "text/html; charset=utf-8"}
    name = "index.v1_json" if expected == JSON else "index.html"
    assert (status, headers["Content-Type"]) == (200, kinds[expected])
    assert "Accept" in ", ".join(headers.get_all("Vary") or ()).split(", ")
    assert body == (root / PAGE[1:] / name).read_bytes()


def test_without_an_accept_header(nginx: Nginx, root: Path) -> None:
    status, headers, body = nginx.get(PAGE)

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == (root / PAGE[1:] / "index.html").read_bytes()


@pytest.mark.parametrize(
    ("path", "file"), [("/", "index.html"), ("/whl/", "whl/index.html")], ids=["site", "backends"]
)
@pytest.mark.parametrize("accept", [JSON, "text/html", "application/json"])
def test_pages_for_people_have_one_form(
    nginx: Nginx, root: Path, path: str, file: str, accept: str
) -> None:
    status, headers, body = nginx.get(path, Accept=accept)

    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == (root / file).read_bytes()


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        pytest.param("/backends.json", "application/json", "public, max-age=300", id="json"),
        pytest.param(f"{PAGE}index.v1_json", JSON, "public, max-age=300", id="v1-json"),
        pytest.param(PAGE, "text/html; charset=utf-8", "public, max-age=300", id="page"),
    ],
)
def test_types_and_caching_of_pages(nginx: Nginx, path: str, kind: str, cache: str) -> None:
    status, headers, _ = nginx.get(path)

    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, kind, cache)


@pytest.mark.parametrize("escape", ["+", "%2B", "%2b"])
@pytest.mark.parametrize(
    ("end", "kind"),
    [("", "application/octet-stream"), (".metadata", "text/plain; charset=utf-8")],
    ids=["wheel", "metadata"],
)
def test_files_for_good_with_and_without_the_escape(
    nginx: Nginx, root: Path, escape: str, end: str, kind: str
) -> None:
    wheel = min((root / PAGE[1:]).glob("*.whl"))

    status, headers, body = nginx.get(f"{PAGE}{wheel.name.replace('+', escape)}{end}")

    assert (status, headers["Content-Type"]) == (200, kind)
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert body == wheel.with_name(f"{wheel.name}{end}").read_bytes()


@pytest.mark.parametrize("accept", [JSON, "text/html"])
@pytest.mark.parametrize(
    "path",
    [
        "/whl/cpu/numpy/",
        "/whl/cpu/numpy",
        "/whl/cu128/",
        f"{PAGE}none.whl",
        f"{PAGE}none.whl.metadata",
        "/backends.json/",
        "/.page/json/whl/cpu/",
        "/..%2fcatalogue.jsonl",
    ],
)
def test_what_is_not_there_is_a_real_404(nginx: Nginx, root: Path, path: str, accept: str) -> None:
    status, headers, body = nginx.get(path, Accept=accept)

    if path.startswith("/.."):
        # nginx refuses to look above its folder at all.
        assert status == 400
        return
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert body == (root / "404.html").read_bytes()


def test_a_folder_without_a_page_is_a_404(nginx: Nginx, root: Path) -> None:
    (root / "whl" / "empty").mkdir(exist_ok=True)

    assert nginx.get("/whl/empty/", Accept=JSON)[0] == 404


def test_a_folder_without_its_slash(nginx: Nginx) -> None:
    status, headers, _ = nginx.get("/whl/cpu?x=1")

    assert (status, headers["Location"]) == (301, "/whl/cpu/?x=1")


@pytest.mark.parametrize("accept", [JSON, HTML, PLAIN])
def test_pages_are_compressed(nginx: Nginx, root: Path, accept: str) -> None:
    _, headers, body = nginx.get(PAGE, Accept=accept, Accept_Encoding="gzip")

    name = "index.v1_json" if accept == JSON else "index.html"
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == (root / PAGE[1:] / name).read_bytes()


def test_who_has_the_page_already_gets_no_body(nginx: Nginx) -> None:
    _, first, _ = nginx.get(PAGE, Accept=JSON)

    status, _, body = nginx.get(PAGE, Accept=JSON, If_None_Match=first["ETag"])

    assert (status, body) == (304, b"")


def test_a_part_of_a_wheel(nginx: Nginx, root: Path) -> None:
    wheel = min((root / PAGE[1:]).glob("*.whl"))

    status, _, body = nginx.get(f"{PAGE}{wheel.name}", Range="bytes=-10")

    assert (status, body) == (206, wheel.read_bytes()[-10:])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine says where packages come from."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_LINK_MODE": "copy",
    }


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_installers_get_json_and_the_wheel(
    nginx: Nginx, tmp_path: Path, environment: dict[str, str], tool: str
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    start = {
        "pip": [sys.executable, "-m", "pip", "--python", str(python), "install"],
        "uv": [sys.executable, "-m", "uv", "pip", "install", "--python", str(python)],
    }[tool]
    wanted = ["--index-url", f"{nginx.url}whl/cpu/", "llama-cpp-python==0.3.99"]

    done = subprocess.run(
        [*start, *wanted], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "list", "--python", str(python), "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == [{"name": "llama-cpp-python", "version": "0.3.99+cpu"}]
    assert f"GET {PAGE} 200 {JSON}" in nginx.requests()
