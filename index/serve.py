"""A server for a try, on loopback only, that does what a good static host does.

Real 404s, JSON or HTML by content negotiation, pages compressed, parts of files, and no body where
the client has it already.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from ci.errors import UsageError
from index.page import JSON_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import BufferedIOBase
    from pathlib import Path

LOOPBACK: Final = "127.0.0.1"

_BLOCK: Final = 1 << 16

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
# What shrinks; wheels are compressed already.
_COMPRESSED: Final = frozenset({".css", ".html", ".js", ".json", ".jsonl", ".metadata", ".v1_json"})
# RFC 9110, 14.1.2: one range, "<first>-<last>", "<first>-" or "-<length of the end>".
_RANGE: Final = re.compile(r"bytes=(?:(?P<first>\d+)-(?P<last>\d*)|-(?P<end>\d+))")
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
    weights = {offer: _weight(_REPRESENTATIONS.get(offer, (offer,)), ranges) for offer in offers}
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


def _weight(names: Sequence[str], ranges: dict[str, float]) -> float:
    named = [ranges[name] for name in names if name in ranges]
    if named:
        return max(named)
    main = names[0].partition("/")[0]
    return ranges.get(f"{main}/*", ranges.get("*/*", 0.0))


def takes_gzip(accept_encoding: str) -> bool:
    """Say whether an ``Accept-Encoding`` header admits gzip; without one nothing is compressed."""
    ranges = _ranges(accept_encoding) if accept_encoding.strip() else {}
    return ranges.get("gzip", ranges.get("*", 0.0)) > 0


def part_of(header: str, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for, None where all are to be sent.

    A header that is not understood, or that asks for several ranges, is passed over, as RFC 9110
    permits. An empty range means that it asks for nothing that is there.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    if match["end"]:
        return range(max(0, size - int(match["end"])), size)
    first = int(match["first"])
    last = int(match["last"]) if match["last"] else size - 1
    if match["last"] and last < first:
        return None
    return range(first, min(last + 1, size)) if first < size else range(0)


def _copy(source: BinaryIO, target: BufferedIOBase, part: range) -> None:
    source.seek(part.start)
    left = len(part)
    while left and (block := source.read(min(left, _BLOCK))):
        target.write(block)
        left -= len(block)


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
            stat = os.fstat(file.fileno())
            shrinks = path.suffix in _COMPRESSED
            # Parts are always those of the file as it is.
            packed = shrinks and "Range" not in self.headers and self._takes_gzip()
            source = io.BytesIO(gzip.compress(file.read(), mtime=0)) if packed else file
            tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}{"-gzip" * packed}"'
            size = source.seek(0, os.SEEK_END)
            part = range(size)
            if status == HTTPStatus.OK:
                status, part = self._condition(tag, size)
            self._head(status, len(part), body=body)
            self.send_header("ETag", tag)
            self.send_header("Accept-Ranges", "none" if packed else "bytes")
            if varies or shrinks:
                named = ["Accept"] * varies + ["Accept-Encoding"] * shrinks
                self.send_header("Vary", ", ".join(named))
            if packed:
                self.send_header("Content-Encoding", "gzip")
            if status == HTTPStatus.PARTIAL_CONTENT:
                self.send_header("Content-Range", f"bytes {part.start}-{part.stop - 1}/{size}")
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.send_header("Content-Range", f"bytes */{size}")
            if status != HTTPStatus.NOT_MODIFIED:
                kind = kind or _TYPES.get(path.suffix, "application/octet-stream")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if body:
                _copy(source, self.wfile, part)

    def _takes_gzip(self) -> bool:
        return takes_gzip(",".join(self.headers.get_all("Accept-Encoding") or ()))

    def _condition(self, tag: str, size: int) -> tuple[HTTPStatus, range]:
        """Return the status, and the bytes to send, that the request's conditions lead to."""
        known = {each.strip().removeprefix("W/") for each in self._header("If-None-Match")}
        if tag in known or "*" in known:
            return HTTPStatus.NOT_MODIFIED, range(0)
        wanted = self.headers.get("Range")
        # If-Range: the part is wanted only of the file that the rest came from.
        fits = self.headers.get("If-Range", tag).strip() == tag
        part = part_of(wanted, size) if wanted and fits and self.command == "GET" else None
        if part is None:
            return HTTPStatus.OK, range(size)
        if not part:
            return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, part
        return HTTPStatus.PARTIAL_CONTENT, part

    def _header(self, name: str) -> list[str]:
        return ",".join(self.headers.get_all(name) or ()).split(",")

    def _head(self, status: HTTPStatus, size: int, *, body: bool) -> None:
        self.send_response(status)
        self._log(f"{self.command} {self.path} {status.value} {size if body else 0}")
        # A site for a try changes under its clients: they may keep pages, but must ask again.
        self.send_header("Cache-Control", "no-cache")

    def _text(self, status: HTTPStatus, text: str, *, body: bool) -> None:
        content = text.encode()
        self._head(status, len(content), body=body)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
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
