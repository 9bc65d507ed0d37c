"""Publishing to a bucket of a real S3-compatible server, read as installers read it: by HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin

import pytest
import requests

from ci.errors import PublishError
from index.publish.bucket import Bucket, headers
from index.publish.objects import Objects, Seen
from index.publish.past import Past
from index.publish.tree import read_tree
from tests.publishing import (
    KEYS,
    ROOT,
    S3Server,
    contents,
    kill,
    publish,
    publishing,
    s3_server,
    wait_for_work,
    write_site,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD: Final = ("0.3.100+cpu",)
NEW: Final = ("0.3.100+cpu", "0.3.101+cpu", "0.3.100+cu128")
NAME: Final = "llama_cpp_python-{}-py3-none-manylinux_2_17_x86_64.whl"
QUICK: Final = "--no-verify"
# How long a publish is killed again and again; more where somebody wants to be surer.
SECONDS: Final = float(os.environ.get("PUBLISH_KILL_SECONDS", "12"))
TRIES: Final = 40
PAGE: Final = "whl/cpu/llama-cpp-python"

needs_linux = pytest.mark.skipif(
    os.name != "posix" or os.uname().machine != "x86_64", reason="its wheels are for Linux x86-64"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sites")
    old = shutil.copytree(write_site(folder, OLD), folder / "old")
    return old, write_site(folder, NEW)


def stored(server: S3Server, prefix: str) -> dict[str, bytes]:
    """Every object below a prefix, by what is left of its key."""
    objects = Objects(client=server.client, bucket=server.bucket, prefix=f"{prefix}/")
    return {name: objects.read(name) for name in sorted(objects.listing())}


def send(server: S3Server, site: Path, prefix: str, *options: str, status: int = 0) -> str:
    target = f"s3://{server.bucket}/{prefix}"
    return publish(
        "--to", target, "--endpoint-url", server.url, *options, site=site, status=status, **KEYS
    )


@needs_linux
def test_a_bucket_is_published_and_installed_from(
    server: S3Server, sites: tuple[Path, Path]
) -> None:
    old, new = sites
    url = f"{server.url}/{server.bucket}/a/b/"
    first = send(server, old, "a/b", "--folder-pages", "--url", url)
    assert f"verified: installed {NAME.format('0.3.100+cpu')} from" in first
    assert f"verified at {url}" in first
    second = send(server, new, "a/b", "--folder-pages", "--url", url)
    assert f"verified: installed {NAME.format('0.3.101+cpu')} from" in second
    there = stored(server, "a/b")
    pages = {name.removesuffix("index.html"): name for name in there if name.endswith("index.html")}
    folders = {folder: there.pop(folder) for folder in pages}
    assert there == contents(new)
    assert folders == {folder: there[name] for folder, name in pages.items()}


def test_objects_are_served_as_what_they_are(server: S3Server, sites: tuple[Path, Path]) -> None:
    send(server, sites[0], "types", QUICK, "--folder-pages")
    wheel = f"{PAGE}/{NAME.format('0.3.100+cpu')}"
    said = {}
    for name in ("index.html", f"{PAGE}/", f"{PAGE}/index.v1_json", wheel, f"{wheel}.metadata"):
        address = f"{server.url}/{server.bucket}/types/{name.replace('+', '%2B')}"
        answer = requests.get(address, timeout=20)
        assert answer.status_code == 200, address
        said[name] = (answer.headers["Content-Type"], answer.headers["Cache-Control"])
    forever = "public, max-age=31536000, immutable"
    assert said == {
        "index.html": ("text/html; charset=utf-8", "public, max-age=60"),
        f"{PAGE}/": ("text/html; charset=utf-8", "public, max-age=60"),
        f"{PAGE}/index.v1_json": ("application/vnd.pypi.simple.v1+json", "public, max-age=60"),
        wheel: ("application/octet-stream", forever),
        f"{wheel}.metadata": ("text/plain; charset=utf-8", forever),
    }


def test_what_is_there_is_not_sent_again(server: S3Server, sites: tuple[Path, Path]) -> None:
    old, new = sites
    assert f"published: {len(contents(old))} files sent" in send(server, old, "again", QUICK)
    assert "published: 0 files sent" in send(server, old, "again", QUICK)
    before = {
        name: seen.etag
        for name, seen in Objects(
            client=server.client, bucket=server.bucket, prefix="again/"
        ).listing().items()
    }  # fmt: skip
    wheel = f"{PAGE}/{NAME.format('0.3.100+cpu')}"
    send(server, new, "again", QUICK)
    after = Objects(client=server.client, bucket=server.bucket, prefix="again/").listing()
    assert before[wheel] == after[wheel].etag
    assert stored(server, "again") == contents(new)


def test_other_bytes_and_losses_are_refused(server: S3Server, sites: tuple[Path, Path]) -> None:
    old, new = sites
    name = f"{PAGE}/{NAME.format('0.3.100+cpu')}"
    # Written by something else than this command, so it has no hash of ours.
    server.client.put_object(Bucket=server.bucket, Key=f"other/{name}", Body=b"other")
    printed = send(server, old, "other", QUICK, status=11)
    digest = hashlib.sha256(b"other").hexdigest()
    assert f"s3://wheels/other/{name} is there with other bytes (sha256 {digest}, ours" in printed
    assert stored(server, "other").keys() & {"catalogue.jsonl", f"{PAGE}/index.html"} == set()

    # The same bytes without a hash are recognised.
    content = (old / name).read_bytes()
    server.client.put_object(Bucket=server.bucket, Key=f"same/{name}", Body=content)
    send(server, old, "same", QUICK)
    assert stored(server, "same") == contents(old)

    send(server, new, "less", QUICK)
    printed = send(server, old, "less", QUICK, status=11)
    assert f"{NAME.format('0.3.101+cpu')} is in its catalogue.jsonl and not in this" in printed
    assert stored(server, "less") == contents(new)


def test_a_server_that_is_not_there_and_a_bucket_that_is_not(
    server: S3Server, sites: tuple[Path, Path]
) -> None:
    nobody = publish(
        "--to", "s3://no-such-bucket-here/x", "--endpoint-url", server.url, QUICK,
        site=sites[0], status=11, **KEYS,
    )  # fmt: skip
    assert "s3://no-such-bucket-here/x: ListObjectsV2: NoSuchBucket" in nobody
    assert "see that the bucket exists and may be listed, read and written" in nobody


def test_of_two_publishes_one_stops(server: S3Server, sites: tuple[Path, Path]) -> None:
    """The other one has written its catalogue while this one sent its wheels."""
    old, new = sites
    objects = Objects(client=server.client, bucket=server.bucket, prefix="race/")
    bucket = Bucket(objects=objects)
    bucket.put(read_tree(old), lambda _: None)

    def meanwhile(past: Past) -> None:
        assert past.catalogue == (old / "catalogue.jsonl").read_bytes()
        server.client.put_object(
            Bucket=server.bucket, Key="race/catalogue.jsonl", Body=past.catalogue + b"{}\n"
        )

    pages = (old / PAGE / "index.html").read_bytes()
    with pytest.raises(PublishError, match=r"another publish has written catalogue\.jsonl") as info:
        bucket.put(read_tree(new), meanwhile)
    assert info.value.cure == "wait for it, then run this again: it begins with what is there then"
    assert objects.read(f"{PAGE}/index.html") == pages


def test_a_large_file_goes_on_where_it_stopped(server: S3Server, tmp_path: Path) -> None:
    part = 5 * 1024 * 1024
    path = tmp_path / "large.whl"
    path.write_bytes(random.Random(3).randbytes(2 * part + 100))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    objects = Objects(client=server.client, bucket=server.bucket, prefix="large/", part=part)
    key = "large/large.whl"

    begun = server.client.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]
    with path.open("rb") as file:
        server.client.upload_part(
            Bucket=server.bucket, Key=key, UploadId=begun, PartNumber=1, Body=file.read(part)
        )
    other = server.client.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]
    server.client.upload_part(
        Bucket=server.bucket, Key=key, UploadId=other, PartNumber=1, Body=b"of another file"
    )
    objects.put_file("large.whl", path, digest, headers("large.whl"))
    assert objects.read("large.whl") == path.read_bytes()
    # The first upload was the one that was completed; the other is left alone.
    left = server.client.list_multipart_uploads(Bucket=server.bucket, Prefix=key)["Uploads"]
    assert [item["UploadId"] for item in left] == [other]

    fresh = Objects(client=server.client, bucket=server.bucket, prefix="fresh/", part=part)
    fresh.put_file("large.whl", path, digest, headers("large.whl"))
    assert fresh.sha256("large.whl") == digest
    assert fresh.listing() == {
        "large.whl": Seen(etag=fresh.listing()["large.whl"].etag, size=2 * part + 100)
    }


def test_wheels_are_brought_to_a_bucket_and_linked_from_pages(
    server: S3Server, tmp_path: Path
) -> None:
    """Wheels in a bucket, pages in a folder: the links are checked before pages name them."""
    write_site(tmp_path)
    place = f"s3://{server.bucket}/wheels"
    base_url = f"{server.url}/{server.bucket}/wheels"

    def index(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "index", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **KEYS},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    catalogue = ("--catalogue", tmp_path / "elsewhere.jsonl")
    index("add", tmp_path / "dist", *catalogue, "--base-url", base_url)
    index("build", *catalogue, "--out", tmp_path / "pages")
    early = publish("--to", tmp_path / "served", site=tmp_path / "pages", status=11)
    assert "pages link wheels that are not there like that:" in early
    assert "404 Not Found" in early or "404 NOT FOUND" in early
    assert "upload them with `python -m index publish-wheels` first" in early

    upload = ("publish-wheels", tmp_path / "dist", "--to", place, "--endpoint-url", server.url)
    assert f"{place}: 3 sent, 0 were there" in index(*upload)
    assert f"{place}: 0 sent, 3 were there" in index(*upload)
    printed = publish("--to", tmp_path / "served", site=tmp_path / "pages")
    assert "1 wheels that are linked elsewhere are there" in printed
    assert f"verified: installed {NAME.format('0.3.100+cpu')} from" in printed
    assert not any(name.endswith(".whl") for name in contents(tmp_path / "served"))


# ---- killed at any point -------------------------------------------------------------------------


def read_as_a_client(url: str) -> dict[str, set[str]]:
    """Read every project page and every file that it names; return the names by page."""
    found: dict[str, set[str]] = {}
    with requests.Session() as session:
        session.trust_env = False
        for backend in json.loads(session.get(f"{url}backends.json", timeout=20).content)[
            "backends"
        ]:
            page = f"{url}{backend['index']}llama-cpp-python/"
            answer = session.get(f"{page}index.v1_json", timeout=20)
            assert answer.status_code == 200, page
            files = json.loads(answer.content)["files"]
            html = session.get(f"{page}index.html", timeout=20)
            assert html.status_code == 200
            found[backend["name"]] = {file["filename"] for file in files}
            for file in files:
                wheel = session.get(urljoin(page, file["url"]), timeout=20)
                assert hashlib.sha256(wheel.content).hexdigest() == file["hashes"]["sha256"]
                metadata = session.get(urljoin(page, f"{file['url']}.metadata"), timeout=20)
                assert (
                    hashlib.sha256(metadata.content).hexdigest() == file["core-metadata"]["sha256"]
                )
            for href in html.text.split('href="')[1:]:
                name = unquote(href.partition("#")[0])
                assert session.head(urljoin(page, href.partition("#")[0]), timeout=20).ok, name
    return found


def test_killed_at_any_point_every_page_is_old_or_new_and_names_what_is_there(
    server: S3Server, tmp_path: Path
) -> None:
    old = shutil.copytree(write_site(tmp_path, OLD, padding=200_000), tmp_path / "old")
    labels = ("cu128", "vulkan", "cu124", "cu126", "cu121")
    versions = (*OLD, "0.3.101+cpu", *(f"0.3.100+{label}" for label in labels))
    new = write_site(tmp_path, versions, padding=200_000)
    chance = random.Random(20261121)
    before, after = contents(old), contents(new)
    deadline, number, longest, killed = time.monotonic() + SECONDS, 0, 0.0, 0
    part_way = 0
    # on a slow machine that time is not enough for one kill in the middle
    while time.monotonic() < deadline or (number < TRIES and not part_way):
        number += 1
        prefix = f"kill{number}"
        Bucket(
            objects=Objects(client=server.client, bucket=server.bucket, prefix=f"{prefix}/")
        ).put(read_tree(old), lambda _: None)
        process = publishing(
            QUICK, "--to", f"s3://{server.bucket}/{prefix}", "--endpoint-url", server.url,
            site=new, **KEYS,
        )  # fmt: skip
        started = wait_for_work(process)
        if longest == 0.0:
            printed, _ = process.communicate()
            assert process.returncode == 0, printed
            longest = time.monotonic() - started
        else:
            time.sleep(chance.uniform(0.0, 1.0) * longest)
            killed += kill(process)
        there = stored(server, prefix)
        for name, content in there.items():
            assert content in {before.get(name), after.get(name)}, name
        part_way += there not in (before, after)
        seen = read_as_a_client(f"{server.url}/{server.bucket}/{prefix}/")
        assert NAME.format("0.3.100+cpu") in seen["cpu"]
        send(server, new, prefix, QUICK)
        assert stored(server, prefix) == after
    print(f"bucket: killed {killed} times, {part_way} times part of it was sent")
    assert killed > 0
    assert part_way > 0
