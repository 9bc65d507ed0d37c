from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from tests.tiny.media import write_media

ROOT = Path(__file__).resolve().parents[3]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_files_are_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    written = write_media(tmp_path / "here")
    subprocess.run(
        [sys.executable, "-m", "tests.tiny.media", str(tmp_path / "there")], cwd=ROOT, check=True
    )
    first = digests(tmp_path / "here")
    names = [f"{a}-{q}" for a in ("gemma3", "qwen3vl") for q in ("f32", "f16", "q8_0", "q4_0")]
    pairs = {f"{before}{name}.gguf" for name in names for before in ("", "mmproj-")}
    assert set(first) == {path.name for path in written} == {*pairs, "mmproj-audio-f32.gguf"}
    assert digests(tmp_path / "there") == first
    assert len(set(first.values())) == len(first)
