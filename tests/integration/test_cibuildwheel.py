"""cibuildwheel knows every identifier of the table, and its settings in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.table import load_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("platform", load_table().platforms)
def test_the_identifier_exists(platform: str) -> None:
    identifier = load_table().platforms[platform].cibuildwheel
    done = subprocess.run(
        [sys.executable, "-m", "cibuildwheel", "--only", identifier, "--print-build-identifiers",
         str(ROOT)],
        env={**os.environ, "CIBW_ENVIRONMENT": "LLAMA_CPP_VERSION_LABEL=cpu"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, [identifier]), done.stderr
