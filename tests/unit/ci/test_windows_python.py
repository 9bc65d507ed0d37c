"""A Windows Python out of a wheel: what is taken, and where it lies."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import lief
import pytest

from ci.table import load_table
from ci.windows_python import PINS, WindowsPython, _link_program, _unpack, available
from ci.wine import SERIES


def test_the_pins_are_wheels_of_windows_of_their_series() -> None:
    for series, (name, sha256) in PINS.items():
        tag = f"cp{series.replace('.', '')}"
        assert re.fullmatch(rf"panda3d-[\d.]+-{tag.removesuffix('t')}-{tag}-win_amd64\.whl", name)
        assert re.fullmatch("[0-9a-f]{64}", sha256)


def test_the_oldest_one_is_pinned() -> None:
    interpreters = load_table().interpreters
    assert SERIES[0] == interpreters.cpython[0]
    assert set(SERIES) <= set(PINS) <= set(interpreters.all)


def test_only_pythons_of_pinned_series_are_available() -> None:
    assert {interpreter.series for interpreter in available()} <= set(PINS)


def test_what_is_taken_out_of_the_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "engine.whl"
    names = [
        "deploy_libs/python313t.dll",
        "deploy_libs/VCRUNTIME140.dll",
        "deploy_libs/VCRUNTIME140_1.dll",
        "deploy_libs/_ctypes.cp313t-win_amd64.pyd",
        "deploy_libs/libffi-8.dll",
        "deploy_libs/api-ms-win-crt-heap-l1-1-0.dll",
        "deploy_libs/deploy-stub.exe",
        "deploy_libs/_wmi.pyd",
        "panda3d/core.pyd",
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    folder = tmp_path / "python"
    (folder / "DLLs").mkdir(parents=True)
    _unpack(wheel, folder)
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert found == {
        "python313t.dll": "deploy_libs/python313t.dll",
        "VCRUNTIME140.dll": "deploy_libs/VCRUNTIME140.dll",
        "VCRUNTIME140_1.dll": "deploy_libs/VCRUNTIME140_1.dll",
        "DLLs/_ctypes.cp313t-win_amd64.pyd": "deploy_libs/_ctypes.cp313t-win_amd64.pyd",
        "DLLs/libffi-8.dll": "deploy_libs/libffi-8.dll",
    }


def test_names_and_places() -> None:
    python = WindowsPython(folder=Path("/w"), series="3.13t")
    assert (python.program, python.site_packages) == (
        Path("/w/python.exe"),
        Path("/w/Lib/site-packages"),
    )


@pytest.mark.build
def test_the_program_is_a_console_program_without_a_python_of_its_own(tmp_path: Path) -> None:
    python = WindowsPython(folder=tmp_path, series="3.11")
    _link_program(python)
    binary = lief.parse(python.program.read_bytes())
    assert isinstance(binary, lief.PE.Binary)
    assert binary.optional_header.subsystem == lief.PE.OptionalHeader.SUBSYSTEM.WINDOWS_CUI
    assert not any("python" in str(name).lower() for name in binary.libraries)
    assert "python311.dll".encode("utf-16-le") in python.program.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["python.exe"]
