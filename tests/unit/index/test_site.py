from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ci.errors import CatalogueError, PublishError, UsageError
from ci.table import load_table
from index import catalogue
from index.site import Built, build
from tests.wheels import write_proven_wheel, write_report, write_wheel

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
NAME = "llama_cpp_python-0.3.100+cpu-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
PAGE = "whl/cpu/llama-cpp-python"


def entries_of(folder: Path, *wheels: Path) -> tuple[catalogue.Entry, ...]:
    file = folder / "catalogue.jsonl"
    catalogue.add(file, wheels, table=TABLE, upload_time="2026-11-21T12:00:00Z")
    return catalogue.load(file)


def tree(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return tmp_path / "dist"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "site"


def test_the_files_of_a_site(tmp_path: Path, dist: Path, out: Path) -> None:
    wheel = write_proven_wheel(dist)
    (entry,) = entries_of(tmp_path, wheel)

    built = build([entry], out, table=TABLE, wheels=[dist])

    assert list(tree(out)) == [
        "404.html",
        "SHA256SUMS",
        "backends.json",
        "catalogue.jsonl",
        "index.html",
        "whl/cpu/index.html",
        "whl/cpu/index.v1_json",
        f"{PAGE}/index.html",
        f"{PAGE}/index.v1_json",
        f"{PAGE}/{NAME}",
        f"{PAGE}/{NAME}.metadata",
        "whl/index.html",
    ]
    assert (out / PAGE / NAME).read_bytes() == wheel.read_bytes()
    assert (out / PAGE / f"{NAME}.metadata").read_bytes() == (
        b"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: 0.3.100+cpu\n"
        b"Summary: A stand-in\nRequires-Python: >=3.9\n"
    )
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert built == Built(
        path=out, pages=10, wheels=1, linked=0, new=tuple(sorted(tree(out))), size=size
    )


def test_what_the_page_advertises_is_there(tmp_path: Path, dist: Path, out: Path) -> None:
    build(entries_of(tmp_path, write_proven_wheel(dist)), out, table=TABLE, wheels=[dist])

    page = json.loads((out / PAGE / "index.v1_json").read_bytes())

    (file,) = page["files"]
    hashes = tree(out)
    assert hashes[f"{PAGE}/{NAME}"] == file["hashes"]["sha256"]
    assert hashes[f"{PAGE}/{NAME}.metadata"] == file["core-metadata"]["sha256"]
    assert (out / PAGE / NAME).stat().st_size == file["size"]


def test_the_same_catalogue_gives_the_same_bytes(tmp_path: Path, dist: Path, out: Path) -> None:
    wheels = [write_proven_wheel(dist), write_proven_wheel(dist, backend="cu128")]
    entries = entries_of(tmp_path, *wheels)
    build(entries, out, table=TABLE, wheels=[dist])
    first = tree(out)

    build(entries[::-1], out, table=TABLE, wheels=[dist])
    build(entries, tmp_path / "elsewhere" / "site", table=TABLE, wheels=[dist])

    assert tree(out) == first
    assert tree(tmp_path / "elsewhere" / "site") == first


def test_the_site_does_not_share_files_with_dist(tmp_path: Path, dist: Path, out: Path) -> None:
    wheel = write_proven_wheel(dist)
    build(entries_of(tmp_path, wheel), out, table=TABLE, wheels=[dist])
    before = tree(out)

    with wheel.open("r+b") as file:
        file.write(b"another build writes over it")

    assert tree(out) == before


def test_an_older_wheel_is_taken_from_the_site_that_is_replaced(
    tmp_path: Path, dist: Path, out: Path
) -> None:
    old = write_proven_wheel(dist, version="0.3.99+cpu")
    build(entries_of(tmp_path, old), out, table=TABLE, wheels=[dist])
    content = old.read_bytes()
    old.unlink()

    entries = entries_of(tmp_path, write_proven_wheel(dist))
    build(entries, out, table=TABLE, wheels=[dist])

    assert (out / PAGE / old.name).read_bytes() == content
    assert (out / PAGE / NAME).is_file()


def stamps(site: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(site).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in site.rglob("*")
        if path.is_file()
    }


def test_one_new_wheel_touches_its_pages_alone(tmp_path: Path, dist: Path, out: Path) -> None:
    first = [
        write_proven_wheel(dist, backend=backend, version=f"{version}+{backend}")
        for backend in ("cpu", "cu126", "cu128")
        for version in ("0.3.99", "0.3.100")
    ]
    build(entries_of(tmp_path, *first), out, table=TABLE, wheels=[dist])
    before = stamps(out)

    new = write_proven_wheel(dist, backend="cu126", version="0.3.101+cu126")
    built = build(entries_of(tmp_path, new), out, table=TABLE, wheels=[dist])

    page = "whl/cu126/llama-cpp-python"
    expected = {
        "SHA256SUMS",
        "backends.json",
        "catalogue.jsonl",
        "index.html",
        "whl/index.html",
        f"{page}/index.html",
        f"{page}/index.v1_json",
        f"{page}/{new.name}",
        f"{page}/{new.name}.metadata",
    }
    after = stamps(out)
    assert {name for name, stamp in after.items() if before.get(name) != stamp} == expected
    assert set(built.new) == expected


def test_a_wheel_that_was_tampered_with_in_the_site_is_not_taken_over(
    tmp_path: Path, dist: Path, out: Path
) -> None:
    wheel = write_proven_wheel(dist)
    entries = entries_of(tmp_path, wheel)
    build(entries, out, table=TABLE, wheels=[dist])
    (out / PAGE / NAME).write_bytes(b"x" * wheel.stat().st_size)

    build(entries, out, table=TABLE, wheels=[dist])

    assert (out / PAGE / NAME).read_bytes() == wheel.read_bytes()


def test_a_wheel_has_its_upload_time(tmp_path: Path, dist: Path, out: Path) -> None:
    build(entries_of(tmp_path, write_proven_wheel(dist)), out, table=TABLE, wheels=[dist])

    assert (out / PAGE / NAME).stat().st_mtime == 1795262400


@pytest.mark.parametrize("loss", ["wheel", "backend", "bytes"])
def test_a_site_that_would_lose_a_file_is_not_made(
    tmp_path: Path, dist: Path, out: Path, loss: str
) -> None:
    kept = write_proven_wheel(dist)
    lost = {
        "wheel": lambda: write_proven_wheel(dist, version="0.3.99+cpu"),
        "backend": lambda: write_proven_wheel(dist, backend="cu128"),
        "bytes": lambda: write_proven_wheel(dist, version="0.3.98+cpu"),
    }[loss]()
    build(entries_of(tmp_path, kept, lost), out, table=TABLE, wheels=[dist])
    before = tree(out)
    (tmp_path / "catalogue.jsonl").unlink()
    wheels = [kept]
    if loss == "bytes":
        write_wheel(dist, {"llama_cpp/__init__.py": "changed = True\n"}, version="0.3.98+cpu")
        write_report(lost)
        wheels.append(lost)

    with pytest.raises(CatalogueError) as caught:
        build(entries_of(tmp_path, *wheels), out, table=TABLE, wheels=[dist])

    page = "whl/cu128/llama-cpp-python" if loss == "backend" else PAGE
    fate = "would get other bytes" if loss == "bytes" else "would be lost"
    assert caught.value.what == f"{out}: {lost.name} on {page}/ {fate}"
    assert tree(out) == before


def test_retiring_a_backend_keeps_its_pages(tmp_path: Path, dist: Path, out: Path) -> None:
    entries = entries_of(
        tmp_path, write_proven_wheel(dist), write_proven_wheel(dist, backend="cu121")
    )
    row = replace(TABLE.backends["cu121"], platforms=[])
    table = replace(TABLE, backends={**TABLE.backends, "cu121": row})
    build(entries, out, table=TABLE, wheels=[dist])

    build(entries, out, table=table, wheels=[dist])

    folder = out / "whl/cu121/llama-cpp-python"
    page = json.loads((folder / "index.v1_json").read_bytes())
    assert [file["filename"] for file in page["files"]] == [entries[1].name]
    assert page["project-status"] == {
        "status": "archived",
        "reason": "this backend is retired: its wheels stay, no new ones are built",
    }
    assert '<meta name="pypi:project-status" content="archived">' in (
        folder / "index.html"
    ).read_text(encoding="utf-8")
    assert (folder / entries[1].name).is_file()
    assert "project-status" not in json.loads((out / PAGE / "index.v1_json").read_bytes())


def test_yanking_changes_the_pages_and_keeps_the_wheel(
    tmp_path: Path, dist: Path, out: Path
) -> None:
    build(entries_of(tmp_path, write_proven_wheel(dist)), out, table=TABLE, wheels=[dist])
    file = tmp_path / "catalogue.jsonl"
    catalogue.yank(file, [NAME], reason="crashes on Tuesdays")

    build(catalogue.load(file), out, table=TABLE, history=file.read_bytes())

    (said,) = json.loads((out / PAGE / "index.v1_json").read_bytes())["files"]
    assert said["yanked"] == "crashes on Tuesdays"
    assert (out / PAGE / NAME).is_file()
    assert (out / "catalogue.jsonl").read_bytes() == file.read_bytes()


def test_a_wheel_that_is_nowhere(tmp_path: Path, dist: Path, out: Path) -> None:
    first = write_proven_wheel(dist)
    build(entries_of(tmp_path, first), out, table=TABLE, wheels=[dist])
    before = tree(out)
    gone = write_proven_wheel(dist, backend="cu128")
    entries = entries_of(tmp_path, gone)
    gone.unlink()

    with pytest.raises(CatalogueError) as caught:
        build(entries, out, table=TABLE, wheels=[dist])

    assert str(caught.value) == (
        f"{gone.name}: in the catalogue, but in none of: {dist},"
        f" {out}/whl/cu128/llama-cpp-python\n"
        "  -> give its folder with --wheels, or --base-url where the wheels lie somewhere else"
    )
    assert tree(out) == before


def test_a_wheel_that_changed_after_it_was_catalogued(
    tmp_path: Path, dist: Path, out: Path
) -> None:
    wheel = write_proven_wheel(dist)
    (entry,) = entries_of(tmp_path, wheel)
    write_wheel(dist, {"llama_cpp/__init__.py": "changed = True\n"})
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()

    with pytest.raises(CatalogueError) as caught:
        build([entry], out, table=TABLE, wheels=[dist])

    assert caught.value.what == f"{wheel}: sha256 {found}, the catalogue says {entry.sha256}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalogue.jsonl", "dist"]


