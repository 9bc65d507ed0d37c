"""A registry of container images on loopback, and images to put into it, made of tar layers."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import socket
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Packing: TypeAlias = Literal["gzip", "zstd", "tar"]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LAYERS = {
    OCI_MANIFEST: {
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "tar": "application/vnd.oci.image.layer.v1.tar",
    },
    DOCKER_MANIFEST: {
        "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "tar": "application/vnd.docker.image.rootfs.diff.tar",
    },
}


def digest_of(content: bytes) -> str:
    """Return what a registry calls some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def packed(content: bytes, packing: Packing) -> bytes:
    """Return a tar as a layer holds it."""
    if packing == "gzip":
        return gzip.compress(content, compresslevel=1, mtime=0)
    return zstd.compress(content) if packing == "zstd" else content


def layer(files: Mapping[str, str], packing: Packing = "gzip") -> bytes:
    """Return a layer: texts by path; ``-> x`` is a symlink, ``=> x`` a hard link, ``x/`` a folder.

    ``#`` is a device, and what is below ``bin/`` is executable.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path.rstrip("/"))
            member.mode = 0o755 if "bin/" in path or path.endswith("/") else 0o644
            if path.endswith("/"):
                member.type = tarfile.DIRTYPE
            elif text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
            elif text.startswith("=> "):
                member.type, member.linkname = tarfile.LNKTYPE, text.removeprefix("=> ")
            elif text == "#":
                member.type = tarfile.CHRTYPE
            else:
                member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()) if member.isreg() else None)
    return packed(out.getvalue(), packing)


def layer_of(folder: Path, below: str, packing: Packing = "gzip") -> bytes:
    """Return a layer with a folder of this machine, at another place."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(folder, below)
    return packed(out.getvalue(), packing)


