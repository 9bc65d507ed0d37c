"""Bump: newer releases into the pins, with what derives from them; all of it or nothing."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urljoin

from pypi_simple import PYPI_SIMPLE_ENDPOINT

from ci import paths
from ci.docs import derived_files
from ci.errors import TableError, disk_error
from ci.newer import Waiting, newer_wheel, newest_patch, newest_tag, newest_version, pinned_version
from ci.pins import load_pins
from ci.progress import Progress
from ci.redistributable import base_url, repinned
from ci.table import Table
from ci.vendor import Pin, Tree, commit_of, commit_time, fetch, load_pin

Part: TypeAlias = Literal["llama-cpp", "tools", "toolkits"]
PARTS: tuple[Part, ...] = ("llama-cpp", "tools", "toolkits")
REPORT = "build/bump.md"
COOL_DOWN = timedelta(days=7)

_PIN = "vendor/llama.cpp.toml"
_PROJECT = "pyproject.toml"
_TOOLKITS = "ci/toolkits.toml"
# strings, and comments so that nothing in them is taken for one
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#.*')
_ABI = (
    "The diff of `llama_cpp/_abi.py` is what changed in the ABI: a function that changed or is gone is"
    " work in `llama_cpp/`."
)
_NEXT = "vendor/.llama.cpp.bump"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One pin that moves, and where to read what is new."""

    part: Part
    name: str
    old: str
    new: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Bump:
    """What is to be done: the changes, the files as they are then, and what is left to a person."""

    changes: Sequence[Change] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    pin: Pin | None = None
    notes: Sequence[str] = ()


def bump(
    progress: Progress,
    table: Table,
    parts: Collection[Part],
    *,
    now: datetime,
    cool_down: timedelta = COOL_DOWN,
    root: Path = paths.ROOT,
) -> Sequence[Change]:
    """Move pins to newer releases and write what derives from them; return what has changed.

    Files are written when all is known: whatever fails before leaves the checkout as it was, and so does
    an interruption while they are written. ``build/bump.md`` says what was done, for a pull request.

    Args:
        progress: told what is new.
        table: from which some files derive.
        parts: which pins.
        now: the time, for the cool-down.
        cool_down: how long a tool's version must have been on the package index.
        root: the checkout.

    Raises:
        ToolchainError: something cannot be asked, or a file cannot be derived.
    """
    tree = root / _NEXT
    try:
        return _bump(progress, table, parts, tree, root, now=now, cool_down=cool_down)
    except OSError as error:
        raise disk_error(error, root) from error
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _bump(
    progress: Progress,
    table: Table,
    parts: Collection[Part],
    tree: Path,
    root: Path,
    *,
    now: datetime,
    cool_down: timedelta,
) -> Sequence[Change]:
    done = []
    if "llama-cpp" in parts:
        done.append(_llama_cpp(progress, root, tree))
    if "tools" in parts:
        done.append(_tools(progress, root, now=now, cool_down=cool_down))
    if "toolkits" in parts:
        done.append(_toolkits(progress, root, now=now, cool_down=cool_down))
    changes = [change for each in done for change in each.changes]
    notes = [note for each in done for note in each.notes]
    for note in notes:
        progress.warn(note)
    if not changes:
        progress.step("nothing new")
        return []
    files = {name: text for each in done for name, text in each.files.items()}
    pin = next((each.pin for each in done if each.pin is not None), None)
    if pin is not None:
        derived = derived_files(table, Tree(path=tree, commit=pin.commit), root=root, pin=pin)
        files |= {name: text for name, text in derived.items() if _differs(root / name, text)}
    names = sorted(files)
    files[REPORT] = report(changes, notes, names)
    _write(files, None if pin is None else tree, root)
    for change in changes:
        progress.step(f"{change.name}: {change.old} -> {change.new}")
    progress.step(f"wrote {', '.join([*names, REPORT])}")
    return changes


