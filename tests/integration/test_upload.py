"""Upload to a real pypiserver with real twine, then an installation from there with real pip."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.publishing import ROOT, free_port
from tests.wheels import write_report, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

PLATFORM: Final = "manylinux_2_17_x86_64"
CUDA_PLATFORM = "manylinux_2_28_x86_64"
PLAIN: Final = f"llama_cpp_python-0.3.100-py3-none-{PLATFORM}.whl"
MAC: Final = "llama_cpp_python-0.3.100-py3-none-macosx_12_0_arm64.whl"
SDIST: Final = "llama_cpp_python-0.3.100.tar.gz"
LONG: Final = "Description-Content-Type"


@contextlib.contextmanager
def pypiserver(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a package index that everybody may upload to; give its address and its folder."""
    packages, port = folder / "packages", free_port()
    packages.mkdir()
    with (folder / "pypiserver.log").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port),
                "-P", ".", "-a", ".", "--disable-fallback", packages,
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "pypiserver.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/", packages
    finally:
        server.terminate()
        server.wait(20)


def proven(folder: Path, backend: str, platform: str, named: str, *, passed: bool = True) -> Path:
    """Write a wheel that can be relabelled: with build info, and with a report."""
    version = f"0.3.100+{backend}"
    wheel = write_wheel(
        folder,
        {
            "llama_cpp/__init__.py": "name = 'stand-in'\n",
            "llama_cpp/_build_info.json": f'{{"version": "{version}", "backend": "{backend}"}}\n',
        },
        version=version,
        platform=platform,
        metadata={LONG: "text/markdown\n\n# Long\n\nText."},
    )
    write_report(wheel, backend=backend, platform=named, passed=passed)
    return wheel


def sdist(folder: Path, *, kind: str = f"{LONG}: text/markdown\n") -> Path:
    version = "0.3.100"
    metadata = (
        f"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: {version}\nSummary: A stand-in\n"
        f"{kind}\n# Long\n\nText.\n"
    ).encode()
    path = folder / f"llama_cpp_python-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("PKG-INFO", metadata), ("pyproject.toml", b"[project]\n")):
            member = tarfile.TarInfo(f"llama_cpp_python-{version}/{name}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    proven(folder, "cpu", PLATFORM, "manylinux_x86_64")
    proven(folder, "metal", "macosx_12_0_arm64", "macosx_arm64")
    proven(folder, "cpu", "macosx_12_0_arm64", "macosx_arm64")
    proven(folder, "cu128", CUDA_PLATFORM, "manylinux_x86_64")
    sdist(folder)
    return folder


def upload(url: str, *arguments: str | Path, status: int = 0, **variables: str) -> str:
    environment = {**os.environ, "TWINE_USERNAME": "me", "TWINE_PASSWORD": "secret", **variables}
    done = subprocess.run(
        [sys.executable, "-m", "ci", "upload", "--repository-url", url, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_what_belongs_there_is_uploaded_and_installed(dist: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in dist.iterdir()}
    with pypiserver(tmp_path) as (url, packages):
        dry = upload(url, dist, "--dry-run")
        assert "dry run: 3 files would be uploaded" in dry
        assert names(packages) == []

        printed = upload(url, dist)
        assert "uploaded 3 files to" in printed
        assert (
            f"+cu128-py3-none-{CUDA_PLATFORM}.whl stays here: it is not its platform's" in printed
        )
        assert names(packages) == sorted([PLAIN, MAC, SDIST])
        with zipfile.ZipFile(packages / MAC) as archive:
            assert b'"backend": "metal"' in archive.read("llama_cpp/_build_info.json")

        # A second time: everything is there with the same bytes.
        assert "nothing to upload: the index has every file" in upload(url, dist)
        # One that was interrupted: only what is missing goes.
        (packages / MAC).unlink()
        assert "uploaded 1 files to" in upload(url, dist)
        assert names(packages) == sorted([PLAIN, MAC, SDIST])

        if sys.platform == "linux" and os.uname().machine == "x86_64":
            environment = tmp_path / "env"
            venv.create(environment, with_pip=True)
            python = environment / "bin" / "python"
            pip = [str(python), "-m", "pip", "--isolated", "install", "--no-cache-dir", "-q"]
            index = ["--index-url", f"{url}simple/", "--only-binary", ":all:"]
            subprocess.run(
                [*pip, *index, "llama-cpp-python"],
                check=True,
                env={**os.environ, "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1"},
            )
            look = "import llama_cpp, importlib.metadata as m; print(llama_cpp.name, m.version('llama-cpp-python'))"
            seen = subprocess.run(
                [python, "-c", look], check=True, capture_output=True, text=True, cwd=tmp_path
            )
            assert seen.stdout == "stand-in 0.3.100\n"
    assert {path: path.read_bytes() for path in dist.iterdir()} == before


def test_a_version_that_is_there_with_other_bytes_is_refused(dist: Path, tmp_path: Path) -> None:
    with pypiserver(tmp_path) as (url, packages):
        (packages / SDIST).write_bytes(b"another sdist")
        printed = upload(url, dist, status=11)
        assert f"{SDIST} is on {url}simple/ with other bytes (sha256 " in printed
        assert "a published name never changes: raise the version" in printed
        assert names(packages) == [SDIST]


def test_a_wheel_without_a_passing_report_is_refused(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    wheel = proven(dist, "cpu", PLATFORM, "manylinux_x86_64", passed=False)
    with pypiserver(tmp_path) as (url, packages):
        printed = upload(url, dist, status=9)
        assert f"{wheel.name}.smoke.json does not say that the wheel passed" in printed
        wheel.with_name(f"{wheel.name}.smoke.json").unlink()
        printed = upload(url, dist, status=9)
        assert f"{wheel.name} has no smoke report beside it" in printed
        assert names(packages) == []


def test_what_twine_refuses_is_said(tmp_path: Path) -> None:
    """A description of no kind: `twine check --strict` fails on its warning."""
    dist = tmp_path / "dist"
    dist.mkdir()
    sdist(dist, kind="")
    with pypiserver(tmp_path) as (url, packages):
        printed = upload(url, dist, status=11)
        assert "twine check refused:" in printed
        assert "`long_description_content_type` missing" in printed
        assert names(packages) == []
