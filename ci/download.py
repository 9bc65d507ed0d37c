"""Downloads from the package index that pip is configured for, checked by sha256."""

from __future__ import annotations

import configparser
import hashlib
import os
from pathlib import Path

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple

from ci.errors import NetworkError, VendorError
from ci.progress import Progress

_BLOCK = 1 << 20


def index_url() -> str:
    """Return the index that pip would ask: ``PIP_INDEX_URL``, pip's configuration, or the default."""
    chosen = os.environ.get("PIP_INDEX_URL")
    if chosen:
        return chosen
    candidates = [
        os.environ.get("PIP_CONFIG_FILE"),
        "~/.config/pip/pip.conf",
        "~/.pip/pip.conf",
        "/etc/pip.conf",
    ]
    for name in candidates:
        if name:
            parser = configparser.ConfigParser(interpolation=None)
            parser.read(Path(name).expanduser(), encoding="utf-8")
            if parser.has_option("global", "index-url"):
                return parser.get("global", "index-url")
    return PYPI_SIMPLE_ENDPOINT


def download_sdist(
    progress: Progress, *, project: str, version: str, sha256: str, folder: Path
) -> Path:
    """Download the sdist of ``project`` into ``folder`` and check it.

    Raises:
        NetworkError: the index or the file cannot be reached, or it ends early.
        VendorError: the index does not have it, or its sha256 is another.
    """
    try:
        with PyPISimple(endpoint=index_url()) as client:
            page = client.get_project_page(project, timeout=60)
            found = [
                package
                for package in page.packages
                if package.package_type == "sdist" and package.version == version
            ]
            if not found:
                raise VendorError(
                    f"the package index has no sdist of {project} {version}",
                    cure="name another mirror in vendor/llama.cpp.toml",
                )
            package = found[0]
            path = folder / package.filename
            digest = hashlib.sha256()
            with client.s.get(package.url, stream=True, timeout=60) as response:
                response.raise_for_status()
                size = int(response.headers.get("Content-Length", 0)) or None
                with path.open("wb") as out, progress.bytes(package.filename, size) as advance:
                    for block in response.iter_content(_BLOCK):
                        out.write(block)
                        digest.update(block)
                        advance(len(block))
    except (requests.RequestException, NoSuchProjectError) as error:
        raise NetworkError(
            f"{project} {version} could not be downloaded: {error}",
            cure="check the network and pip's index-url, then run the command again",
        ) from error
    if digest.hexdigest() != sha256:
        path.unlink()
        raise VendorError(
            f"{path.name} has sha256 {digest.hexdigest()}, the pin says {sha256}",
            cure="the file was damaged or replaced: do not use it; try again or check the pin",
        )
    return path
