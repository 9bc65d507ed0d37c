"""What the exceptions say."""

from __future__ import annotations

import pytest

from llama_cpp import GenerationError, LlamaError, ModelLoadError, ValidationError


def test_log_lines_follow_the_message() -> None:
    error = ModelLoadError("cannot load x", log=("first", "second"))
    assert error.log == ("first", "second")
    assert str(error) == "cannot load x\n  llama.cpp: first\n  llama.cpp: second"


def test_without_log_only_the_message() -> None:
    assert str(GenerationError("failed")) == "failed"
    assert GenerationError("failed").log == ()


@pytest.mark.parametrize("kind", [GenerationError, ModelLoadError, ValidationError])
def test_all_are_llama_errors(kind: type[LlamaError]) -> None:
    assert issubclass(kind, LlamaError)


def test_bad_arguments_are_value_errors_too() -> None:
    with pytest.raises(ValueError, match=r"^bad$"):
        raise ValidationError("bad")


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        pytest.param(ModelLoadError, ValueError, id="a file"),
        pytest.param(ValidationError, ValueError, id="an argument"),
        pytest.param(GenerationError, RuntimeError, id="computing"),
    ],
)
def test_what_callers_of_llama_cpp_python_catch(
    kind: type[LlamaError], known: type[Exception]
) -> None:
    with pytest.raises(known, match=r"^bad\n  llama\.cpp: more$"):
        raise kind("bad", log=("more",))
