"""The source tree of llama.cpp: fetched at the pinned commit, verified by git, never committed."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.download import download_sdist
from ci.errors import (
    NetworkError,
    TableError,
    ToolchainError,
    ToolMissingError,
    VendorError,
    disk_error,
)
from ci.problems import told
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.tarfiles import tarfile

PIN_PATH = paths.VENDOR / "llama.cpp.toml"

_STRICT = ConfigDict(extra="forbid", strict=True)
_Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

# what a build reads of a tree; CMakeLists.txt alone could be any project
_BUILT_FROM = (
    "CMakeLists.txt",
    "LICENSE",
    "cmake",
    "include",
    "src",
    "ggml",
    "tools/mtmd",
    "vendor",
)
_LANDMARKS = ("CMakeLists.txt", "include/llama.h", "ggml/include/ggml.h", "tools/mtmd/mtmd.h")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Mirror:
    """An archive that holds the same git objects as the repository."""

    kind: Literal["sdist"]
    project: str
    project_version: str
    sha256: _Sha256
    git_dir: str


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Pin:
    """``vendor/llama.cpp.toml``: the commit that everything is built from."""

    repository: str
    commit: _Commit
    version: str
    mirror: list[Mirror]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A source tree on disk; ``commit`` is None where nothing says which one it is."""

    path: Path
    commit: str | None