def report(changes: Sequence[Change], notes: Sequence[str], files: Sequence[str]) -> str:
    """Return the text of a pull request: what moved from where to where, and what a person should see."""
    lines = [
        "| pin | old | new |",
        "| --- | --- | --- |",
        *(f"| {change.name} | {change.old} | [{change.new}]({change.url}) |" for change in changes),
        "",
        f"Changed: {', '.join(f'`{name}`' for name in files)}.",
    ]
    if any(change.part == "llama-cpp" for change in changes):
        lines += ["", _ABI]
    if notes:
        lines += ["", "Left to a person:", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _llama_cpp(progress: Progress, root: Path, tree: Path) -> Bump:
    """Look for a newer llama.cpp; where there is one its tree lies at ``tree`` then."""
    path, known = root / _PIN, root / "vendor" / "llama.cpp"
    pin = load_pin(path)
    progress.step(f"asking {pin.repository} for its releases")
    tag = newest_tag(pin.repository, pin.commit)
    if tag is None:
        return Bump()
    new = replace(pin, commit=tag.commit, version=tag.name)
    shutil.rmtree(tree, ignore_errors=True)
    fetch(progress, pin=new, tree=tree)
    if commit_of(known) == pin.commit and commit_time(known) >= commit_time(tree):
        note = (
            f"the pinned llama.cpp, {pin.commit[:12]}, is newer than {tag.name}, the newest release"
        )
        return Bump(notes=[note])
    notes = [
        f"{_PIN}: the mirror {mirror.project} {mirror.project_version} has the objects of the old commit"
        " alone; name a newer one, or take it out"
        for mirror in pin.mirror
    ]
    change = Change(
        part="llama-cpp",
        name="llama.cpp",
        old=pin.version,
        new=tag.name,
        url=f"{pin.repository.removesuffix('.git')}/compare/{pin.commit[:12]}...{tag.name}",
    )
    text = edited(path, {pin.commit: tag.commit, pin.version: tag.name})
    return Bump(changes=[change], files={_PIN: text}, pin=new, notes=notes)


def _tools(progress: Progress, root: Path, *, now: datetime, cool_down: timedelta) -> Bump:
    path = root / _PROJECT
    groups = tomllib.loads(path.read_text(encoding="utf-8"))["dependency-groups"]
    texts = sorted({text for group in groups.values() for text in group if isinstance(text, str)})
    pinned = {text: found for text in texts if (found := pinned_version(text)) is not None}
    progress.step(f"asking the package index for {len(pinned)} tools")
    changes, strings, notes = [], {}, []
    for text, (name, version) in pinned.items():
        new = newest_version(name, version, now=now, cool_down=cool_down)
        if isinstance(new, Waiting):
            notes.append(f"{name} {new.version} waits ({new.why}); {version} stays")
        elif new is not None:
            strings[text] = text.replace(f"=={version}", f"=={new}", 1)
            url = urljoin(PYPI_SIMPLE_ENDPOINT, f"/project/{name}/{new}/")
            changes.append(Change(part="tools", name=name, old=version, new=new, url=url))
    if not changes:
        return Bump(notes=notes)
    return Bump(changes=changes, files={_PROJECT: edited(path, strings)}, notes=notes)


def _toolkits(progress: Progress, root: Path, *, now: datetime, cool_down: timedelta) -> Bump:
    path = root / _TOOLKITS
    pins = load_pins(path)
    progress.step(f"asking {base_url()} and the package index for newer toolkits")
    text, changes = path.read_text(encoding="utf-8"), []
    for pin in pins.redistributable:
        new = newest_patch(pin.version)
        if new is not None:
            text, _ = repinned(text, new)
            url = f"{base_url()}/redistrib_{new}.json"
            changes.append(
                Change(part="toolkits", name=pin.name, old=pin.version, new=new, url=url)
            )
    wheels = {
        name.split("-", 2)[0]: name
        for toolkit in pins.toolkit
        for pieces in toolkit.host.values()
        for name in pieces.wheels
    }
    notes = []
    for project, name in sorted(wheels.items()):
        newer = newer_wheel(name, now=now, cool_down=cool_down)
        if newer is not None:
            version = name.split("-")[1]
            notes.append(
                f"{_TOOLKITS}: {project.replace('_', '-')} {version} is pinned, {newer} is there"
            )
    return Bump(changes=changes, files={_TOOLKITS: text} if changes else {}, notes=notes)


def edited(path: Path, strings: Mapping[str, str]) -> str:
    """Return a TOML file's text with some of its strings replaced and every other byte as it was.

    Raises:
        TableError: a string stands there in another way than between plain double quotes.
    """
    text = path.read_text(encoding="utf-8")
    wanted = _replaced(tomllib.loads(text), strings)
    quoted = {json.dumps(old): json.dumps(new) for old, new in strings.items()}
    text = _TOKEN.sub(lambda match: quoted.get(match[0], match[0]), text)
    if tomllib.loads(text) != wanted:
        raise TableError(
            f"{path.name} cannot be edited: {', '.join(strings)}",
            cure='write each of these on its own between double quotes ("…"), without escapes',
        )
    return text


def _replaced(value: Any, strings: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(each, strings) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, strings) for each in value]
    return strings.get(value, value) if isinstance(value, str) else value


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text


def _write(files: Mapping[str, str], tree: Path | None, root: Path) -> None:
    """Write files and put the new tree into its place; on any error all is as it was."""
    place, old = root / "vendor" / "llama.cpp", root / "vendor" / ".llama.cpp.old"
    shutil.rmtree(old, ignore_errors=True)
    before: dict[Path, bytes | None] = {}
    try:
        for name, text in files.items():
            path = root / name
            before[path] = path.read_bytes() if path.exists() else None
            path.parent.mkdir(parents=True, exist_ok=True)
            _put(path, text.encode())
        if tree is not None:
            if place.exists():
                place.rename(old)
            tree.rename(place)
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                _put(path, content)
        if old.exists() and not place.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _put(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
