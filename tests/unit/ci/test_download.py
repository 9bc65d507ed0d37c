"""Downloads: by sha256, whole or not at all; a full disk is said."""

from __future__ import annotations

import hashlib
import io
import resource
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from ci.download import bring_file, bring_from_index, unpack_wheel
from ci.errors import DiskError, NetworkError, VendorError
from ci.progress import Progress
from tests.static_server import serving

PROGRESS = Progress(Console(width=2000, file=io.StringIO()))
NAME = "nvidia_stand_in-13.0.1-py3-none-manylinux_2_27_x86_64.whl"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with serving(folder) as url:
        yield url, folder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_wheel_comes_from_the_index_by_its_name(
    served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = served
    (folder / NAME).write_bytes(b"wheel")
    page = folder / "simple" / "nvidia-stand-in" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<!DOCTYPE html><a href="../../{NAME}">{NAME}</a>', encoding="utf-8")
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    cache = tmp_path / "cache"
    place = bring_from_index(PROGRESS, NAME, sha256(b"wheel"), cache, pinned_in="pins.toml")
    assert place == cache / NAME
    assert place.read_bytes() == b"wheel"

    other = NAME.replace("13.0.1", "13.0.2")
    with pytest.raises(NetworkError) as caught:
        bring_from_index(PROGRESS, other, sha256(b"wheel"), cache, pinned_in="pins.toml")
    assert str(caught.value) == (
        f"the package index has no {other}\n"
        "  -> write another version of it and its sha256 into pins.toml"
    )
    unknown = NAME.replace("stand_in", "nobody")
    with pytest.raises(NetworkError, match=r"^the package index has no page of nvidia_nobody"):
        bring_from_index(PROGRESS, unknown, sha256(b"wheel"), cache, pinned_in="pins.toml")


def test_other_bytes_are_refused(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    (folder / NAME).write_bytes(b"something else")
    with pytest.raises(VendorError) as caught:
        bring_file(PROGRESS, f"{url}/{NAME}", sha256(b"wheel"), tmp_path / NAME, pinned_in="p.toml")
    assert str(caught.value) == (
        f"{NAME} has sha256 {sha256(b'something else')}, the pin says {sha256(b'wheel')}\n"
        "  -> the file was damaged or replaced: do not use it; try again or check the pin in p.toml"
    )
    assert not list(tmp_path.glob("*.whl"))


@contextmanager
def small_disk() -> Iterator[None]:
    """Let no file grow beyond a page: what a full disk is, for this process alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_leaves_nothing(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    data = b"x" * 100_000
    (folder / NAME).write_bytes(data)
    cache = tmp_path / "cache"
    with small_disk(), pytest.raises(DiskError) as caught:
        bring_file(PROGRESS, f"{url}/{NAME}", sha256(data), cache / NAME, pinned_in="p.toml")
    assert str(caught.value) == (
        f"there is no room left for {cache}\n"
        "  -> free some, or put the cache on another disk with LLAMA_CPP_PYTHON_CACHE=FOLDER (a CUDA"
        " toolkit takes 1 to 2 GB, a compiler cache up to 5 GB); nothing was left half-written"
    )
    assert list(cache.iterdir()) == []
    place = bring_file(PROGRESS, f"{url}/{NAME}", sha256(data), cache / NAME, pinned_in="p.toml")
    assert place.read_bytes() == data


def test_programs_of_a_wheel_may_be_run(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, mode in (("nvidia/bin/nvcc", 0o100744), ("nvidia/include/cuda.h", 0o100644)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, "content")
    unpack_wheel(wheel, tmp_path / "out")
    rights = {
        path.name: stat.S_IMODE(path.stat().st_mode) & 0o111
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert rights == {"nvcc": 0o111, "cuda.h": 0}
