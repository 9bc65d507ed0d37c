"""Upload: what belongs on the package index, made of the proven wheels and handed to twine.

The package index takes no version labels, so what goes there is the plain wheel of each platform
(the same that the index ``auto`` has for everybody) under the plain version, and the sdist.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
from packaging.utils import InvalidSdistFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version
from pypi_simple import NoSuchProjectError, PyPISimple

from ci.errors import NetworkError, PublishError, ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.relabel import make, plan
from ci.table import Table

PROJECT: Final = "llama-cpp-python"

_TIMEOUT_S: Final = 60
_UPLOAD_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where twine uploads (``url``) and where installers read it (``index_url``)."""

    arguments: tuple[str, ...]
    url: str
    index_url: str


@dataclass(frozen=True, kw_only=True)
class File:
    """One file to upload; ``there`` when the index has these very bytes already."""

    path: Path
    sha256: str
    size: int
    there: bool


def upload(
    given: Sequence[Path],
    repository: Repository,
    folder: Path,
    table: Table,
    progress: Progress,
    *,
    dry_run: bool,
) -> list[File]:
    """Make, check and upload the files of one version; return them all.

    Args:
        given: wheels, sdists, or folders of them.
        repository: where to.
        folder: an empty folder for what is made.
        table: which wheel is the plain one of a platform.
        progress: where the steps are told.
        dry_run: stop before the upload.

    Raises:
        UsageError: there is nothing to upload, it is of more than one version, or a file was named
            that does not belong there.
        WheelError: a wheel is damaged or no target of the table.
        SmokeError: a wheel has no passing report about its very bytes.
        PublishError: the index has a name with other bytes, or twine refused.
        NetworkError: the index could not be read.
    """
    files = _made(given, folder, table, progress)
    there = published(repository.index_url)
    for path in files:
        _refuse_other_bytes(path, there.get(path.name), repository)
    found = [_file(path, there) for path in files]
    rows = [
        (
            file.path.name,
            f"{'there already' if file.there else 'new'}, {file.size} bytes, sha256 {file.sha256}",
        )
        for file in found
    ]
    progress.summary(f"for {repository.url}", rows)
    twine("check", "--strict", *files, progress=progress)
    new = [file.path for file in found if not file.there]
    if dry_run:
        progress.step(f"dry run: {len(new)} files would be uploaded")
    elif new:
        options = ("--non-interactive", "--disable-progress-bar")
        twine("upload", *options, *repository.arguments, *new, progress=progress)
        progress.step(f"uploaded {len(new)} files to {repository.url}")
    else:
        progress.step("nothing to upload: the index has every file")
    return found


def _made(given: Sequence[Path], folder: Path, table: Table, progress: Progress) -> list[Path]:
    """Return what to upload, sorted by name: wheels are relabelled into ``folder``."""
    wheels, sdists = _found(given)
    copies, unused = plan(wheels, table, label=None)
    named = {path.name for path in given if path.is_file()}
    for name in unused:
        if name in named:
            what = f"{name} does not go to the package index: it is not its platform's plain wheel"
            cure = f"it belongs on an index of ours; plain are {', '.join(table.auto.plain)}"
            raise UsageError(what, cure=cure)
        progress.step(f"{name} stays here: it is not its platform's plain wheel")
    made = make(copies, folder, table, [], progress, now=datetime.now(UTC))
    files = [*(one.path for one in made), *sdists]
    if not files:
        raise UsageError("there is nothing to upload", cure="build one with `nox -s build`")
    labelled = [path.name for path in files if version_of(path).local is not None]
    if labelled:
        what = f"{labelled[0]} has a version label, which no package index takes"
        raise PublishError(what, cure="give the sdist of the plain version")
    versions = sorted({version_of(path) for path in files})
    if len(versions) > 1:
        what = f"the files are of {len(versions)} versions: {', '.join(map(str, versions))}"
        raise UsageError(what, cure="name the files of one version on the command line")
    return sorted(files, key=lambda path: path.name)


