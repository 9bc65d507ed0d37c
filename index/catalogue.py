"""The catalogue: an append-only file, one JSON line per wheel, from which the index is rendered.

A later line about a wheel may differ in ``yanked`` and ``url`` alone: that is how taking back,
letting through again and moving are said. The last line about a wheel holds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import CatalogueError, ToolchainError
from index.problems import told
from index.report import Proof, read_proof
from index.staging import locked, replace_file, unfinished
from index.wheel import AUTO, Variant, backend_of_label, parse_name, read_wheel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from ci.table import Table
    from index.wheel import Wheel

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# PEP 700: "a string which is a valid ISO 8601 date/time string in the format
# yyyy-mm-ddThh:mm:ss.ffffffZ"; the fraction may be left out.
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
# Installers join what follows to the address as it is, so it must have no query and no fragment.
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]

_RESTORE: Final = "restore the file from its version control; if the line is the last and was cut\
 off, delete it and add its wheel again"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Entry:
    """One wheel of the index.

    ``size`` is in bytes. ``requires`` are its requirements as METADATA has them, ``variant``
    is what an installer that knows variants chooses it by. ``yanked`` is the reason why it was
    taken back (perhaps empty), None where it was not. ``url`` is where the file is for good, None
    where it lies beside the pages.
    """

    name: str
    project: str
    version: str
    backend: str
    platform: str
    sha256: Sha256
    size: Annotated[int, Field(gt=0)]
    upload_time: Time
    requires_python: str | None
    requires: tuple[str, ...]
    metadata_sha256: Sha256
    report: Proof
    variant: Variant | None
    yanked: str | None
    url: Url | None


_PARSER = TypeAdapter(Entry)


@dataclass(frozen=True, kw_only=True)
class Added:
    """What one call of `add` did."""

    new: tuple[Entry, ...]
    known: tuple[Entry, ...]


def load(path: Path) -> tuple[Entry, ...]:
    """Read the catalogue in the order in which it was written; a missing file is an empty one.

    Raises:
        CatalogueError: A line is cut off, malformed, contradicts itself, or says something else
            of a wheel than an earlier line; the message says which line.
    """
    return parse(read(path), path=path)


def read(path: Path) -> bytes:
    """Return the catalogue's text; a missing file is an empty one."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def parse(text: bytes, *, path: Path) -> tuple[Entry, ...]:
    """Read the text of a catalogue; ``path`` is what messages call it.

    Raises:
        CatalogueError: As `load` says.
    """
    entries: dict[str, Entry] = {}
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if not line.endswith(b"\n"):
            raise CatalogueError(f"{where}: the line is cut off (no newline)", cure=_RESTORE)
        try:
            entry = _PARSER.validate_json(line)
            _agree(entry)
        except ValidationError as error:
            raise CatalogueError(f"{where}: {told(error, whole='line')}", cure=_RESTORE) from error
        except ToolchainError as error:
            raise CatalogueError(f"{where}: {error.what}", cure=_RESTORE) from error
        there = entries.get(entry.name)
        if there is not None and replace(there, yanked=entry.yanked, url=entry.url) != entry:
            what = f"{where}: {entry.name} is there already, and only yanked and url may change"
            raise CatalogueError(what, cure=_RESTORE)
        entries[entry.name] = entry
    return tuple(entries.values())


def _agree(entry: Entry) -> None:
    """See that the fields that follow from the file name do follow from it."""
    name = parse_name(entry.name)
    derived = {
        "project": name.project,
        "version": name.version,
        "platform": name.platform,
        "backend": backend_of_label(name.label, [entry.backend]),
    }
    label = entry.variant.label if entry.variant else None
    if label != name.variant:
        what = f"{entry.name}: variant {label!r} does not follow from the file name"
        raise CatalogueError(what, cure=_RESTORE)
    for key, value in derived.items():
        if getattr(entry, key) != value:
            what = f"{entry.name}: {key} {getattr(entry, key)!r} does not follow from the file name"
            raise CatalogueError(what, cure=_RESTORE)


def line_of(entry: Entry) -> bytes:
    """Return the one line that says an entry, newline included."""
    return json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def entry_of(
    wheel: Wheel, *, backend: str, report: Proof, upload_time: str, base_url: str | None
) -> Entry:
    """Say a wheel as an entry; ``base_url`` is the folder that it was uploaded to."""
    return Entry(
        name=wheel.name.file,
        project=wheel.name.project,
        version=wheel.name.version,
        backend=backend,
        platform=wheel.name.platform,
        sha256=wheel.sha256,
        size=wheel.size,
        upload_time=upload_time,
        requires_python=wheel.requires_python,
        requires=wheel.requires,
        metadata_sha256=wheel.metadata_sha256,
        report=report,
        variant=wheel.variant,
        yanked=None,
        url=None if base_url is None else f"{base_url.rstrip('/')}/{wheel.name.file}",
    )


