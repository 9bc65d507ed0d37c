"""Packages of Debian as files: brought from the mirror of this machine's apt, unpacked, not installed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import requests

from ci.errors import NetworkError, ToolMissingError, VendorError
from ci.process import run
from ci.progress import Progress

MIRROR_VARIABLE = "LLAMA_CPP_PYTHON_DEBIAN_MIRROR"

_MIRROR = re.compile(r"^'([^']*/debian)/dists/", re.MULTILINE)
_BLOCK = 1 << 20


def debian_mirror(uris: str) -> str | None:
    """Return the mirror in what ``apt-get --print-uris update`` prints, or None."""
    match = _MIRROR.search(uris)
    return match[1] if match else None


def find_mirror() -> str | None:
    """Return ``LLAMA_CPP_PYTHON_DEBIAN_MIRROR``, else the mirror of this machine's apt, else None."""
    named = os.environ.get(MIRROR_VARIABLE)
    if named:
        return named.rstrip("/")
    if shutil.which("apt-get") is None:
        return None
    return debian_mirror(run(["apt-get", "--print-uris", "update"]))


def require_mirror() -> str:
    """Return the mirror of Debian that this machine can use.

    Raises:
        ToolMissingError: none is known, as on a system that is not Debian.
    """
    mirror = find_mirror()
    if mirror is None:
        raise ToolMissingError(
            "found no mirror of Debian in this machine's apt sources",
            cure=f"name one in {MIRROR_VARIABLE} (a URL that ends in /debian), or install the"
            " toolkit and name its folder with --toolkit PATH",
        )
    return mirror


def bring_package(progress: Progress, mirror: str, path: str, sha256: str, folder: Path) -> Path:
    """Return a package in ``folder``, downloaded if its very bytes do not lie there.

    Raises:
        NetworkError: the mirror or the package cannot be reached, or is no longer there.
        VendorError: its sha256 is another than the pinned one.
    """
    place = folder / path.rpartition("/")[2]
    if place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() == sha256:
        return place
    folder.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.part")
    digest = hashlib.sha256()
    try:
        with requests.get(f"{mirror}/{path}", stream=True, timeout=60) as response:
            if response.status_code == requests.codes.not_found:
                raise NetworkError(
                    f"the mirror no longer has {path}",
                    cure="a point release of Debian replaced it: write its successor and that one's"
                    " sha256 into ci/toolkits.toml",
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
                " in ci/toolkits.toml",
            )
        return partial.replace(place)
    except requests.RequestException as error:
        raise NetworkError(
            f"{path} could not be downloaded: {error}",
            cure=f"check the network and the mirror; {MIRROR_VARIABLE} names another",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def unpack_package(package: Path, folder: Path) -> None:
    """Unpack a package's files below ``folder``; none of its scripts is run.

    Raises:
        ToolMissingError: there is no dpkg-deb.
    """
    if shutil.which("dpkg-deb") is None:
        raise ToolMissingError(
            "there is no dpkg-deb to unpack packages of Debian with",
            cure="install dpkg (it is in most distributions), or install the toolkit and name its"
            " folder with --toolkit PATH",
        )
    folder.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "-x", package, folder])
