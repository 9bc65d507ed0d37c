from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bench.catalogue import GOAL_RATIO, Build, Measured, Step, lines, main, measure, report, targets
from ci.progress import Progress
from ci.table import load_table
from index import catalogue

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()


def test_targets_are_release_after_release() -> None:
    count = len(TABLE.targets)

    made = list(itertools.islice(targets(TABLE), 2 * count))

    assert [target.name for target, _ in made] == [target.name for target in TABLE.targets] * 2
    assert Counter(version for _, version in made) == {"0.3.100": count, "0.3.101": count}


def test_lines_are_a_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.jsonl"
    file.write_bytes(b"".join(itertools.islice(lines(TABLE), 100)))

    entries = catalogue.load(file)

    assert len({entry.name for entry in entries}) == 100
    assert {entry.url is None for entry in entries} == {False}


def test_measures_real_builds(tmp_path: Path) -> None:
    measured = measure(tmp_path, Progress(), sizes=(40, 120), beside=3, rounds=1)

    assert [(size, len(builds)) for size, builds in measured.fresh.items()] == [(40, 1), (120, 1)]
    for build in (*measured.fresh[40], *measured.fresh[120], measured.beside):
        assert 0 < build.seconds < 60
        assert 20e6 < build.peak_bytes < 1e9
    folder = "whl/cpu/llama-cpp-python"
    # the 121st and the 4th wheel of the table
    more = list(itertools.islice(targets(TABLE), 121))
    page = f"whl/{more[120][0].backend.name}/llama-cpp-python"
    assert {f"{page}/index.html", f"{page}/index.v1_json"} <= set(measured.step.changed)
    assert measured.step.files > len(measured.step.changed)
    wheel = f"llama_cpp_python-0.3.100+cpu-py3-none-{more[3][0].platform.wheel_tag}.whl"
    assert {f"{folder}/{wheel}", f"{folder}/{wheel}.metadata"} <= set(measured.beside_step.changed)
    assert [name for name in measured.beside_step.changed if name.endswith(".whl")] == [
        f"{folder}/{wheel}"
    ]


def test_one_process_is_one_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "catalogue.jsonl"
    file.write_bytes(b"".join(itertools.islice(lines(TABLE), 3)))

    assert main(["build", "--catalogue", str(file), "--out", str(tmp_path / "site")]) == 0

    said = json.loads(capsys.readouterr().out)
    assert sorted(said) == ["peak_bytes", "seconds"]
    assert (tmp_path / "site" / "index.html").is_file()


def test_report() -> None:
    def build(seconds: float, peak: int = 50_000_000) -> Build:
        return Build(seconds=seconds, peak_bytes=peak)

    measured = Measured(
        fresh={
            1000: (build(0.1), build(0.3), build(0.2)),
            10000: (build(2.2, 170_000_000), build(2.0), build(3.0)),
        },
        step=Step(build=build(1.5), files=54, changed=("a",)),
        beside_wheels=1000,
        beside=build(1.25),
        beside_step=Step(build=build(0.25), files=2056, changed=("b", "c")),
    )

    said = report(
        measured, date=datetime(2026, 11, 21, 5, tzinfo=UTC), circumstances={"python": "3.11.7"}
    )

    cpu = said.pop("cpu")
    assert isinstance(cpu, str)
    assert said == {
        "schema": 1,
        "date": "2026-11-21T05:00:00Z",
        "python": "3.11.7",
        "rounds": 3,
        "sizes": [
            {
                "wheels": 1000,
                "seconds": [0.1, 0.3, 0.2],
                "microseconds_per_wheel": 200.0,
                "peak_bytes": 50_000_000,
            },
            {
                "wheels": 10000,
                "seconds": [2.2, 2.0, 3.0],
                "microseconds_per_wheel": 220.0,
                "peak_bytes": 170_000_000,
            },
        ],
        "ratio": 1.1,
        "goal_ratio": GOAL_RATIO,
        "met": True,
        "one_more": {"wheels": 10001, "seconds": 1.5, "files": 54, "changed": ["a"]},
        "beside": {"wheels": 1000, "seconds": 1.25, "peak_bytes": 50_000_000},
        "beside_one_more": {
            "wheels": 1001,
            "seconds": 0.25,
            "files": 2056,
            "changed": ["b", "c"],
        },
    }
