"""Fresh environments: where a wheel comes from, and whether its dependencies come with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci.errors import SmokeError
from ci.installation import (
    Dependencies,
    backend_index,
    fetch,
    install,
    make_environment,
    plan_dependencies,
)
from ci.interpreters import Interpreter, probe
from ci.process import ProcessError
from ci.table import load_table
from ci.wheel import read_wheel
from tests.wheels import write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = load_table()
CUDA = TABLE.target("cu130", "manylinux_x86_64")
RUNTIME = "nvidia-cuda-runtime>=13.0,<14"


@pytest.fixture(scope="module")
def here() -> Interpreter:
    interpreter = probe(Path(sys.executable))
    assert interpreter is not None
    return interpreter


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve an index as any web server does: two versions for the CPU, and what they require."""
    root = tmp_path_factory.mktemp("index")
    pages = root / "whl" / "cpu"
    needs = {"Requires-Dist": "stand-in>=2"}
    for version in ("0.3.99+cpu", "0.3.100+cpu", "0.3.100+cpu.1"):
        write_wheel(pages / "llama-cpp-python", version=version, platform="any", metadata=needs)
    for version in ("1.0", "2.5"):
        files = {"stand_in.py": f"version = {version!r}\n"}
        write_wheel(pages / "stand-in", files, version=version, platform="any", project="stand-in")
    for page in pages.iterdir():
        links = "".join(
            f'<a href="{f.name.replace("+", "%2B")}">{f.name}</a>\n' for f in page.iterdir()
        )
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_wheel_that_requires_nothing(tmp_path: Path) -> None:
    extra = {"Requires-Dist": "fastapi>=0.1; extra == 'server'"}
    for metadata in ({}, extra):
        wheel = read_wheel(write_wheel(tmp_path, version="0.3.100+cu130", metadata=metadata))
        assert plan_dependencies(wheel, CUDA) == Dependencies(
            declared=(), installed=True, reason="the wheel requires nothing"
        )


def test_without_the_driver_its_runtime_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that does not load, whatever this machine has: its library is a text."""
    (tmp_path / "libcuda.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    wheel = read_wheel(
        write_wheel(tmp_path, version="0.3.100+cu130", metadata={"Requires-Dist": RUNTIME})
    )
    found = plan_dependencies(wheel, CUDA)
    assert (found.declared, found.installed) == ((RUNTIME,), False)
    assert re.fullmatch(
        r"libcuda\.so\.1 does not load here, so no GPU can use them \(OSError: .+\)", found.reason
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_with_the_driver_its_runtime_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "driver.c").write_text("int cuInit(unsigned flags) { return 0; }\n")
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-o", library, tmp_path / "driver.c"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    wheel = read_wheel(
        write_wheel(tmp_path, version="0.3.100+cu130", metadata={"Requires-Dist": RUNTIME})
    )
    assert plan_dependencies(wheel, CUDA) == Dependencies(
        declared=(RUNTIME,), installed=True, reason="libcuda.so.1 loads here"
    )


def test_a_family_without_a_driver_to_ask_for(tmp_path: Path) -> None:
    wheel = read_wheel(write_wheel(tmp_path, metadata={"Requires-Dist": "numpy"}))
    assert plan_dependencies(wheel, TABLE.target("cpu", "manylinux_x86_64")) == Dependencies(
        declared=("numpy",), installed=True, reason="the wheel requires them"
    )


def test_dependencies_come_from_the_index_or_not_at_all(
    index: str, here: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what a person's configuration says is not what is proven
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    wheel = fetch(index, "cpu", here, tmp_path, version="0.3.100")
    declared = ("stand-in>=2",)
    wanted = Dependencies(declared=declared, installed=True, reason="")
    python = make_environment(here, tmp_path / "env")
    url = backend_index(index, "cpu")
    assert install(python, wheel, tmp_path, wanted, index=url) == ["stand-in 2.5"]

    without = make_environment(here, tmp_path / "without")
    left_out = Dependencies(declared=declared, installed=False, reason="no driver")
    assert install(without, wheel, tmp_path, left_out) == []

    with pytest.raises(ProcessError):
        install(make_environment(here, tmp_path / "other"), wheel, tmp_path, wanted, index=index)


@pytest.mark.parametrize(
    ("version", "file"),
    [
        (None, "llama_cpp_python-0.3.100+cpu.1-py3-none-any.whl"),
        ("0.3.99", "llama_cpp_python-0.3.99+cpu-py3-none-any.whl"),
        ("0.3.100", "llama_cpp_python-0.3.100+cpu-py3-none-any.whl"),
        ("0.3.100+cpu.1", "llama_cpp_python-0.3.100+cpu.1-py3-none-any.whl"),
    ],
    ids=["newest", "older", "without a label", "respin"],
)
def test_the_wheel_that_pip_takes(
    index: str, here: Interpreter, tmp_path: Path, version: str | None, file: str
) -> None:
    wheel = fetch(index.rstrip("/"), "cpu", here, tmp_path / "staged", version=version)
    assert wheel == tmp_path / "staged" / file
    assert [path.name for path in (tmp_path / "staged").iterdir()] == [file]


@pytest.mark.parametrize(
    ("backend", "version", "wanted"),
    [("cpu", "9.9", "llama-cpp-python==9.9+cpu"), ("cu130", None, "llama-cpp-python")],
    ids=["version", "backend"],
)
def test_what_the_index_does_not_have(
    index: str, here: Interpreter, tmp_path: Path, backend: str, version: str | None, wanted: str
) -> None:
    with pytest.raises(SmokeError) as caught:
        fetch(index, backend, here, tmp_path, version=version)
    assert caught.value.what.startswith(f"{wanted} cannot be had from {index}whl/{backend}/\n  | ")
    assert f"No matching distribution found for {wanted}" in caught.value.what
    assert caught.value.cure == (
        "see in a browser what the index has, or name another --version or --backend"
    )
