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
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.installers.clients import write_pyproject
from tests.installers.served import ROOT, Served, isolated, running_platform, update
from tests.wheels import write_proven_wheel, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DIST: Final = ROOT / "dist"
PAGE: Final = "whl/cpu/llama-cpp-python"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine says where packages come from."""
    return {**isolated(tmp_path / "home"), "UV_PYTHON": sys.executable}


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


def asked(served: Served, ending: str) -> list[str]:
    """Return the files that were asked for, by the end of their names."""
    return [request.path for request in served.requests() if request.path.endswith(ending)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a site with two versions for the CPU, made by the commands."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("0.3.99+cpu", "0.3.100+cpu"):
        write_proven_wheel(folder / "dist", version=version, platform=running_platform())
    return update(folder / "dist", folder, isolated(folder))


@pytest.fixture(params=["json", "html"])
def index(
    request: pytest.FixtureRequest, site: Path, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Served]:
    """Serve the site with both kinds of pages (installers take JSON), then with HTML alone."""
    copy = tmp_path / "served"
    shutil.copytree(site, copy)
    if request.param == "html":
        for page in copy.rglob("index.v1_json"):
            page.unlink()
    with Served(copy, tmp_path / "requests.log", environment) as served:
        yield served


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


def test_pip_resolves_with_metadata_only(
    index: Served, python: Path, environment: dict[str, str]
) -> None:
    done = run(
        *pip(python, "install", "--dry-run", "--index-url", index.index("cpu"), "llama-cpp-python"),
        env=environment,
    )

    assert "Would install llama-cpp-python-0.3.100+cpu" in done.stdout
    assert len(asked(index, ".metadata")) == 1
    assert asked(index, ".whl") == []


def test_uv_locks_with_metadata_only_and_syncs(
    index: Served, environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    default = f'[[tool.uv.index]]\nname = "ours"\nurl = "{index.index("cpu")}"\ndefault = true\n'
    write_pyproject(project, default)
    run(*uv("lock"), env=environment, cwd=project)

    assert len(asked(index, ".metadata")) == 1
    assert asked(index, ".whl") == []
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

    run(*uv("sync", "--locked"), env=environment, cwd=project)

    scripts = project / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    assert installed(scripts / "python", environment) == "0.3.100+cpu"


def test_uv_knows_the_upload_time(
    index: Served, environment: dict[str, str], tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.in"
    requirements.write_text("llama-cpp-python\n", encoding="utf-8")
    options = ["--index-url", index.index("cpu"), "--no-header", "--no-annotate", "--exclude-newer"]
    compile_ = uv("pip", "compile", requirements, *options)

    after = run(*compile_, "2026-11-21T12:00:01Z", env=environment)
    before = run(*compile_, "2026-11-21T12:00:00Z", env=environment, status=1)

    assert after.stdout == "llama-cpp-python==0.3.100+cpu\n"
    assert before.stdout == ""
    assert "No solution found" in before.stderr


@pytest.mark.build
def test_the_built_wheel_is_served_and_installed(
    tmp_path: Path, python: Path, environment: dict[str, str]
) -> None:
    wheels = [path.name for path in DIST.glob("*+cpu-*.whl")]
    assert wheels, "no wheel in dist/: build one with `nox -s build -- --backend cpu`"
    site = update(DIST, tmp_path, environment)
    with Served(site, tmp_path / "requests.log", environment) as served:
        wanted = ["install", "--index-url", served.index("cpu"), "llama-cpp-python"]
        run(*pip(python, *wanted), env=environment)

    code = "import llama_cpp; print(llama_cpp.__version__, llama_cpp.__file__)"
    version, file = run(python, "-I", "-c", code, env=environment, cwd=tmp_path).stdout.split()
    assert installed(python, environment) == f"{version}+cpu"
    assert Path(file).is_relative_to(python.parent.parent)


@pytest.mark.build
def test_the_doctor_runs_from_the_index_alone(tmp_path: Path, environment: dict[str, str]) -> None:
    site = update(DIST, tmp_path, environment)
    with Served(site, tmp_path / "requests.log", environment) as served:
        tool = uv(
            "tool", "run", "--default-index", served.index("cpu"), "--from", "llama-cpp-python"
        )
        command = [*tool, "llama-cpp", "doctor", "--json"]
        env = {**environment, "UV_CACHE_DIR": str(tmp_path / "uv-cache"), "UV_LINK_MODE": "copy"}
        said = json.loads(run(*command, env=env, cwd=tmp_path).stdout)

    assert said["schema"] == 1
    assert said["fits"] is True


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("spoiled", ["wheel", "metadata"])
def test_installers_refuse_other_bytes_than_the_page_says(
    index: Served, python: Path, environment: dict[str, str], spoiled: str, installer: str
) -> None:
    folder = index.site / PAGE
    (wheel,) = folder.glob("*0.3.100+cpu*.whl")
    if spoiled == "wheel":
        write_wheel(folder, {"evil.py": ""}, version="0.3.100+cpu", platform=running_platform())
    else:
        with wheel.with_name(f"{wheel.name}.metadata").open("ab") as file:
            file.write(b"Requires-Dist: evil\n")
    options = ["install", "--index-url", index.index("cpu"), "llama-cpp-python==0.3.100+cpu"]
    command = (
        pip(python, *options) if installer == "pip" else uv("pip", *options, "--python", python)
    )

    done = run(*command, env=environment, status=1)

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
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
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
