from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from ci.errors import PublishError
from index.staging import locked, replacing

if TYPE_CHECKING:
    from pathlib import Path


def fill(target: Path, text: str) -> None:
    with replacing(target) as staged:
        (staged / "one").write_text(text, encoding="utf-8")
        (staged / "two").write_text(text, encoding="utf-8")


def content(target: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in target.iterdir()}


def test_makes_a_tree_where_there_was_none(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "site", "new")

    assert content(tmp_path / "a" / "site") == {"one": "new", "two": "new"}


def test_replaces_a_tree_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "old")
    (target / "more").touch()

    fill(target, "new")

    assert content(target) == {"one": "new", "two": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_an_error_leaves_the_old_tree(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "old")

    with pytest.raises(FileNotFoundError), replacing(target) as staged:
        (staged / "one").write_bytes((tmp_path / "absent").read_bytes())

    assert content(target) == {"one": "old", "two": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "old")
    leftover = tmp_path / ".site.new"
    leftover.mkdir()
    (leftover / "half").write_text("x", encoding="utf-8")

    fill(target, "new")

    assert content(target) == {"one": "new", "two": "new"}
    assert not leftover.exists()


def test_a_run_that_was_killed_between_two_renames_is_undone(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "old")
    target.rename(tmp_path / ".site.old")

    with pytest.raises(FileNotFoundError), replacing(target) as staged:
        (staged / "absent").read_bytes()

    assert content(target) == {"one": "old", "two": "old"}


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "old")
    (tmp_path / ".site.new").write_text("not ours", encoding="utf-8")

    with pytest.raises(FileExistsError):
        fill(target, "new")

    assert content(target) == {"one": "old", "two": "old"}


def test_two_at_the_same_time(tmp_path: Path) -> None:
    target = tmp_path / "site"

    with replacing(target) as staged:
        with pytest.raises(PublishError) as caught:
            fill(target, "second")
        (staged / "one").write_text("first", encoding="utf-8")

    assert str(caught.value) == (
        f"{tmp_path}: another index command is writing there\n  -> wait for it, then run this again"
    )
    assert content(target) == {"one": "first"}


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        _ = 1 / 0

    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot exchange two folders in one step")
def test_there_is_a_tree_at_every_moment(tmp_path: Path) -> None:
    target = tmp_path / "site"
    fill(target, "0")
    seen: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append("there" if target.exists() else "missing")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        fill(target, str(number))
    stop.set()
    reader.join()

    assert set(seen) == {"there"}
    assert len(seen) > 200
