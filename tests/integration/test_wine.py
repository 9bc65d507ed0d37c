"""The Windows wheel computes under wine: its DLLs alone, and installed by pip on a Windows Python."""

from __future__ import annotations

import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import lief
import pytest

from ci.check import check
from ci.errors import ToolMissingError, WheelError
from ci.library import read_library
from ci.progress import Progress
from ci.table import load_table
from ci.wheel import library_names, read_wheel, write_wheel
from ci.windows_python import available
from ci.wine import prove, require_wine
from llama_cpp import _abi

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
def test_its_libraries_need_windows_alone(windows_wheel: Path) -> None:
    # of Windows 10 and newer: no "Visual C++ Redistributable"
    system = re.compile(r"api-ms-win-crt-[a-z]+-l1-1-0|advapi32|kernel32|ole32|ws2_32")
    libraries = read_wheel(windows_wheel).libraries
    ours = {PurePosixPath(name).name for name in libraries}
    needed = {
        name.lower()
        for data in libraries.values()
        if (library := read_library(data))
        for name in library.needed
    }
    assert sorted(n for n in needed - ours if not system.fullmatch(n.removesuffix(".dll"))) == []


@pytest.mark.build
def test_one_that_needs_the_redistributable_is_refused(windows_wheel: Path, tmp_path: Path) -> None:
    files = dict(read_wheel(windows_wheel).files)
    name = "llama_cpp/lib/ggml.dll"
    changed = files[name].replace(b"KERNEL32.dll", b"MSVCP140.dll")
    assert changed != files[name]
    wheel = tmp_path / windows_wheel.name
    write_wheel(wheel, {**files, name: changed})
    with pytest.raises(WheelError) as caught:
        check(wheel, load_table())
    assert f"{name} needs MSVCP140.dll, which is neither in the wheel nor declared" in (
        caught.value.what
    )


@pytest.mark.build
def test_each_function_is_in_the_library_that_it_is_looked_up_in(windows_wheel: Path) -> None:
    libraries = read_wheel(windows_wheel).libraries
    exported = {}
    for stem in {library for library, *_ in _abi.PROTOTYPES.values()}:
        name = f"llama_cpp/lib/{stem}.dll"
        binary = lief.parse(libraries[name])
        assert isinstance(binary, lief.PE.Binary)
        exported[stem] = {str(function.name) for function in binary.exported_functions}
    lost = [
        f"{stem}: {name}"
        for name, (stem, *_) in _abi.PROTOTYPES.items()
        if name not in exported[stem]
    ]
    assert lost == []
    # the C runtime's stays inside
    assert [stem for stem, names in exported.items() if "atexit" in names] == []


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
