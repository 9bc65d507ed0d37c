"""What pip, uv, poetry and pdm keep of a build from source, under which key, and what makes them build again.

Each statement of docs/source-build.md about caches is one of these tests. What an environment got is
read from the record of options in the wheel (``_build_info.json``).
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.installers.environments import PDM, POETRY, Installer, program, provided
from tests.sources import (
    ROOT,
    build_environment,
    copy_checkout,
    download_build_requirements,
    empty_environment,
    recorded,
    write_prebuilt,
)

pytestmark = [pytest.mark.build, pytest.mark.network]

PIP = [sys.executable, "-m", "pip"]
UV = [sys.executable, "-m", "uv"]


def run(command: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that installers look into: our sdist, what its build installs, and what it requires."""
    folder = download_build_requirements(tmp_path_factory.mktemp("shelf"))
    command = ["-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def finished(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prebuilt(tmp_path_factory.mktemp("finished") / "pre built", libraries)


class Client:
    """One tool, one cache, one environment; what it installs says how it was built."""

    def __init__(self, folder: Path, shelf: Path, finished: Path) -> None:
        self.folder = folder
        self.shelf = shelf
        self.finished = finished
        self.env = build_environment(folder)
        self.target = empty_environment(folder / "env")

    def _env(self, lto: str) -> dict[str, str]:
        given = f"-DGGML_LTO={lto} " if lto else ""
        return {**self.env, "CMAKE_ARGS": f"{given}'-DLLAMA_CPP_PREBUILT={self.finished}'"}

    def pip(self, lto: str, *options: str, what: str = "llama-cpp-python") -> str:
        """Install anew with ``-DGGML_LTO=<lto>`` in CMAKE_ARGS; return what was built in."""
        offline = ["--no-index", "--find-links", str(self.shelf)]
        command = [*PIP, "--python", str(self.target), "install", "--force-reinstall", *offline]
        run([*command, *options, what], self._env(lto), self.folder)
        return recorded(self.target).get("GGML_LTO", "")

    def uv(self, lto: str, *options: str, what: str = "llama-cpp-python") -> str:
        offline = ["--no-index", "--find-links", str(self.shelf)]
        command = [*UV, "pip", "install", "--python", str(self.target), *offline]
        run([*command, *options, what], self._env(lto), self.folder)
        return recorded(self.target).get("GGML_LTO", "")


@pytest.fixture
def client(tmp_path: Path, shelf: Path, finished: Path) -> Client:
    return Client(tmp_path, shelf, finished)


# ---- pip ---------------------------------------------------------------------------------------


def test_pip_keeps_a_cached_build_whatever_the_options(client: Client) -> None:
    assert client.pip("on") == "on"
    assert client.pip("off") == "on"
    assert client.pip("off", "-Ccmake.define.GGML_LTO=off") == "on"
    assert client.pip("off", "--no-binary", "llama-cpp-python") == "on"
    assert client.pip("off", "--upgrade", "--ignore-installed") == "on"


def test_pip_without_its_cache_builds_again(client: Client) -> None:
    assert client.pip("on") == "on"
    assert client.pip("off", "--no-cache-dir") == "off"
    # and the old build is still in the cache
    assert client.pip("off") == "on"


@pytest.mark.parametrize("command", [["remove", "llama_cpp_python"], ["purge"]])
def test_pip_cache_remove(client: Client, command: list[str]) -> None:
    assert client.pip("on") == "on"
    assert "llama_cpp_python-0.3.100" in run([*PIP, "cache", "list"], client.env, Path.cwd())
    run([*PIP, "cache", *command], client.env, Path.cwd())
    assert client.pip("off") == "off"


def test_pip_keeps_nothing_of_a_folder(client: Client) -> None:
    checkout = str(copy_checkout(client.folder / "clone"))
    assert client.pip("on", what=checkout) == "on"
    assert client.pip("off", what=checkout) == "off"


# ---- uv ----------------------------------------------------------------------------------------


def test_uv_keeps_a_cached_build_whatever_the_environment(client: Client) -> None:
    assert client.uv("on") == "on"
    for options in (
        ["--reinstall-package", "llama-cpp-python"],
        ["--refresh-package", "llama-cpp-python", "--reinstall-package", "llama-cpp-python"],
        ["--no-binary", "llama-cpp-python", "--reinstall-package", "llama-cpp-python"],
    ):
        assert client.uv("off", *options) == "on"


def test_uv_keys_builds_by_config_settings(client: Client) -> None:
    again = ["--reinstall-package", "llama-cpp-python"]
    assert client.uv("", "-Ccmake.define.GGML_LTO=on") == "on"
    assert client.uv("", "-Ccmake.define.GGML_LTO=off", *again) == "off"
    for_one = "--config-settings-package=llama-cpp-python:cmake.define.GGML_LTO=2"
    assert client.uv("", for_one, *again) == "2"
    # each is kept: the first one comes back without a build, whatever the environment says
    assert client.uv("off", "-Ccmake.define.GGML_LTO=on", *again) == "on"


def test_uv_builds_again_when_its_cache_is_cleaned(client: Client) -> None:
    again = ["--reinstall-package", "llama-cpp-python"]
    assert client.uv("on") == "on"
    assert client.uv("off", "--no-cache", *again) == "off"
    assert client.uv("off", *again) == "on"
    run([*UV, "cache", "clean", "llama-cpp-python"], client.env, client.folder)
    assert client.uv("off", *again) == "off"


def write_project(client: Client, *tables: str) -> Path:
    """A uv project that depends on us; each of ``tables`` goes to the end of its pyproject.toml."""
    project = client.folder / "app"
    project.mkdir(exist_ok=True)
    head = f"""
[project]
name = "app"
version = "1"
requires-python = ">=3.11"
dependencies = ["llama-cpp-python"]

[tool.uv]
no-index = true
find-links = ["{client.shelf}"]
"""
    (project / "pyproject.toml").write_text(head + "\n".join(tables), encoding="utf-8")
    return project


def test_uv_keys_builds_by_extra_build_variables(client: Client) -> None:
    def sync(lto: str, environment: str = "") -> str:
        given = f"-DGGML_LTO={lto} '-DLLAMA_CPP_PREBUILT={client.finished}'"
        table = f'llama-cpp-python = {{ CMAKE_ARGS = "{given}" }}'
        project = write_project(client, "[tool.uv.extra-build-variables]", table)
        env = {**client.env, "CMAKE_ARGS": environment}
        run([*UV, "sync", "--reinstall-package", "llama-cpp-python"], env, project)
        return recorded(project / ".venv")["GGML_LTO"]

    assert sync("on") == "on"
    assert sync("off") == "off"
    assert sync("on", environment="-DGGML_LTO=off") == "on"


@pytest.mark.parametrize("keys", [True, False], ids=["cache-keys", "no cache-keys"])
def test_uv_builds_a_path_source_again_by_its_cache_keys(client: Client, keys: bool) -> None:
    checkout = copy_checkout(client.folder / "clone")
    if not keys:
        file = checkout / "pyproject.toml"
        head, _, rest = file.read_text(encoding="utf-8").partition("[tool.uv]\n")
        file.write_text(head + rest.partition("\n]\n")[2], encoding="utf-8")
        assert "cache-keys" not in file.read_text(encoding="utf-8")
    source = f'llama-cpp-python = {{ path = "{checkout}" }}'
    project = write_project(client, "[tool.uv.sources]", source)

    def sync(lto: str) -> str:
        args = f"-DGGML_LTO={lto} '-DLLAMA_CPP_PREBUILT={client.finished}'"
        run([*UV, "sync"], {**client.env, "CMAKE_ARGS": args}, project)
        return recorded(project / ".venv")["GGML_LTO"]

    assert sync("on") == "on"
    assert sync("off") == ("off" if keys else "on")
    module = checkout / "llama_cpp" / "_version.py"
    module.write_text(module.read_text("utf-8") + "\nEDITED = True\n", encoding="utf-8")
    sync("off")
    (installed,) = project.glob(".venv/lib/*/site-packages/llama_cpp/_version.py")
    assert ("EDITED" in installed.read_text(encoding="utf-8")) is keys


def test_uv_builds_a_folder_on_the_command_line_every_time(client: Client) -> None:
    checkout = str(copy_checkout(client.folder / "clone"))
    assert client.uv("on", what=checkout) == "on"
    assert client.uv("off", what=checkout) == "off"


# ---- poetry and pdm ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry(shelf: Path) -> Iterator[str]:
    """A real package index with what is on the shelf; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["-m", "pypiserver", "run", "-p", str(port), "-i", "127.0.0.1", str(shelf)]
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as server:  # fmt: skip
        try:
            for _ in range(100):
                with suppress(OSError):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                    connection.request("GET", "/simple/")
                    if connection.getresponse().status == http.HTTPStatus.OK:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/simple/"
        finally:
            server.terminate()


PROJECT = """
[project]
name = "app"
version = "1"
requires-python = ">=3.11,<4"
dependencies = ["llama-cpp-python"]
"""


def test_poetry_keeps_a_build_in_its_artifacts(client: Client, registry: str) -> None:
    poetry = str(program(provided(Installer(name="poetry", version=POETRY)), "poetry"))
    source = f'[[tool.poetry.source]]\nname = "here"\nurl = "{registry}"\npriority = "primary"\n'
    text = f"{PROJECT}\n[tool.poetry]\npackage-mode = false\n\n{source}"
    (client.folder / "pyproject.toml").write_text(text, encoding="utf-8")
    cache = client.folder / "poetry cache"
    client.env |= {"POETRY_CACHE_DIR": str(cache), "POETRY_VIRTUALENVS_IN_PROJECT": "true",
                   "POETRY_CONFIG_DIR": str(client.folder / "poetry config")}  # fmt: skip

    def install(lto: str, *options: str, environment: str = "") -> str:
        settings = (
            f'{{"cmake.define.GGML_LTO": "{lto}",'
            f' "cmake.define.LLAMA_CPP_PREBUILT": "{client.finished}"}}'
        )
        key = "installer.build-config-settings.llama-cpp-python"
        run([poetry, "config", "--local", key, settings], client.env, client.folder)
        command = [poetry, "install", "--no-interaction", *options]
        run(command, {**client.env, "CMAKE_ARGS": environment}, client.folder)
        installed = recorded(client.folder / ".venv")["GGML_LTO"]
        run([sys.executable, "-m", "pip", "--python", str(client.folder / ".venv"), "uninstall",
             "-y", "llama-cpp-python"], client.env, client.folder)  # fmt: skip
        return installed

    assert install("on") == "on"
    assert install("off") == "on"
    assert install("off", environment="-DGGML_LTO=off") == "on"
    assert install("off", "--no-cache") == "on"
    run([poetry, "cache", "clear", "--all", "--no-interaction", "here"], client.env, client.folder)
    assert install("off") == "on"
    (artifact,) = cache.glob("artifacts/**/llama_cpp_python-*.whl")
    artifact.unlink()
    assert install("off") == "off"


def test_pdm_keeps_a_build_among_its_wheels(client: Client, registry: str) -> None:
    pdm = str(program(provided(Installer(name="pdm", version=PDM)), "pdm"))
    source = f'[[tool.pdm.source]]\nname = "pypi"\nurl = "{registry}"\n'
    text = f"{PROJECT}\n[tool.pdm]\ndistribution = false\n\n{source}"
    (client.folder / "pyproject.toml").write_text(text, encoding="utf-8")
    client.env |= {"PDM_CACHE_DIR": str(client.folder / "pdm cache"), "PDM_CHECK_UPDATE": "0"}
    python = str(program(client.target, "python"))
    run([pdm, "use", "-f", python], client.env, client.folder)

    def install(lto: str, environment: str = "") -> str:
        run([pdm, "install", "-C", f"cmake.define.GGML_LTO={lto}", "-C",
             f"cmake.define.LLAMA_CPP_PREBUILT={client.finished}"],
            {**client.env, "CMAKE_ARGS": environment}, client.folder)  # fmt: skip
        installed = recorded(client.target)["GGML_LTO"]
        run([*PIP, "--python", str(client.target), "uninstall", "-y", "llama-cpp-python"],
            client.env, client.folder)  # fmt: skip
        return installed

    assert install("on") == "on"
    assert install("off") == "on"
    assert install("off", environment="-DGGML_LTO=off") == "on"
    run([pdm, "cache", "remove", "llama_cpp_python*"], client.env, client.folder)
    assert install("off") == "off"
