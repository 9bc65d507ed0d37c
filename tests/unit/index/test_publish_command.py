"""What ``--to`` means, and options that do not go with it."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest

from ci.errors import PublishError, UsageError
from index.publish import github_pages
from index.publish.bucket import Bucket
from index.publish.command import add_arguments, parse_target
from index.publish.folder import Folder
from index.publish.github_pages import GitHubPages
from index.publish.rsync import Rsync
from index.publish.tree import read_tree
from tests.publishing import KEYS, write_site


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--to", *arguments])


def parsed(*arguments: str) -> object:
    return parse_target(arguments[0], options(*arguments))


def test_folders_and_pages() -> None:
    assert parsed("served") == Folder(path=Path("served"))
    assert parsed("/srv/index") == Folder(path=Path("/srv/index"))
    assert parsed("pages:checkout", "--push") == GitHubPages(path=Path("checkout"), push=True)


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("rsync:me@host:/srv/index/", "me@host:/srv/index"),
        ("rsync:/srv/index", "/srv/index"),
        ("rsync://host/module/path", "rsync://host/module/path"),
        ("rsync:rsync://host/module", "rsync://host/module"),
    ],
)
def test_rsync_destinations(text: str, destination: str) -> None:
    target = parsed(text, "--keep", "5")
    assert isinstance(target, Rsync)
    assert (target.destination, target.keep) == (destination, 5)


def test_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    target = parsed("s3://wheels/a/b/", "--endpoint-url", "http://127.0.0.1:9", "--folder-pages")
    assert isinstance(target, Bucket)
    assert (target.objects.bucket, target.objects.prefix) == ("wheels", "a/b/")
    assert target.folder_pages
    assert target.name == "s3://wheels/a/b"
    with pytest.raises(UsageError, match=r"^s3:///x: names no bucket"):
        parsed("s3:///x")


@pytest.mark.parametrize("text", ["ftp://host/x", "gs://bucket", "rsync:", "pages:", "s4:b"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError) as info:
        parsed(text)
    assert info.value.what == f"--to {text}: no such kind of target"
    assert "s3://BUCKET/PATH" in info.value.cure


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("served", "--push"),
        ("served", "--folder-pages"),
        ("pages:x", "--keep=2"),
        ("rsync:x", "--endpoint-url=http://127.0.0.1:9"),
    ],
)
def test_options_of_another_target(text: str, option: str) -> None:
    with pytest.raises(UsageError) as info:
        parsed(text, option)
    name = option.partition("=")[0]
    assert info.value.what == f"{name} is of another target than {text}"


@pytest.mark.parametrize("text", ["served", "pages:served"])
def test_going_back_where_no_tree_is_kept(text: str) -> None:
    target = parse_target(text, options(text, "--back"))
    with pytest.raises(UsageError) as info:
        target.go_back()
    assert info.value.what.startswith("served: ")


def test_pages_take_no_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are GitHub's; here they are set to what a test can reach."""
    site = write_site(tmp_path, padding=5_000)
    target = GitHubPages(path=tmp_path / "pages")
    monkeypatch.setattr(github_pages, "FILE_LIMIT", 2_000)
    with pytest.raises(PublishError) as info:
        target.put(read_tree(site), lambda _: None)
    assert "GitHub takes files up to 100 MiB" in info.value.what
    assert "`python -m index build --base-url URL`" in info.value.cure
    monkeypatch.undo()
    monkeypatch.setattr(github_pages, "SITE_LIMIT", 2_000)
    with pytest.raises(PublishError) as info:
        target.put(read_tree(site), lambda _: None)
    assert "GitHub Pages takes up to 1 GB" in info.value.what
    assert not (tmp_path / "pages").exists()


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    other = tmp_path / "home"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    with pytest.raises(UsageError) as info:
        Folder(path=other).put(read_tree(site), lambda _: None)
    assert (
        info.value.what == f"{other}: not a site that this command published, so it is not replaced"
    )
    assert (other / "letter.txt").read_text() == "mine"
    for place in (site, site / "inside", tmp_path):
        with pytest.raises(UsageError, match="are one in the other"):
            Folder(path=place).put(read_tree(site), lambda _: None)


def test_a_folder_is_replaced_through_a_link(tmp_path: Path) -> None:
    """What a server has as its root may be a link to the folder: the folder changes, not the link."""
    site = write_site(tmp_path, padding=random.Random(1).randrange(100, 1_000))
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real").mkdir()
    Folder(path=tmp_path / "root").put(read_tree(site), lambda _: None)
    assert (tmp_path / "root").is_symlink()
    assert (tmp_path / "real" / "backends.json").is_file()
