"""Packages of Debian as files: brought from the mirror of this machine's apt, unpacked, not installed.

What goes into a wheel is pinned by its sha256 (`bring_package`); what a wheel is only tried on is the
newest that Debian's signature vouches for (`bring_closure`).
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ci.download import bring_file
from ci.errors import NetworkError, ToolMissingError
from ci.process import ProcessError, run
from ci.progress import Progress

MIRROR_VARIABLE = "LLAMA_CPP_PYTHON_DEBIAN_MIRROR"

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
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


def bring_closure(
    names: Sequence[str],
    *,
    suite: str,
    architecture: str,
    folder: Path,
    without: re.Pattern[str] | None = None,
) -> list[Path]:
    """Return packages of a suite and all that they depend on, downloaded into ``folder``.

    apt has lists of its own for it: nothing of this machine's is read or changed but its mirror. It
    checks the signature of the suite, the index by that, and each package by the index.

    Args:
        names: of the packages.
        suite: such as ``bookworm``.
        architecture: such as ``arm64``, whatever this machine's is.
        folder: made if missing.
        without: dependencies that are not wanted, by their whole name.

    Raises:
        ToolMissingError: there is no apt, no mirror is known, or Debian's keys are not here.
        NetworkError: the mirror cannot be reached, or has no such suite or package.
    """
    if shutil.which("apt-get") is None:
        raise ToolMissingError(
            "there is no apt-get to bring packages of Debian with", cure="run it on a Debian"
        )
    mirror = require_mirror()
    if not _KEYRING.is_file():
        raise ToolMissingError(
            f"there is no {_KEYRING}: packages of Debian could not be checked",
            cure="install it: apt install debian-archive-keyring",
        )
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "list").write_text(f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n")
    settings = {
        "Dir::Etc::sourcelist": state / "list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": state / "cache",
        # a user of its own could not write into this folder
        "APT::Sandbox::User": getpass.getuser(),
        "APT::Install-Recommends": "0",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    try:
        run([*apt, "-oAPT::Update::Error-Mode=any", "update"])
        planned = run([*apt, "-s", "install", *names])
        wanted = [
            name
            for name in re.findall(r"^Inst (\S+)", planned, re.MULTILINE)
            if without is None or not without.fullmatch(name)
        ]
        run([*apt, "download", *wanted], cwd=folder)
    except ProcessError as error:
        told = [line for line in error.tail if line.startswith("E: ")] or error.tail[-1:]
        raise NetworkError(
            f"Debian {suite} does not give {', '.join(names)} for {architecture}: {' '.join(told)}",
            cure=f"run it again, or name another mirror in {MIRROR_VARIABLE}",
        ) from error
    shutil.rmtree(state)
    return sorted(folder.glob("*.deb"))


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
