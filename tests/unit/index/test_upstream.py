from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from ci.errors import CatalogueError, NetworkError, UsageError
from ci.table import load_table
from index.dependencies import Dependency, load
from index.upstream import Updated, update, upstream_url
from tests.unit.index.test_dependencies import entry
from tests.upstream import Upstream, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from index.catalogue import Entry

TABLE = load_table()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """Serve an index with one small project; tests add more and publish."""
    index = Upstream(root=tmp_path / "upstream")
    index.wheel("runtime", "12.1")
    with served(index):
        yield index


def asked(upstream: Upstream, tmp_path: Path, *entries: Entry) -> Updated:
    upstream.publish()
    return update(tmp_path / "known.jsonl", entries, table=TABLE, upstream=upstream.url)


def known(tmp_path: Path) -> list[str]:
    return [dependency.name for dependency in load(tmp_path / "known.jsonl")]


def test_all_that_is_stated_is_written(upstream: Upstream, tmp_path: Path) -> None:
    path = upstream.wheel("runtime", "12.2", requires=("base>=1; python_version > '3.8'",))
    upstream.wheel("base", "1.5")

    done = asked(upstream, tmp_path, entry("runtime==12.2"))

    content = path.read_bytes()
    metadata = path.with_name(f"{path.name}.metadata").read_bytes()
    assert load(tmp_path / "known.jsonl") == done.new
    assert done.new[1] == Dependency(
        project="runtime",
        version="12.2",
        name="runtime-12.2-py3-none-any.whl",
        url=f"{upstream.url}runtime/runtime-12.2-py3-none-any.whl",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        upload_time="2026-10-01T08:00:00Z",
        requires_python=">=3.8",
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires=("base>=1; python_version > '3.8'",),
        yanked=None,
    )
    assert done.new[0].name == "base-1.5-py3-none-any.whl"


def test_only_what_is_needed_is_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "13.0", requires=("base",))
    upstream.wheel("base", "1")

    asked(upstream, tmp_path, entry("runtime<13"))

    requests = [line.rpartition("/whl/simple/")[2].split(" ")[0] for line in upstream.log]
    assert requests == ["runtime/", "runtime/runtime-12.1-py3-none-any.whl.metadata"]


def test_a_second_time_nothing_is_written(upstream: Upstream, tmp_path: Path) -> None:
    asked(upstream, tmp_path, entry("runtime"))
    before = (tmp_path / "known.jsonl").read_bytes()
    upstream.log.clear()

    done = asked(upstream, tmp_path, entry("runtime"))

    assert done == Updated(new=(), changed=(), notes=())
    assert (tmp_path / "known.jsonl").read_bytes() == before
    assert [line.split(" ")[1] for line in upstream.log] == ["/whl/simple/runtime/"]


def test_html_says_less_and_is_enough(upstream: Upstream, tmp_path: Path) -> None:
    upstream.has_json = False

    (new,) = asked(upstream, tmp_path, entry("runtime")).new
    assert (new.size, new.upload_time) == (None, None)
    assert new.metadata_sha256 is not None

    upstream.has_json = True
    (changed,) = asked(upstream, tmp_path, entry("runtime")).changed
    assert (changed.size is not None, changed.upload_time) == (True, "2026-10-01T08:00:00Z")
    assert load(tmp_path / "known.jsonl") == (changed,)


