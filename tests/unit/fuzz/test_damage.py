from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.damage import damaged
from tests.fuzz.gguf_file import parse
from tests.fuzz.worker import BASES, case

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_seed_does_the_same_damage(tiny: Path) -> None:
    base = tiny / BASES["adapter"]
    cases = [case(base, "adapter", 1, number) for number in range(20)]
    assert [case(base, "adapter", 1, number) for number in range(20)] == cases
    assert [case(base, "adapter", 2, number) for number in range(20)] != cases


def test_nearly_all_are_damaged_and_no_two_alike(tiny: Path) -> None:
    content = (tiny / BASES["encoder"]).read_bytes()
    parts, random = parse(content), Random("some")
    cases = {damaged(parts, random) for _ in range(300)}
    assert len(cases) > 290
    assert len(cases - {content}) > 285
