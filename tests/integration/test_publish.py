"""Publishing to a folder, an rsync server and a GitHub Pages branch; installed from with real pip."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from index.publish.folder import Folder
from index.publish.github_pages import GitHubPages
from index.publish.rsync import Rsync
from index.publish.trial import served
from tests.publishing import (
    contents,
    kill,
    publish,
    published_by_now,
    publishing,
    rsync_daemon,
    wait_for_work,
    whole,
    write_site,
)

if TYPE_CHECKING:
    from index.publish.target import Target

OLD: Final = ("0.3.100+cpu",)
NEW: Final = ("0.3.100+cpu", "0.3.101+cpu", "0.3.100+cu128")
NAME: Final = "llama_cpp_python-{}-py3-none-manylinux_2_17_x86_64.whl"
# What a trial takes is not what these tests are about.
QUICK: Final = "--no-verify"
# How long a publish is killed again and again; more where somebody wants to be surer.
SECONDS: Final = float(os.environ.get("PUBLISH_KILL_SECONDS", "12"))

needs_rsync = pytest.mark.skipif(
    shutil.which("rsync") is None, reason="there is no rsync (Debian: apt install rsync)"
)
needs_linux = pytest.mark.skipif(
    os.name != "posix" or os.uname().machine != "x86_64", reason="its wheels are for Linux x86-64"
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A site, and the one that follows it."""
    folder = tmp_path_factory.mktemp("sites")
    old = shutil.copytree(write_site(folder, OLD), folder / "old")
    return old, write_site(folder, NEW)


