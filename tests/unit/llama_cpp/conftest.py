"""What the binding's tests share: the tiny models' answers, and a Python of its own per hostile input."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llama_cpp import Llama

REPOSITORY = Path(__file__).parents[3]

# these compare with what the toolchain knows, which does not run on every Python of the binding
_WITH_TOOLCHAIN = [
    "test_abi.py",
    "test_harmony.py",
    "test_llama_cpp.py",
    "test_model_templates.py",
]
collect_ignore = [] if importlib.util.find_spec("pydantic") else _WITH_TOOLCHAIN


def pytest_report_header() -> list[str]:
    """Say what is left out."""
    return [f"left out, for they need the toolchain: {', '.join(collect_ignore)}"] * bool(
        collect_ignore
    )


@pytest.fixture(autouse=True)
def native(request: pytest.FixtureRequest) -> None:
    """Have the native libraries in place before a test that is marked as needing them."""
    if request.node.get_closest_marker("build") is not None:
        request.getfixturevalue("libraries")


@pytest.fixture(scope="session")
def answers(tiny: Path) -> dict[str, dict[str, object]]:
    """The known answers, by model name."""
    models: dict[str, dict[str, object]] = json.loads((tiny / "answers.json").read_text())["models"]
    return models


@pytest.fixture(scope="session")
def model_file(tiny: Path) -> Path:
    """The F32 llama."""
    return tiny / "llama-f32.gguf"


@pytest.fixture
def llm(model_file: Path) -> Iterator[Llama]:
    """The F32 llama, loaded, on one thread."""
    from llama_cpp import Llama  # noqa: PLC0415 - import of the package is under test elsewhere

    with Llama(model_file, n_threads=1, n_threads_batch=1) as loaded:
        yield loaded


class Outcome(NamedTuple):
    """How a Python process ended."""

    code: int
    output: str
    error: str

    @property
    def last_line(self) -> str:
        """The last line of stderr that is not one of llama.cpp's own."""
        lines = [line for line in self.error.splitlines() if not line.startswith("  llama.cpp:")]
        return lines[-1] if lines else ""


@pytest.fixture
def run_python() -> Callable[..., Outcome]:
    """Run code in a Python of its own, in this checkout, and say how it ended."""

    def run(code: str, *arguments: str, timeout: float = 180, **environment: str) -> Outcome:
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(code=result.returncode, output=result.stdout, error=result.stderr)

    return run
