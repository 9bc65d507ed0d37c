"""The examples of docs/binding.md and of the README, run in order on tiny models: what they print is known."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("libraries")]


# of the page: completion and stream; two of generate; generate_stream and the chat; JSON; embeddings; the
# pool; the image
PRINTED = [
    " SUN LIFTS THE FOG",
    " lifts the fog  lifts the f",
    " river bir",
    " sun lifts goodbye, until the long day has come to a quiet end.",
    "{'up': True, 'n': 24}",
    "2 7",
    "[' lifts the f', ' sun lifts']",
    " GOODB",
]


def examples(page: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run(code: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def folder(tiny: Path, vision: Path, tmp_path: Path) -> Path:
    """What the examples name, under the names that they have there."""
    from tests.tiny.vision import RED, png  # noqa: PLC0415 - needed here alone

    names = {
        "model.gguf": tiny / "llama-f32.gguf",
        "embedding.gguf": tiny / "bert-f32.gguf",
        "lora.gguf": tiny / "lora-f32.gguf",
        "vision.gguf": vision / "gemma3-f32.gguf",
        "mmproj.gguf": vision / "mmproj-gemma3-f32.gguf",
    }
    for name, path in names.items():
        shutil.copy(path, tmp_path / name)
    (tmp_path / "red.png").write_bytes(png(32, 32, [RED]))
    return tmp_path


def test_the_binding_page(folder: Path) -> None:
    printed = run(examples("docs/binding.md"), folder)
    assert printed == PRINTED


def test_the_readme(folder: Path) -> None:
    printed = run(examples("README.md"), folder)
    assert printed