@needs_linux
def test_a_folder_is_published_and_installed_from(sites: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sites
    target = tmp_path / "served"
    first = publish("--to", target, site=old)
    assert f"tried on loopback: installed {NAME.format('0.3.100+cpu')} from" in first
    assert f"verified: installed {NAME.format('0.3.100+cpu')} from" in first
    assert f"verified at {target}" in first
    assert contents(target) == contents(old)

    inode = (target / "whl/cpu/llama-cpp-python" / NAME.format("0.3.100+cpu")).stat().st_ino
    second = publish("--to", target, site=new)
    assert contents(target) == contents(new)
    # The page has two versions now; the new one is tried, and so is the new backend.
    assert NAME.format("0.3.100+cpu") not in second
    assert f"verified: installed {NAME.format('0.3.101+cpu')} from" in second
    assert f"verified: installed {NAME.format('0.3.100+cu128')} from" in second
    wheel = target / "whl/cpu/llama-cpp-python" / NAME.format("0.3.100+cpu")
    assert wheel.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_a_folder_can_be_read_by_everybody(sites: tuple[Path, Path], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        publish(QUICK, "--to", tmp_path / "served", site=sites[0])
    finally:
        os.umask(before)
    modes = {
        path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "served").rglob("*")
    }
    assert modes == {True: 0o755, False: 0o644}
    assert (tmp_path / "served").stat().st_mode & 0o777 == 0o755


@needs_linux
def test_a_wheel_that_cannot_be_imported_is_not_published(tmp_path: Path) -> None:
    files = {"llama_cpp/__init__.py": "raise OSError('no libllama')\n"}
    site = write_site(tmp_path, files=files)
    printed = publish("--to", tmp_path / "served", site=site, status=11)
    assert "tried on loopback before anything was published" in printed
    assert "`import llama_cpp` failed" in printed
    assert "OSError: no libllama" in printed
    assert "mend the site; what is published is as it was" in printed
    assert not (tmp_path / "served").exists()


@needs_linux
def test_a_server_that_serves_something_else_fails_the_verification(
    sites: tuple[Path, Path], tmp_path: Path
) -> None:
    """The address serves the site from before: pip does not find the new version there."""
    old, new = sites
    with served(old) as url:
        printed = publish("--to", tmp_path / "served", "--url", url, site=new, status=11)
    assert "published: " in printed
    assert "it is published, and cannot be used: " in printed
    assert "pip install failed" in printed
    assert contents(tmp_path / "served") == contents(new)


def test_what_would_be_lost_is_not_published(sites: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sites
    publish(QUICK, "--to", tmp_path / "served", site=new)
    printed = publish(QUICK, "--to", tmp_path / "served", site=old, status=11)
    name = NAME.format("0.3.101+cpu")
    assert f"{name} is in its catalogue.jsonl and not in this site's" in printed
    assert contents(tmp_path / "served") == contents(new)


def test_two_publishes_to_one_folder_do_not_mix(sites: tuple[Path, Path], tmp_path: Path) -> None:
    """While one works, the other says so; afterwards the tree is whole."""
    old, _ = sites
    processes = [publishing(QUICK, "--to", tmp_path / "served", site=old) for _ in range(4)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes
    for code, text in zip(codes, printed, strict=True):
        assert code == 0 or (code == 11 and "another index command is writing there" in text), text
    assert contents(tmp_path / "served") == contents(old)


@needs_rsync
@pytest.mark.parametrize("kind", ["local", "daemon"])
def test_rsync_keeps_trees_and_switches_a_link(
    sites: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    old, new = sites
    with rsync_daemon(tmp_path) as (url, module):
        place = tmp_path / "local" if kind == "local" else module / "a" / "b"
        target = f"rsync:{place}" if kind == "local" else f"{url}/a/b"
        first = publish(QUICK, "--to", target, site=old)
        assert "current -> trees/" in first
        assert contents(place / "current") == contents(old)
        one = (place / "current").resolve()

        time.sleep(1.1)  # trees are named after seconds
        publish(QUICK, "--to", target, site=new)
        two = (place / "current").resolve()
        assert one != two
        assert contents(two) == contents(new)
        wheel = f"whl/cpu/llama-cpp-python/{NAME.format('0.3.100+cpu')}"
        assert (one / wheel).stat().st_ino == (two / wheel).stat().st_ino

        # Nothing new: the same tree again.
        again = publish(QUICK, "--to", target, site=new)
        assert "published: 0 files sent" in again
        assert (place / "current").resolve() == two

        back = publish("--to", target, "--back", site=new)
        assert f"current -> trees/{one.name}, it was {two.name}" in back
        assert contents(place / "current") == contents(old)
        none = publish("--to", target, "--back", site=new, status=2)
        assert f"no tree is older than {one.name}" in none

        publish(QUICK, "--to", target, site=new)
        assert contents(place / "current") == contents(new)
        dropped = publish(QUICK, "--to", target, "--keep", "1", site=new)
        assert f"removed trees/{one.name}" in dropped
        assert [path.name for path in (place / "trees").iterdir()] == [two.name]
        refused = publish(QUICK, "--to", target, site=old, status=11)
        assert "is in its catalogue.jsonl and not in this site's" in refused


@needs_rsync
@needs_linux
def test_an_rsync_target_is_installed_from_where_it_is_served(
    sites: tuple[Path, Path], tmp_path: Path
) -> None:
    _, new = sites
    with rsync_daemon(tmp_path) as (url, module):
        publish(QUICK, "--to", url, site=sites[0])
        with served(module / "current") as address:
            printed = publish("--to", url, "--url", address, site=new)
    assert f"verified: installed {NAME.format('0.3.101+cpu')} from" in printed
    assert f"verified at {address}" in printed


@needs_rsync
def test_a_daemon_that_changes_links_is_told_about(
    sites: tuple[Path, Path], tmp_path: Path
) -> None:
    with rsync_daemon(tmp_path, munge=True) as (url, _):
        printed = publish(QUICK, "--to", url, site=sites[0], status=11)
    assert "a daemon that changes links needs `munge symlinks = no` for this module" in printed


@needs_rsync
def test_rsync_leaves_what_is_not_its_own(sites: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "there"
    (place / "current").mkdir(parents=True)
    (place / "current" / "mine").write_text("mine")
    printed = publish(QUICK, "--to", f"rsync:{place}", site=sites[0], status=11)
    assert "/current is there and is no link to one of trees/" in printed
    assert contents(place) == {"current/mine": b"mine"}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def committed(folder: Path) -> dict[str, bytes]:
    names = git(folder, "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")
    return {
        name: subprocess.run(
            ["git", "-C", folder, "show", f"HEAD:{name}"], check=True, capture_output=True
        ).stdout
        for name in filter(None, names)
    }


def test_a_pages_branch_gets_one_commit(sites: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = sites
    remote, checkout = tmp_path / "remote.git", tmp_path / "checkout"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "gh-pages", remote], check=True)
    subprocess.run(["git", "clone", "-q", remote, checkout], check=True, capture_output=True)
    git(checkout, "config", "user.name", "test")
    git(checkout, "config", "user.email", "test@example.org")
    # Settings that would change what is committed.
    git(checkout, "config", "core.autocrlf", "true")
    (checkout / ".git" / "info" / "exclude").write_text("*.whl\n")
    (checkout / "CNAME").write_text("wheels.example.org\n")
    git(checkout, "add", "CNAME")
    git(checkout, "commit", "-q", "-m", "domain")

    printed = publish(QUICK, "--push", "--to", f"pages:{checkout}", site=old)
    extra = {"CNAME": b"wheels.example.org\n", ".nojekyll": b""}
    assert committed(checkout) == {**contents(old), **extra}
    assert git(remote, "rev-parse", "gh-pages") == git(checkout, "rev-parse", "HEAD")
    assert git(checkout, "status", "--porcelain") == ""
    assert "pushed" in printed

    publish(QUICK, "--to", f"pages:{checkout}", site=new)
    assert committed(checkout) == {**contents(new), **extra}
    assert git(checkout, "rev-list", "--count", "HEAD") == "3"
    served_files = {
        name: content
        for name, content in contents(checkout).items()
        if not name.startswith(".git/")
    }
    assert {name: len(data) for name, data in served_files.items()} == {
        name: len(data) for name, data in {**contents(new), **extra}.items()
    }
    again = publish(QUICK, "--to", f"pages:{checkout}", site=new)
    assert "nothing new, it is " in again
    refused = publish(QUICK, "--to", f"pages:{checkout}", site=old, status=11)
    assert "is in its catalogue.jsonl and not in this site's" in refused

    (checkout / "index.html").write_text("changed by hand")
    dirty = publish(QUICK, "--to", f"pages:{checkout}", site=new)
    assert "nothing new" in dirty
    assert git(checkout, "status", "--porcelain") == ""


def test_a_pages_target_that_is_something_else_is_left_alone(
    sites: tuple[Path, Path], tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "project"], check=True)
    (tmp_path / "project" / "main.py").write_text("print()\n")
    git(tmp_path / "project", "add", "main.py")
    git(tmp_path / "project", "commit", "-q", "-m", "code")
    target = f"pages:{tmp_path / 'project'}"
    printed = publish(QUICK, "--to", target, site=sites[0], status=2)
    assert "the branch has main.py and is no index, so it is not replaced" in printed
    assert committed(tmp_path / "project") == {"main.py": b"print()\n"}


def test_a_pages_folder_keeps_its_domain(sites: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "upload"
    target.mkdir()
    (target / "CNAME").write_text("wheels.example.org\n")
    publish(QUICK, "--to", f"pages:{target}", site=sites[0])
    publish(QUICK, "--to", f"pages:{target}", site=sites[1])
    extra = {"CNAME": b"wheels.example.org\n", ".nojekyll": b""}
    assert contents(target) == {**contents(sites[1]), **extra}


def test_wheels_are_brought_to_a_folder(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    place = tmp_path / "wheels"
    command = ["-m", "index", "publish-wheels", str(tmp_path / "dist"), "--to", str(place)]
    printed = python(*command)
    assert f"{place}: 3 sent, 0 were there" in printed
    metadata = site / "whl/cpu/llama-cpp-python" / f"{wheel.name}.metadata"
    report = wheel.with_name(f"{wheel.name}.smoke.json")
    assert contents(place) == {
        wheel.name: wheel.read_bytes(),
        metadata.name: metadata.read_bytes(),
        report.name: report.read_bytes(),
    }
    assert f"{place}: 0 sent, 3 were there" in python(*command)
    (place / wheel.name).write_bytes(b"other")
    assert "is there with other bytes" in python(*command, status=11)


def python(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["folder", "rsync", "daemon"])
def test_a_reader_never_finds_a_gap(sites: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """Somebody reads all the time while trees replace each other."""
    if kind != "folder" and shutil.which("rsync") is None:
        pytest.skip("there is no rsync (Debian: apt install rsync)")
    old, new = sites
    allowed = {(site / "catalogue.jsonl").read_bytes() for site in sites}
    with rsync_daemon(tmp_path) as (url, module):
        place = {"folder": tmp_path / "f", "rsync": tmp_path / "r"}.get(kind, module / "d")
        address = str(place) if kind != "daemon" else f"{url}/d"
        root = place if kind == "folder" else place / "current"

        def target(number: int) -> Target:
            now = f"20260101T{number:06}Z"
            return Folder(path=place) if kind == "folder" else Rsync(destination=address, now=now)

        published_by_now(target(0), old)
        done = threading.Event()
        counts: Counter[bytes | type[Exception]] = Counter()

        def read() -> None:
            while not done.is_set():
                try:
                    counts[(root / "catalogue.jsonl").read_bytes()] += 1
                except OSError as error:
                    counts[type(error)] += 1

        reader = threading.Thread(target=read)
        reader.start()
        try:
            # Back and forth: the reader must see both, and nothing else.
            for number in range(1, 7):
                published_by_now(target(number), new if number % 2 else old)
        finally:
            done.set()
            reader.join()
    assert set(counts) == allowed, counts


# ---- killed at any point -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A site and its successor, with wheels that take a moment to send."""
    folder = tmp_path_factory.mktemp("large")
    old = shutil.copytree(write_site(folder, OLD, padding=3_000_000), folder / "old")
    labels = ("cu128", "vulkan", "cu124", "cu126", "cu121")
    versions = (*OLD, *(f"0.3.100+{label}" for label in labels))
    return old, write_site(folder, versions, padding=3_000_000)


@pytest.mark.parametrize("kind", ["folder", "rsync", "daemon", "pages"])
def test_killed_at_any_point_the_old_or_the_new_tree_is_served_whole(
    large: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    if kind in {"rsync", "daemon"} and shutil.which("rsync") is None:
        pytest.skip("there is no rsync (Debian: apt install rsync)")
    old, new = large
    chance = random.Random(20261121)
    trees = {json.dumps(digest(contents(site))): site for site in (old, new)}
    seen = {"old": 0, "new": 0}
    deadline = time.monotonic() + SECONDS
    with rsync_daemon(tmp_path) as (url, module):
        place = {"folder": tmp_path / "f", "rsync": tmp_path / "r", "daemon": module / "d"}.get(
            kind, tmp_path / "p"
        )
        address = {"folder": f"{place}", "rsync": f"rsync:{place}", "daemon": f"{url}/d"}.get(
            kind, f"pages:{place}"
        )
        root = place / "current" if kind in {"rsync", "daemon"} else place
        targets: dict[str, Target] = {
            "folder": Folder(path=place),
            "rsync": Rsync(destination=str(place), now="20260101T000000Z"),
            "daemon": Rsync(destination=f"{url}/d", now="20260101T000000Z"),
            "pages": GitHubPages(path=place),
        }
        longest, killed, tries = 0.0, 0, 0
        # on a slow machine that time is not enough for one kill
        while time.monotonic() < deadline or (tries < 40 and not killed):
            tries += 1
            shutil.rmtree(place, ignore_errors=True)
            if kind == "pages":
                subprocess.run(["git", "init", "-q", place], check=True)
                git(place, "config", "user.name", "test")
                git(place, "config", "user.email", "test@example.org")
            published_by_now(targets[kind], old)
            process = publishing(QUICK, "--to", address, site=new)
            started = wait_for_work(process)
            # The first run says how long one takes; later ones are killed somewhere in it.
            if longest == 0.0:
                printed, _ = process.communicate()
                assert process.returncode == 0, printed
                longest = time.monotonic() - started
            else:
                time.sleep(chance.uniform(0.0, 1.0) * longest)
                killed += kill(process)
            is_there = json.dumps(digest(tree_of(root, kind)))
            assert is_there in trees
            seen["old" if trees[is_there] == old else "new"] += 1
            publish(QUICK, "--to", address, site=new)
            assert json.dumps(digest(tree_of(root, kind))) == json.dumps(digest(contents(new)))
            if kind != "pages":
                whole(root)
            left = {path.name for path in place.parent.iterdir() if path.name.startswith(".")}
            assert left == set()
    print(f"{kind}: killed {killed} times, {seen}")
    assert killed > 0


def tree_of(root: Path, kind: str) -> dict[str, bytes]:
    if kind != "pages":
        return contents(root)
    return {name: data for name, data in committed(root).items() if name != ".nojekyll"}


def digest(files: dict[str, bytes]) -> dict[str, int]:
    return {name: hash(content) for name, content in files.items()}
