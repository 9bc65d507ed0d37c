"""cibuildwheel knows every target of the table, and what plain users get from pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ci.table import Platform, load_table

ROOT = Path(__file__).resolve().parents[2]
TABLE = load_table()
SYSTEMS = {"linux": "linux", "macos": "macos", "windows": "windows"}


def identifiers(*arguments: str, label: str | None = None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name[:5] != "CIBW_"}
    if label is not None:
        environment["CIBW_ENVIRONMENT"] = f"LLAMA_CPP_VERSION_LABEL={label}"
    done = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", *arguments, "--print-build-identifiers", str(ROOT)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("target", [target.name for target in TABLE.targets])
def test_every_target_is_one_build(target: str) -> None:
    """With the settings that the engine gives it."""
    backend, platform = target.split("-", 1)
    identifier = TABLE.target(backend, platform).platform.cibuildwheel
    assert identifiers("--only", identifier, label=backend) == [identifier]


@pytest.mark.parametrize("platform", TABLE.platforms.values(), ids=list(TABLE.platforms))
def test_plain_users_build_once_and_test_on_three(platform: Platform) -> None:
    machine: str = platform.machine
    if platform.system == "windows":
        machine = {"x86_64": "AMD64", "aarch64": "ARM64"}[machine]
    found = identifiers("--platform", SYSTEMS[platform.system], "--archs", machine)
    half = platform.cibuildwheel.partition("-")[2]
    interpreters = TABLE.interpreters
    wanted = (interpreters.cpython[0], interpreters.cpython[-1], interpreters.free_threaded[-1])
    assert [name for name in found if name.endswith(f"-{half}")] == [
        f"cp{series.replace('.', '')}-{half}" for series in wanted
    ]
    others = [other.cibuildwheel.partition("-")[2] for other in TABLE.platforms.values()]
    assert {name.partition("-")[2] for name in found} <= set(others)


def test_plain_users_see_that_it_loads() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["cibuildwheel"]
    assert settings["test-command"] == "python -I -m llama_cpp"
