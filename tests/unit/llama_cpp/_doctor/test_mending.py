"""The commands that mend something, tool by tool."""

from __future__ import annotations

import pytest

from llama_cpp._doctor.installation import Distribution
from llama_cpp._doctor.mending import add, rebuild, reinstall

from .machines import SITE, facts

URL = "file:///home/me/llama-cpp-python"


def texts(steps) -> list[str]:  # type: ignore[no-untyped-def]
    return [step.text for step in steps]


@pytest.mark.parametrize(
    ("tool", "first"),
    [
        ("pip", "pip uninstall -y llama-cpp-python"),
        ("uv-pip", "uv pip uninstall llama-cpp-python"),
        ("uv", "uv sync --reinstall-package llama-cpp-python"),
        ("poetry", "poetry run python -m pip uninstall -y llama-cpp-python"),
        ("pdm", "pdm sync --reinstall"),
    ],
)
def test_reinstall(tool: str, first: str) -> None:
    assert texts(reinstall(facts(tool=tool)))[0] == first


def test_what_came_from_a_folder_is_built_from_it_again() -> None:
    own = Distribution("0.3.100", SITE, "pip", URL, False, ())
    past_the_cache = "pip install --no-cache-dir --force-reinstall --no-deps"
    machine = facts(None, installation={"distribution": own})
    assert texts(reinstall(machine)) == [
        f'{past_the_cache} --no-binary llama-cpp-python "{URL}"',
    ]
    wheel = own._replace(version="0.3.100+cpu", url="file:///dist/llama.whl")
    assert texts(reinstall(facts(installation={"distribution": wheel})))[0] == (
        "pip uninstall -y llama-cpp-python"
    )
    editable = facts(None, installation={"distribution": own._replace(editable=True)})
    assert texts(rebuild(editable)) == [
        f'{past_the_cache} --no-binary llama-cpp-python -e "{URL}"',
    ]


@pytest.mark.parametrize("tool", ["poetry", "pdm"])
def test_poetry_and_pdm_have_no_pip_of_their_own(tool: str) -> None:
    (command,) = texts(rebuild(facts(None, tool=tool)))
    assert command.startswith('pip --python "/venv/bin/python" install --no-cache-dir ')


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("uv", 'uv add "x>=1"'),
        ("uv-pip", 'uv pip install "x>=1"'),
        ("pip", 'pip install "x>=1"'),
        ("poetry", 'poetry add "x>=1"'),
        ("pdm", 'pdm add "x>=1"'),
    ],
)
def test_one_more_package(tool: str, command: str) -> None:
    assert texts(add(facts(tool=tool), "x>=1")) == [command]
