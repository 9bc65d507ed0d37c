"""A stand-in for the public registry: an older sdist of our project, and a project that needs it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING, Final

from tests.wheels import write_wheel

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "registry"
OLDER_SDIST: Final = "0.3.36"
NEWER_SDIST: Final = "0.3.101"
# what a log holds when an installer tried to build the sdist
BUILT: Final = "this sdist was built"

_PYPROJECT: Final = """\
[build-system]
requires = []
build-backend = "refusal"
backend-path = ["."]
"""


def write_registry(site: Path, *, sdist: str = OLDER_SDIST) -> Path:
    """Add ``whl/registry/`` to a served site, pages in HTML alone, and return its folder."""
    folder = site / "whl" / NAME
    ours, downstream = folder / "llama-cpp-python", folder / "downstream"
    write_sdist(ours, version=sdist)
    write_wheel(
        downstream,
        {"downstream.py": ""},
        version="1.0",
        tag="py3-none-any",
        project="downstream",
        metadata={"Requires-Dist": "llama-cpp-python>=0.3,<0.4"},
    )
    for page in (ours, downstream):
        _write_page(page)
    links = "".join(f'<a href="{page.name}/">{page.name}</a>\n' for page in (downstream, ours))
    _write_html(folder, links)
    return folder


def write_sdist(folder: Path, *, version: str) -> Path:
    """Write an sdist of our project that says, when it is built, that it is."""
    folder.mkdir(parents=True, exist_ok=True)
    top = f"llama_cpp_python-{version}"
    path = folder / f"{top}.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: {version}\n",
        "pyproject.toml": _PYPROJECT,
        "refusal.py": f"raise SystemExit({BUILT!r})\n",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def _write_page(folder: Path) -> None:
    links = [
        f'<a href="{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">'
        f"{file.name}</a>\n"
        for file in sorted(folder.iterdir())
        if file.suffix in {".whl", ".gz"}
    ]
    _write_html(folder, "".join(links))


def _write_html(folder: Path, body: str) -> None:
    head = '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>Links</title></head><body>\n'
    (folder / "index.html").write_text(f"{head}{body}</body></html>\n", encoding="utf-8")
