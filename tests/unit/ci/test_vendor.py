"""Vendoring: from a repository, from a mirror on an index, from any source; whole or not at all."""

from __future__ import annotations

import hashlib
import io
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from ci import vendor
from ci.errors import NetworkError, TableError, VendorError
from ci.progress import Progress
from ci.tarfiles import tarfile
from ci.vendor import Mirror, Pin

LANDMARKS = ("CMakeLists.txt", "include/llama.h", "ggml/include/ggml.h", "tools/mtmd/mtmd.h")


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0"]
    command = ["git", "-C", str(folder), *identity, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A small llama.cpp: a repository with two commits."""

    path: Path
    first: str
    second: str

    @property
    def pin(self) -> Pin:
        return Pin(repository=self.path.as_uri(), commit=self.second, version="1", mirror=[])


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "upstream"
    path.mkdir()
    git(path, "init", "-q")
    for name in LANDMARKS:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("one\n", encoding="utf-8")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "one")
    first = git(path, "rev-parse", "HEAD")
    (path / "include/llama.h").write_text("two\n", encoding="utf-8")
    git(path, "commit", "-q", "-am", "two")
    second = git(path, "rev-parse", "HEAD")
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
    return Upstream(path=path, first=first, second=second)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "checkout" / "vendor" / "llama.cpp"


@pytest.fixture
def progress() -> Progress:
    return Progress(Console(record=True, width=2000, file=io.StringIO()))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def make_sdist(upstream: Upstream, index: Path, *, git_dir: str) -> Mirror:
    """An index with one sdist that carries the git objects, and the mirror entry for it."""
    project = index / "some-project"
    project.mkdir(parents=True)
    name = "some_project-1.0.tar.gz"
    with tarfile.open(project / name, "w:gz") as tar:
        tar.add(upstream.path / ".git", f"some_project-1.0/{git_dir}")
        tar.add(upstream.path / "CMakeLists.txt", "some_project-1.0/code.py")
    digest = hashlib.sha256((project / name).read_bytes()).hexdigest()
    (project / "index.html").write_text(f'<a href="{name}#sha256={digest}">{name}</a>', "utf-8")
    return Mirror(
        kind="sdist", project="some-project", project_version="1.0", sha256=digest, git_dir=git_dir
    )


def test_the_tree_comes_from_the_repository(
    upstream: Upstream, tree: Path, progress: Progress
) -> None:
    found = vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)
    assert (found.path, found.commit) == (tree, upstream.second)
    assert (tree / "include/llama.h").read_text(encoding="utf-8") == "two\n"
    assert [entry.name for entry in tree.parent.iterdir()] == ["llama.cpp"]


def test_sources_are_fetched_once(upstream: Upstream, tree: Path, progress: Progress) -> None:
    vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)
    upstream.path.rename(upstream.path.with_name("gone"))
    again = tree.with_name("again")
    vendor.pinned_tree(progress, pin=upstream.pin, tree=again)
    assert (again / "include/llama.h").read_text(encoding="utf-8") == "two\n"


def test_the_mirror_is_asked_when_the_repository_is_gone(
    upstream: Upstream, tree: Path, tmp_path: Path, progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mirror = make_sdist(upstream, tmp_path / "index", git_dir=".git/modules/x")
    pin = replace(upstream.pin, repository=(tmp_path / "nowhere").as_uri(), mirror=[mirror])
    with serving(tmp_path / "index") as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        vendor.pinned_tree(progress, pin=pin, tree=tree)
    assert (tree / "include/llama.h").read_text(encoding="utf-8") == "two\n"
    assert not (tree / "code.py").exists()
    assert not list((tmp_path / "cache" / "vendor").glob(".mirror-*"))


@pytest.mark.parametrize("broken", ["sha256", "git_dir", "commit", "truncated", "version"])
def test_a_bad_mirror_leaves_nothing_behind(
    upstream: Upstream, tree: Path, tmp_path: Path, progress: Progress,
    monkeypatch: pytest.MonkeyPatch, broken: str,
) -> None:  # fmt: skip
    mirror = make_sdist(upstream, tmp_path / "index", git_dir=".git/modules/x")
    pin = replace(upstream.pin, repository=(tmp_path / "nowhere").as_uri())
    expected = {
        "sha256": "the pin says " + "0" * 64,
        "git_dir": "has no .git/modules/y",
        "commit": "the mirror does not hold commit " + "1" * 40,
        "truncated": "has sha256 ",
        "version": "the package index has no sdist of some-project 2.0",
    }[broken]
    if broken == "sha256":
        mirror = replace(mirror, sha256="0" * 64)
    elif broken == "git_dir":
        mirror = replace(mirror, git_dir=".git/modules/y")
    elif broken == "commit":
        pin = replace(pin, commit="1" * 40)
    elif broken == "version":
        mirror = replace(mirror, project_version="2.0")
    else:
        archive = tmp_path / "index" / "some-project" / "some_project-1.0.tar.gz"
        archive.write_bytes(archive.read_bytes()[:1000])
    with serving(tmp_path / "index") as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(NetworkError) as caught:
            vendor.pinned_tree(progress, pin=replace(pin, mirror=[mirror]), tree=tree)
    assert expected in caught.value.what
    assert "--source PATH" in caught.value.cure
    assert not tree.exists()
    assert not list((tmp_path / "cache" / "vendor").glob(".mirror-*"))


def test_no_network_names_every_place_that_was_asked(
    upstream: Upstream, tree: Path, tmp_path: Path, progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mirror = make_sdist(upstream, tmp_path / "index", git_dir=".git")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    pin = replace(upstream.pin, repository="http://127.0.0.1:9/llama.cpp.git", mirror=[mirror])
    with pytest.raises(NetworkError) as caught:
        vendor.pinned_tree(progress, pin=pin, tree=tree)
    assert "http://127.0.0.1:9/llama.cpp.git: " in caught.value.what
    assert (
        "some-project 1.0 (sdist): the package index has no page of some-project"
        in caught.value.what
    )
    assert caught.value.exit_code == 6
    assert not tree.parent.exists() or not list(tree.parent.iterdir())


def test_what_an_interrupted_run_left_does_not_matter(
    upstream: Upstream, tree: Path, progress: Progress
) -> None:
    leftover = tree.with_name(".llama.cpp.new")
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("x", encoding="utf-8")
    vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)
    assert not leftover.exists()
    assert not (tree / "half").exists()


def test_a_tree_of_another_commit_is_refused(
    upstream: Upstream, tree: Path, progress: Progress
) -> None:
    vendor.pinned_tree(progress, pin=replace(upstream.pin, commit=upstream.first), tree=tree)
    with pytest.raises(VendorError) as caught:
        vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)
    assert caught.value.what == (
        f"{tree} is llama.cpp at {upstream.first}, the pin is {upstream.second}"
    )
    assert "nox -s vendor" in caught.value.cure


@pytest.mark.parametrize("change", ["edited", "added", "deleted"])
def test_a_changed_tree_is_refused(
    upstream: Upstream, tree: Path, progress: Progress, change: str
) -> None:
    vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)
    header = tree / "include/llama.h"
    if change == "edited":
        header.write_text("patched\n", encoding="utf-8")
    elif change == "added":
        header.with_name("new.h").write_text("", encoding="utf-8")
    else:
        header.unlink()
    with pytest.raises(VendorError, match=r"was changed: .*include/"):
        vendor.pinned_tree(progress, pin=upstream.pin, tree=tree)


def test_another_checkout_is_built_with_a_warning(upstream: Upstream, progress: Progress) -> None:
    git(upstream.path, "checkout", "-q", upstream.first)
    tree = vendor.foreign_tree(progress, upstream.path, pin=upstream.pin)
    assert (tree.path, tree.commit) == (upstream.path.resolve(), upstream.first)
    assert f"NOT the pinned {upstream.second}" in progress.console.export_text()


def test_the_pinned_commit_from_elsewhere_needs_no_warning(
    upstream: Upstream, progress: Progress
) -> None:
    vendor.foreign_tree(progress, upstream.path, pin=upstream.pin)
    assert progress.console.export_text() == ""


@pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
def test_an_archive_knows_its_commit(
    upstream: Upstream, tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("ci.paths.BUILD", tmp_path / "build")
    archive = tmp_path / f"llama.{suffix}"
    git(upstream.path, "archive", "--prefix=llama.cpp-1/", "-o", str(archive), "HEAD")
    tree = vendor.foreign_tree(progress, archive, pin=upstream.pin)
    assert tree.commit == upstream.second
    assert (tree.path / "include/llama.h").read_text(encoding="utf-8") == "two\n"


def test_what_is_no_llama_cpp_is_refused(
    upstream: Upstream, tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ci.paths.BUILD", tmp_path / "build")
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04nothing")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as bundle:
        bundle.writestr("x/readme", "x")
    for source, message in (
        (empty, "has no CMakeLists.txt"),
        (broken, "cannot be unpacked"),
        (other, "has no CMakeLists.txt"),
        (tmp_path / "none", "there is no "),
    ):
        with pytest.raises(VendorError, match=message):
            vendor.foreign_tree(progress, source, pin=upstream.pin)


def test_a_copy_never_replaces_a_tree(upstream: Upstream, tree: Path, progress: Progress) -> None:
    vendor.place_tree(progress, upstream.path, pin=upstream.pin, tree=tree)
    assert vendor.commit_of(tree) == upstream.second
    with pytest.raises(VendorError, match=r"llama\.cpp exists"):
        vendor.place_tree(progress, upstream.path, pin=upstream.pin, tree=tree)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('commit = "', 'commit = "x', "commit"),
        ("version =", "versoin =", "version"),
        ('sha256 = "8', 'sha256 = "', "sha256"),
        ("repository =", "repository", "Expected '='"),
    ],
)
def test_a_malformed_pin_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = vendor.PIN_PATH.read_text(encoding="utf-8").replace(old, new, 1)
    place = tmp_path / "llama.cpp.toml"
    place.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=message):
        vendor.load_pin(place)


def test_the_first_pin() -> None:
    assert vendor.load_pin().commit == "0c1e57098bba43ac29e6e3b677cdceebdd22334f"


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-of-everything"])
def test_an_archive_cannot_write_outside(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo(name)
        tar.addfile(member, io.BytesIO(b""))
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        # an absolute path is made relative by the filter, as tar itself does
        if name.startswith("/"):
            vendor.extract(tar, inside)
        else:
            with pytest.raises(tarfile.TarError):
                vendor.extract(tar, inside)
    assert not (tmp_path / "a" / "outside").exists()
    assert not Path("/tmp/outside-of-everything").exists()
