"""A server for a try, on loopback only: real 404s, and JSON or HTML by content negotiation."""

from __future__ import annotations

import shutil
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from ci.errors import UsageError
from index.render import JSON_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOOPBACK: Final = "127.0.0.1"

_JSON: Final = "application/vnd.pypi.simple.v1+json"
_HTML: Final = "application/vnd.pypi.simple.v1+html"
_PLAIN: Final = "text/html"
# What a page can be served as, the one for people first: it wins where the client has no wish.
# A client that asks for "latest" gets the version that it then is (PEP 691).
_REPRESENTATIONS: Final = {
    _PLAIN: (_PLAIN,),
    _HTML: (_HTML, "application/vnd.pypi.simple.latest+html"),
    _JSON: (_JSON, "application/vnd.pypi.simple.latest+json"),
}
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".v1_json": _JSON,
    ".metadata": "text/plain; charset=utf-8",
    ".whl": "application/octet-stream",
}


def negotiate(accept: str, offers: Sequence[str] = tuple(_REPRESENTATIONS)) -> str | None:
    """Choose a content type for an ``Accept`` header; None where the client takes none of them.

    RFC 9110, 12.5.1: "the most specific reference has precedence"; of the types with the highest
    q-value the first of ``offers`` is chosen. An empty header accepts everything.
    """
    ranges = _ranges(accept)
    weights = {
        offer: max(
            (_weight(name, ranges) for name in _REPRESENTATIONS.get(offer, (offer,))), default=0.0
        )
        for offer in offers
    }
    best = max(weights.values())
    return next(offer for offer in offers if weights[offer] == best) if best > 0 else None


def _ranges(accept: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in (accept if accept.strip() else "*/*").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        if name:
            found[name] = quality
    return found


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _weight(name: str, ranges: dict[str, float]) -> float:
    main = name.partition("/")[0]
    for candidate in (name, f"{main}/*", "*/*"):
        if candidate in ranges:
            return ranges[candidate]
    return 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "llama-cpp-python-index"
    timeout = 60

    def __init__(self, *args: object, root: Path, log: Callable[[str], None]) -> None:
        self._root = root
        self._log = log
        super().__init__(*args)  # type: ignore[arg-type]  # the server's own arguments

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        address = urlsplit(self.path)
        path = self._locate(unquote(address.path))
        if path is None:
            self._missing(body=body)
        elif path.is_dir():
            if not address.path.endswith("/"):
                self._redirect(f"{address.path}/{'?' if address.query else ''}{address.query}")
            elif (path / JSON_PAGE).is_file():
                self._page(path, body=body)
            else:
                self._send(path / "index.html", body=body)
        else:
            self._send(path, body=body)

    def _locate(self, name: str) -> Path | None:
        """Return the file or folder of the site at a path, None where there is none."""
        pieces = [piece for piece in name.split("/") if piece]
        if any(piece in {".", ".."} or "\\" in piece or "\0" in piece for piece in pieces):
            return None
        path = self._root.joinpath(*pieces)
        if name.endswith("/"):
            return path if (path / "index.html").is_file() else None
        return path if path.exists() else None

    def _page(self, folder: Path, *, body: bool) -> None:
        kind = negotiate(",".join(self.headers.get_all("Accept") or ()))
        if kind is None:
            self._refuse(body=body)
        elif kind == _JSON:
            self._send(folder / JSON_PAGE, body=body, kind=_JSON, varies=True)
        else:
            html = f"{kind}; charset=utf-8"
            self._send(folder / "index.html", body=body, kind=html, varies=True)

    def _send(
        self,
        path: Path,
        *,
        body: bool,
        kind: str | None = None,
        varies: bool = False,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        try:
            file = path.open("rb")
        except OSError:
            self._missing(body=body)
            return
        with file:
            size = file.seek(0, 2)
            file.seek(0)
            self._head(status, kind or _TYPES.get(path.suffix, "application/octet-stream"), size)
            if varies:
                self.send_header("Vary", "Accept")
            self.end_headers()
            if body:
                shutil.copyfileobj(file, self.wfile)

    def _head(self, status: HTTPStatus, kind: str, size: int) -> None:
        self.send_response(status)
        self._log(f"{self.command} {self.path} {status.value} {size}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        # A site for a try changes under its clients: they may keep pages, but must ask again.
        self.send_header("Cache-Control", "no-cache")

    def _text(self, status: HTTPStatus, text: str, *, body: bool) -> None:
        content = text.encode()
        self._head(status, "text/plain; charset=utf-8", len(content))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _missing(self, *, body: bool) -> None:
        page = self._root / "404.html"
        if page.is_file():
            self._send(page, body=body, status=HTTPStatus.NOT_FOUND)
        else:
            self._text(HTTPStatus.NOT_FOUND, "not found\n", body=body)

    def _refuse(self, *, body: bool) -> None:
        offers = ", ".join(_REPRESENTATIONS)
        self._text(HTTPStatus.NOT_ACCEPTABLE, f"this page is served as {offers}\n", body=body)

    def _redirect(self, target: str) -> None:
        self._log(f"{self.command} {self.path} 301 0")
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Leave out the base's own log: `_head` says the same in fewer words."""


class Server(ThreadingHTTPServer):
    """The site on a port of this machine; ``log`` gets a line ``METHOD PATH STATUS SIZE`` each.

    Raises:
        UsageError: ``root`` is not a site, or the port is taken.
    """

    daemon_threads = True

    def __init__(self, root: Path, *, port: int, log: Callable[[str], None]) -> None:
        """Bind; port 0 takes any that is free."""
        if not (root / "whl").is_dir():
            what = f"{root}: no site is there"
            raise UsageError(what, cure="make one with `nox -s index`, or give --root")
        try:
            super().__init__((LOOPBACK, port), partial(_Handler, root=root.absolute(), log=log))
        except (OSError, OverflowError) as error:
            what = f"port {port} cannot be used ({error})"
            raise UsageError(what, cure="give another --port, or 0 for any free one") from error

    @property
    def url(self) -> str:
        """The address of the site."""
        return f"http://{LOOPBACK}:{self.server_port}/"
