from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import gguf
import pytest

from tests.tiny.memory import TinyMemory, memory_models, write_memory

ROOT = Path(__file__).resolve().parents[3]
MAMBA = TinyMemory(architecture="mamba")
JAMBA = TinyMemory(architecture="jamba")
WINDOWED = TinyMemory(architecture="granite_swa")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_files_are_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    written = write_memory(tmp_path / "here")
    subprocess.run(
        [sys.executable, "-m", "tests.tiny.memory", str(tmp_path / "there")], cwd=ROOT, check=True
    )
    first = digests(tmp_path / "here")
    names = {"mamba-f32.gguf", "jamba-f32.gguf", "granite-swa-f32.gguf"}
    assert set(first) == {path.name for path in written} == names
    assert digests(tmp_path / "there") == first
    assert len(set(first.values())) == len(first)


@pytest.mark.parametrize("model", memory_models().values(), ids=memory_models())
def test_file(model: TinyMemory, tmp_path: Path) -> None:
    model.write(tmp_path / "model.gguf")
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    assert fields["general.architecture"].contents() == model.architecture
    assert fields["general.name"].contents() == model.name
    assert (tmp_path / "model.gguf").stat().st_size < 500_000


@pytest.mark.parametrize(
    ("model", "prompt", "n", "text"),
    [
        pytest.param(MAMBA, "", 6, " morning sun", id="mamba-none"),
        pytest.param(MAMBA, "<up> the", 2, " FOG", id="mamba-up"),
        pytest.param(MAMBA, "<up>", 4, " mORNING", id="mamba-one-token-late"),
        pytest.param(MAMBA, "<down><down><up> the", 2, " FOG", id="mamba-last-counts"),
        pytest.param(MAMBA, "<up><up><down> the", 2, " fog", id="mamba-last-counts-down"),
        pytest.param(JAMBA, "<up> the", 2, " FOG", id="jamba-up"),
        pytest.param(JAMBA, "<down><up><up> the", 2, " FOG", id="jamba-both"),
        pytest.param(JAMBA, "<down><up> the", 2, " fog", id="jamba-attention-says-no"),
        pytest.param(JAMBA, "<up><up><up><down> the", 2, " fog", id="jamba-recurrent-says-no"),
        pytest.param(JAMBA, "<up>", 4, " mORNING", id="jamba-one-token-late"),
        pytest.param(WINDOWED, "<up> the", 2, " FOG", id="window-up"),
        pytest.param(WINDOWED, "<up>" + "." * 21 + " the", 3, " FOG ", id="window-at-its-end"),
        pytest.param(WINDOWED, "<up>" + "." * 22 + " the", 3, " Fog ", id="window-passes"),
        pytest.param(WINDOWED, "<up>" + "." * 23 + " the", 3, " fog ", id="window-passed"),
        pytest.param(
            WINDOWED, "<down>" * 3 + "." * 24 + "<up> the", 2, " fog", id="window-all-say-no"
        ),
    ],
)
def test_expected_text(model: TinyMemory, prompt: str, n: int, text: str) -> None:
    assert model.expected_text(prompt, n) == text


def test_expected_tokens_end_with_eos() -> None:
    answer = MAMBA.expected_tokens(MAMBA.encode("<up>farewell:"), 99)
    assert MAMBA.decode(answer) == b" GOODBYE, until the long day has come to a quiet end."
    assert answer[-1] == 2
    assert MAMBA.expected_tokens(MAMBA.encode(":"), 0) == []


def test_a_close_call_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the memories say 1\.2 of 2 together, which is too c"):
        JAMBA.is_upper(JAMBA.encode("<down><down><up><up><up> the"))
