from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from bench.imports import OURS, THEIRS, Size, Timed, size

if TYPE_CHECKING:
    from pathlib import Path

TIMED = Timed(
    bare_s=[0.02] * 3,
    extra_s={
        OURS: {"import": [0.010, 0.020, 0.090], "libraries": [0.1, 0.1, 0.1]},
        THEIRS: {"import": [0.4, 0.5, 0.6], "libraries": [0.8, 0.8, 0.8]},
    },
)


def test_ratio_is_that_of_the_medians() -> None:
    assert TIMED.ratio("import") == pytest.approx(25.0)
    assert TIMED.ratio("libraries") == pytest.approx(8.0)


def test_size_counts_bytes_and_libraries(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/code.py", b"12345")
        archive.writestr("package/lib/liba.so", b"123")
        archive.writestr("package/lib/liba.so.0", b"123")
        archive.writestr("package/lib/b.dll", b"1")
    assert size(wheel) == Size(file_bytes=wheel.stat().st_size, content_bytes=12, libraries=3)


def test_ratio_between_any_two() -> None:
    assert TIMED.ratio("import", OURS, THEIRS) == pytest.approx(0.04)
