"""The pins, ``ci/toolkits.toml``: toolkits, host compilers, what wheels are proven on; where from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.debian import bring_package, require_mirror, unpack_package
from ci.download import bring_from_index, unpack_wheel
from ci.errors import TableError, UsageError, disk_error
from ci.host import compiling_machine
from ci.image import Part
from ci.problems import told
from ci.progress import Progress
from ci.redistributable import RedistributablePin
from ci.registry import Reference, parse_reference
from ci.table import Platform, Target
from ci.table import Toolkit as ToolkitName

PINS_PATH = Path(__file__).with_name("toolkits.toml")

_STRICT = ConfigDict(extra="forbid", strict=True)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"pool/[\w.+~/-]+\.deb")
_SOURCE = re.compile(r"pool/[\w.+~/-]+\.orig\.tar\.(?:gz|xz)")
_WHEEL = re.compile(r"[\w.]+-[\w.]+-py3-none-[\w.]+\.whl")

Host: TypeAlias = Literal["linux_x86_64", "linux_aarch64", "windows_x86_64"]
"""A machine that compiles: its system and processor."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Pieces:
    """Files by their sha256, unpacked over each other into one folder.

    Attributes:
        packages: packages of a Debian suite, by their path below the mirror.
        wheels: files of the package index, by their name.
    """

    packages: dict[str, str] = field(default_factory=dict)
    wheels: dict[str, str] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Say which are no paths, no names or no hashes."""
        return [
            name
            for pieces, pattern in ((self.packages, _PACKAGE), (self.wheels, _WHEEL))
            for name, sha256 in pieces.items()
            if not pattern.fullmatch(name) or ".." in name or not _SHA256.fullmatch(sha256)
        ]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ToolkitPin:
    """One toolkit: its name in the table, its own version, and its pieces by host.

    ``front_end`` says what compiles with it where nvcc cannot be had.
    """

    name: ToolkitName
    version: str
    front_end: Literal["clang"] | None = None
    suite: str | None = None
    host: dict[Host, Pieces]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CompilerPin:
    """A C++ compiler with an old C library, for toolkits that take no other than the system's."""

    name: Literal["gcc"]
    version: str
    glibc: str
    suite: str
    host: dict[Host, Pieces]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LibcPin:
    """A C library to run programs on that are not made for this machine's own."""

    name: Literal["musl"]
    version: str
    suite: str
    host: dict[Host, Pieces]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class InterpreterPin:
    """A Python to be built, and what it is linked with: source archives by their path and sha256.

    The path is below the mirror of Debian; the order is that in which they are built.
    """

    name: Literal["CPython"]
    version: str
    libc: Literal["musl"]
    sources: dict[str, str]

    def problems(self) -> list[str]:
        """Say which are no source archives or no hashes."""
        return [
            path
            for path, sha256 in self.sources.items()
            if not _SOURCE.fullmatch(path) or ".." in path or not _SHA256.fullmatch(sha256)
        ]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ImagePin:
    """One toolkit in container images.

    Attributes:
        name: its name in the table.
        version: its own.
        part: what of an image it is.
        host: by machine the image's name with its digest, which may be that of an index.
    """

    name: ToolkitName
    version: str
    part: Part
    host: dict[Host, str]

    def reference(self, host: Host) -> Reference:
        """Return the image for a machine."""
        return parse_reference(self.host[host])

    def problems(self) -> Iterator[str]:
        """Say which are no names of images with a digest, and which folders are none of an image."""
        for name in self.host.values():
            try:
                digest = parse_reference(name).digest
            except UsageError:
                digest = None
            if digest is None:
                yield name
        yield from (
            path
            for path in (self.part.root, *self.part.folders)
            if not path.startswith("/") or ".." in path.split("/")
        )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Pins:
    """What can be brought."""

    schema: Literal[2]
    toolkit: list[ToolkitPin]
    compiler: list[CompilerPin] = field(default_factory=list)
    libc: list[LibcPin] = field(default_factory=list)
    interpreter: list[InterpreterPin] = field(default_factory=list)
    redistributable: list[RedistributablePin] = field(default_factory=list)
    image: list[ImagePin] = field(default_factory=list)


