"""Media from bytes, paths and data URLs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llama_cpp import ValidationError
from llama_cpp._media import MediaPolicy, load_media

SMALL = MediaPolicy(max_bytes=1000)
CONTENT = bytes(range(256))


def message(kind: type[Exception], source: object, policy: MediaPolicy = SMALL) -> str:
    with pytest.raises(kind) as caught:
        load_media(source, policy)  # type: ignore[arg-type]
    assert type(caught.value) is kind
    return str(caught.value)


# -- bytes and paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes(kind: type) -> None:
    assert load_media(kind(CONTENT)) == CONTENT


def test_too_many_bytes() -> None:
    assert message(ValidationError, b"x" * 1001) == (
        "the given bytes: 1001 bytes, more than the 1000 that are allowed (MediaPolicy.max_bytes)"
    )


def test_path_object(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    assert load_media(tmp_path / "a.png") == CONTENT


def test_a_string_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(CONTENT)
    for text in ("/etc/passwd", "a.png", f"file://{tmp_path}/a.png", "FILE:///etc/passwd", ""):
        assert message(ValidationError, text) == (
            f"{text!r} is neither a data: nor an http(s): URL. A file is given as a pathlib.Path, as "
            "bytes, or as a data: URL; strings are taken as paths only with "
            "MediaPolicy(allow_paths=True)"
        )


def test_strings_as_paths_where_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(CONTENT)
    policy = MediaPolicy(allow_paths=True)
    assert load_media(str(path), policy) == CONTENT
    assert load_media(path.as_uri(), policy) == CONTENT
    assert message(ValidationError, "file://example.org/a.png", policy) == (
        "'file://example.org/a.png' names another machine: example.org"
    )


def test_path_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 1001)
    assert message(ValidationError, path) == (
        f"{path}: 1001 bytes, more than the 1000 that are allowed (MediaPolicy.max_bytes)"
    )


def test_path_that_is_no_file(tmp_path: Path) -> None:
    assert message(ValidationError, tmp_path / "nope") == (
        f"cannot read {tmp_path / 'nope'}: No such file or directory"
    )
    assert message(ValidationError, Path("a\0b")) == ("the path 'a\\x00b' contains a NUL character")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert message(ValidationError, path) == f"{path} is not a file"


def test_other_types() -> None:
    assert message(ValidationError, 5) == (
        "expected an image as a URL, bytes or a path object, not int"
    )


# -- data URLs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("DATA:;base64,aGVsbG8=", b"hello"),
        ("data:image/png;charset=x;BASE64,aGVsbG8%3D", b"hello"),
        ("data:;base64,", b""),
        ("data:,a%20b%ff", b"a b\xff"),
        ("data:,", b""),
    ],
)
def test_data_url(url: str, content: bytes) -> None:
    assert load_media(url) == content


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64", "has no comma: data:<type>;base64,<data>"),
        ("data:;base64,aGVsbG8", "the data: URL is not base64: Incorrect padding"),
        ("data:;base64,aGVs\nbG8=", "the data: URL is not base64: "),
        ("data:;base64,aGVs-_8=", "the data: URL is not base64: "),
        ("data:;base64,é", "the data: URL has a character that is not ASCII at 13"),
        ("data:;base64," + "A" * 1336, "a data: URL: 1002 bytes, more than the 1000"),
        ("data:," + "A" * 1001, "a data: URL: 1001 bytes, more than the 1000"),
    ],
)
def test_bad_data_url(url: str, words: str) -> None:
    assert words in message(ValidationError, url)
