"""The Windows wheel computes under wine: its DLLs alone, and installed by pip on a Windows Python."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci.errors import ToolMissingError
from ci.progress import Progress
from ci.table import load_table
from ci.wheel import library_names
from ci.windows_python import available
from ci.wine import prove, require_wine

ROOT = Path(__file__).resolve().parents[2]
TARGET = load_table().target("cpu", "win_amd64")


@pytest.fixture(scope="module")
def windows_wheel() -> Path:
    wheels = sorted((ROOT / "dist").glob("llama_cpp_python-*+cpu-py3-none-win_amd64.whl"))
    if not wheels:
        pytest.skip(
            "dist/ holds no Windows wheel: nox -s build -- --backend cpu --platform win_amd64"
        )
    try:
        require_wine()
    except ToolMissingError as error:
        pytest.skip(str(error))
    return wheels[0]


@pytest.mark.build
def test_its_libraries_have_one_set_of_names(windows_wheel: Path) -> None:
    variants = [f"ggml-cpu-{name}" for name in TARGET.platform.cpu_variants]
    stems = ["ggml", "ggml-base", "ggml-rpc", "llama", "mtmd", *variants]
    with zipfile.ZipFile(windows_wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("llama_cpp/lib/")]
    assert names == sorted(f"llama_cpp/lib/{name}" for name in library_names(stems, "windows"))


@pytest.mark.build
@pytest.mark.network
def test_it_computes_on_a_windows_python(windows_wheel: Path, tiny: Path, tmp_path: Path) -> None:
    series = next((each.series for each in available()), None)
    if series is None:
        pytest.skip("no Python of a pinned series is on this machine")
    results = prove(
        windows_wheel,
        TARGET,
        Progress(),
        now=datetime.now(UTC),
        models=tiny,
        scratch=tmp_path / "scratch",
        series=[series],
    )
    assert [result["implementation"] for result in results] == ["C", "CPython"]
    driver, python = results
    assert driver["passed"], json.dumps(driver, indent=1)
    assert python["passed"], json.dumps(python, indent=1)
    # both have picked the same one, by Windows' rules
    assert driver["cpu_variant"] == python["cpu_variant"]
    checks = python["checks"]
    assert isinstance(checks, list)
    assert {"libraries", "greedy tokens", "rpc", "media"} <= {check["name"] for check in checks}
