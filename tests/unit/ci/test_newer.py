"""Newer: what tags, an index with dates and NVIDIA's server say, and what is not taken of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ci.errors import NetworkError
from ci.newer import (
    Tag,
    Waiting,
    newer_wheel,
    newest_patch,
    newest_tag,
    newest_version,
    pinned_version,
)
from ci.redistributable import BASE_VARIABLE
from tests.static_server import serving

NOW = datetime(2026, 11, 21, tzinfo=UTC)
WEEK = timedelta(days=7)
OLD, YOUNG = "2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z"


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, *tags: str) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", "one more")
    for tag in tags:
        git(folder, "tag", tag)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "upstream"
    path.mkdir()
    git(path, "init", "-q")
    return path


def test_the_newest_tag_is_that_of_the_highest_number(repository: Path) -> None:
    first = commit(repository, "b999", "master-12")
    newest = commit(repository)
    git(repository, "tag", "-a", "-m", "with a message", "b1001")
    commit(repository, "b1000-rc", "v0.5.0")
    url = repository.as_uri()
    assert newest_tag(url, first) == Tag(name="b1001", commit=newest)
    assert newest_tag(url, newest) is None


def test_a_repository_without_releases_or_without_answer(repository: Path) -> None:
    head = commit(repository, "v1")
    url = repository.as_uri()
    with pytest.raises(NetworkError) as caught:
        newest_tag(url, head)
    assert caught.value.what == f"{url} has no tag of a release (such as b1234)"
    with pytest.raises(NetworkError, match="gone cannot be asked for its tags: "):
        newest_tag(f"{url}/gone", head)


class _Json(SimpleHTTPRequestHandler):
    def guess_type(self, path: object) -> str:
        del path
        return "application/vnd.pypi.simple.v1+json"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "simple"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Json, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def write_project(index: Path, name: str, files: Mapping[str, Mapping[str, object]]) -> None:
    """Write a project's page: a wheel per version, uploaded long ago unless it says another time."""
    content = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": sorted(files),
        "files": [
            {
                "filename": f"{name}-{version}-py3-none-any.whl",
                "url": f"{name}-{version}-py3-none-any.whl",
                "hashes": {},
                "upload-time": OLD,
                "size": 1,
                **facts,
            }
            for version, facts in files.items()
        ],
    }
    (index / name).mkdir()
    (index / name / "index.html").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "newest"),
    [
        ({"1.0": {}}, None),
        ({"0.9": {}}, None),
        ({"1.1": {}, "1.10": {}, "1.9": {}}, "1.10"),
        ({"1.1": {}, "2.0rc1": {}, "2.0.dev1": {}}, "1.1"),
        ({"1.1": {}, "1.2": {"yanked": "broken"}}, "1.1"),
        ({"1.1": {}, "1.2": {"requires-python": ">=3.12"}, "1.3": {"requires-python": "x"}}, "1.1"),
        ({"1.1": {"requires-python": ">=3.9"}}, "1.1"),
        ({"1.1": {}, "1.2": {"upload-time": YOUNG}}, "1.1"),
        ({"1.1": {"upload-time": YOUNG}}, Waiting(name="tool", version="1.1", why="uploaded 2026-11-20")),
        (
            {"1.1": {"upload-time": None}, "1.2": {"upload-time": None}},
            Waiting(name="tool", version="1.2", why="the index does not say since when"),
        ),
        ({"1.1": {}, "not a version": {}}, "1.1"),
    ],
)  # fmt: skip
def test_the_newest_version_that_may_be_taken(
    index: Path, files: Mapping[str, Mapping[str, object]], newest: str | Waiting | None
) -> None:
    write_project(index, "tool", files)
    assert newest_version("tool", "1.0", now=NOW, cool_down=WEEK) == newest


def test_a_version_is_as_young_as_the_last_of_its_files(index: Path) -> None:
    write_project(index, "tool", {"1.1": {}})
    page = index / "tool" / "index.html"
    content = json.loads(page.read_text(encoding="utf-8"))
    late = {"filename": "tool-1.1.tar.gz", "url": "tool-1.1.tar.gz", "upload-time": YOUNG}
    content["files"].append({**content["files"][0], **late})
    page.write_text(json.dumps(content), encoding="utf-8")
    found = newest_version("tool", "1.0", now=NOW, cool_down=WEEK)
    assert found == Waiting(name="tool", version="1.1", why="uploaded 2026-11-20")
    assert newest_version("tool", "1.0", now=NOW, cool_down=timedelta()) == "1.1"


def test_without_a_cool_down_no_date_is_needed(index: Path) -> None:
    write_project(index, "tool", {"1.1": {"upload-time": None}})
    assert newest_version("tool", "1.0", now=NOW, cool_down=timedelta()) == "1.1"


def test_a_project_that_is_not_there(index: Path) -> None:
    with pytest.raises(NetworkError, match="the package index has no page of tool"):
        newest_version("tool", "1.0", now=NOW, cool_down=WEEK)


def test_a_wheels_newer_version_is_of_the_same_minor_one(index: Path) -> None:
    files: dict[str, Mapping[str, object]] = {
        "13.0.88": {}, "13.0.96": {}, "13.1.5": {}, "13.0.99": {"upload-time": YOUNG},
    }  # fmt: skip
    write_project(index, "nvidia_cuda_nvcc", files)
    (index / "nvidia_cuda_nvcc").rename(index / "nvidia-cuda-nvcc")
    for pinned, newer in (("13.0.88", "13.0.96"), ("13.0.96", None), ("13.1.5", None)):
        name = f"nvidia_cuda_nvcc-{pinned}-py3-none-manylinux2014_x86_64.whl"
        assert newer_wheel(name, now=NOW, cool_down=WEEK) == newer


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        ("filelock==4.2.11", ("filelock", "4.2.11")),
        ("backports.zstd==1.8.0; python_version < '3.14'", ("backports.zstd", "1.8.0")),
        ("moto[server]==5.2.5", ("moto", "5.2.5")),
        ("jinja2>=3.1", None),
        ("numpy==2.*", None),
        ("numpy", None),
    ],
)
def test_what_a_requirement_pins(requirement: str, found: tuple[str, str] | None) -> None:
    assert pinned_version(requirement) == found


def test_cudas_patch_releases_are_asked_for_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("12.8.1", "12.8.2", "12.8.3", "12.8.5", "12.9.0"):
        (tmp_path / f"redistrib_{version}.json").write_text("{}", encoding="utf-8")
    with serving(tmp_path) as url:
        monkeypatch.setenv(BASE_VARIABLE, url)
        assert [newest_patch(version) for version in ("12.8.1", "12.8.3", "12.9.0")] == [
            "12.8.3",
            None,
            None,
        ]
    with pytest.raises(NetworkError, match=r"redistrib_12.8.2.json could not be asked for: "):
        newest_patch("12.8.1")
