"""Registries of images against a stand-in that speaks their protocol: tokens, digests, blobs that go on."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ci.errors import NetworkError, ToolchainError, UsageError, VendorError
from ci.progress import Progress
from ci.registry import Reference, Registry, parse_reference
from tests.image_registry import OCI_MANIFEST, ImageRegistry, digest_of, image_registry

PROGRESS = Progress(Console(width=2000, file=io.StringIO()))
DIGEST = f"sha256:{'0' * 64}"
BLOB = bytes(range(256)) * 1600
KEPT = 1 << 16


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def served() -> Iterator[ImageRegistry]:
    with image_registry() as registry:
        yield registry


def repository(served: ImageRegistry) -> Registry:
    return Registry(parse_reference(f"{served.host}/nvidia/cuda:12.8"))


def bring(
    served: ImageRegistry, folder: Path, content: bytes = BLOB, size: int | None = None
) -> bytes:
    digest = digest_of(content)
    size = len(content) if size is None else size
    place = repository(served).bring_blob(PROGRESS, digest, size, folder / "blob", title="layer 1")
    return place.read_bytes()


def write_login(path: Path, host: str, login: str) -> None:
    path.parent.mkdir(exist_ok=True)
    entry = {"auth": base64.b64encode(login.encode()).decode()}
    path.write_text(json.dumps({"auths": {"other.example": {}, host: entry}}), encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "whole", "repository_", "tag"),
    [
        ("nvidia/cuda:12.8.1-devel", "docker.io/nvidia/cuda:12.8.1-devel", "nvidia/cuda", "12.8.1-devel"),
        ("debian:trixie", "docker.io/library/debian:trixie", "library/debian", "trixie"),
        ("index.docker.io/nvidia/cuda:1", "docker.io/nvidia/cuda:1", "nvidia/cuda", "1"),
        (f"ghcr.io/a/b/c@{DIGEST}", f"ghcr.io/a/b/c@{DIGEST}", "a/b/c", None),
        (f"localhost:5000/cuda:x@{DIGEST}", f"localhost:5000/cuda:x@{DIGEST}", "cuda", "x"),
        ("localhost/cuda:x", "localhost/cuda:x", "cuda", "x"),
        ("[::1]:5000/cuda:x", "[::1]:5000/cuda:x", "cuda", "x"),
    ],
)  # fmt: skip
def test_references_are_read_as_container_engines_do(
    text: str, whole: str, repository_: str, tag: str | None
) -> None:
    found = parse_reference(text)
    assert (str(found), found.repository, found.tag) == (whole, repository_, tag)
    assert parse_reference(str(found)) == found
    assert str(Reference(registry="a.b", repository="c", tag="d").at(DIGEST)) == f"a.b/c:d@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    ["nvidia/cuda", "NVIDIA/cuda:1", "a//b:1", "a/b:-1", "a/b@sha256:123", f"a/b@sha512:{'0' * 128}",
     "https://ghcr.io/a/b:1", "a/../b:1", "", ":1", f"a/b@{DIGEST} "],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert caught.value.what == f"{text!r} is not the name of an image with a tag or a digest"
    assert "nvidia/cuda:12.8.1-devel-rockylinux8" in caught.value.cure


def test_anybody_gets_a_token_and_one_serves_for_all(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add(b"{}", OCI_MANIFEST, "12.8")
    blob = served.add_blob(BLOB)
    registry = repository(served)
    assert registry.manifest("12.8") == (b"{}", digest)
    assert registry.manifest(digest) == (b"{}", digest)
    place = registry.bring_blob(PROGRESS, blob, len(BLOB), tmp_path / "blob", title="layer 1")
    assert place.read_bytes() == BLOB
    token = "/token?scope=repository%3Anvidia%2Fcuda%3Apull&service=stand-in"
    assert served.asked == [
        "/v2/nvidia/cuda/manifests/12.8",
        token,
        "/v2/nvidia/cuda/manifests/12.8",
        f"/v2/nvidia/cuda/manifests/{digest}",
        f"/v2/nvidia/cuda/blobs/{blob}",
        # elsewhere, and without the token: it would be refused there
        f"/data/{blob}?signature=abc",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


def test_a_token_that_has_run_out_is_asked_for_anew(served: ImageRegistry) -> None:
    digest = served.add(b"{}", OCI_MANIFEST)
    served.uses = 1
    registry = repository(served)
    assert [registry.manifest(digest) for _ in range(3)] == [(b"{}", digest)] * 3
    assert len(served.tokens) == 3


def test_a_blob_goes_on_where_it_broke_off(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_blob(BLOB)
    served.cuts = [KEPT + 1000, 2 * KEPT + 1000]
    assert bring(served, tmp_path) == BLOB
    assert [line for line in served.asked if line.startswith("/data")] == [
        f"/data/{digest}?signature=abc",
        f"/data/{digest}?signature=abc bytes={KEPT}-",
        f"/data/{digest}?signature=abc bytes={3 * KEPT}-",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


def test_the_next_run_goes_on_as_well(served: ImageRegistry, tmp_path: Path) -> None:
    digest = served.add_blob(BLOB)
    served.cuts = [KEPT + 1000, 0]
    with pytest.raises(NetworkError) as caught:
        bring(served, tmp_path)
    assert caught.value.what.startswith("layer 1 could not be downloaded: ")
    assert caught.value.cure.endswith("run the command again: it goes on where it ended")
    assert (tmp_path / "blob.part").read_bytes() == BLOB[:KEPT]
    assert bring(served, tmp_path) == BLOB
    assert served.asked[-1] == f"/data/{digest}?signature=abc bytes={KEPT}-"


def test_a_storage_that_cannot_go_on_begins_anew(served: ImageRegistry, tmp_path: Path) -> None:
    served.add_blob(BLOB)
    served.ranges = False
    served.cuts = [KEPT]
    assert bring(served, tmp_path) == BLOB
    served.cuts = [KEPT] * 3
    (tmp_path / "blob").unlink()
    with pytest.raises(NetworkError, match="layer 1 could not be downloaded"):
        bring(served, tmp_path)
    # it was given up after the second time, which brought no more than the first
    assert served.cuts == [KEPT]


def test_a_blob_that_is_whole_is_not_asked_for(served: ImageRegistry, tmp_path: Path) -> None:
    (tmp_path / "blob.part").write_bytes(BLOB)
    assert bring(served, tmp_path) == BLOB
    assert bring(served, tmp_path) == BLOB
    assert served.asked == []


@pytest.mark.parametrize(
    ("kept", "size", "said"),
    [
        (b"", len(BLOB) + 1, r"^layer 1 ended after 409,600 of 409,601 bytes\n"),
        (b"", 5000, rf"^layer 1, {digest_of(BLOB)}, is longer than the 5,000 bytes that its manifest"),
        (b"x" * 1000, len(BLOB), rf"^layer 1, {digest_of(BLOB)}, is something else: its digest is {digest_of(b'x' * 1000 + BLOB[1000:])}"),
    ],
)  # fmt: skip
def test_a_blob_that_is_not_what_its_digest_says(
    served: ImageRegistry, tmp_path: Path, kept: bytes, size: int, said: str
) -> None:
    served.add_blob(BLOB)
    (tmp_path / "blob.part").write_bytes(kept)
    with pytest.raises(ToolchainError, match=said):
        bring(served, tmp_path, size=size)
    assert not (tmp_path / "blob").exists()
    if size != len(BLOB) + 1:
        assert list(tmp_path.glob("blob*")) == []


def test_a_manifest_that_is_not_what_its_digest_says(served: ImageRegistry) -> None:
    digest = served.add(b"{}", OCI_MANIFEST)
    served.manifests[digest] = (b"[]", OCI_MANIFEST)
    with pytest.raises(VendorError) as caught:
        repository(served).manifest(digest)
    assert caught.value.what == (
        f"{served.host}/nvidia/cuda@{digest} is something else: its digest is {digest_of(b'[]')}"
    )
    served.add(b" " * (5 << 20), OCI_MANIFEST, "large")
    with pytest.raises(VendorError, match="cuda:large is larger than any manifest"):
        repository(served).manifest("large")


def test_what_a_registry_does_not_have(served: ImageRegistry, tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        repository(served).manifest("13.9")
    assert str(caught.value) == (
        f"{served.host} has no {served.host}/nvidia/cuda:13.9 (manifest unknown)"
        "\n  -> see its page there for the tags there are"
    )
    with pytest.raises(NetworkError, match=r"has no layer 1 \(blob unknown to registry\)"):
        bring(served, tmp_path, b"unknown")


def test_a_registry_that_has_had_enough(served: ImageRegistry) -> None:
    served.refusal = 429
    with pytest.raises(NetworkError) as caught:
        repository(served).manifest("12.8")
    assert caught.value.what == (
        f"{served.host} gives no more for now: its limit of requests is reached (no more)"
    )
    assert caught.value.cure == (
        f"wait 60 seconds, or log in (`docker login {served.host}`): who is logged in has a higher"
        " limit; or name the same image, by its digest, in another registry"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_what_a_registry_does_not_give(served: ImageRegistry, no_login: Path, status: int) -> None:
    served.refusal = status
    with pytest.raises(NetworkError) as caught:
        repository(served).manifest("12.8")
    assert caught.value.what == (
        f"{served.host} does not give {served.host}/nvidia/cuda:12.8: {status} (no more)"
    )
    assert caught.value.cure.startswith(
        f"check the image's name; if it is private, log in with `docker login {served.host}`, or write"
        f" the entry that it would write into {no_login}"
    )
    served.refusal = 503
    with pytest.raises(
        NetworkError, match=r"answers 503 for .*/nvidia/cuda:12.8 \(no more\)\n  -> try"
    ):
        repository(served).manifest("12.8")


@pytest.mark.parametrize("basic", [False, True])
def test_a_private_image_is_for_who_is_logged_in(
    served: ImageRegistry, no_login: Path, basic: bool
) -> None:
    digest = served.add(b"{}", OCI_MANIFEST)
    served.login, served.basic = ("me", "pass:word"), basic
    with pytest.raises(NetworkError) as caught:
        repository(served).manifest(digest)
    assert "log in with `docker login" in caught.value.cure
    write_login(no_login, f"https://{served.host}/v1/", "me:pass:word")
    assert repository(served).manifest(digest) == (b"{}", digest)
    write_login(no_login, served.host, "me:wrong")
    with pytest.raises(NetworkError, match=r"does not give .*: 401"):
        repository(served).manifest(digest)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": {"HOST": {"auth": "!"}}}', '{"auths": {"HOST": 1}}']
)
def test_a_malformed_configuration_is_said(
    served: ImageRegistry, no_login: Path, text: str
) -> None:
    no_login.parent.mkdir()
    no_login.write_text(text.replace("HOST", served.host), encoding="utf-8")
    with pytest.raises(
        UsageError, match=rf"^{re.escape(str(no_login))} is no configuration of docker: "
    ):
        repository(served).manifest("12.8")


def test_a_login_is_shown_to_nobody_without_tls(served: ImageRegistry, no_login: Path) -> None:
    write_login(no_login, served.host, "me:password")
    served.realm = "http://registry.example/token"
    with pytest.raises(NetworkError) as caught:
        repository(served).manifest("12.8")
    assert caught.value.what == (
        f"{served.host} names http://registry.example/token to log in at: that is not safe"
    )


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    with image_registry() as gone:
        registry = repository(gone)
    with pytest.raises(
        NetworkError, match=rf"^{gone.host}/nvidia/cuda:12.8 could not be downloaded: "
    ):
        registry.manifest("12.8")
