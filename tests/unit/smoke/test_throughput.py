"""The figure of speed: what it measures without a GPU, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "tests" / "smoke"

COMPARE = """
import json, sys
from pathlib import Path
import throughput
found = throughput.compare(Path(sys.argv[1]), 0.05)
print(json.dumps({"found": found, "said": throughput.check_throughput(found)}))
found["gpu"]["prompt"] = float("inf")
try:
    throughput.check_throughput(found)
except throughput.Failure as failure:
    print(json.dumps(str(failure)))
"""

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("libraries")]


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (SCRIPTS, ROOT)))
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_both_devices_are_measured(tiny: Path) -> None:
    done = python("-c", COMPARE, tiny / "llama-q8_0.gguf")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    answer = json.loads(first)
    found = answer["found"]
    assert (found["parameters"], found["quantisation"]) == (69_824, "Q8_0")
    for device in ("gpu", "cpu"):
        assert found[device]["prompt"] > 0
        assert found[device]["generation"] > 0
        assert found[device]["prompt_tokens"] in {16, 128, 512}
    for key, ratio in found["ratio"].items():
        assert ratio == pytest.approx(found["gpu"][key] / found["cpu"][key], abs=1e-3)
    # without a GPU it is the CPU twice
    assert found["logit_difference"] < 1e-3
    assert answer["said"].startswith("0 M parameters, tokens per second of prompts and generated: ")
    assert json.loads(second).startswith("not finite: {")


def test_without_a_gpu_there_is_no_figure(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    model = tiny / "llama-q8_0.gguf"
    done = python(SCRIPTS / "throughput.py", "--model", model, "--json", out)
    assert done.returncode == 1
    result = json.loads(out.read_text(encoding="utf-8"))
    assert (result["passed"], result["throughput"]) == (False, None)
    (check,) = result["checks"]
    assert (check["name"], check["detail"]) == ("gpu throughput", "there is no GPU to measure")
