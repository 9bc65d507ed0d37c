"""A stand-in for the package index of everybody: small projects on loopback, written by hand."""

from __future__ import annotations

import hashlib
import html
import json
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from index.serve import Server
from tests.wheels import write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = "2026-10-01T08:00:00.123456Z"


@dataclass
class Upstream:
    """An index below ``root``; what is changed shows after the next `publish`.

    ``yanked`` are reasons by file name; ``states_metadata`` says whether the pages link METADATA,
    ``has_json`` whether there are JSON pages beside the HTML ones. ``log`` is the server's.
    """

    root: Path
    yanked: dict[str, str] = field(default_factory=dict)
    states_metadata: bool = True
    has_json: bool = True
    url: str = ""
    log: list[str] = field(default_factory=list)

    def folder(self, project: str) -> Path:
        """Return the folder of a project's page and files."""
        return self.root / "whl" / "simple" / project

    def wheel(
        self,
        project: str,
        version: str,
        *,
        requires: tuple[str, ...] = (),
        tag: str = "py3-none-any",
        requires_python: str | None = ">=3.8",
    ) -> Path:
        """Put a wheel on the page of its project; its module says its version."""
        fields = {"Requires-Python": requires_python}
        if requires:
            fields["Requires-Dist"] = "\nRequires-Dist: ".join(requires)
        path = write_wheel(
            self.folder(project),
            {f"{project.replace('-', '_')}/__init__.py": f'__version__ = "{version}"\n'},
            project=project,
            version=version,
            tag=tag,
            metadata=fields,
        )
        info = f"{project.replace('-', '_')}-{version}.dist-info"
        with zipfile.ZipFile(path) as archive:
            path.with_name(f"{path.name}.metadata").write_bytes(archive.read(f"{info}/METADATA"))
        return path

    def publish(self) -> None:
        """Write the pages."""
        for folder in (self.root / "whl" / "simple").iterdir():
            files = [
                self._said(path)
                for path in sorted(folder.iterdir())
                if path.suffix not in {".html", ".v1_json", ".metadata"}
            ]
            text = "<!DOCTYPE html>\n" + "".join(map(_anchor, files))
            (folder / "index.html").write_text(text, encoding="utf-8")
            (folder / "index.v1_json").unlink(missing_ok=True)
            if self.has_json:
                page = {"meta": {"api-version": "1.0"}, "name": folder.name, "files": files}
                (folder / "index.v1_json").write_text(json.dumps(page), encoding="utf-8")

    def _said(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        said: dict[str, object] = {
            "filename": path.name,
            "url": path.name.replace("+", "%2B"),
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
            "upload-time": TIME,
            "yanked": self.yanked.get(path.name, False),
        }
        beside = path.with_name(f"{path.name}.metadata")
        if self.states_metadata and beside.exists():
            sha256 = hashlib.sha256(beside.read_bytes()).hexdigest()
            said["core-metadata"] = {"sha256": sha256}
        return said


def _anchor(said: dict[str, object]) -> str:
    hashes, metadata = said["hashes"], said.get("core-metadata")
    assert isinstance(hashes, dict)
    attributes = ""
    if isinstance(metadata, dict):
        attributes += f' data-core-metadata="sha256={metadata["sha256"]}"'
    if said["yanked"] is not False:
        attributes += f' data-yanked="{html.escape(str(said["yanked"]))}"'
    address = f"{said['url']}#sha256={hashes['sha256']}"
    return f'<a href="{address}"{attributes}>{said["filename"]}</a><br>\n'


@contextmanager
def served(upstream: Upstream) -> Iterator[Upstream]:
    """Publish and serve an index while the block runs; ``url`` is then its address."""
    upstream.publish()
    server = Server(upstream.root, port=0, log=upstream.log.append)
    upstream.url = f"{server.url}whl/simple/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