def load_pin(path: Path = PIN_PATH) -> Pin:
    """Read the pin.

    Raises:
        TableError: it is not TOML, or a key is missing, unknown or malformed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Pin).validate_json(json.dumps(raw, default=str))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: {error}", cure=f"mend {path}") from error
    except ValidationError as error:
        raise TableError(f"{path.name}:\n{told(error)}", cure=f"mend {path}") from error


def pinned_tree(progress: Progress, *, pin: Pin, tree: Path = paths.TREE) -> Tree:
    """Return the tree at ``tree``, fetching it where it is not there yet.

    Raises:
        VendorError: what is there is of another commit or was changed.
        NetworkError: neither the repository nor a mirror could be reached.
    """
    if not tree.exists():
        fetch(progress, pin=pin, tree=tree)
    verify(tree, pin=pin)
    return Tree(path=tree, commit=pin.commit)


def settled(tree: Tree) -> Path:
    """Return a tree's folder, for a pinned one a copy in the cache: the same path for every checkout.

    nvcc writes the paths of what it reads into what it hands on, so a compiler cache finds again only
    what was compiled under the same path.
    """
    if tree.commit is None or tree.path != paths.TREE:
        # anybody may change it at any time
        return tree.path
    place = paths.cache_folder() / "trees" / tree.commit
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_name(f"{tree.commit}.lock")):
            if not place.is_dir():
                with _beside(place) as new:
                    for name in _BUILT_FROM:
                        source = tree.path / name
                        (new / name).parent.mkdir(parents=True, exist_ok=True)
                        if source.is_dir():
                            shutil.copytree(source, new / name, symlinks=True)
                        else:
                            shutil.copy2(source, new / name)
    except OSError as error:
        raise disk_error(error, place.parent) from error
    return place


def verify(tree: Path, *, pin: Pin) -> None:
    """Check that ``tree`` is the pinned commit and unchanged; git itself compares the files.

    Raises:
        VendorError: it is another commit, was changed, or is not a git tree at all.
    """
    cure = (
        f"delete {tree} and run `nox -s vendor`, or build what is there on purpose with"
        f" `--source {tree}`"
    )
    commit = commit_of(tree)
    if commit != pin.commit:
        raise VendorError(
            f"{tree} is llama.cpp at {commit or 'an unknown commit'}, the pin is {pin.commit}",
            cure=cure,
        )
    changed = run(["git", "-C", tree, "status", "--porcelain", "--ignored"]).splitlines()
    if changed:
        raise VendorError(
            f"{tree} was changed: {changed[0].strip()}"
            + (f" and {len(changed) - 1} more" if len(changed) > 1 else ""),
            cure=cure,
        )


def fetch(progress: Progress, *, pin: Pin, tree: Path = paths.TREE) -> None:
    """Bring the pinned commit to ``tree``, from the cache, the repository or a mirror.

    Whole or not at all: the tree is checked out beside its place and renamed into it.
    """
    _need_git()
    store = paths.cache_folder() / "vendor" / "llama.cpp.git"
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_suffix(".lock")):
        if not _has_commit(store, pin.commit):
            _fill_store(progress, store, pin)
        progress.step(f"checking out {pin.commit[:12]}")
        with _beside(tree) as new:
            run(["git", "init", "-q", new])
            _git_fetch(new, store.as_uri(), pin.commit)
            run(["git", "-C", new, "-c", "advice.detachedHead=false", "checkout", "-q", pin.commit])
    verify(tree, pin=pin)


def foreign_tree(progress: Progress, source: Path, *, pin: Pin) -> Tree:
    """Return any checkout or archive as a tree, warning loudly when it is not the pinned commit.

    Raises:
        VendorError: nothing is there, or it is not llama.cpp.
    """
    if source.is_dir():
        tree = Tree(path=source.resolve(), commit=commit_of(source))
    elif source.is_file():
        tree = _unpack(source)
    else:
        raise VendorError(f"there is no {source}", cure="give --source a folder or an archive")
    missing = [name for name in _LANDMARKS if not (tree.path / name).is_file()]
    if missing:
        raise VendorError(
            f"{source} is not a source tree of llama.cpp: it has no {missing[0]}",
            cure="give --source the folder (or archive) with llama.cpp's own CMakeLists.txt",
        )
    if tree.commit != pin.commit:
        progress.warn(
            f"building llama.cpp at {tree.commit or 'an unknown commit'} from {source},"
            f" NOT the pinned {pin.commit}: the binding was generated and tested for the pin;"
            " the build stops if the ABI differs"
        )
    return tree


def place_tree(progress: Progress, source: Path, *, pin: Pin, tree: Path = paths.TREE) -> None:
    """Put a copy of any checkout or archive at ``tree`` (``vendor --source``)."""
    if tree.exists():
        raise VendorError(f"{tree} exists", cure=f"delete {tree} and run the command again")
    found = foreign_tree(progress, source, pin=pin)
    with _beside(tree) as new:
        shutil.copytree(found.path, new, symlinks=True, dirs_exist_ok=True)


def commit_of(tree: Path) -> str | None:
    """Return the commit that a folder is a checkout of, or None where it is none of its own."""
    if not (tree / ".git").exists():
        return None
    _need_git()
    try:
        return run(["git", "-C", tree, "rev-parse", "HEAD"]).strip()
    except ProcessError:
        return None


def commit_time(tree: Path) -> int:
    """Return when the commit of a checkout was made, in seconds since 1970."""
    return int(run(["git", "-C", tree, "show", "-s", "--format=%ct", "HEAD"]))


def _need_git() -> None:
    if shutil.which("git") is None:
        raise ToolMissingError(
            "git is not on this machine",
            cure="install git (Debian: apt install git), or build from an archive with --source",
        )


def _has_commit(store: Path, commit: str) -> bool:
    if not store.is_dir():
        return False
    try:
        # a shallow store is complete when the commit's whole tree can be walked
        run(["git", "-C", store, "rev-list", "--objects", "--quiet", "--no-walk", commit])
    except ProcessError:
        return False
    return True


def _fill_store(progress: Progress, store: Path, pin: Pin) -> None:
    if not store.is_dir():
        with _beside(store) as new:
            run(["git", "init", "-q", "--bare", new])
    failures: list[str] = []
    progress.step(f"fetching llama.cpp {pin.commit[:12]} from {pin.repository}")
    try:
        _git_fetch(store, pin.repository, pin.commit)
    except ProcessError as error:
        failures.append(f"{pin.repository}: {error.tail[-1] if error.tail else error.returncode}")
    else:
        return
    for mirror in pin.mirror:
        name = f"{mirror.project} {mirror.project_version} ({mirror.kind})"
        progress.step(f"the repository cannot be reached; fetching from the mirror {name}")
        try:
            _fetch_from_sdist(progress, store, pin.commit, mirror)
        except (NetworkError, VendorError) as error:
            failures.append(f"{name}: {error.what}")
        else:
            return
    raise NetworkError(
        f"llama.cpp {pin.commit} could not be fetched:\n"
        + "\n".join(f"  {line}" for line in failures),
        cure="check the network, or give a checkout or archive with --source PATH",
    )


def _git_fetch(repository: Path, url: str, commit: str) -> None:
    # git computes every object's id while it receives it, so the commit id verifies the tree
    slow = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20"]
    run(
        ["git", "-C", repository, *slow, "fetch", "-q", "--depth", "1", url, commit],
        env={"GIT_TERMINAL_PROMPT": "0"},
    )


def _fetch_from_sdist(progress: Progress, store: Path, commit: str, mirror: Mirror) -> None:
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".mirror-") as folder:
        scratch = Path(folder)
        archive = download_sdist(
            progress,
            project=mirror.project,
            version=mirror.project_version,
            sha256=mirror.sha256,
            folder=scratch,
        )
        objects = scratch / "mirror.git"
        run(["git", "init", "-q", "--bare", objects])
        # the commit is not a branch tip there
        run(["git", "-C", objects, "config", "uploadpack.allowAnySHA1InWant", "true"])
        _copy_git_objects(archive, mirror.git_dir, objects)
        try:
            _git_fetch(store, objects.as_uri(), commit)
        except ProcessError as error:
            raise VendorError(
                f"the mirror does not hold commit {commit}: {error.tail[-1] if error.tail else ''}",
                cure="name another mirror in vendor/llama.cpp.toml",
            ) from error


def _copy_git_objects(archive: Path, git_dir: str, into: Path) -> None:
    """Copy ``objects/`` and ``shallow`` of the repository inside the archive, nothing else."""
    found = False
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, inside = member.name.partition("/")
            if not member.isfile() or not inside.startswith(f"{git_dir}/"):
                continue
            name = inside.removeprefix(f"{git_dir}/")
            if name != "shallow" and not name.startswith("objects/"):
                continue
            target = (into / name).resolve()
            if not target.is_relative_to(into.resolve()):
                raise VendorError(f"{archive.name} holds {member.name}", cure="do not use it")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with content, target.open("wb") as out:
                shutil.copyfileobj(content, out)
            found = True
    if not found:
        raise VendorError(f"{archive.name} has no {git_dir}", cure="mend vendor/llama.cpp.toml")


def _unpack(archive: Path) -> Tree:
    """Unpack an archive below ``build/``; ``git archive`` leaves the commit in a comment."""
    place = paths.BUILD / "source" / archive.name
    shutil.rmtree(place, ignore_errors=True)
    commit: str | None = None
    try:
        with _beside(place) as new:
            new.mkdir()
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as bundle:
                    commit = bundle.comment.decode("ascii", "replace") or None
                    bundle.extractall(new)
            else:
                with tarfile.open(archive) as tar:
                    commit = tar.pax_headers.get("comment")
                    extract(tar, new)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise VendorError(
            f"{archive} cannot be unpacked: {error}", cure="give a whole .tar.gz or .zip"
        ) from error
    entries = list(place.iterdir())
    only = entries[0] if len(entries) == 1 and entries[0].is_dir() else place
    return Tree(path=only, commit=commit_of(only) or commit)


def extract(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack plain files and folders, none of them outside of ``folder``.

    Raises:
        tarfile.TarError: there is something else in it.
    """
    tar.extractall(folder, filter="data")


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Yield a path in the same folder that takes ``place``'s name if nothing goes wrong."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        yield new
        new.rename(place)
    except OSError as error:
        raise ToolchainError(f"cannot write {place}: {error}", cure="free it and retry") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
