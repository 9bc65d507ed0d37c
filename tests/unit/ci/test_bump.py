"""Bump: pins move together with what derives from them, or nothing does."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT
from rich.console import Console

from ci import paths
from ci.abi.taken import FOLDERS
from ci.bump import PARTS, REPORT, Change, bump, edited, report
from ci.command_line import command_line
from ci.docs import derived_files, stale_files
from ci.errors import DiskError, NetworkError, TableError
from ci.progress import Progress
from ci.redistributable import BASE_VARIABLE, PLATFORMS
from ci.sbom import PARTS as LICENSED
from ci.table import load_table
from ci.vendor import commit_of, load_pin, pinned_tree
from tests.static_server import serving

TABLE = load_table()
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PROJECTS = PYPI_SIMPLE_ENDPOINT.replace("/simple/", "/project")
OLD, YOUNG = "2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z"

PROJECT = """\
[project]
name = "llama-cpp-python"  # not a tool: "filelock==4.2.11"

[dependency-groups]
# the tools
ci = [
  "backports.zstd==1.8.0; python_version < '3.14'", # until 3.14
  "filelock==4.2.11",
  "numpy>=1.21",
]
tests = [{ include-group = "ci" }, "filelock==4.2.11", "moto[server]==5.2.5"]
"""

TOOLKITS = """\
schema = 2

# CUDA, from the index
[[toolkit]]
name = "CUDA"
version = "13.0.88"
[toolkit.host.linux_x86_64.wheels]
"nvidia_cuda_nvcc-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl" = "SHA"

[[redistributable]]
name = "CUDA"
version = "12.8.0"
manifest = "SHA"
components = ["cuda_nvcc"]
""".replace("SHA", "0" * 64)


def git(folder: Path, *args: str, when: str = "2026-11-01T00:00:00Z") -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "gc.auto=0"]
    environment = {"GIT_COMMITTER_DATE": when, "GIT_AUTHOR_DATE": when, "PATH": "/usr/bin:/bin"}
    command = ["git", "-C", str(folder), *identity, *args]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


class _Json(SimpleHTTPRequestHandler):
    def guess_type(self, path: object) -> str:
        del path
        return "application/vnd.pypi.simple.v1+json"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index with what the pins name, and nothing newer."""
    folder = tmp_path / "simple"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Json, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    for name, version in (("backports-zstd", "1.8.0"), ("filelock", "4.2.11"), ("moto", "5.2.5"), ("nvidia-cuda-nvcc", "13.0.88")):  # fmt: skip
        write_project(folder, name, {version: OLD})
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def write_project(index: Path, name: str, versions: Mapping[str, str]) -> None:
    files = [
        {
            "filename": f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
            "url": "x",
            "hashes": {},
            "upload-time": time,
            "size": 1,
        }
        for version, time in versions.items()
    ]
    content = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": [*versions],
        "files": files,
    }
    (index / name).mkdir(exist_ok=True)
    (index / name / "index.html").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "redist"
    folder.mkdir()
    with serving(folder) as url:
        monkeypatch.setenv(BASE_VARIABLE, url)
        yield folder


