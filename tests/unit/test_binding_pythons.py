"""The session `binding-tests`: one pin of each package for every Python of the table."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ci.table import load_table

ROOT = Path(__file__).resolve().parents[2]
PINS = [
    Requirement(text)
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"][
        "binding-tests"
    ]
]


@pytest.mark.parametrize("series", load_table().interpreters.all)
def test_every_python_has_one_pin_of_each_package(series: str) -> None:
    version = series.rstrip("t")
    environment = {"python_version": version, "python_full_version": f"{version}.0"}
    for name in {pin.name for pin in PINS}:
        holding = [
            pin
            for pin in PINS
            if pin.name == name and (pin.marker is None or pin.marker.evaluate(environment))
        ]
        assert len(holding) == 1, name
        assert str(holding[0].specifier).startswith("==")


@pytest.mark.parametrize(
    ("name", "message"),
    [("2.7", "2.7 is not a Python that wheels are proven on"), ("no", "no is not a Python")],
)
def test_a_python_that_is_none_of_the_table_s_is_an_error(name: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.binding", "--python", name],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
