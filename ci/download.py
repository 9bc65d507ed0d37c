"""Downloads from the package index that pip is configured for, checked by sha256."""

from __future__ import annotations

import configparser
import hashlib
import os
import zipfile
from contextlib import suppress
from pathlib import Path

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    NoSuchProjectError,
    PyPISimple,
)

from ci.errors import NetworkError, VendorError, disk_error
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


def bring_file(progress: Progress, url: str, sha256: str, place: Path, *, pinned_in: str) -> Path:
    """Return ``place``, downloaded unless its very bytes lie there: whole, or not at all.

    Args:
        progress: told how far it is.
        url: where it is.
        sha256: what the pin says of it.
        place: where it goes.
        pinned_in: the file with the pin, for the message.

    Raises:
        NetworkError: it cannot be reached, is no longer there, or ends early.
        VendorError: its sha256 is another than the pinned one.
        DiskError: there is no room for it.
    """
    if place.is_file() and _sha256(place) == sha256:
        return place
    partial = place.with_name(f".{place.name}.part")
    digest = hashlib.sha256()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with requests.get(url, stream=True, timeout=60) as response:
            if response.status_code == requests.codes.not_found:
                raise NetworkError(
                    f"{place.name} is no longer there: the server answers 404",
                    cure=f"a newer one took its place: write its name and sha256 into {pinned_in}",
                )
            response.raise_for_status()
            size = int(response.headers.get("Content-Length", 0)) or None
            with partial.open("wb") as out, progress.bytes(place.name, size) as advance:
                for block in response.iter_content(_BLOCK):
                    out.write(block)
                    digest.update(block)
                    advance(len(block))
        if digest.hexdigest() != sha256:
            raise VendorError(
                f"{place.name} has sha256 {digest.hexdigest()}, the pin says {sha256}",
                cure="the file was damaged or replaced: do not use it; try again or check the pin"
                f" in {pinned_in}",
            )
        return partial.replace(place)
    except requests.RequestException as error:
        raise NetworkError(
            f"{place.name} could not be downloaded: {error}",
            cure="check the network, then run the command again",
        ) from error
    except OSError as error:
        raise disk_error(error, place.parent) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def bring_from_index(
    progress: Progress, filename: str, sha256: str, folder: Path, *, pinned_in: str
) -> Path:
    """Return a file of the package index in ``folder``: a wheel or an sdist, by its name.

    Raises:
        NetworkError: the index cannot be reached, or does not have the file.
        VendorError: its sha256 is another than the pinned one.
        DiskError: there is no room for it.
    """
    place = folder / filename
    if place.is_file() and _sha256(place) == sha256:
        return place
    files = files_of(filename.partition("-")[0])
    found = next((file for file in files if file.filename == filename), None)
    if found is None:
        raise NetworkError(
            f"the package index has no {filename}",
            cure=f"write another version of it and its sha256 into {pinned_in}",
        )
    return bring_file(progress, found.url, sha256, place, pinned_in=pinned_in)


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Unpack a wheel's files below ``folder``, with the rights that the archive says."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            place = Path(archive.extract(entry, folder))
            mode = entry.external_attr >> 16
            if mode & 0o111 and place.is_file():
                place.chmod(0o755)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download_sdist(
    progress: Progress, *, project: str, version: str, sha256: str, folder: Path
) -> Path:
    """Download the sdist of ``project`` into ``folder`` and check it.

    Raises:
        NetworkError: the index or the file cannot be reached, or it ends early.
        VendorError: the index does not have it, or its sha256 is another.
        DiskError: there is no room for it.
    """
    for file in files_of(project):
        if file.package_type == "sdist" and file.version == version:
            place = folder / file.filename
            return bring_file(progress, file.url, sha256, place, pinned_in="vendor/llama.cpp.toml")
    raise VendorError(
        f"the package index has no sdist of {project} {version}",
        cure="name another mirror in vendor/llama.cpp.toml",
    )


def files_of(project: str) -> list[DistributionPackage]:
    """Return all files of a project on the package index.

    Raises:
        NetworkError: the index cannot be reached, or has no such project.
    """
    try:
        with PyPISimple(endpoint=index_url()) as client:
            return client.get_project_page(project, timeout=60).packages
    except (requests.RequestException, NoSuchProjectError) as error:
        raise NetworkError(
            f"the package index has no page of {project}: {error}",
            cure="check the network and pip's index-url, then run the command again",
        ) from error
