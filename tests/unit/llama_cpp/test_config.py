"""A configuration as one value: the constructor's keywords, and who wins."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING

import pytest

from llama_cpp import Llama, ValidationError
from llama_cpp.config import LlamaConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_names_and_defaults_are_the_constructors() -> None:
    parameters = inspect.signature(Llama.__init__).parameters
    keywords = {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in {"self", "model_path", "config", "kwargs"}
    }
    found = LlamaConfig().arguments()
    assert found.pop("n_gpu_layers") == -1
    assert keywords.pop("n_gpu_layers") == 0
    assert found == keywords


def test_a_value_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LlamaConfig().n_ctx = 5  # type: ignore[misc]


@pytest.mark.build
def test_a_keyword_wins_over_the_value(model_file: Path) -> None:
    config = LlamaConfig(model_path=str(model_file), n_ctx=1024, n_threads=1, n_batch=64)
    with Llama(model_file, config=config) as llm:
        assert (llm.n_ctx(), llm.n_batch, llm.n_threads) == (1024, 64, 1)
    with Llama(model_file, config=config, n_ctx=512, n_batch=512) as llm:
        assert (llm.n_ctx(), llm.n_batch, llm.n_threads) == (512, 512, 1)
    with Llama(config=config) as llm:  # type: ignore[call-arg]
        assert (llm.model_path, llm.n_ctx()) == (str(model_file), 1024)


@pytest.mark.build
def test_embeddings_by_its_other_name(model_file: Path) -> None:
    with Llama(model_file, config=LlamaConfig(embeddings=True, n_threads=1)) as llm:
        assert len(llm.embed("a")) == len(llm.tokenize("a"))


@pytest.mark.build
def test_the_default_asks_for_no_gpu_that_cannot_be_there(
    model_file: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with Llama(model_file, config=LlamaConfig(n_threads=1)) as llm:
        assert llm.model_params.n_gpu_layers == 0
    assert not recwarn.list


def test_a_model_path_is_needed() -> None:
    with pytest.raises(ValidationError) as caught:
        Llama(config=LlamaConfig())  # type: ignore[call-arg]
    assert str(caught.value) == ("no model_path: give it to Llama(…), or set it in the LlamaConfig")


def test_something_else_is_no_configuration() -> None:
    with pytest.raises(ValidationError) as caught:
        Llama("m.gguf", config={"n_ctx": 5})  # type: ignore[arg-type]
    assert str(caught.value) == "config is {'n_ctx': 5}; give a LlamaConfig"
