"""Some damaged files of each kind; `python -m tests.fuzz` opens as many as are asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.fuzz import campaign
from tests.fuzz.worker import BASES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.build

SEED = 20261121
COUNT = 60


@pytest.mark.parametrize("kind", BASES)
def test_no_damaged_file_ends_the_process(kind: str, tiny: Path, tmp_path: Path) -> None:
    result = campaign.run(kind, models=tiny, scratch=tmp_path, seed=SEED, count=COUNT)
    assert result.findings == []
    assert sum(result.outcomes.values()) == COUNT
    assert set(result.outcomes) <= campaign.EXPECTED
    # most damage makes a file that llama.cpp refuses, and some goes unnoticed
    assert result.outcomes["ModelLoadError"] > COUNT / 2
    assert result.outcomes["used"] > 0


def test_a_case_that_ends_its_process_is_a_finding(tiny: Path, tmp_path: Path) -> None:
    # the worker cannot make a file here
    (tmp_path / "encoder.gguf").mkdir()
    result = campaign.run("encoder", models=tiny, scratch=tmp_path, seed=SEED, count=2)
    assert result.outcomes == Counter({"exit code 1": 2})
    assert [finding.number for finding in result.findings] == [0, 1]
    assert "IsADirectoryError" in str(result.findings[0])
