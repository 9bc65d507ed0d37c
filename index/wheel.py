"""A finished wheel, seen as a file: its name, its hash and its core metadata."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.metadata import Metadata, parse_email
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from variantlib.constants import VALIDATION_WHEEL_NAME_REGEX, VARIANT_DIST_INFO_FILENAME
from variantlib.errors import ValidationError
from variantlib.variant_dist_info import VariantDistInfo

from ci.errors import UsageError, WheelError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

PROJECT: Final = "llama-cpp-python"
# The index whose wheels an installer chooses from by itself; also their version label.
AUTO: Final = "auto"

# Platform tags as the specification of "platform compatibility tags" has them: manylinux2014_x86_64
# and manylinux_2_17_x86_64 are two spellings of one, win_amd64 has no version at all.
_PLATFORM_TAG: Final = re.compile(
    r"(?P<system>manylinux|musllinux|macosx|win)(?:\d+|_\d+_\d+)?_(?P<machine>[a-z]\w*)"
)
_REBUILD: Final = "build it again with `nox -s build`; never edit a finished wheel"
_RELABEL: Final = "make it again with `python -m ci auto`"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a variant wheel says of itself (PEP 825): its label and its properties.

    ``properties`` are values by feature by namespace.
    """

    label: str
    properties: dict[str, dict[str, tuple[str, ...]]]


@dataclass(frozen=True, kw_only=True)
class WheelName:
    """What the file name of a wheel says; ``variant`` is the label of a wheel variant."""

    file: str
    project: str
    version: str
    label: str
    platform: str
    variant: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel on disk."""

    path: Path
    name: WheelName
    sha256: str
    size: int
    metadata: bytes
    requires_python: str | None
    requires: tuple[str, ...] = ()
    variant: Variant | None = None

    @property
    def metadata_sha256(self) -> str:
        """The SHA-256 of METADATA, as index pages advertise it."""
        return hashlib.sha256(self.metadata).hexdigest()


def parse_name(file: str) -> WheelName:
    """Read the file name of one of our wheels.

    Raises:
        WheelError: It is not a wheel's name, of another project, without a version label, not
            ``py3-none``, or for no platform that we know.
    """
    plain, variant = _split_variant(file)
    try:
        project, version, build, tags = parse_wheel_filename(plain)
    except InvalidWheelFilename as error:
        what = f"{file}: not the file name of a wheel ({error})"
        raise WheelError(what, cure=_REBUILD) from error
    if project != PROJECT:
        what = f"{file}: a wheel of the project {project}, this index is of {PROJECT}"
        raise WheelError(what, cure=f"name wheels of {PROJECT} only")
    if build:
        what = f"{file}: it has a build tag, which no installer picks up as an update"
        raise WheelError(what, cure="a respin is a new label, for instance +cpu.1")
    if version.local is None:
        what = f"{file}: the version {version} has no label such as +cpu"
        raise WheelError(what, cure=_REBUILD)
    written = file.split("-")[1]
    if written != str(version):
        what = f"{file}: the version must be written {version}, not {written}"
        raise WheelError(what, cure=_REBUILD)
    if {(tag.interpreter, tag.abi) for tag in tags} != {("py3", "none")}:
        what = f"{file}: our wheels link no Python, so the tag must begin with py3-none"
        raise WheelError(what, cure=_REBUILD)
    platforms = {_platform_of(tag.platform) for tag in tags}
    if len(platforms) != 1 or None in platforms:
        what = f"{file}: the tag must name exactly one platform, such as manylinux_2_17_x86_64"
        raise WheelError(what, cure=_REBUILD)
    return WheelName(
        file=file,
        project=project,
        version=str(version),
        label=version.local,
        platform="".join(platform for platform in platforms if platform),
        variant=variant,
    )


def _split_variant(file: str) -> tuple[str, str | None]:
    """Split off the variant label, which ``packaging`` refuses at the end of a name (PEP 825)."""
    match = VALIDATION_WHEEL_NAME_REGEX.fullmatch(file)
    if match is None or match["variant_label"] is None:
        return file, None
    return f"{match['base_wheel_name']}.whl", match["variant_label"]


def _platform_of(tag: str) -> str | None:
    """Return the platform's name in the table, ``manylinux_x86_64``, of a platform tag."""
    match = _PLATFORM_TAG.fullmatch(tag)
    return f"{match['system']}_{match['machine']}" if match else None


