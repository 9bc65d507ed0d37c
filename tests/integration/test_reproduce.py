"""The same wheel from another folder: the same bytes; what differs is named."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from ci.check import target_of
from ci.errors import ToolMissingError, WheelError
from ci.progress import Progress
from ci.reproduce import reproduce, reproduce_all
from ci.reproduction import FOLDER, SUFFIX
from ci.table import load_table
from ci.wheel import read_wheel, write_wheel
from tests.releases import write_bare_wheel

pytestmark = pytest.mark.build


def test_a_build_in_another_folder_is_the_same_bytes(wheel: Path) -> None:
    target = target_of(read_wheel(wheel), load_table())
    report = FOLDER / f"{wheel.name}{SUFFIX}"
    before = report.read_bytes() if report.exists() else None
    reproduce(wheel, target, Progress(), cached=True)
    # what came from the cache was not compiled twice
    assert (report.read_bytes() if report.exists() else None) == before


def test_what_is_built_elsewhere_is_told(tmp_path: Path) -> None:
    table = load_table()
    elsewhere = write_bare_wheel(tmp_path, table.target("metal", "macosx_arm64"))
    printed = io.StringIO()
    progress = Progress(Console(file=printed, width=300))
    with pytest.raises(ToolMissingError):
        reproduce_all([elsewhere], table, progress, cached=True)
    assert printed.getvalue().startswith(f"WARNING {elsewhere.name} is not built again here: ")


def test_all_that_differ_are_named_at_the_end(wheel: Path, tmp_path: Path) -> None:
    table = load_table()
    read = read_wheel(wheel)
    other = tmp_path / wheel.name
    files = {**read.files, "llama_cpp/_version.py": b'__version__ = "0"\n', "llama_cpp/more": b""}
    about = f"{read.dist_info}/WHEEL"
    files[about] = read.files[about].replace(b"Generator", b"GeneratoR")
    write_wheel(other, files)
    elsewhere = write_bare_wheel(tmp_path, table.target("metal", "macosx_arm64"))
    with pytest.raises(WheelError) as caught:
        reproduce_all([elsewhere, other], table, Progress(), cached=True)
    version = len(read.files["llama_cpp/_version.py"])
    place = read.files[about].index(b"Generator") + len("Generato")
    record = len(read_wheel(other).files[f"{read.dist_info}/RECORD"])
    again = len(read.files[f"{read.dist_info}/RECORD"])
    assert caught.value.what.splitlines() == [
        f"{wheel.name} came out with other bytes:",
        f"  llama_cpp/_version.py: 18 bytes, {version:,} when built again",
        "  llama_cpp/more: not in the one that was built again",
        f"  {read.dist_info}/RECORD: {record:,} bytes, {again:,} when built again",
        f"  {about}: 1 of {len(read.files[about]):,} bytes, from {place:#x} to {place:#x}",
    ]
    kept = FOLDER / wheel.name
    assert caught.value.cure is not None
    assert str(kept.parent) in caught.value.cure
    assert kept.read_bytes() == wheel.read_bytes()