def write_manifest(folder: Path, version: str) -> None:
    platforms = {
        name: {"relative_path": f"a/{name}/a.tar.xz", "sha256": "1" * 64, "size": "1"}
        for name in PLATFORMS.values()
    }
    names = ("cuda_nvcc", "cuda_cudart", "cuda_cccl", "libcublas")
    content = json.dumps(dict.fromkeys(names, platforms))
    (folder / f"redistrib_{version}.json").write_text(content, encoding="utf-8")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the tools and the toolkits are pinned in."""
    root = tmp_path / "checkout"
    for name, text in (("pyproject.toml", PROJECT), ("ci/toolkits.toml", TOOLKITS)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def files_in(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


def said() -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(Console(width=2000, file=out)), out


def test_nothing_new_changes_nothing(checkout: Path, nvidia: Path, index: Path) -> None:
    write_project(index, "moto", {"5.2.5": OLD, "5.2.6": YOUNG})
    before = files_in(checkout)
    progress, out = said()
    assert bump(progress, TABLE, ["tools", "toolkits"], now=NOW, root=checkout) == []
    assert files_in(checkout) == before
    assert out.getvalue().endswith("] nothing new\n")
    assert "WARNING moto 5.2.6 waits (uploaded 2026-11-20); 5.2.5 stays\n" in out.getvalue()


def test_tools_and_toolkits_move(checkout: Path, nvidia: Path, index: Path) -> None:
    write_project(index, "filelock", {"4.2.11": OLD, "4.3.0": OLD, "4.4.0": YOUNG})
    write_project(index, "backports-zstd", {"1.8.0": OLD, "1.9.0": OLD})
    write_project(index, "nvidia-cuda-nvcc", {"13.0.88": OLD, "13.0.96": OLD, "13.1.0": OLD})
    write_manifest(nvidia, "12.8.1")
    progress, out = said()
    changes = bump(progress, TABLE, ["tools", "toolkits"], now=NOW, root=checkout)
    assert [(change.name, change.old, change.new) for change in changes] == [
        ("backports.zstd", "1.8.0", "1.9.0"),
        ("filelock", "4.2.11", "4.3.0"),
        ("CUDA", "12.8.0", "12.8.1"),
    ]
    assert (checkout / "pyproject.toml").read_text(encoding="utf-8") == (
        PROJECT.replace("zstd==1.8.0", "zstd==1.9.0").replace('"filelock==4.2.11",', '"filelock==4.3.0",')
    )  # fmt: skip
    toolkits = (checkout / "ci/toolkits.toml").read_text(encoding="utf-8")
    assert toolkits.startswith(TOOLKITS[: TOOLKITS.index("[[redistributable]]")])
    assert 'version = "12.8.1"\nmanifest = "' in toolkits
    url = serving_url(out)
    assert (checkout / REPORT).read_text(encoding="utf-8") == (
        "| pin | old | new |\n| --- | --- | --- |\n"
        f"| backports.zstd | 1.8.0 | [1.9.0]({PROJECTS}/backports.zstd/1.9.0/) |\n"
        f"| filelock | 4.2.11 | [4.3.0]({PROJECTS}/filelock/4.3.0/) |\n"
        f"| CUDA | 12.8.0 | [12.8.1]({url}/redistrib_12.8.1.json) |\n"
        "\nChanged: `ci/toolkits.toml`, `pyproject.toml`.\n"
        "\nLeft to a person:\n\n"
        "- ci/toolkits.toml: nvidia-cuda-nvcc 13.0.88 is pinned, 13.0.96 is there\n"
    )
    # a second run finds nothing more
    progress, out = said()
    assert bump(progress, TABLE, ["tools", "toolkits"], now=NOW, root=checkout) == []


def serving_url(out: io.StringIO) -> str:
    return next(
        line.split("asking ")[1].split(" and ")[0]
        for line in out.getvalue().splitlines()
        if " for newer toolkits" in line
    )


def test_the_cool_down_can_be_another(checkout: Path, index: Path) -> None:
    write_project(index, "filelock", {"4.2.11": OLD, "4.4.0": YOUNG})
    progress, _ = said()
    week = {"now": NOW, "root": checkout}
    assert bump(progress, TABLE, ["tools"], **week) == []  # type: ignore[arg-type]
    (change,) = bump(progress, TABLE, ["tools"], cool_down=timedelta(days=1), **week)  # type: ignore[arg-type]
    assert change.new == "4.4.0"


def test_what_cannot_be_asked_leaves_all_as_it_was(checkout: Path, index: Path) -> None:
    write_project(index, "filelock", {"4.2.11": OLD, "4.3.0": OLD})
    shutil.rmtree(index / "moto")
    before = files_in(checkout)
    with pytest.raises(NetworkError, match="the package index has no page of moto"):
        bump(said()[0], TABLE, ["tools"], now=NOW, root=checkout)
    assert files_in(checkout) == before


def test_what_cannot_be_written_leaves_all_as_it_was(checkout: Path, index: Path) -> None:
    write_project(index, "filelock", {"4.2.11": OLD, "4.3.0": OLD})
    # in the place of the last file that is written
    (checkout / REPORT / "in the way").mkdir(parents=True)
    before = files_in(checkout)
    with pytest.raises(DiskError, match=f"{checkout} cannot be written"):
        bump(said()[0], TABLE, ["tools"], now=NOW, root=checkout)
    assert files_in(checkout) == before


_SCRIPT = """
from datetime import UTC, datetime
from pathlib import Path
import sys

