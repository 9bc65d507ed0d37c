"""Costs follow from the build records: a row per target, sums of what is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ci.costs import Cost, cost_of, costs_json, costs_page
from ci.record import read_record
from ci.table import load_table
from tests.releases import write_bare_wheel
from tests.reports import write_build

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
CPU = TABLE.target("cpu", "manylinux_x86_64")
VULKAN = TABLE.target("vulkan", "manylinux_x86_64")


def cost(folder: Path, **changes: Any) -> Cost:
    wheel = write_bare_wheel(folder, VULKAN)
    return cost_of(read_record(write_build(wheel, VULKAN, **changes)))


UNKNOWN = Cost(
    target=CPU.name,
    seconds=10.0,
    cpu_seconds=None,
    units=364,
    cache_hits=None,
    cache_misses=None,
    wheel_bytes=10_456_563,
    module_bytes=0,
)


def test_a_cost_is_what_the_record_says(tmp_path: Path) -> None:
    module = {"name": "libggml-vulkan.so", "sha256": "0" * 64, "size": 44_000_000}
    found = cost(tmp_path, modules=[module])
    size = next(tmp_path.glob("*.whl")).stat().st_size
    assert found == Cost(
        target=VULKAN.name,
        seconds=61.5,
        cpu_seconds=118.2,
        units=3,
        cache_hits=1,
        cache_misses=2,
        wheel_bytes=size,
        module_bytes=44_000_000,
    )


def test_a_sum_is_of_what_is_known(tmp_path: Path) -> None:
    content = json.loads(costs_json([UNKNOWN, cost(tmp_path)]))
    assert [row["target"] for row in content["targets"]] == [CPU.name, VULKAN.name]
    total = content["total"]
    assert (total["seconds"], total["cpu_seconds"], total["units"]) == (71.5, 118.2, 367)
    assert (total["cache_hits"], total["cache_misses"]) == (1, 2)


def test_nothing_known_is_no_zero() -> None:
    total = json.loads(costs_json([UNKNOWN]))["total"]
    assert (total["cpu_seconds"], total["cache_hits"]) == (None, None)


def test_the_page_has_a_row_per_target_and_one_together(tmp_path: Path) -> None:
    rows = costs_page([UNKNOWN, cost(tmp_path)]).splitlines()[-4:]
    size = f"{next(tmp_path.glob('*.whl')).stat().st_size / 1e6:.1f}"
    assert rows == [
        "| --- | --: | --: | --: | --: | --: | --: |",
        f"| `{CPU.name}` | 10 | – | 364 | – | 10.5 | 0.0 |",
        f"| `{VULKAN.name}` | 62 | 118 | 3 | 1 | {size} | 0.0 |",
        "| **together** | 72 | 118 | 367 | 1 | 10.5 | 0.0 |",
    ]