@dataclass(kw_only=True)
class ImageRegistry:
    """What a registry holds and how it behaves.

    Attributes:
        url: where it is.
        manifests: content and media type by tag or digest, of every repository.
        blobs: by digest.
        login: name and password; without it everybody gets a token.
        refusal: status of every answer about manifests and blobs, where it has had enough.
        uses: of a token, until it has run out.
        cuts: after how many bytes the next answers with a blob break off, one each.
        ranges: whether the storage goes on where it is asked to.
        asked: every request, in order.
    """

    url: str = ""
    storage: str = ""
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    basic: bool = False
    realm: str = ""
    refusal: int | None = None
    uses: int = 1000
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    tokens: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Its name in references."""
        return self.url.removeprefix("http://")

    def add_blob(self, content: bytes) -> str:
        """Keep a blob and return its digest."""
        self.blobs[digest_of(content)] = content
        return digest_of(content)

    def add(self, content: bytes, media_type: str, tag: str | None = None) -> str:
        """Keep a manifest or an index and return its digest."""
        for name in (digest_of(content), *([tag] if tag else [])):
            self.manifests[name] = (content, media_type)
        return digest_of(content)

    def add_image(
        self,
        layers: Sequence[bytes],
        *,
        architecture: str = "amd64",
        env: Sequence[str] = (),
        packings: Sequence[Packing] = (),
        media_type: str = OCI_MANIFEST,
        tag: str | None = None,
    ) -> str:
        """Keep an image for one machine and return its digest."""
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Env": ["PATH=/usr/bin", *env]},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        media_types = _LAYERS[media_type]
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": self._described(
                json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"
            ),
            "layers": [
                self._described(content, media_types[packing])
                for content, packing in zip(layers, packings or ["gzip"] * len(layers), strict=True)
            ],
        }
        return self.add(json.dumps(manifest).encode(), media_type, tag)

    def add_index(
        self, images: Mapping[str, str], *, media_type: str = OCI_INDEX, tag: str | None = None
    ) -> str:
        """Keep an index of digests by machine and return its digest; a statement of origin is in it, too."""
        statement = self.add(b'{"layers": [], "config": {}}', OCI_MANIFEST)
        entries = [("unknown", "unknown", statement)]
        entries += [("linux", machine, digest) for machine, digest in images.items()]
        index = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": [
                {
                    "mediaType": self.manifests[digest][1],
                    "digest": digest,
                    "size": len(self.manifests[digest][0]),
                    "platform": {"os": system, "architecture": machine},
                }
                for system, machine, digest in entries
            ],
        }
        return self.add(json.dumps(index).encode(), media_type, tag)

    def _described(self, content: bytes, media_type: str) -> dict[str, object]:
        return {
            "mediaType": media_type,
            "digest": self.add_blob(content),
            "size": len(content),
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, registry: ImageRegistry, *arguments: object) -> None:
        self.registry = registry
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        content = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.answer(status, content, Content_Type="application/json", **headers)


class _Registry(_Handler):
    """Tokens, manifests, and where the blobs are."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.registry.asked.append(self.path)
        if url.path == "/token":
            self.token(parse_qs(url.query))
            return
        if not self.logged_in(url.path):
            return
        if self.registry.refusal is not None:
            self.refuse(self.registry.refusal, "REFUSED", "no more", Retry_After="60")
            return
        _, _, kind, name = url.path.rsplit("/", 3)
        if kind == "manifests":
            self.manifest(name)
        elif name in self.registry.blobs:
            self.answer(307, Location=f"{self.registry.storage}/data/{name}?signature=abc")
        else:
            self.refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")

    def token(self, query: Mapping[str, list[str]]) -> None:
        if not query["scope"][0].endswith(":pull") or query["service"] != ["stand-in"]:
            self.refuse(400, "BAD", "no scope or service")
        elif self.registry.login is not None and not self.with_login():
            self.refuse(401, "UNAUTHORIZED", "incorrect username or password")
        else:
            token = secrets.token_hex(8)
            self.registry.tokens[token] = self.registry.uses
            self.answer(200, json.dumps({"token": token, "expires_in": 300}).encode())

    def with_login(self) -> bool:
        assert self.registry.login is not None
        login = base64.b64encode(":".join(self.registry.login).encode()).decode()
        return self.headers["Authorization"] == f"Basic {login}"

    def logged_in(self, path: str) -> bool:
        if self.registry.basic:
            if self.with_login():
                return True
            self.refuse(401, "UNAUTHORIZED", "log in", WWW_Authenticate='Basic realm="stand-in"')
            return False
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if self.registry.tokens.get(token, 0) > 0:
            self.registry.tokens[token] -= 1
            return True
        repository = path.removeprefix("/v2/").rsplit("/", 2)[0]
        realm = self.registry.realm or f"{self.registry.url}/token"
        challenge = (
            f'Bearer realm="{realm}",service="stand-in",scope="repository:{repository}:pull"'
        )
        self.refuse(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def manifest(self, name: str) -> None:
        content, media_type = self.registry.manifests.get(name, (b"", ""))
        if not content or media_type not in self.headers["Accept"]:
            self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        self.answer(200, content, Content_Type=media_type, Docker_Content_Digest=digest_of(content))


class _Storage(_Handler):
    """The blobs, where a registry leads to: like those of S3 it takes no other login beside a signature."""

    def do_GET(self) -> None:
        self.registry.asked.append(f"{self.path} {self.headers['Range'] or ''}".rstrip())
        if self.headers["Authorization"]:
            self.answer(400, b"only one auth mechanism allowed")
            return
        content = self.registry.blobs[urlsplit(self.path).path.removeprefix("/data/")]
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        start = start if self.registry.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.registry.cuts:
            self.wfile.write(content[start : start + self.registry.cuts.pop(0)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(content[start:])


@contextmanager
def image_registry() -> Iterator[ImageRegistry]:
    """Run a registry while the block runs."""
    registry = ImageRegistry()
    servers = [
        ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, registry))
        for handler in (_Registry, _Storage)
    ]
    registry.url, registry.storage = (f"http://127.0.0.1:{one.server_port}" for one in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield registry
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
