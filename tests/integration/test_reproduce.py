"""The same wheel from another folder: the same bytes; what differs is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.check import target_of
from ci.errors import WheelError
from ci.progress import Progress
from ci.reproduce import reproduce
from ci.table import load_table
from ci.wheel import read_wheel, write_wheel

pytestmark = pytest.mark.build


def test_a_build_in_another_folder_is_the_same_bytes(wheel: Path) -> None:
    target = target_of(read_wheel(wheel), load_table())
    reproduce(wheel, target, Progress(), cached=True)


def test_what_differs_is_named(wheel: Path, tmp_path: Path) -> None:
    read = read_wheel(wheel)
    other = tmp_path / wheel.name
    write_wheel(other, {**read.files, "llama_cpp/_version.py": b'__version__ = "0"\n'})
    with pytest.raises(WheelError) as caught:
        reproduce(other, target_of(read, load_table()), Progress(), cached=True)
    assert caught.value.what == (
        f"{wheel.name} came out with other bytes:\n"
        f"  llama_cpp/_version.py\n  {read.dist_info}/RECORD"
    )
