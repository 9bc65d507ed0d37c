"""One index is enough: what our wheels require comes through it, with real pip and real uv."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from packaging.tags import platform_tags

from ci.table import load_table
from index import catalogue
from index.dependencies import load
from index.serve import Server
from index.site import build
from index.upstream import update
from tests.upstream import Upstream, served
from tests.wheels import write_report, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE: Final = load_table()
EXPECTED: Final = {
    "llama-cpp-python": "0.3.100+cpu",
    "standin-base": "2.0",
    "standin-blas": "1.1",
    "standin-runtime": "12.9",
}
REQUIRES: Final = (
    "standin-runtime>=12.1,<13",
    "standin-blas>=1; python_version >= '3.9'",
    "standin-never; sys_platform == 'plan9'",
)


@dataclass
class Index:
    """Our index on loopback, the upstream index that its links lead to, and what both were asked."""

    site: Path
    upstream: Upstream
    url: str = ""
    log: list[str] = field(default_factory=list)

    def projects(self) -> set[str]:
        """Return the projects whose page was fetched from us."""
        pages = (re.fullmatch(r"GET /whl/cpu/([^/ ]+)/ 200 \d+", line) for line in self.log)
        return {page[1] for page in pages if page}

    def upstream_files(self) -> set[str]:
        """Return what was fetched upstream: wheels and their metadata, and pages if there are any."""
        return {line.split(" ")[1].rpartition("/")[2] for line in self.upstream.log}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Upstream]]:
    """Make a site whose one wheel requires what lies on another index."""
    folder = tmp_path_factory.mktemp("dependencies")
    other = Upstream(root=folder / "upstream")
    for version in ("11.0", "12.1", "12.9", "12.10", "13.0"):
        other.wheel("standin-runtime", version)
    other.yanked["standin_runtime-12.10-py3-none-any.whl"] = "does not start"
    other.wheel("standin-blas", "1.0")
    requires = ("standin-base>=2; python_version >= '3.9'", "standin-windows; os_name == 'nt'")
    other.wheel("standin-blas", "1.1", requires=requires)
    # Not for this machine, and yet uv asks for them when it locks for every machine at once.
    other.wheel("standin-windows", "3", tag="py3-none-win_amd64")
    other.wheel("standin-never", "4")
    for version in ("1.0", "2.0"):
        other.wheel("standin-base", version)

    tags = {platform.wheel_tag: platform for platform in TABLE.platforms.values()}
    tag = next(tag for tag in platform_tags() if tag in tags)
    wheel = write_wheel(
        folder / "dist",
        platform=tag,
        metadata={"Requires-Dist": "\nRequires-Dist: ".join(REQUIRES)},
    )
    write_report(wheel, platform=tags[tag].name)
    file = folder / "catalogue.jsonl"
    catalogue.add(file, [wheel], table=TABLE, upload_time="2026-11-21T12:00:00Z")
    entries = catalogue.load(file)
    with served(other):
        update(folder / "dependencies.jsonl", entries, table=TABLE, upstream=other.url)
        build(
            entries,
            folder / "site",
            table=TABLE,
            wheels=[folder / "dist"],
            dependencies=load(folder / "dependencies.jsonl"),
        )
        yield folder / "site", other


@pytest.fixture(params=["json", "html"])
def index(
    request: pytest.FixtureRequest, made: tuple[Path, Upstream], tmp_path: Path
) -> Iterator[Index]:
    """Serve it with both kinds of pages (installers take JSON), then with HTML alone."""
    site, other = made
    other.log.clear()
    copy = tmp_path / "served"
    shutil.copytree(site, copy)
    if request.param == "html":
        for page in copy.rglob("index.v1_json"):
            page.unlink()
    index = Index(site=copy, upstream=other)
    server = Server(copy, port=0, log=index.log.append)
    index.url = f"{server.url}whl/cpu/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield index
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine says where packages come from."""
    kept = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "XDG_CONFIG_HOME": str(tmp_path),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def run(*arguments: str | Path, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *(str(argument) for argument in arguments)],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment_in(folder: Path) -> Path:
    """Return the interpreter of a fresh environment without anything in it."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(python: Path, env: dict[str, str], cwd: Path) -> dict[str, str]:
    listed = run("uv", "pip", "list", "--python", python, "--format", "json", env=env, cwd=cwd)
    return {package["name"]: package["version"] for package in json.loads(listed)}


def test_pip_needs_no_other_index(
    index: Index, tmp_path: Path, environment: dict[str, str]
) -> None:
    python = environment_in(tmp_path / "env")

    run(
        *("pip", "--python", python, "install", "--index-url", index.url, "llama-cpp-python"),
        env=environment,
        cwd=tmp_path,
    )

    assert installed(python, environment, tmp_path) == EXPECTED
    assert index.projects() == set(EXPECTED)
    names = [f"{name.replace('-', '_')}-{EXPECTED[name]}-py3-none-any.whl" for name in EXPECTED]
    files = {name for name in names if name.startswith("standin")}
    assert index.upstream_files() == files | {f"{name}.metadata" for name in files}


def test_uv_pip_needs_no_other_index(
    index: Index, tmp_path: Path, environment: dict[str, str]
) -> None:
    python = environment_in(tmp_path / "env")

    run(
        *("uv", "pip", "install", "--python", python, "--index-url", index.url, "llama-cpp-python"),
        env=environment,
        cwd=tmp_path,
    )

    assert installed(python, environment, tmp_path) == EXPECTED
    assert index.projects() == set(EXPECTED)


def test_hashes_are_locked_and_required(
    index: Index, tmp_path: Path, environment: dict[str, str]
) -> None:
    python = environment_in(tmp_path / "env")
    (tmp_path / "in.txt").write_text("llama-cpp-python\n", encoding="utf-8")
    where = ("--index-url", index.url)

    run(
        *("uv", "pip", "compile", "in.txt", "--generate-hashes", "--output-file", "out.txt"),
        *("--python", python, *where),
        env=environment,
        cwd=tmp_path,
    )
    run(
        *("pip", "--python", python, "install", "--require-hashes", "-r", "out.txt", *where),
        env=environment,
        cwd=tmp_path,
    )

    locked = (tmp_path / "out.txt").read_text(encoding="utf-8")
    assert locked.count("--hash=sha256:") == len(EXPECTED)
    assert installed(python, environment, tmp_path) == EXPECTED


def test_uv_lock_carries_the_hashes_and_addresses(
    index: Index, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        "[project]\n"
        'name = "downstream"\n'
        'version = "1"\n'
        f'requires-python = ">={sys.version_info[0]}.{sys.version_info[1]}"\n'
        'dependencies = ["llama-cpp-python>=0.3,<0.4"]\n'
        "[[tool.uv.index]]\n"
        f'url = "{index.url}"\n'
        "default = true\n",
        encoding="utf-8",
    )

    run("uv", "lock", "--python", sys.executable, env=environment, cwd=folder)
    run("uv", "sync", "--locked", "--python", sys.executable, env=environment, cwd=folder)

    lock = tomllib.loads((folder / "uv.lock").read_text(encoding="utf-8"))
    packages = {package["name"]: package for package in lock["package"]}
    assert {name: packages[name]["version"] for name in EXPECTED} == EXPECTED
    for project in ("standin-base", "standin-blas", "standin-runtime"):
        (wheel,) = packages[project]["wheels"]
        page = index.upstream.folder(project)
        name = wheel["url"].rpartition("/")[2]
        assert wheel["url"] == f"{index.upstream.url}{project}/{name}"
        assert (page / name).is_file()
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", wheel["hash"])
        assert wheel["size"] == (page / name).stat().st_size
        assert wheel["upload-time"] == "2026-10-01T08:00:00Z"
    bin_folder = folder / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    assert installed(bin_folder / "python", environment, folder) == EXPECTED