def backend_of_label(label: str, backends: Collection[str]) -> str | None:
    """Return the backend that a label names: ``cpu``, and ``cpu.1`` for a respin of it."""
    if label in backends:
        return label
    backend, _, respin = label.rpartition(".")
    return backend if backend in backends and respin.isdecimal() else None


def read_metadata(path: Path, *, name: WheelName) -> bytes:
    """Return METADATA of a wheel, byte by byte as it is in the archive.

    Raises:
        WheelError: The archive is damaged, or its dist-info folder is not the one that the file
            name asks for.
    """
    folder = f"{'-'.join(name.file.split('-')[:2])}.dist-info"
    try:
        with zipfile.ZipFile(path) as archive:
            folders = {top for entry in archive.namelist() if (top := entry.split("/")[0]) != entry}
            found = sorted(top for top in folders if top.endswith(".dist-info"))
            if found != [folder]:
                what = f"{path}: the dist-info folder must be {folder}, found {found}"
                raise WheelError(what, cure=_REBUILD)
            return archive.read(f"{folder}/METADATA")
    except KeyError as error:
        raise WheelError(f"{path}: {folder}/METADATA is missing", cure=_REBUILD) from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        what = f"{path}: truncated or damaged archive ({error})"
        raise WheelError(what, cure=_REBUILD) from error


def read_variant(path: Path, *, name: WheelName) -> Variant | None:
    """Return what a wheel says of itself as a variant, None where it is a plain one.

    Raises:
        WheelError: It and its file name do not agree on that, or its variant.json is malformed.
    """
    member = f"{'-'.join(name.file.split('-')[:2])}.dist-info/{VARIANT_DIST_INFO_FILENAME}"
    try:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(member) if member in archive.namelist() else None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        what = f"{path}: truncated or damaged archive ({error})"
        raise WheelError(what, cure=_RELABEL) from error
    if name.variant is None:
        if text is not None:
            what = f"{path}: it holds {member}, but its name has no variant label"
            raise WheelError(what, cure=_RELABEL)
        return None
    if text is None:
        what = f"{path}: its name has the variant label {name.variant}, but there is no {member}"
        raise WheelError(what, cure=_RELABEL)
    try:
        said = VariantDistInfo(text, name.variant).variant_desc.to_dict()
    except (ValidationError, ValueError) as error:
        raise WheelError(f"{path}: {member}: {error}", cure=_RELABEL) from error
    return Variant(
        label=name.variant,
        properties={
            namespace: {feature: tuple(values) for feature, values in features.items()}
            for namespace, features in said.items()
        },
    )


def read_wheel(path: Path) -> Wheel:
    """Read a wheel and see that its name and its METADATA agree.

    Raises:
        WheelError: The wheel is missing, damaged or contradicts itself.
    """
    name = parse_name(path.name)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except FileNotFoundError as error:
        raise WheelError(f"{path}: no such file", cure="build it with `nox -s build`") from error
    metadata = read_metadata(path, name=name)
    try:
        # Validated as a whole, since installers read this file instead of the wheel.
        Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as group:
        reasons = "; ".join(str(error) for error in group.exceptions)
        what = f"{path}: METADATA is not valid core metadata ({reasons})"
        raise WheelError(what, cure=_REBUILD) from group
    # The raw fields keep the text as it was written: a parsed specifier has lost its order.
    fields, _ = parse_email(metadata)
    said = f"{fields.get('name')} {fields.get('version')}"
    if said not in {f"{PROJECT} {name.version}", f"{PROJECT.replace('-', '_')} {name.version}"}:
        what = f"{path}: METADATA says {said}, the file name {name.project} {name.version}"
        raise WheelError(what, cure=_REBUILD)
    return Wheel(
        path=path,
        name=name,
        sha256=sha256,
        size=size,
        metadata=metadata,
        requires_python=fields.get("requires_python"),
        requires=tuple(fields.get("requires_dist", ())),
        variant=read_variant(path, name=name),
    )


def find_wheels(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the wheels that a command line names: files, and those of folders.

    Raises:
        UsageError: A folder has none.
    """
    found: list[Path] = []
    for path in paths:
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        if not wheels:
            raise UsageError(f"{path}: no wheels there", cure="build one with `nox -s build`")
        found += wheels
    return tuple(found)
