"""A wheel as a file: its name, its RECORD, and writing one whose bytes depend on its contents alone.

Source: the binary distribution format (PEP 427) and "Recording installed projects" (PEP 376).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from functools import cached_property
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version
from variantlib.constants import VALIDATION_WHEEL_NAME_REGEX

from ci.errors import WheelError

# the oldest date that a zip file can hold
_DATE = (1980, 1, 1, 0, 0, 0)
_CURE = "build it again with `nox -s build`; a finished wheel is never edited"
_DISTRIBUTION = "llama_cpp_python"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel: where it lies, what its name says, and its files in the order of the archive."""

    path: Path
    version: Version
    tags: tuple[str, ...]
    files: Mapping[str, bytes]
    variant: str | None = None
    """The variant label: ``cu128`` of ``…-manylinux_2_17_x86_64-cu128.whl`` (PEP 825)."""

    @property
    def label(self) -> str | None:
        """The version label: ``cpu`` of ``0.3.100+cpu``."""
        return self.version.local

    @property
    def dist_info(self) -> str:
        """Name of the folder with the metadata."""
        return f"{_DISTRIBUTION}-{self.version}.dist-info"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the archive, in hexadecimal."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def size(self) -> int:
        """Size of the archive in bytes."""
        return self.path.stat().st_size

    @cached_property
    def metadata(self) -> Message:
        """The core metadata (METADATA)."""
        return message_from_bytes(self.files[f"{self.dist_info}/METADATA"])

    @cached_property
    def libraries(self) -> Mapping[str, bytes]:
        """Native libraries by their path in the wheel."""
        return {
            name: content
            for name, content in self.files.items()
            if name.endswith((".so", ".dylib", ".dll", ".pyd")) or ".so." in name
        }

    def record_problems(self) -> list[str]:
        """Compare the files with RECORD: every file listed once, with its hash and size."""
        record_name = f"{self.dist_info}/RECORD"
        if record_name not in self.files:
            return [f"there is no {record_name}"]
        problems: list[str] = []
        listed: set[str] = set()
        for row in csv.reader(io.StringIO(self.files[record_name].decode("utf-8"))):
            if len(row) != 3:
                problems.append(f"RECORD has a line of {len(row)} fields: {','.join(row)}")
                continue
            name, digest, size = row
            if name in listed:
                problems.append(f"RECORD lists {name} twice")
            listed.add(name)
            if name == record_name:
                continue
            if name not in self.files:
                problems.append(f"RECORD lists {name}, which is not in the wheel")
            elif digest != _digest(self.files[name]):
                problems.append(f"RECORD has another hash of {name}")
            elif size != str(len(self.files[name])):
                problems.append(f"RECORD says that {name} has {size} bytes")
        problems += [f"RECORD does not list {name}" for name in self.files if name not in listed]
        return problems


def split_variant(file: str) -> tuple[str, str | None]:
    """Return the name of a wheel without its variant label, and that label if it has one.

    Tools that know no wheel variants refuse names with a label.
    """
    match = VALIDATION_WHEEL_NAME_REGEX.fullmatch(file)
    if match is None or match["variant_label"] is None:
        return file, None
    return f"{match['base_wheel_name']}.whl", match["variant_label"]


def read_wheel(path: Path) -> Wheel:
    """Read a wheel of this project whole.

    Raises:
        WheelError: no such file, not one of our wheels, truncated or damaged, or without METADATA.
    """
    plain, variant = split_variant(path.name)
    try:
        name, version, _, tags = parse_wheel_filename(plain)
    except InvalidWheelFilename as error:
        raise WheelError(f"{path.name} is not the name of a wheel", cure="give a .whl") from error
    if name != "llama-cpp-python":
        raise WheelError(f"{path.name} is a wheel of {name}", cure="give one of llama-cpp-python")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
            files = {entry: archive.read(entry) for entry in entries if not entry.endswith("/")}
    except FileNotFoundError as error:
        raise WheelError(f"there is no {path}", cure="run `nox -s build` first") from error
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise WheelError(f"{path.name} is damaged: {error}", cure=_CURE) from error
    if len(set(entries)) != len(entries):
        raise WheelError(f"{path.name} holds a file twice", cure=_CURE)
    wheel = Wheel(
        path=path,
        version=version,
        tags=tuple(sorted(map(str, tags))),
        files=files,
        variant=variant,
    )
    for needed in ("METADATA", "WHEEL"):
        if f"{wheel.dist_info}/{needed}" not in files:
            raise WheelError(f"{path.name} has no {wheel.dist_info}/{needed}", cure=_CURE)
    return wheel


def write_wheel(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive with a fresh RECORD: sorted, no dates, whole or not at all.

    Args:
        path: the wheel; an older one of that name is replaced.
        files: content by path; a RECORD among them is ignored.
    """
    dist_infos = {name.split("/")[0] for name in files if name.split("/")[0].endswith(".dist-info")}
    if len(dist_infos) != 1:
        raise WheelError(f"{path.name} would have {len(dist_infos)} dist-info folders", cure=_CURE)
    record_name = f"{dist_infos.pop()}/RECORD"
    content = {name: data for name, data in files.items() if name != record_name}
    content[record_name] = _record(content, record_name)
    # metadata last, as the specification recommends, RECORD at the very end
    order = sorted(content, key=lambda name: (".dist-info/" in name, name == record_name, name))
    partial = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name in order:
                entry = zipfile.ZipInfo(name, _DATE)
                entry.create_system = 3
                mode = 0o755 if name.endswith((".so", ".dylib", ".dll")) else 0o644
                entry.external_attr = (0o100000 | mode) << 16
                archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, compresslevel=9)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _record(content: Mapping[str, bytes], record_name: str) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name in sorted(content):
        writer.writerow((name, _digest(content[name]), len(content[name])))
    writer.writerow((record_name, "", ""))
    return out.getvalue().encode()


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def library_names(stems: Iterable[str], system: str) -> list[str]:
    """Return the file names of libraries: ``libggml.so``, ``libggml.dylib``, ``ggml.dll``.

    On macOS what ggml loads at run time are bundles, which CMake and ggml call ``.so``.
    """
    suffix = {"linux": ".so", "macos": ".dylib", "windows": ".dll"}[system]
    prefix = "" if system == "windows" else "lib"
    return [
        f"{prefix}{stem}{'.so' if system == 'macos' and _is_module(stem) else suffix}"
        for stem in stems
    ]


def _is_module(stem: str) -> bool:
    return stem.startswith("ggml-") and stem != "ggml-base"
