"""The index with real installers: pip and uv against a site that is served on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from packaging.tags import platform_tags

from ci.table import load_table
from tests.wheels import write_proven_wheel, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
DIST: Final = ROOT / "dist"
PAGE: Final = "whl/cpu/llama-cpp-python"
NAME_START: Final = "llama_cpp_python-0.3.100%2Bcpu-py3-none-"
# 2026-11-21T12:00:00Z
EPOCH: Final = "1795262400"


def running_platform() -> str:
    """Return the tag of the running platform as our table has it."""
    ours = {platform.wheel_tag for platform in load_table().platforms.values()}
    return next(tag for tag in platform_tags() if tag in ours)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which nothing of this machine says where packages come from."""
    home = tmp_path_factory.mktemp("home")
    kept = {
        name: os.environ[name]
        for name in ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
        if name in os.environ
    }
    return {
        **kept,
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home),
        "XDG_CONFIG_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON": sys.executable,
        "SOURCE_DATE_EPOCH": EPOCH,
    }


def run(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path = ROOT, status: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True, kw_only=True)
class Index:
    """A site that is being served, and the log of its requests."""

    site: Path
    url: str
    log: Path

    @property
    def cpu(self) -> str:
        return f"{self.url}whl/cpu/"

    def requests(self) -> list[str]:
        """Return the requests so far: ``GET PATH STATUS SIZE``."""
        return self.log.read_text(encoding="utf-8").splitlines()

    def wheels_served(self) -> list[str]:
        return [line for line in self.requests() if re.search(r"\.whl \d+ \d+$", line)]

    def metadata_served(self) -> list[str]:
        return [line for line in self.requests() if re.search(r"\.whl\.metadata \d+ \d+$", line)]


class Served:
    """``python -m index serve`` as a process."""

    def __init__(self, site: Path, folder: Path, env: Mapping[str, str]) -> None:
        log = folder / "requests.log"
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "index", "serve", "--root", str(site), "--port", "0"],
                cwd=ROOT,
                env=dict(env),
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", first)
        assert found is not None, first + log.read_text(encoding="utf-8")
        self.index = Index(site=site, url=found[0], log=log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Make a site with two versions for the CPU and one for CUDA, made by the commands."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("0.3.99+cpu", "0.3.100+cpu", "0.3.100+cu128"):
        backend = version.partition("+")[2]
        write_proven_wheel(
            folder / "dist", backend=backend, version=version, platform=running_platform()
        )
    update(folder / "dist", folder, environment)
    return folder / "site"


def update(dist: Path, folder: Path, env: Mapping[str, str]) -> None:
    """Make ``folder/site`` of the wheels in ``dist``, as `nox -s index` does."""
    files = ["--catalogue", f"{folder}/catalogue.jsonl", "--out", f"{folder}/site"]
    run(sys.executable, "-m", "index", "update", "--wheels", dist, *files, env=env)


@pytest.fixture(params=["json", "html"])
def index(
    request: pytest.FixtureRequest, site: Path, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Index]:
    """Serve the site with both kinds of pages (installers take JSON), then with HTML alone."""
    copy = tmp_path / "served"
    shutil.copytree(site, copy)
    if request.param == "html":
        for page in copy.rglob("index.v1_json"):
            page.unlink()
    served = Served(copy, tmp_path, environment)
    yield served.index
    served.stop()


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Return the interpreter of a fresh environment without anything in it."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed(python: Path, env: Mapping[str, str]) -> str:
    code = "from importlib.metadata import version; print(version('llama-cpp-python'))"
    return run(python, "-I", "-c", code, env=env).stdout.strip()


def pip(python: Path, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "pip", "--python", python, *arguments]


def uv(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "uv", *arguments]


@pytest.fixture
def uv_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {**environment, "UV_CACHE_DIR": str(tmp_path / "uv-cache"), "UV_LINK_MODE": "copy"}


def test_pip_installs(index: Index, python: Path, environment: dict[str, str]) -> None:
    run(
        *pip(python, "install", "--index-url", index.cpu, "llama-cpp-python>=0.3,<0.4"),
        env=environment,
    )

    assert installed(python, environment) == "0.3.100+cpu"
    page = index.site / PAGE / "index.v1_json"
    kind = page if page.is_file() else page.with_name("index.html")
    assert f"GET /{PAGE}/ 200 {kind.stat().st_size}" in index.requests()
    assert [line.split("/")[-1].startswith(NAME_START) for line in index.wheels_served()] == [True]


def test_pip_resolves_with_metadata_only(
    index: Index, python: Path, environment: dict[str, str]
) -> None:
    done = run(
        *pip(python, "install", "--dry-run", "--index-url", index.cpu, "llama-cpp-python"),
        env=environment,
    )

    assert "Would install llama-cpp-python-0.3.100+cpu" in done.stdout
    assert len(index.metadata_served()) == 1
    assert index.wheels_served() == []


def test_pip_switches_to_an_exact_label_and_back(
    index: Index, python: Path, environment: dict[str, str]
) -> None:
    seen = []
    for backend in ("cpu", "cu128", "cpu"):
        address = f"{index.url}whl/{backend}/"
        wanted = f"llama-cpp-python==0.3.100+{backend}"
        run(*pip(python, "install", "--index-url", address, wanted), env=environment)
        seen.append(installed(python, environment))

    assert seen == ["0.3.100+cpu", "0.3.100+cu128", "0.3.100+cpu"]


def test_uv_pip_installs(index: Index, python: Path, uv_environment: dict[str, str]) -> None:
    run(
        *uv("pip", "install", "--python", python, "--index-url", index.cpu, "llama-cpp-python"),
        env=uv_environment,
    )

    assert installed(python, uv_environment) == "0.3.100+cpu"
    page = index.site / PAGE / "index.v1_json"
    kind = page if page.is_file() else page.with_name("index.html")
    assert f"GET /{PAGE}/ 200 {kind.stat().st_size}" in index.requests()
    assert len(index.wheels_served()) == 1


@pytest.fixture
def project(tmp_path: Path, index: Index) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        "[project]\n"
        'name = "downstream"\n'
        'version = "1"\n'
        'requires-python = ">=3.9"\n'
        'dependencies = ["llama-cpp-python>=0.3,<0.4"]\n'
        "[[tool.uv.index]]\n"
        'name = "ours"\n'
        f'url = "{index.cpu}"\n'
        "default = true\n",
        encoding="utf-8",
    )
    return folder


