"""The GPU's checks on a machine that has none: the CPU computes, and says once what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "smoke" / "gpu.py"

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("libraries")]


@pytest.mark.parametrize("options", [(), ("--brief",)], ids=["all", "brief"])
def test_without_a_gpu(tiny: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    out = tmp_path / "result.json"
    command = [
        sys.executable,
        SCRIPT,
        "--models",
        tiny,
        "--json",
        out,
        "--allow-checkout",
        *options,
    ]
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (result["passed"], result["gpu"]) == (True, None)
    (check,) = result["checks"]
    assert check["name"] == "no gpu"
    assert check["detail"].startswith("n_gpu_layers=-1, but there is no GPU to compute on: ")


def test_a_model_of_the_brief_run_is_missing(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text('{"models": {"llama-f16": {}}}', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--models", str(tmp_path), "--brief", "--allow-checkout"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'llama-q4_k'\n")