_HOSTS: dict[tuple[str, str], Host] = {
    ("linux", "x86_64"): "linux_x86_64",
    ("linux", "aarch64"): "linux_aarch64",
    ("windows", "x86_64"): "windows_x86_64",
}


def host_of(platform: Platform) -> Host | None:
    """Return the host that is a platform, or None where nothing is pinned for such."""
    return _HOSTS.get((platform.system, platform.machine))


def compiling_host(target: Target) -> Host | None:
    """Return the host that compiles a target, or None where nothing is pinned for such."""
    return _HOSTS.get(compiling_machine(target))


def load_pins(path: Path = PINS_PATH) -> Pins:
    """Read and check the pins.

    Raises:
        TableError: not TOML, an unknown or missing key, a path or a sha256 that is none.
    """
    cure = f"mend {path.name}; the keys are the fields of the classes in ci/pins.py"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        pins = TypeAdapter(Pins).validate_json(json.dumps(raw, default=str))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: {error}", cure=cure) from error
    except ValidationError as error:
        raise TableError(f"{path.name}:\n{told(error)}", cure=cure) from error
    everything: list[ToolkitPin | CompilerPin | LibcPin]
    everything = [*pins.toolkit, *pins.compiler, *pins.libc]
    wrong = [
        f"  {pin.name} {pin.version}, {host}: {name}"
        for pin in everything
        for host, pieces in pin.host.items()
        for name in pieces.problems()
    ]
    wrong += [
        f"  {pin.name} {pin.version}: {path}" for pin in pins.interpreter for path in pin.problems()
    ]
    wrong += [
        f"  {pin.name} {pin.version}: no release (12.8.1), sha256 or name of a component"
        for pin in pins.redistributable
        if not pin.is_well_formed()
    ]
    wrong += [
        f"  {pin.name} {pin.version}: no image with its digest, or no folder of one: {name}"
        for pin in pins.image
        for name in pin.problems()
    ]
    if wrong:
        raise TableError(
            f"{path.name}: not a path or a name with its sha256:\n" + "\n".join(wrong), cure=cure
        )
    return pins


def unpacked(
    progress: Progress,
    pin: ToolkitPin | CompilerPin | LibcPin,
    host: Host,
    arrange: Callable[[Path], None],
    *,
    revision: int,
) -> Path:
    """Return the folder of the cache with a pin's pieces, brought and arranged if need be.

    Args:
        progress: told what is fetched.
        pin: what is wanted.
        host: for which machine.
        arrange: puts what was unpacked into the shape that compilers expect.
        revision: of ``arrange``; another one is another folder.

    Raises:
        NetworkError: a piece cannot be downloaded.
        VendorError: a piece has another sha256.
        DiskError: there is no room.
    """
    pieces = pin.host[host]
    content = [revision, sorted(pieces.packages.items()), sorted(pieces.wheels.items())]
    state = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    cache = paths.cache_folder() / "toolkits"
    name = f"{pin.name.lower().replace(' ', '-')}-{pin.version}-{host}-{state}"
    partial = cache / f".{name}.part"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{name}.lock"):
            folder = cache / name
            if folder.is_dir():
                return folder
            try:
                _unpack(progress, pin, pieces, cache / "files", partial)
                arrange(partial)
                return partial.replace(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, cache) from error


def _unpack(
    progress: Progress,
    pin: ToolkitPin | CompilerPin | LibcPin,
    pieces: Pieces,
    files: Path,
    folder: Path,
) -> None:
    number = len(pieces.packages) + len(pieces.wheels)
    progress.step(f"bringing {pin.name} {pin.version}: {number} files")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if pieces.packages:
        mirror = require_mirror()
        for path, sha256 in pieces.packages.items():
            unpack_package(bring_package(progress, mirror, path, sha256, files), folder)
    for name, sha256 in pieces.wheels.items():
        wheel = bring_from_index(progress, name, sha256, files, pinned_in="ci/toolkits.toml")
        unpack_wheel(wheel, folder)


def write_script(path: Path, text: str) -> None:
    """Write a program of a toolkit that starts the real one in its own surroundings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