from ci.bump import bump
from ci.progress import Progress
from ci.table import load_table

bump(Progress(), load_table(), ["tools"], now=datetime.now(UTC), root=Path(sys.argv[1]))
"""


def test_an_interruption_leaves_all_as_it_was(
    checkout: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(index, "filelock", {"4.2.11": OLD, "4.3.0": OLD})
    before = files_in(checkout)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # an index that takes the question and never answers
        silent.settimeout(120)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        command = [sys.executable, "-c", _SCRIPT, str(checkout)]
        with subprocess.Popen(
            command, cwd=paths.ROOT, stderr=subprocess.PIPE, text=True
        ) as process:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)
                process.send_signal(signal.SIGINT)
                _, error = process.communicate(timeout=120)
    assert error.rstrip().endswith("KeyboardInterrupt")
    assert files_in(checkout) == before


def test_strings_that_stand_there_in_another_way_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("""a = ['b==1']\nc = "b==1"  # "b==1"\n""", encoding="utf-8")
    with pytest.raises(TableError) as caught:
        edited(path, {"b==1": "b==2"})
    assert caught.value.what == "a.toml cannot be edited: b==1"
    path.write_text("""a = ["b==1", "b==10"]\n""", encoding="utf-8")
    assert edited(path, {"b==1": "b==2"}) == """a = ["b==2", "b==10"]\n"""


# ---- llama.cpp ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what derives from llama.cpp: at b100 as it is pinned, at b101 with a function more."""
    if not paths.TREE.exists():
        pytest.skip("llama.cpp is not in vendor/: run `nox -s vendor`")
    path = tmp_path_factory.mktemp("upstream")
    git(path, "init", "-q")
    landmarks = ["CMakeLists.txt", "LICENSE", *(part.source for part in LICENSED)]
    for name in landmarks:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths.TREE / name, path / name)
    for folder in FOLDERS:
        shutil.copytree(paths.TREE / folder, path / folder, dirs_exist_ok=True)
    git(path, "add", "-A", "-f")
    git(path, "commit", "-q", "-m", "one")
    git(path, "tag", "b100")
    header = path / "include" / "llama.h"
    text = header.read_text(encoding="utf-8")
    first = "LLAMA_API int64_t llama_time_us(void);"
    assert first in text
    header.write_text(
        text.replace(first, f"{first}\n    LLAMA_API int32_t llama_news(void);"), "utf-8"
    )
    git(path, "commit", "-q", "-am", "two", when="2026-11-10T00:00:00Z")
    git(path, "tag", "b101")
    return path


@pytest.fixture
def whole(tmp_path: Path, upstream: Path) -> Path:
    """A checkout with all that derives from llama.cpp, at b100."""
    root = tmp_path / "whole"
    for name in ("llama_cpp", "docs/proof", "vendor/licenses"):
        shutil.copytree(
            paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("lib", "__pycache__")
        )
    for name in ("README.md", "docs/proof.md", "vendor/abi_check.c"):
        shutil.copyfile(paths.ROOT / name, root / name)
    first = git(upstream, "rev-parse", "b100")
    (root / "vendor" / "llama.cpp.toml").write_text(
        f'# the pin\nrepository = "{upstream.as_uri()}"\ncommit = "{first}" # a commit\n'
        'version = "b100"\nmirror = []\n',
        encoding="utf-8",
    )
    return root


def place(root: Path) -> None:
    """Bring the pinned tree, and write what derives from it."""
    pin = load_pin(root / "vendor" / "llama.cpp.toml")
    tree = pinned_tree(said()[0], pin=pin, tree=root / "vendor" / "llama.cpp")
    for name, text in derived_files(TABLE, tree, root=root).items():
        (root / name).write_text(text, encoding="utf-8")


