"""Files from the hub; the package huggingface_hub is replaced by one that only says what it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

HUB = """
class HfApi:
    def list_repo_files(self, repo_id):
        return ["a.gguf", "mmproj-a-f16.gguf", "mmproj-a-q8_0.gguf", "b/other.txt"]


def hf_hub_download(repo_id, filename, local_dir=None, cache_dir=None):
    print(repo_id, filename, local_dir, cache_dir)
    return sys_path
"""


def test_from_pretrained(vision: Path, tmp_path: Path, run_python: Callable[..., Outcome]) -> None:
    path = vision / "mmproj-gemma3-f32.gguf"
    (tmp_path / "huggingface_hub.py").write_text(f"sys_path = {str(path)!r}\n{HUB}")
    code = (
        "from llama_cpp import ValidationError\n"
        "from llama_cpp._vision import MoondreamChatHandler as H\n"
        "handler = H.from_pretrained('me/it', 'mmproj*f16.gguf', local_dir='here', verbose=False)\n"
        "print(type(handler).__name__, handler.verbose)\n"
        "H.from_pretrained('me/it', 'b/c.gguf', cache_dir='there')\n"
        "try:\n"
        "    H.from_pretrained('me/it', None)\n"
        "except ValidationError as error:\n"
        "    print(error)\n"
    )
    outcome = run_python(code, PYTHONPATH=str(tmp_path))
    assert outcome.output.splitlines() == [
        "me/it mmproj-a-f16.gguf here None",
        "MoondreamChatHandler False",
        "me/it b/c.gguf None there",
        "2 files of me/it match '*mmproj*.gguf'; name one of mmproj-a-f16.gguf, mmproj-a-q8_0.gguf",
    ], outcome.error


def test_from_pretrained_without_the_package(
    tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ImportError\n")
    outcome = run_python(
        "from llama_cpp._vision import MTMDChatHandler as H\nH.from_pretrained('me/it', 'a.gguf')",
        PYTHONPATH=str(tmp_path),
    )
    assert outcome.last_line == (
        "llama_cpp._errors.LlamaError: downloads from the Hugging Face hub need the package "
        "huggingface_hub: pip install huggingface-hub"
    )
