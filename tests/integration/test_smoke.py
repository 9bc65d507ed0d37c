"""The smoke test of a wheel that lies in an index, as a runner with a GPU and no toolkit does it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci.host import host_platform
from ci.table import load_table
from tests.installers.served import ROOT, Served, isolated, update

DIST = ROOT / "dist"


@pytest.mark.build
@pytest.mark.parametrize("backend", ["cpu", "vulkan"])
def test_the_wheel_of_an_index_is_proven(tmp_path: Path, backend: str) -> None:
    """It is fetched, checked and proven; the report is about the bytes that the index has."""
    tag = host_platform(load_table()).wheel_tag
    wheels = sorted(DIST.glob(f"llama_cpp_python-*+{backend}-py3-none-{tag}.whl"))
    if not wheels:
        pytest.skip(f"no wheel in dist/: run `nox -s build -- --backend {backend}`")
    (wheel,) = wheels
    proof = json.loads(wheel.with_name(f"{wheel.name}.smoke.json").read_text(encoding="utf-8"))
    if proof.get("gpu", {}).get("device") == "none":
        pytest.skip("no Vulkan device (Debian: apt install mesa-vulkan-drivers)")
    # the site is of these two wheels alone, whatever else lies in dist/
    for name in (wheel.name, f"{wheel.name}.smoke.json"):
        (tmp_path / "dist").mkdir(exist_ok=True)
        (tmp_path / "dist" / name).write_bytes((DIST / name).read_bytes())
    environment = isolated(tmp_path / "home")
    site = update(tmp_path / "dist", tmp_path, environment)
    version = wheel.name.split("-")[1]
    with Served(site, tmp_path / "requests.log", environment) as served:
        command = [sys.executable, "-m", "ci", "smoke", "--python", sys.executable]
        command += ["--index", served.url, "--backend", backend, "--version", version]
        command += ["--out", str(tmp_path / "staged")]
        if backend != "cpu":
            command += ["--gpu"]
        # the home stays: a driver keeps there what it has compiled
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PIP_NO_CACHE_DIR": "1"},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        fetched = [each.path for each in served.requests() if each.path.endswith(".whl")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(fetched) == 1
    assert f"{served.url} gives {wheel.name}, sha256 " in done.stderr
    assert sorted(path.name for path in (tmp_path / "staged").iterdir()) == [
        wheel.name,
        f"{wheel.name}.smoke.json",
    ]
    report = json.loads((tmp_path / "staged" / f"{wheel.name}.smoke.json").read_bytes())
    assert report["passed"] is True
    assert report["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (report["backend"], len(report["interpreters"])) == (backend, 1)
    if backend == "vulkan":
        gpu = report["gpu"]
        (device, *_) = gpu["devices"]
        assert gpu["device"].startswith(f"{device['name']}: {device['description']}")
        assert device["memory_total"] > 0
        assert gpu["throughput"]["parameters"] == 103_433_216
        assert all(gpu["throughput"][each]["generation"] > 0 for each in ("gpu", "cpu"))
        checks = {each["name"]: each["detail"] for each in report["interpreters"][0]["checks"]}
        assert all(f"llama-q{bits}_k 2/2 layers" in checks["gpu offload"] for bits in range(2, 7))
