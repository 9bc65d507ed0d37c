"""What the tests stand on: the finished wheel, its libraries, and tiny models with known answers."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

# this file imports nothing of ci/, which needs a newer Python than the binding's tests run on

ROOT = Path(__file__).resolve().parent.parent

# a shell starts background jobs with SIGINT ignored, and what they start inherits it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# nox and shells name the environment that runs the tests: an installer under test would take it for
# its own, and `uv sync` removes what it does not know
for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON"):
    os.environ.pop(name, None)

# the environment's own programs (cmake, ninja, pip) before the system's, in a nox session or without
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.fixture(scope="session", autouse=True)
def own_environment() -> Iterator[None]:
    """See that no installer under test has changed the environment that runs the tests."""
    folder = Path(pytest.__file__).parent.parent
    before = {path.name for path in folder.glob("*.dist-info")}
    yield
    after = {path.name for path in folder.glob("*.dist-info")}
    assert after == before, "a test has installed into the environment that runs the tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs an emulator that is not there; the summary says so."""
    emulator = f"qemu-{platform.machine()}"
    if shutil.which(emulator) is None:
        skip = pytest.mark.skip(reason=f"there is no {emulator} (Debian: apt install qemu-user)")
        for item in items:
            if item.get_closest_marker("emulation"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The finished wheel of this machine's CPU target in ``dist/``."""
    here = set(sys_tags())
    wheels = [
        path
        for path in sorted((ROOT / "dist").glob("llama_cpp_python-*+cpu-py3-none-*.whl"))
        if parse_wheel_filename(path.name)[-1] & here
    ]
    if len(wheels) != 1:
        pytest.fail(f"dist/ holds {len(wheels)} CPU wheels: run `nox -s build -- --backend cpu`")
    return wheels[0]


@pytest.fixture(scope="session")
def libraries(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the native libraries: ``LLAMA_CPP_LIB_PATH``, or those of the wheel."""
    chosen = os.environ.get("LLAMA_CPP_LIB_PATH")
    if chosen:
        return Path(chosen)
    folder = tmp_path_factory.mktemp("libraries")
    wheel: Path = request.getfixturevalue("wheel")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("llama_cpp/lib/"):
                archive.extract(name, folder)
    place = folder / "llama_cpp" / "lib"
    os.environ["LLAMA_CPP_LIB_PATH"] = str(place)
    return place


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models and ``answers.json``."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, "-m", "tests.tiny", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models for images and audio, and their projectors."""
    folder = tmp_path_factory.mktemp("vision")
    subprocess.run([sys.executable, "-m", "tests.tiny.media", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models whose memory is no plain KV cache."""
    folder = tmp_path_factory.mktemp("memory")
    subprocess.run([sys.executable, "-m", "tests.tiny.memory", str(folder)], cwd=ROOT, check=True)
    return folder
