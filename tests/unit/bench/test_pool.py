"""What is computed from a pool's turns, and its table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from bench import results
from bench.models import Shape, write_model
from bench.pool import KINDS, SHAPE, Measured, Turn, report
from bench.results import PoolResult
from bench.tables import pool_text


def turns(*cpu_s: float, size: int) -> tuple[Turn, ...]:
    return tuple(Turn(seconds=2 * each, cpu_s=each, bytes=size) for each in cpu_s)


MEASURED = Measured(
    turns={
        "one": turns(4, 6, 8, size=100_000_000),
        "pool": turns(2, 2, 2, size=125_000_000),
        "objects": turns(8, 8, 8, size=800_000_000),
    }
)


def test_gains_are_taken_round_by_round() -> None:
    assert MEASURED.gain("one").median == 3
    assert MEASURED.gain("one").lowest == 2
    assert MEASURED.gain("objects").median == 4
    assert MEASURED.throughput("pool").median == 8 * 32 / 2
    assert MEASURED.memory("pool") == 125_000_000


def test_the_report_is_what_the_table_reads(tmp_path: Path) -> None:
    date = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    content = report(MEASURED, threads=1, date=date, circumstances={})
    assert content["date"] == "2026-01-02T03:04:05Z"
    assert content["clock_s"] == {
        kind: {
            "median": 2 * median,
            "low_quartile": 2 * low,
            "high_quartile": 2 * high,
            "lowest": 2 * lowest,
            "highest": 2 * highest,
        }
        for kind, median, low, high, lowest, highest in (
            ("one", 6, 5, 7, 4, 8),
            ("pool", 2, 2, 2, 2, 2),
            ("objects", 8, 8, 8, 8, 8),
        )
    }
    results.write("pool", content, tmp_path)
    head, _, *rows = pool_text(results.read("pool", PoolResult, tmp_path)).splitlines()
    assert head.startswith("8 requests of 32 tokens, 2026-01-02, ")
    assert head.endswith(
        "computing with 1 at a time (objects with at least one each), a model of 99 M weights (F16), "
        "medians of 3 rounds."
    )
    assert rows == [
        "|  | tokens per CPU second | the pool's gain (quartiles) | memory | the pool's share |",
        "| --- | --: | --: | --: | --: |",
        "| `LlamaPool` of 8 | 128 |  | 125 MB |  |",
        "| one `Llama`, one after another | 43 | 3.00 (2.50–3.50) | 100 MB | 1.25 |",
        "| 8 `Llama` objects at once | 32 | 4.00 (4.00–4.00) | 800 MB | 0.16 |",
    ]


def test_the_model_is_of_the_size_that_is_told(tmp_path: Path) -> None:
    assert round(SHAPE.parameters / 1e6) == 99
    assert KINDS == ("one", "pool", "objects")
    small = Shape(layers=1, width=256, feed_forward=256, heads=4, kv_heads=1, vocabulary=300)
    spelled, plain = tmp_path / "spelled.gguf", tmp_path / "plain.gguf"
    write_model(small, spelled, spelled=True)
    write_model(small, plain)
    assert b"\xe2\x96\x81w40" in spelled.read_bytes()
    assert b"\xe2\x96\x81w40" not in plain.read_bytes()
