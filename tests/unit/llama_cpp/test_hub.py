"""Which files of a repository a name stands for; the hub itself is in the integration tests."""

from __future__ import annotations

import importlib.util

import pytest

from llama_cpp import Llama, LlamaError, ValidationError
from llama_cpp._hub import choose, fitting
from llama_cpp.llama_chat_format import MTMDChatHandler

FILES = [
    ".gitattributes",
    "README.md",
    "model-q4_0.gguf",
    "model-q8_0.gguf",
    "mmproj-f16.gguf",
    "f16/model-f16-00001-of-00003.gguf",
    "f16/model-f16-00002-of-00003.gguf",
    "f16/model-f16-00003-of-00003.gguf",
]
PARTS = tuple(f"f16/model-f16-0000{number}-of-00003.gguf" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("model-q4_0.gguf", ("model-q4_0.gguf",)),
        ("*q8_0.gguf", ("model-q8_0.gguf",)),
        ("model-q[0-5]*.gguf", ("model-q4_0.gguf",)),
        ("*f16-*.gguf", PARTS),
        ("f16/*", PARTS),
        ("f16/model-f16-00001-of-00003.gguf", PARTS),
        ("model-f16-00002-of-00003.gguf", PARTS),
    ],
)
def test_one_model(pattern: str, files: tuple[str, ...]) -> None:
    assert choose(FILES, pattern, "a/b") == files


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "*q2*",
            (
                "no file of a/b fits '*q2*'; its models are f16/model-f16-00001-of-00003.gguf, "
                "f16/model-f16-00002-of-00003.gguf, f16/model-f16-00003-of-00003.gguf, mmproj-f16.gguf, "
                "model-q4_0.gguf, model-q8_0.gguf"
            ),
        ),
        (
            "model-q*",
            "2 models of a/b fit 'model-q*': model-q4_0.gguf, model-q8_0.gguf; name one of them",
        ),
    ],
)
def test_none_or_several(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        choose(FILES, pattern, "a/b")
    assert str(caught.value) == message


def test_many_are_not_all_told() -> None:
    with pytest.raises(ValidationError) as caught:
        choose([f"m{number:02}.gguf" for number in range(30)], "*", "a/b")
    assert str(caught.value).endswith("m18.gguf, m19.gguf and 10 more; name one of them")


def test_additional_files() -> None:
    assert fitting(FILES, "mmproj*", "a/b") == ["mmproj-f16.gguf"]
    with pytest.raises(ValidationError, match=r"its models are none$"):
        fitting(["README.md"], "x.gguf", "a/b")


@pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is not None, reason="huggingface_hub is installed"
)
@pytest.mark.parametrize("kind", [Llama, MTMDChatHandler])
def test_without_the_hubs_package(kind: type[Llama | MTMDChatHandler]) -> None:
    with pytest.raises(LlamaError) as caught:
        kind.from_pretrained("a/b", "*.gguf")
    assert str(caught.value) == (
        "from_pretrained() needs huggingface_hub (0.25 or newer): "
        "`pip install --upgrade huggingface_hub`"
    )
