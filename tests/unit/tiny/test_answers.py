from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from tests.tiny.answers import answers, models, write

ROOT = Path(__file__).resolve().parents[3]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_files_are_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    write(tmp_path / "here")
    # A process of its own, with another hash seed and no warm cache.
    subprocess.run(
        [sys.executable, "-m", "tests.tiny", str(tmp_path / "there")], cwd=ROOT, check=True
    )
    first = digests(tmp_path / "here")
    assert set(first) == {*(f"{name}.gguf" for name in models()), "answers.json"}
    assert digests(tmp_path / "there") == first


def test_answers_as_written(tmp_path: Path) -> None:
    write(tmp_path)
    read = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert read == {"models": answers()}
    kinds = {name: model["kind"] for name, model in read["models"].items()}
    assert kinds == {
        "llama-f32": "llama",
        "llama-f16": "llama",
        "llama-q8_0": "llama",
        "llama-q4_0": "llama",
        **{f"llama-q{bits}_k": "llama" for bits in (2, 3, 4, 5, 6)},
        "lora-f32": "lora",
        **{f"bert-{name}": "embedding" for name in ("f32", "f16", "q8_0", "q4_0")},
    }
    assert {name for name, model in read["models"].items() if model["base"] == "llama-f32"} == {
        "lora-f32"
    }
    assert all((tmp_path / model["file"]).is_file() for model in read["models"].values())


def test_quantisations_share_their_answers() -> None:
    by_name = answers()
    first = by_name["llama-f32"]
    others = [name for name, model in by_name.items() if model["kind"] == "llama"][1:]
    assert len(others) == 8
    for name in others:
        assert by_name[name]["greedy"] == first["greedy"]
        assert by_name[name]["tokenize"] == first["tokenize"]


def test_some_answers_by_hand() -> None:
    by_prompt = {case["prompt_text"]: case for case in answers()["llama-f32"]["greedy"]}
    assert by_prompt["user: hello\nassistant:"]["text"] == (
        " goodbye, until the long day has come to a quiet end."
    )
    assert by_prompt["the end."]["tokens"] == [2]
    assert by_prompt["<up> MORNING sun lifts the"]["text"].startswith(" FOG 🙂 AND RIVER BIRDS HUM")
    assert answers()["lora-f32"]["greedy"][0]["text"].startswith(" morning sun lifts the sun lifts")
