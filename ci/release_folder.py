"""The release folder: wheels, records, reports, costs and their hashes; written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from ci.costs import cost_of, costs_json, costs_page
from ci.errors import ReleaseError
from ci.installed import read_installed
from ci.problems import told
from ci.record import STRICT, Commit, File, record_path
from ci.relabel import AUTO
from ci.release_pages import notes_page, proof_page
from ci.release_set import (
    INSTALLED,
    RELEASE,
    SUMS,
    ReleaseSet,
    examine,
    require_whole,
    sdist_name,
)
from ci.smoke_report import report_path
from ci.table import Table, Target
from ci.vendor import Pin
from ci.wheel import read_wheel

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_SBOM = "sboms/llama-cpp-python.cdx.json"


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class Contents:
    """What ``release.json`` says: of what a release is, and which wheels it has.

    ``left_out`` are the targets of the table that it lacks, with the reasons; a complete release has
    none.
    """

    schema: Literal[1] = 1
    version: str
    commit: Commit
    llama_cpp_version: str
    llama_cpp_commit: Commit
    wheels: dict[str, File]
    left_out: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was found to be as it says: the contents, and how many files there are."""

    contents: Contents
    files: int


def assemble(
    found: ReleaseSet,
    out: Path,
    *,
    sdist: Path,
    changelog: str,
    table: Table,
    pin: Pin,
    left_out: Mapping[str, str],
) -> Path:
    """Write the release folder of a whole set and return it; a former one is replaced at the end.

    Args:
        found: the set; its folder may hold ``auto/`` and what was installed from the staged index.
        out: the release folder.
        sdist: the source distribution of the same commit.
        changelog: the text of CHANGELOG.md.
        table: the table.
        pin: of llama.cpp.
        left_out: targets that the set lacks on purpose, with the reasons.

    Raises:
        ReleaseError: the set is not whole, or the changelog says nothing of this version.
    """
    require_whole(found)
    texts = _texts(found, table, pin, left_out) | {"notes.md": notes_page(changelog, found.version)}
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for source, name in _files(found, sdist):
        place = partial / name
        place.parent.mkdir(exist_ok=True)
        _place(source, place)
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    (partial / SUMS).write_text(_sums(partial), encoding="utf-8")
    remove(out)
    return partial.replace(out)


def remove(folder: Path) -> None:
    """Remove a release folder so that nobody ever sees a part of it."""
    if folder.exists():
        gone = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(gone, ignore_errors=True)
        folder.replace(gone)
        shutil.rmtree(gone)


def verify(folder: Path, table: Table, pin: Pin) -> Verified:
    """Check a release folder: hashes, records, reports, SBOMs and what is derived from them.

    Raises:
        ReleaseError: something is not as it says; all of it is listed.
    """
    contents = read_contents(folder)
    targets = _targets(contents, table)
    found = examine(folder, targets, table, pin, version=contents.version, commit=contents.commit)
    files = sorted(_names(folder))
    problems = [
        *_sum_problems(folder, files),
        *(str(problem) for problem in found.problems),
        *_content_problems(found, contents),
        *_sbom_problems(found, pin),
        *_installed_problems(folder, contents),
    ]
    if not found.problems:
        problems += [
            f"{name}: it is not what follows from the records and reports"
            for name, text in _texts(found, table, pin, contents.left_out).items()
            if _text(folder / name) != text
        ]
    if problems:
        raise ReleaseError(
            f"{folder} is not what it says: {len(problems)} problem"
            f"{'s' if len(problems) > 1 else ''}\n" + "\n".join(f"  {each}" for each in problems),
            cure="fetch it again, and take no wheel out of it until this command is content",
        )
    return Verified(contents=contents, files=len(files))


def read_contents(folder: Path) -> Contents:
    """Read ``release.json``.

    Raises:
        ReleaseError: there is none, or it is not one.
    """
    path = folder / RELEASE
    cure = "name a folder that `nox -s release -- assemble` has written"
    try:
        return TypeAdapter(Contents).validate_json(path.read_bytes())
    except OSError as error:
        raise ReleaseError(f"{folder} has no {RELEASE}", cure=cure) from error
    except ValidationError as error:
        raise ReleaseError(f"{path} is no {RELEASE}:\n{told(error)}", cure=cure) from error