def add(
    path: Path,
    wheels: Iterable[Path],
    *,
    table: Table,
    upload_time: str,
    base_url: str | None = None,
) -> Added:
    """Append wheels to the catalogue: all of them or, when one is refused, none.

    A wheel that is there with the same bytes stays as it is. ``upload_time`` is the time that
    the new ones get, ``YYYY-MM-DDTHH:MM:SSZ``.

    Raises:
        WheelError: A wheel is damaged or contradicts itself.
        SmokeError: A wheel has no passing report about its very bytes.
        CatalogueError: The catalogue is damaged, a label names no backend of the table, a target
            is not in the table, or a known name comes with other bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        # What a killed run left behind.
        unfinished(path).unlink(missing_ok=True)
        before = read(path)
        catalogued = {entry.name: entry for entry in parse(before, path=path)}
        new: dict[str, Entry] = {}
        known: dict[str, Entry] = {}
        for file in sorted(wheels, key=lambda file: file.name):
            wheel = read_wheel(file)
            there = catalogued.get(wheel.name.file) or new.get(wheel.name.file)
            if there is not None:
                _same_bytes(wheel, there)
                known[there.name] = there
                continue
            backend = _backend(wheel, table)
            new[wheel.name.file] = entry_of(
                wheel,
                backend=backend,
                report=read_proof(wheel, backend=backend, gpu=_is_for_gpu(wheel, backend, table)),
                upload_time=upload_time,
                base_url=base_url,
            )
        if new:
            replace_file(path, before + b"".join(map(line_of, new.values())))
    return Added(new=tuple(new.values()), known=tuple(known.values()))


def _is_for_gpu(wheel: Wheel, backend: str, table: Table) -> bool:
    """Say whether a wheel computes on a GPU: by its backend, or by that of its wheel variant."""
    families = [
        table.families[table.backends[name].family]
        for name in (backend, wheel.name.variant or "")
        if name in table.backends
    ]
    return any(family.smoke == "gpu" for family in families)


def yank(path: Path, names: Sequence[str], *, reason: str | None) -> tuple[Entry, ...]:
    """Take wheels back with a reason, or with ``reason`` None let them through again.

    ``names`` are file names, or versions with their label (``0.3.100+cu128``), which mean every
    wheel of that version. Installers then leave a wheel out unless it is pinned exactly (PEP 592).
    All of it is done or nothing.

    Returns:
        The new state of each wheel that it changed.

    Raises:
        CatalogueError: The catalogue is damaged, or nothing in it has one of the names.
    """
    if not path.is_file():
        cure = "give the catalogue with --catalogue"
        raise CatalogueError(f"{path}: there is no catalogue", cure=cure)
    with locked(path.parent):
        unfinished(path).unlink(missing_ok=True)
        before = read(path)
        entries = parse(before, path=path)
        chosen: dict[str, Entry] = {}
        for name in names:
            found = [entry for entry in entries if name in {entry.name, entry.version}]
            if not found:
                versions = ", ".join(sorted({entry.version for entry in entries})) or "none"
                what = f"{path}: no wheel and no version is called {name}"
                raise CatalogueError(what, cure=f"the versions in it are: {versions}")
            chosen |= {entry.name: entry for entry in found}
        changed = tuple(
            replace(entry, yanked=reason) for entry in chosen.values() if entry.yanked != reason
        )
        if changed:
            replace_file(path, before + b"".join(map(line_of, changed)))
    return changed


def _same_bytes(wheel: Wheel, there: Entry) -> None:
    if wheel.sha256 != there.sha256:
        # Installers serve a wheel from their cache by its name even when the page's hash changed.
        what = (
            f"{wheel.path}: the catalogue knows this name with other bytes"
            f" (sha256 {there.sha256}, this one has {wheel.sha256})"
        )
        cure = (
            "a published name never changes: raise the version or give a new label"
            f" (+{there.backend}.1); for a try, another --catalogue"
        )
        raise CatalogueError(what, cure=cure)


def _backend(wheel: Wheel, table: Table) -> str:
    if wheel.name.label.partition(".")[0] == AUTO:
        return AUTO
    backend = backend_of_label(wheel.name.label, table.backends)
    if backend is None:
        what = f"{wheel.path}: the label +{wheel.name.label} names no backend of the table"
        if wheel.name.label.partition(".")[0] in table.backends:
            what = f"{wheel.path} is for some GPUs alone (+{wheel.name.label})"
            cure = (
                "install it as a file: from an index it would be taken for every GPU;"
                " build the backend without --archs for that"
            )
            raise CatalogueError(what, cure=cure)
        raise CatalogueError(what, cure=f"the backends are: {', '.join(table.backends)}")
    platforms = [t.platform.name for t in table.targets if t.backend.name == backend]
    if wheel.name.platform not in platforms:
        what = f"{wheel.path}: the table has no {backend} wheel for {wheel.name.platform}"
        raise CatalogueError(what, cure=f"{backend} exists on: {_names(platforms)}")
    return backend


def _names(names: Collection[str]) -> str:
    return ", ".join(names) or "no platform, it is retired"


def by_backend(entries: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Return the entries of each backend, sorted by name."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.backend, []).append(entry)
    return {name: tuple(found[name]) for name in sorted(found)}