def test_llama_cpp_moves_with_all_that_derives_from_it(whole: Path, upstream: Path) -> None:
    place(whole)
    first, second = (git(upstream, "rev-parse", tag) for tag in ("b100", "b101"))
    before = files_in(whole)
    (change,) = bump(said()[0], TABLE, ["llama-cpp"], now=NOW, root=whole)
    assert change == Change(
        part="llama-cpp",
        name="llama.cpp",
        old="b100",
        new="b101",
        url=f"{upstream.as_uri()}/compare/{first[:12]}...b101",
    )
    pin = load_pin(whole / "vendor" / "llama.cpp.toml")
    assert (pin.commit, pin.version) == (second, "b101")
    assert (whole / "vendor/llama.cpp.toml").read_text(encoding="utf-8") == (
        f'# the pin\nrepository = "{upstream.as_uri()}"\ncommit = "{second}" # a commit\n'
        'version = "b101"\nmirror = []\n'
    )
    assert commit_of(whole / "vendor" / "llama.cpp") == second
    assert "llama_news" in (whole / "llama_cpp" / "_abi.py").read_text(encoding="utf-8")
    tree = pinned_tree(said()[0], pin=pin, tree=whole / "vendor" / "llama.cpp")
    assert stale_files(derived_files(TABLE, tree, root=whole), root=whole) == []
    after = files_in(whole)
    assert {name for name in after if after[name] != before.get(name)} >= {
        REPORT, "docs/proof.md", "llama_cpp/_abi.py", "llama_cpp/_abi.pyi", "vendor/abi_check.c",
        "vendor/llama.cpp.toml", "vendor/llama.cpp/include/llama.h",
    }  # fmt: skip
    assert "The diff of `llama_cpp/_abi.py`" in (whole / REPORT).read_text(encoding="utf-8")
    assert sorted(path.name for path in (whole / "vendor").iterdir()) == [
        "abi_check.c", "licenses", "llama.cpp", "llama.cpp.toml",
    ]  # fmt: skip
    assert bump(said()[0], TABLE, ["llama-cpp"], now=NOW, root=whole) == []


def test_a_new_llama_cpp_that_cannot_be_written_leaves_the_old_one(whole: Path) -> None:
    place(whole)
    (whole / REPORT / "in the way").mkdir(parents=True)
    before = files_in(whole)
    with pytest.raises(DiskError):
        bump(said()[0], TABLE, ["llama-cpp"], now=NOW, root=whole)
    assert files_in(whole) == before
    assert not list((whole / "vendor").glob(".*"))


def test_a_pin_that_is_newer_than_the_newest_release_stays(whole: Path, upstream: Path) -> None:
    git(upstream, "checkout", "-q", "b101")
    git(upstream, "commit", "-q", "--allow-empty", "-m", "three", when="2026-11-20T00:00:00Z")
    third = git(upstream, "rev-parse", "HEAD")
    git(upstream, "branch", "-f", "ahead")
    path = whole / "vendor" / "llama.cpp.toml"
    first = load_pin(path).commit
    path.write_text(path.read_text(encoding="utf-8").replace(first, third), encoding="utf-8")
    pin = load_pin(path)
    pinned_tree(said()[0], pin=pin, tree=whole / "vendor" / "llama.cpp")
    before = files_in(whole)
    progress, out = said()
    assert bump(progress, TABLE, ["llama-cpp"], now=NOW, root=whole) == []
    assert files_in(whole) == before
    assert (
        f"the pinned llama.cpp, {third[:12]}, is newer than b101, the newest release"
        in out.getvalue()
    )


def test_the_report_names_what_is_left() -> None:
    change = Change(part="tools", name="a", old="1", new="2", url="https://b")
    assert report([change], ["see c"], ["d.toml"]) == (
        "| pin | old | new |\n| --- | --- | --- |\n| a | 1 | [2](https://b) |\n"
        "\nChanged: `d.toml`.\n\nLeft to a person:\n\n- see c\n"
    )


def test_the_verb_takes_parts_and_a_cool_down(capsys: pytest.CaptureFixture[str]) -> None:
    options = command_line().parse_args(["bump"])
    assert (options.parts or PARTS, options.cool_down) == (PARTS, timedelta(days=7))
    options = command_line().parse_args(["bump", "--tools", "--toolkits", "--cool-down", "0"])
    assert (options.parts, options.cool_down) == (["tools", "toolkits"], timedelta())
    with pytest.raises(SystemExit):
        command_line().parse_args(["bump", "--cool-down", "x"])
    assert "'x' is not a number of days" in capsys.readouterr().err
