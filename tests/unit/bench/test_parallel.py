"""What is computed from turns on one thread and on two, and its table; the turns themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench import parallel, results
from bench.parallel import TOKENS, WAYS, WORKS, Measured, report
from bench.results import ParallelResult
from bench.tables import parallel_text
from bench.text_models import write_text_model
from ci.errors import UsageError
from ci.interpreters import Interpreter


def python(series: str) -> Interpreter:
    return Interpreter(
        path=Path("python"), version=f"{series}.1", series=series, free_threaded=series[-1] == "t"
    )


def measured(series: str, threads: float) -> Measured:
    seconds = {
        "one thread": [2.0, 4.0, 6.0],
        "two threads": [2.0 / threads, 4.0 / threads, 6.0 / threads],
        "two processes": [1.0, 2.0, 4.0],
    }
    return Measured(
        python=python(series), seconds={work: {way: seconds[way] for way in WAYS} for work in WORKS}
    )


def test_gains_are_taken_round_by_round() -> None:
    gain = measured("3.13t", 1.6).gain("words", "two processes")
    assert (gain.lowest, gain.median, gain.highest) == (1.5, 2.0, 2.0)
    assert measured("3.13t", 1.6).gain("words", "two threads").median == pytest.approx(1.6)


def test_the_report_is_what_the_table_reads(tmp_path: Path) -> None:
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    content = report(
        [measured("3.13t", 1.8), measured("3.13", 1.25)], date=date, circumstances={"cpu": "a CPU"}
    )
    results.write("parallel", content, tmp_path)
    text = parallel_text(results.read("parallel", ParallelResult, tmp_path))
    head, _, *rows = text.splitlines()
    assert head == (
        "Two objects at once, 2026-01-02, a CPU, pinned to two CPUs, each object with one thread of "
        "llama.cpp's: how many times as fast as one after the other, by the clock, medians of 3 rounds "
        f"and quartiles; {TOKENS['words']:,} tokens each of a model that has next to nothing to "
        f"compute, {TOKENS['arithmetic']} each of the pool's model."
    )
    assert rows == [
        "| Python | tokens of | two threads | two processes | of what processes give |",
        "| --- | --- | --: | --: | --: |",
        "| 3.13t.1, without a GIL | words | 1.80 (1.80–1.80) | 2.00 (1.75–2.00) | 0.90 |",
        "| 3.13t.1, without a GIL | arithmetic | 1.80 (1.80–1.80) | 2.00 (1.75–2.00) | 0.90 |",
        "| 3.13.1, with a GIL | words | 1.25 (1.25–1.25) | 2.00 (1.75–2.00) | 0.62 |",
        "| 3.13.1, with a GIL | arithmetic | 1.25 (1.25–1.25) | 2.00 (1.75–2.00) | 0.62 |",
    ]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["3.14t", "3.13", "3.14"], ["3.14t", "3.14"]),
        (["3.13t", "3.14t", "3.14", "3.13"], ["3.13t", "3.13"]),
        (["3.15t", "3.14"], ["3.15t", "3.14"]),
    ],
    ids=str,
)
def test_the_python_with_a_gil_is_of_the_same_series(there: list[str], chosen: list[str]) -> None:
    found = parallel.choose_pythons([python(series) for series in there])
    assert [each.series for each in found] == chosen


def test_a_python_is_missing() -> None:
    with pytest.raises(UsageError, match=r"^there is no Python with a GIL beside 3\.14t\n"):
        parallel.choose_pythons([python("3.14t")])
    with pytest.raises(UsageError, match=r"^there is no free-threaded Python on this machine\n"):
        parallel.choose_pythons([python("3.14")])


@pytest.mark.build
def test_a_process_answers_on_one_thread_and_on_two(tmp_path: Path, libraries: Path) -> None:
    write_text_model(300, tmp_path / "words.gguf")
    script = Path(parallel.__file__).with_name("parallel_load.py")
    questions = [
        {"objects": 2, "threads": 2, "tokens": 5},
        {"objects": 1, "threads": 1, "tokens": 3},
    ]
    found = subprocess.run(
        [sys.executable, "-P", script, tmp_path / "words.gguf", "2", "0"],
        env={
            "PYTHONPATH": str(Path(parallel.__file__).parents[1]),
            "LLAMA_CPP_LIB_PATH": str(libraries),
        },
        input="".join(json.dumps(each) + "\n" for each in questions),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr == ""
    seconds = [json.loads(line)["seconds"] for line in found.stdout.splitlines()]
    assert len(seconds) == 2
    assert min(seconds) > 0
