"""Guests: Pythons of another machine in folders, from packages of Debian, run by qemu's user mode.

An environment of a guest looks like any other: its ``bin/python`` is a script that starts the emulator,
and that is what ``sys.executable`` says, so that what a test starts runs under the emulator, too.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ci import paths
from ci.debian import bring_closure, unpack_package
from ci.errors import ToolMissingError
from ci.interpreters import Interpreter, probe
from ci.process import run
from ci.progress import Progress

SUITES = {
    "3.9": "bullseye",
    "3.11": "bookworm",
    "3.13": "trixie",
    "3.14": "sid",
    "3.15": "sid",
}
"""Which Debian has which Python."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# what is needed to install packages, and data that the machine has
_NOT_WANTED = re.compile(
    r"gcc-.*-base|debconf|dpkg|libc-gconv-.*|media-types|netbase|openssl-.*|perl-base|readline-common"
    r"|tar|tzdata"
)


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A Python of another machine.

    Attributes:
        series: ``3.11``.
        machine: ``aarch64``.
        root: the folder that its libraries and its loader are looked for in.
        program: the interpreter itself, below ``root``.
    """

    series: str
    machine: str
    root: Path
    program: Path


def require_emulator(machine: str) -> Path:
    """Return qemu's user mode emulator of a machine: ``qemu-aarch64``.

    Raises:
        ToolMissingError: it is not on PATH, or this is not Linux.
    """
    name = f"qemu-{machine}"
    found = shutil.which(name) if sys.platform == "linux" else None
    if found is None:
        raise ToolMissingError(
            f"there is no {name} on this machine",
            cure="on Linux install qemu's user mode (Debian: apt install qemu-user)",
        )
    return Path(found)


def emulator_name(emulator: Path, cpu: str) -> str:
    """Return what a report calls an emulated CPU: ``qemu-aarch64 7.2.22 -cpu max``."""
    version = run([emulator, "--version"]).splitlines()[0]
    found = re.search(r"version (\S+)", version)
    return f"{emulator.name} {found[1] if found else version} -cpu {cpu}"


def bring_guest(
    series: str, machine: str, progress: Progress, *, packages: Sequence[str] = ()
) -> Guest:
    """Return a guest, unpacked into the cache if it is not there.

    Args:
        series: of its Python.
        machine: what it is for.
        progress: told what is fetched.
        packages: more of Debian's that are to be in it.

    Raises:
        ToolMissingError: there is no apt, no mirror of Debian or no dpkg-deb.
        NetworkError: Debian does not give it.
    """
    cache = paths.cache_folder() / "guests"
    root = cache / "+".join((f"{machine}-{series}", *packages))
    guest = Guest(
        series=series, machine=machine, root=root, program=root / "usr" / "bin" / f"python{series}"
    )
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{root.name}.lock"):
        if guest.program.is_file():
            return guest
        what = ", ".join((f"Python {series}", *packages))
        progress.step(f"bringing {what} for {machine} from Debian {SUITES[series]}")
        partial = cache / f".{root.name}.part"
        archives = cache / f".{root.name}.packages"
        for folder in (partial, archives):
            shutil.rmtree(folder, ignore_errors=True)
        for package in bring_closure(
            [f"python{series}-minimal", f"libpython{series}-stdlib", *packages],
            suite=SUITES[series],
            architecture=_ARCHITECTURES[machine],
            folder=archives,
            without=_NOT_WANTED,
        ):
            unpack_package(package, partial)
        # newer packages have their files in usr/ alone; the link to there is in a package for systems
        for name in ("lib", "lib64"):
            if (partial / "usr" / name).is_dir() and not (partial / name).exists():
                (partial / name).symlink_to(f"usr/{name}")
        shutil.rmtree(archives)
        partial.replace(root)
    return guest


def make_environment(guest: Guest, folder: Path, emulator: Path) -> Interpreter:
    """Make an environment of a guest in ``folder`` and return its interpreter.

    It has no pip: `site_packages` says where packages belong. ``QEMU_CPU`` in the environment says
    which CPU is emulated.

    Raises:
        ToolMissingError: the guest does not run.
    """
    python = folder / "bin" / "python"
    site_packages(guest, folder).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(
        f"home = {guest.program.parent}\ninclude-system-site-packages = false\n", encoding="utf-8"
    )
    python.parent.mkdir()
    emulated = [str(emulator), "-L", str(guest.root), "-0", str(python), str(guest.program)]
    write_program(python, emulated)
    found = probe(python, needs=("ctypes", "ssl"))
    if found is None:
        raise ToolMissingError(
            f"Python {guest.series} of {guest.root} does not run under {emulator}",
            cure="delete that folder and run it again",
        )
    return found


def site_packages(guest: Guest, folder: Path) -> Path:
    """Return the folder of an environment that packages belong in."""
    return folder / "lib" / f"python{guest.series}" / "site-packages"


def write_program(place: Path, command: list[str]) -> None:
    """Write a program that goes on as ``command`` with its own arguments after it."""
    place.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    place.chmod(0o755)
