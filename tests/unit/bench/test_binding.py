"""Costs of the Python side of a token, from the figures to the table; the model that they are taken on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import gguf
import pytest

from bench import binding, results, tables
from bench.binding import LENGTHS, OPTIONS, RAW, Measured
from bench.imports import OURS, THEIRS, Installed, Timed
from bench.text_models import write_text_model

TIMED = Timed(
    bare_s=[0.01] * 3,
    extra_s={
        OURS: {"import": [0.010] * 3, "libraries": [0.04] * 3},
        THEIRS: {"import": [0.150] * 3, "libraries": [0.16] * 3},
    },
)
PACKAGES = {
    name: Installed(
        name=name, title=f"the {name}", wheel=Path("a.whl"), python=Path("python"), programs={}
    )
    for name in (OURS, THEIRS)
}


def measured(ours: float = 40.0, option: float = 1050.0) -> Measured:
    return Measured(
        completion={
            length: {RAW: [30.0, 31.0, 29.0], OURS: [ours] * 3, THEIRS: [float(length)] * 3}
            for length in LENGTHS
        },
        options={
            each: {RAW: [1000.0] * 3, OURS: [option] * 3, THEIRS: [41_000.0] * 3}
            for each in OPTIONS
        },
        state_bytes={OURS: 40_000, THEIRS: 58_000_000},
    )


def test_ratios() -> None:
    figures = measured()
    assert figures.to_raw(400, OURS) == pytest.approx(40 / 30)
    assert figures.to_raw(400, THEIRS) == pytest.approx(400 / 30)
    assert figures.flatness(OURS) == 1.0
    assert figures.flatness(THEIRS) == 16.0
    assert figures.extra("logprobs=5", OURS) == 50.0
    assert figures.option_ratio("logprobs=5") == pytest.approx(40_000 / 50)


def test_a_cost_below_the_raw_loop_counts_as_a_microsecond() -> None:
    assert measured(option=990.0).option_ratio("logit_bias") == 40_000.0


def test_from_the_figures_to_the_table(tmp_path: Path) -> None:
    content = binding.report(
        measured(),
        PACKAGES,
        TIMED,
        rounds=3,
        date=datetime(2026, 11, 21, 12, tzinfo=UTC),
        circumstances={"python": "3.11.7"},
    )
    results.write("binding", content, tmp_path)
    text = tables.binding_text(results.read("binding", results.BindingResult, tmp_path))
    assert "| 1,600 | 30 | 40 | 1.33 | 1600 | 53.33 |" in text
    assert "| logprobs=5 | 1,000 | 1,050 | 41,000 | 50 | 40,000 | 800.0 |" in text
    assert "A state saved after 64 tokens of that model: 0.04 MB and 58.00 MB." in text
    assert "`import llama_cpp`: 10.0 ms and 150.0 ms." in text
    assert "| a token of a completion : raw loop ≤ 1.5 | 1.33 | yes |" in text
    assert "| the same at 1600 tokens : at 100 ≤ 1.25 | 1.00 | yes |" in text
    assert "| import, sdist : wheel ≥ 5 | 15.00 | yes |" in text
    assert "| logits processor, sampled | 1,000 | 1,050 | 41,000 | 50 | 40,000 | 800.0 |" in text
    assert "sampled, sdist : wheel" not in text
    assert text.count("**no**") == 0


def test_goals_that_are_not_met() -> None:
    missed = {goal.text for goal in binding.goals(measured(60.0, 4000.0), TIMED) if not goal.met}
    assert missed == {
        "a token of a completion : raw loop ≤ 1.5",
        *(
            f"{option}, sdist : wheel ≥ 20"
            for option in ("logits processor", "logit_bias", "logprobs=5")
        ),
    }


def test_the_text_model(tmp_path: Path) -> None:
    write_text_model(300, tmp_path / "words.gguf")
    reader = gguf.GGUFReader(tmp_path / "words.gguf")
    pieces = reader.fields["tokenizer.ggml.tokens"].contents()
    assert len(pieces) == 300
    assert pieces[:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert pieces[258:261] == ["<0xFF>", "▁word0", "▁word1"]
    rows = next(tensor.data for tensor in reader.tensors if tensor.name == "output.weight")
    # a block of Q8_0: the scale in F16, 32 bytes
    assert rows.shape == (300, 34)
    # nothing but words is ever said
    assert not rows[:259].any()
    assert rows[259:].any(axis=1).all()