def _found(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    wheels: list[Path] = []
    sdists: list[Path] = []
    for path in given:
        if path.is_dir():
            wheels += sorted(path.glob("*.whl"))
            sdists += sorted(path.glob("llama_cpp_python-*.tar.gz"))
        elif path.suffix == ".whl":
            wheels.append(path)
        elif path.name.endswith(".tar.gz") and path.is_file():
            sdists.append(path)
        else:
            raise UsageError(f"{path} is no wheel and no sdist", cure="give wheels, or a folder")
    return wheels, sdists


def version_of(path: Path) -> Version:
    """Return the version that a file name says.

    Raises:
        UsageError: it is not the name of an sdist of this project.
    """
    if path.suffix == ".whl":
        return parse_wheel_filename(path.name)[1]
    try:
        project, version = parse_sdist_filename(path.name)
    except InvalidSdistFilename as error:
        raise UsageError(f"{path.name} is not the name of an sdist", cure=str(error)) from error
    if project != PROJECT:
        raise UsageError(f"{path.name} is an sdist of {project}", cure=f"give one of {PROJECT}")
    return version


def _file(path: Path, there: dict[str, str | None]) -> File:
    return File(
        path=path,
        sha256=_sha256(path),
        size=path.stat().st_size,
        # where the index tells no hash, twine finds out
        there=there.get(path.name) is not None,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def published(index_url: str) -> dict[str, str | None]:
    """Return the sha256 of every file of the project on an index, None where it tells none.

    Raises:
        NetworkError: the index could not be read; a project that is not there is an empty one.
    """
    try:
        with PyPISimple(endpoint=index_url) as client:
            page = client.get_project_page(PROJECT, timeout=_TIMEOUT_S)
    except NoSuchProjectError:
        return {}
    except (requests.RequestException, ValueError) as error:
        what = f"{index_url}: what is published there could not be read ({error})"
        cure = "give the address of the repository's simple index with --index-url"
        raise NetworkError(what, cure=cure) from error
    return {package.filename: package.digests.get("sha256") for package in page.packages}


def _refuse_other_bytes(path: Path, theirs: str | None, repository: Repository) -> None:
    if theirs is None or theirs == _sha256(path):
        return
    what = (
        f"{path.name} is on {repository.index_url} with other bytes"
        f" (sha256 {theirs}, ours has {_sha256(path)})"
    )
    raise PublishError(what, cure="a published name never changes: raise the version")


def choose_repository(
    name: str | None, url: str | None, index_url: str | None, *, config: str = "~/.pypirc"
) -> Repository:
    """Find the repository as twine does: by address, or by a name of ``.pypirc``.

    ``TWINE_REPOSITORY_URL`` and ``TWINE_REPOSITORY`` hold where nothing is given.

    Raises:
        ToolMissingError: twine is not installed.
        UsageError: there is no repository of that name.
    """
    try:
        from twine.exceptions import TwineException  # noqa: PLC0415  # only this verb needs it
        from twine.utils import get_repository_from_config  # noqa: PLC0415
    except ImportError as error:
        raise ToolMissingError("twine is not installed", cure="run `nox -s upload`") from error
    url = url or (None if name else os.environ.get("TWINE_REPOSITORY_URL"))
    name = name or os.environ.get("TWINE_REPOSITORY") or "pypi"
    try:
        found = get_repository_from_config(config, name, url)["repository"]
    except TwineException as error:
        cure = "give --repository-url, or a name that ~/.pypirc has"
        raise UsageError(f"--repository {url or name}: {error}", cure=cure) from error
    assert found is not None
    return Repository(
        arguments=("--repository-url", url) if url else ("--repository", name),
        url=found,
        index_url=index_url or index_of(found),
    )


def index_of(url: str) -> str:
    """Return where installers read what was uploaded to ``url``: ``…/simple/`` of that server."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].removeprefix("upload.")
    path = parts.path.removesuffix("/").removesuffix("/legacy") + "/"
    return urljoin(urlunsplit((parts.scheme, host, path, "", "")), "simple/")


def twine(verb: str, *arguments: str | Path, progress: Progress) -> None:
    """Run twine; credentials are where twine looks for them.

    Raises:
        PublishError: it ended with an error; the message holds its last lines.
    """
    progress.step(f"twine {verb}")
    try:
        run(
            [sys.executable, "-m", "twine", "--no-color", verb, *arguments],
            on_line=progress.step,
            # it folds its lines, file names too
            env={"COLUMNS": "400"},
            timeout=_UPLOAD_S,
        )
    except ProcessError as error:
        lines = "".join(f"\n  | {line}" for line in error.tail[-8:])
        cure = "mend that, then run this again: what is there with the same bytes is left out"
        raise PublishError(f"twine {verb} refused:{lines}", cure=cure) from error