def test_uv_locks_with_metadata_only_and_syncs(
    index: Index, project: Path, uv_environment: dict[str, str]
) -> None:
    # A project reads its own [tool.uv], which UV_NO_CONFIG would keep it from.
    env = {name: value for name, value in uv_environment.items() if name != "UV_NO_CONFIG"}
    run(*uv("lock"), env=env, cwd=project)

    assert len(index.metadata_served()) == 1
    assert index.wheels_served() == []
    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    (package,) = (each for each in lock["package"] if each["name"] == "llama-cpp-python")
    (wheel,) = (path for path in (index.site / PAGE).glob("*0.3.100+cpu*.whl"))
    assert package["version"] == "0.3.100+cpu"
    (locked,) = package["wheels"]
    assert locked == {
        "url": f"{index.url}{PAGE}/{wheel.name.replace('+', '%2B')}",
        "hash": f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}",
        "size": wheel.stat().st_size,
        "upload-time": "2026-11-21T12:00:00Z",
    }

    run(*uv("sync", "--locked"), env=env, cwd=project)

    scripts = project / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    assert installed(scripts / "python", env) == "0.3.100+cpu"


def test_uv_knows_the_upload_time(
    index: Index, uv_environment: dict[str, str], tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.in"
    requirements.write_text("llama-cpp-python\n", encoding="utf-8")
    options = ["--index-url", index.cpu, "--no-header", "--no-annotate", "--exclude-newer"]
    compile_ = uv("pip", "compile", requirements, *options)

    after = run(*compile_, "2026-11-21T12:00:01Z", env=uv_environment)
    before = run(*compile_, "2026-11-21T12:00:00Z", env=uv_environment, status=1)

    assert after.stdout == "llama-cpp-python==0.3.100+cpu\n"
    assert before.stdout == ""
    assert "No solution found" in before.stderr


def test_an_unknown_project_is_asked_for_at_the_next_index(
    index: Index, python: Path, uv_environment: dict[str, str], tmp_path: Path
) -> None:
    other = tmp_path / "other" / "numpy"
    other.mkdir(parents=True)
    (other / "index.html").write_text("<!DOCTYPE html><html><body></body></html>", encoding="utf-8")
    indexes = ["--index", index.cpu, "--default-index", other.parent.as_uri()]

    done = run(
        *uv("pip", "install", "--python", python, *indexes, "numpy"), env=uv_environment, status=1
    )

    assert "GET /whl/cpu/numpy/ 404" in "\n".join(index.requests())
    assert "there are no versions of numpy" in done.stderr


@pytest.mark.build
def test_the_built_wheel_is_served_and_installed(
    tmp_path: Path, python: Path, environment: dict[str, str]
) -> None:
    wheels = [path.name for path in DIST.glob("*+cpu-*.whl")]
    assert wheels, "no wheel in dist/: build one with `nox -s build -- --backend cpu`"
    update(DIST, tmp_path, environment)
    served = Served(tmp_path / "site", tmp_path, environment)
    try:
        wanted = ["install", "--index-url", served.index.cpu, "llama-cpp-python"]
        run(*pip(python, *wanted), env=environment)
    finally:
        served.stop()

    code = "import llama_cpp; print(llama_cpp.__version__, llama_cpp.__file__)"
    version, file = run(python, "-I", "-c", code, env=environment, cwd=tmp_path).stdout.split()
    assert installed(python, environment) == f"{version}+cpu"
    assert Path(file).is_relative_to(python.parent.parent)


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("spoiled", ["wheel", "metadata"])
def test_installers_refuse_other_bytes_than_the_page_says(
    index: Index, python: Path, uv_environment: dict[str, str], spoiled: str, installer: str
) -> None:
    folder = index.site / PAGE
    (wheel,) = folder.glob("*0.3.100+cpu*.whl")
    if spoiled == "wheel":
        write_wheel(folder, {"evil.py": ""}, version="0.3.100+cpu", platform=running_platform())
    else:
        with wheel.with_name(f"{wheel.name}.metadata").open("ab") as file:
            file.write(b"Requires-Dist: evil\n")
    options = ["install", "--index-url", index.cpu, "llama-cpp-python==0.3.100+cpu"]
    command = (
        pip(python, *options) if installer == "pip" else uv("pip", *options, "--python", python)
    )

    done = run(*command, env=uv_environment, status=1)

    assert re.search("do not match the hashes|hash mismatch|mismatched hash", done.stderr.lower())
    assert not list(python.parent.parent.rglob("evil.py"))


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be exchanged in one step there")
def test_killed_at_any_point_the_site_is_the_old_or_the_new_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    dist, site, file = tmp_path / "dist", tmp_path / "site", tmp_path / "catalogue.jsonl"
    options = ["--catalogue", str(file), "--wheels", str(dist), "--out", str(site)]
    command = [sys.executable, "-m", "index", "update", *options]
    write_proven_wheel(dist, version="0.3.0+cpu")
    started = time.monotonic()
    run(*command, env=environment)
    usual = time.monotonic() - started
    ends = set()
    for number in range(1, 25):
        write_proven_wheel(dist, version=f"0.3.{number}+cpu")
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        # The first half is the start of Python, so the kills are in the second and just after.
        try:
            process.communicate(timeout=usual * (0.5 + 0.025 * number))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        ends.add(process.returncode)
        assert_whole(site)
        assert all(line.endswith(b"}\n") for line in file.read_bytes().splitlines(keepends=True))

    assert -signal.SIGKILL in ends
    run(*command, env=environment)
    assert len(assert_whole(site)) == 25
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"dist", "site", "catalogue.jsonl"}


def assert_whole(site: Path) -> list[str]:
    """See that everything that the pages say is there with the bytes that they say."""
    page = json.loads((site / PAGE / "index.v1_json").read_bytes())
    for file in page["files"]:
        wheel = site / PAGE / file["filename"]
        metadata = wheel.with_name(f"{wheel.name}.metadata")
        assert hashlib.sha256(wheel.read_bytes()).hexdigest() == file["hashes"]["sha256"]
        assert hashlib.sha256(metadata.read_bytes()).hexdigest() == file["core-metadata"]["sha256"]
        assert f">{wheel.name}</a>" in (site / PAGE / "index.html").read_text(encoding="utf-8")
    (backend,) = json.loads((site / "backends.json").read_bytes())["backends"]
    assert [wheel["name"] for wheel in backend["wheels"]] == [f["filename"] for f in page["files"]]
    return [file["filename"] for file in page["files"]]