def test_without_stated_metadata_only_the_end_of_a_wheel_is_fetched(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = upstream.wheel("runtime", "12.1", requires=("base",))
    upstream.wheel("base", "1")
    upstream.states_metadata = False
    # So long in front that the end of the file does not reach the beginning.
    path.write_bytes(bytes(200_000) + path.read_bytes())

    done = asked(upstream, tmp_path, entry("runtime"))

    assert [(new.name, new.metadata_sha256) for new in done.new] == [
        ("base-1-py3-none-any.whl", None),
        ("runtime-12.1-py3-none-any.whl", None),
    ]
    assert done.new[1].requires == ("base",)
    assert "GET /whl/simple/runtime/runtime-12.1-py3-none-any.whl 206 65536" in upstream.log


def test_yanked_files_only_where_they_are_pinned(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "12.2")
    upstream.yanked["runtime-12.2-py3-none-any.whl"] = "broken"

    asked(upstream, tmp_path, entry("runtime"))
    assert known(tmp_path) == ["runtime-12.1-py3-none-any.whl"]

    (new,) = asked(upstream, tmp_path, entry("runtime==12.2")).new
    assert (new.name, new.yanked) == ("runtime-12.2-py3-none-any.whl", "broken")


def test_a_known_file_that_is_yanked_later_stays(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "12.2")
    asked(upstream, tmp_path, entry("runtime"))
    upstream.yanked["runtime-12.1-py3-none-any.whl"] = ""

    done = asked(upstream, tmp_path, entry("runtime"))

    assert [(each.name, each.yanked) for each in done.changed] == [
        ("runtime-12.1-py3-none-any.whl", "")
    ]
    assert len((tmp_path / "known.jsonl").read_bytes().splitlines()) == 3


def test_a_known_file_that_is_gone_upstream_stays(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "12.2")
    asked(upstream, tmp_path, entry("runtime"))
    (upstream.folder("runtime") / "runtime-12.1-py3-none-any.whl").unlink()

    done = asked(upstream, tmp_path, entry("runtime"))

    assert done.notes == (
        "runtime-12.1-py3-none-any.whl: the index no longer lists it; it stays linked",
    )
    assert known(tmp_path) == ["runtime-12.1-py3-none-any.whl", "runtime-12.2-py3-none-any.whl"]


def test_other_bytes_under_a_known_name_are_refused(upstream: Upstream, tmp_path: Path) -> None:
    (first,) = asked(upstream, tmp_path, entry("runtime")).new
    before = (tmp_path / "known.jsonl").read_bytes()
    path = upstream.folder("runtime") / first.name
    path.write_bytes(path.read_bytes() + b"\0")
    upstream.wheel("runtime", "12.2")

    with pytest.raises(CatalogueError) as caught:
        asked(upstream, tmp_path, entry("runtime"))

    now = hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(caught.value) == (
        f"{first.name}: the index has sha256 {now}, known is {first.sha256}\n"
        "  -> a published file never changes: do not use it, find out what happened upstream"
    )
    assert (tmp_path / "known.jsonl").read_bytes() == before


def test_other_metadata_than_stated_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    upstream.publish()
    name = "runtime-12.1-py3-none-any.whl"
    (upstream.folder("runtime") / f"{name}.metadata").write_bytes(b"Name: other\n")

    with pytest.raises(CatalogueError, match=f"{name}: the index says METADATA has sha256 "):
        update(tmp_path / "known.jsonl", [entry("runtime")], table=TABLE, upstream=upstream.url)

    assert not (tmp_path / "known.jsonl").exists()


def write_sdist(upstream: Upstream, project: str, version: str, requires: str = "") -> None:
    text = f"Metadata-Version: 2.2\nName: {project}\nVersion: {version}\n{requires}".encode()
    path = upstream.folder(project) / f"{project}-{version}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"{project}-{version}/PKG-INFO")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))


def test_sdists_are_left_out_unless_there_is_no_wheel(upstream: Upstream, tmp_path: Path) -> None:
    write_sdist(upstream, "runtime", "12.5")
    write_sdist(upstream, "source", "1", "Requires-Dist: base\n")
    upstream.wheel("base", "1")

    asked(upstream, tmp_path, entry("runtime", "source"))

    assert known(tmp_path) == [
        "base-1-py3-none-any.whl",
        "runtime-12.1-py3-none-any.whl",
        "source-1.tar.gz",
    ]


def test_what_is_no_distribution_is_passed_over(upstream: Upstream, tmp_path: Path) -> None:
    for name in ("runtime-12.2.exe", "runtime-12.2-py3.egg", "other-1-py3-none-any.whl"):
        (upstream.folder("runtime") / name).write_bytes(b"x")

    assert asked(upstream, tmp_path, entry("runtime")).notes == ()
    assert known(tmp_path) == ["runtime-12.1-py3-none-any.whl"]


def change_page(upstream: Upstream, project: str, **changes: object) -> None:
    upstream.publish()
    page = upstream.folder(project) / "index.v1_json"
    said = json.loads(page.read_bytes())
    said["files"][0] |= changes
    page.write_text(json.dumps(said), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hashes": {"md5": "0" * 32}}, "the index states no sha256"),
        (
            {"url": "http://files.example/runtime-12.1-py3-none-any.whl"},
            "the address must begin with https:// (http://files.example)",
        ),
        (
            {"url": "https://files.example/runtime-12.1-py3-none-any.whl?key=1"},
            "its address has a query or a space",
        ),
        (
            {"url": "https://files.example/other.whl"},
            "the address ends with another file name (other.whl)",
        ),
    ],
    ids=["no-sha256", "http", "query", "name"],
)
def test_files_that_cannot_be_linked_are_told(
    upstream: Upstream, tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    upstream.wheel("runtime", "12.2")
    change_page(upstream, "runtime", **changes)

    done = update(tmp_path / "known.jsonl", [entry("runtime")], table=TABLE, upstream=upstream.url)

    assert done.notes == (f"runtime-12.1-py3-none-any.whl: left out, {problem}",)
    assert known(tmp_path) == ["runtime-12.2-py3-none-any.whl"]


def test_a_file_with_requirements_that_cannot_be_read(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "12.2", requires=("not a requirement",))

    (note,) = asked(upstream, tmp_path, entry("runtime")).notes

    assert note.startswith(
        "runtime-12.2-py3-none-any.whl: left out, Requires-Dist: 'not a requirement' is not a"
        " requirement ("
    )
    assert known(tmp_path) == ["runtime-12.1-py3-none-any.whl"]


def test_nothing_for_a_wheel_of_ours(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError) as caught:
        asked(upstream, tmp_path, entry("runtime"), entry("runtime>=13", platform="win_amd64"))

    assert str(caught.value) == (
        "llama_cpp_python-0.3.100+cu128-py3-none-win_amd64.whl requires runtime>=13, and the index"
        " has no file of it for win_amd64\n"
        "  -> name an index that has it with --upstream, or yank that wheel"
    )
    assert not (tmp_path / "known.jsonl").exists()


def test_a_project_further_on_that_is_nowhere(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("runtime", "12.2", requires=("nowhere",))

    done = asked(upstream, tmp_path, entry("runtime"))

    assert done.notes == ("nowhere: the index has no such project",)
    assert len(done.new) == 2


def test_our_own_name_is_never_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    upstream.wheel("llama-cpp-python", "9.9")
    upstream.wheel("runtime", "12.2", requires=("llama-cpp-python>=9",))

    asked(upstream, tmp_path, entry("runtime", "llama-cpp-python[x]; extra == 'y'"))

    assert not any("llama" in line for line in upstream.log)
    assert not any("llama" in name for name in known(tmp_path))


def test_a_damaged_file_stops_before_anything_is_asked(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "known.jsonl").write_bytes(b"{}")

    with pytest.raises(CatalogueError, match=r"known\.jsonl:1: the line is cut off"):
        asked(upstream, tmp_path, entry("runtime"))

    assert upstream.log == []


@pytest.mark.parametrize(
    "content", [b"not JSON", b'{"meta": {"api-version": "2.0"}, "name": "a", "files": []}', b"[]"]
)
def test_something_else_than_an_index(upstream: Upstream, tmp_path: Path, content: bytes) -> None:
    (upstream.folder("runtime") / "index.v1_json").write_bytes(content)

    with pytest.raises(NetworkError) as caught:
        update(tmp_path / "known.jsonl", [entry("runtime")], table=TABLE, upstream=upstream.url)

    assert caught.value.what.startswith("runtime: the index does not say (")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        update(
            tmp_path / "known.jsonl",
            [entry("runtime")],
            table=TABLE,
            upstream="http://127.0.0.1:9/simple/",
        )

    assert caught.value.cure == (
        "check the network and the address of the index (--upstream), then run this again"
    )


@pytest.mark.parametrize(
    ("environment", "chosen", "expected"),
    [
        ({}, None, PYPI_SIMPLE_ENDPOINT),
        ({"PIP_INDEX_URL": "https://a.example/simple"}, None, "https://a.example/simple"),
        ({"UV_DEFAULT_INDEX": "https://b.example/?x=y"}, None, "https://b.example/?x=y"),
        ({"UV_DEFAULT_INDEX": "named=https://b.example/"}, None, "https://b.example/"),
        (
            {"PIP_INDEX_URL": "https://a.example/", "UV_DEFAULT_INDEX": "https://b.example/"},
            None,
            "https://a.example/",
        ),
        ({"PIP_INDEX_URL": "https://a.example/"}, "https://c.example/", "https://c.example/"),
    ],
    ids=["default", "pip", "uv", "uv-named", "both", "chosen"],
)
def test_which_index_is_asked(
    environment: dict[str, str], chosen: str | None, expected: str
) -> None:
    assert upstream_url(environment, chosen=chosen) == expected


@pytest.mark.parametrize("address", ["simple", "file:///srv/simple", "https:///simple"])
def test_an_address_that_cannot_be_asked(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        upstream_url({}, chosen=address)

    assert str(caught.value) == (
        f"{address!r} is not the address of a package index\n"
        "  -> give one with --upstream, such as https://example.org/simple/"
    )