def _texts(
    found: ReleaseSet, table: Table, pin: Pin, left_out: Mapping[str, str]
) -> dict[str, str]:
    """Return the files that follow from the set, by name."""
    contents = {
        "schema": 1,
        "version": found.version,
        "commit": found.commit,
        "llama_cpp_version": pin.version,
        "llama_cpp_commit": pin.commit,
        "wheels": {
            member.target.name: {
                "name": member.file.name,
                "sha256": member.file.sha256,
                "size": member.file.size,
            }
            for member in found.members
        },
        "left_out": dict(left_out),
    }
    costs = [cost_of(member.record) for member in found.members]
    return {
        RELEASE: json.dumps(contents, indent=2) + "\n",
        "costs.json": costs_json(costs),
        "costs.md": costs_page(costs),
        "proof.md": proof_page(found, table, pin, left_out),
    }


def _files(found: ReleaseSet, sdist: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is taken over as it is: the file and its name in the release folder."""
    for member in found.members:
        wheel = found.folder / member.file.name
        for path in (wheel, record_path(wheel), report_path(wheel)):
            yield path, path.name
    auto = found.folder / AUTO
    for wheel in sorted(auto.glob("*.whl")):
        for path in (wheel, report_path(wheel)):
            yield path, f"{AUTO}/{path.name}"
    if (found.folder / INSTALLED).is_file():
        yield found.folder / INSTALLED, INSTALLED
    yield sdist, sdist_name(found.version)


def _place(source: Path, place: Path) -> None:
    """Put a file there without copying its bytes; what replaces it later leaves this one alone."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and path != folder / SUMS:
            yield path.relative_to(folder).as_posix()


def _sums(folder: Path) -> str:
    """Return the hash of every file as ``sha256sum`` writes them, sorted by name."""
    return "".join(f"{_sha256(folder / name)}  {name}\n" for name in sorted(_names(folder)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_problems(folder: Path, files: Sequence[str]) -> Iterator[str]:
    text = _text(folder / SUMS)
    if text is None:
        yield f"{SUMS}: there is none"
        return
    listed: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            yield f"{SUMS}: {line!r} is not a hash and a name"
        else:
            listed[match[2]] = match[1]
    for name in sorted({*files, *listed}):
        if name not in listed:
            yield f"{name}: {SUMS} does not name it"
        elif name not in files:
            yield f"{name}: {SUMS} names it, and it is not there"
        elif _sha256(folder / name) != listed[name]:
            yield f"{name}: it has other bytes than {SUMS} says"


def _targets(contents: Contents, table: Table) -> list[Target]:
    """Return the targets of a release; one that the table has no more is told by its wheel."""
    return [target for target in table.targets if target.name in contents.wheels]


def _content_problems(found: ReleaseSet, contents: Contents) -> Iterator[str]:
    there = {member.target.name: member.file for member in found.members}
    for name, file in contents.wheels.items():
        if there.get(name, file) != file:
            yield f"{file.name}: {RELEASE} is about another wheel"
        if name not in {target.name for target in found.targets}:
            yield f"{name}: the table has no such target"


def _sbom_problems(found: ReleaseSet, pin: Pin) -> Iterator[str]:
    for member in found.members:
        wheel = read_wheel(found.folder / member.file.name)
        bill = wheel.files.get(f"{wheel.dist_info}/{_SBOM}", b"")
        if pin.commit.encode() not in bill:
            yield f"{member.file.name}: it has no SBOM that names llama.cpp's commit"


def _installed_problems(folder: Path, contents: Contents) -> Iterator[str]:
    path = folder / INSTALLED
    if not path.is_file():
        return
    installed = read_installed(path)
    if not installed.passed:
        yield f"{INSTALLED}: not every installation gave the known answers"
    hashes = {file.name: file.sha256 for file in contents.wheels.values()}
    if {each.wheel: each.sha256 for each in installed.wheels} != hashes:
        yield f"{INSTALLED}: it is about other wheels"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