def test_metadata_with_another_hash_than_the_catalogue_says(
    tmp_path: Path, dist: Path, out: Path
) -> None:
    wheel = write_proven_wheel(dist)
    (entry,) = entries_of(tmp_path, wheel)
    file = tmp_path / "catalogue.jsonl"
    file.write_bytes(file.read_bytes().replace(entry.metadata_sha256.encode(), b"0" * 64))

    with pytest.raises(CatalogueError) as caught:
        build(catalogue.load(file), out, table=TABLE, wheels=[dist])

    assert caught.value.what == f"{NAME}: METADATA has another hash than the catalogue says"
    assert not out.exists()


def test_wheels_at_a_base_url_are_not_copied(tmp_path: Path, dist: Path, out: Path) -> None:
    entries = entries_of(tmp_path, write_proven_wheel(dist))

    built = build(entries, out, table=TABLE, base_url="https://example.org/files")

    assert (built.pages, built.wheels, built.linked) == (10, 0, 1)
    assert list((out / PAGE).iterdir()) == [
        path for path in (out / PAGE).iterdir() if path.name.startswith("index.")
    ]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_that_is_no_site_is_not_replaced(
    tmp_path: Path, dist: Path, out: Path, kind: str
) -> None:
    entries = entries_of(tmp_path, write_proven_wheel(dist))
    if kind == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(UsageError) as caught:
        build(entries, out, table=TABLE, wheels=[dist])

    assert caught.value.what == f"{out}: not a site that this command made, so it is not replaced"
    kept = out if kind == "file" else out / "thesis.txt"
    assert kept.read_text(encoding="utf-8") == "mine"


def test_an_empty_folder_may_become_the_site(tmp_path: Path, dist: Path, out: Path) -> None:
    out.mkdir()

    build(entries_of(tmp_path, write_proven_wheel(dist)), out, table=TABLE, wheels=[dist])

    assert (out / "backends.json").is_file()


def test_a_folder_of_wheels_that_does_not_exist(tmp_path: Path, dist: Path, out: Path) -> None:
    entries = entries_of(tmp_path, write_proven_wheel(dist))

    with pytest.raises(UsageError) as caught:
        build(entries, out, table=TABLE, wheels=[tmp_path / "nowhere"])

    assert caught.value.what == f"{tmp_path / 'nowhere'}: no such folder"


def test_a_file_system_that_refuses(tmp_path: Path, dist: Path, out: Path) -> None:
    entries = entries_of(tmp_path, write_proven_wheel(dist))
    build(entries, out, table=TABLE, wheels=[dist])
    before = tree(out)
    (tmp_path / ".site.new").write_text("in the way", encoding="utf-8")

    with pytest.raises(PublishError) as caught:
        build(entries, out, table=TABLE, wheels=[dist])

    assert caught.value.what.startswith(f"{out}: the site could not be written (")
    assert tree(out) == before
