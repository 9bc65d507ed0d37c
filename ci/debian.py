"""Packages of Debian as files: brought from the mirror of this machine's apt, unpacked, not installed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ci.download import bring_file
from ci.errors import ToolMissingError
from ci.process import run
from ci.progress import Progress

MIRROR_VARIABLE = "LLAMA_CPP_PYTHON_DEBIAN_MIRROR"

_MIRROR = re.compile(r"^'([^']*/debian)/dists/", re.MULTILINE)


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
        DiskError: there is no room for it.
    """
    place = folder / path.rpartition("/")[2]
    return bring_file(progress, f"{mirror}/{path}", sha256, place, pinned_in="ci/toolkits.toml")


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
    for link in [path for path in folder.rglob("*") if path.is_symlink()]:
        target = link.readlink()
        if target.is_absolute() and not target.is_relative_to(folder):
            # it means the root of the system that it would be installed on: here that is the folder.
            # After every package: the next one would be unpacked through the link
            link.unlink()
            link.symlink_to(os.path.relpath(folder / target.relative_to("/"), link.parent))
