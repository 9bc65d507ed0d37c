"""Projectors and bitmaps."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from llama_cpp import GenerationError, LlamaError, ModelLoadError, ValidationError
from llama_cpp._context import Context
from llama_cpp._engine import Engine
from llama_cpp._model import Model, ModelParams
from llama_cpp._mtmd import Projector, ProjectorParams
from tests.tiny.vision import BLUE, RED, png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.build

QUICK = ProjectorParams(n_threads=1, warmup=False)


@pytest.fixture(params=["gemma3", "qwen3vl"])
def projector(vision: Path, request: pytest.FixtureRequest) -> Iterator[Projector]:
    with Model(vision / f"{request.param}-f32.gguf") as model:
        yield Projector(model, vision / f"mmproj-{request.param}-f32.gguf", QUICK)


def test_what_it_can(projector: Projector) -> None:
    assert (projector.supports_vision, projector.supports_audio) == (True, False)
    assert projector.sample_rate == -1
    assert projector.mrope is (projector.model.architecture == "qwen3vl")


def test_warmup_and_limits(vision: Path) -> None:
    params = ProjectorParams(n_threads=1, image_min_tokens=4, image_max_tokens=16, flash_attn=True)
    with Model(vision / "qwen3vl-q8_0.gguf") as model:
        projector = Projector(model, vision / "mmproj-qwen3vl-q8_0.gguf", params)
        small, large = (projector.bitmap(png(side, side, [RED])) for side in (8, 256))
        sizes = [
            projector.tokenize([image], add_special=False).chunks[1].n_tokens
            for image in (small, large)
        ]
        assert sizes == [4, 16]


def test_it_hangs_on_the_model(vision: Path) -> None:
    model = Model(vision / "gemma3-f32.gguf")
    projector = Projector(model, vision / "mmproj-gemma3-f32.gguf", QUICK)
    image = projector.bitmap(png(8, 8, [RED]))
    prompt = projector.tokenize([image, "a"], add_special=True)
    model.close()
    assert (projector.closed, image.closed) == (True, True)
    for use in (
        lambda: projector.bitmap(png(8, 8, [RED])),
        lambda: projector.tokenize([image, "a"], add_special=True),
        lambda: projector.uses_non_causal(prompt.chunks[1].pointer),
    ):
        with pytest.raises(LlamaError, match="closed; load or create it again to use it"):
            use()
    prompt.close()
    projector.close()


def test_bitmap(projector: Projector) -> None:
    data = png(12, 10, [RED, BLUE])
    image = projector.bitmap(data)
    assert (image.width, image.height, image.is_audio) == (12, 10, False)
    assert image.key == sha256(data).hexdigest()


def test_damaged_image(projector: Projector) -> None:
    data = png(12, 10, [RED])
    with pytest.raises(ValidationError) as caught:
        projector.bitmap(data[:40])
    assert str(caught.value).splitlines()[0] == (
        "the PNG image of 40 bytes is damaged and cannot be decoded"
    )


def test_audio_for_a_projector_of_images(projector: Projector) -> None:
    with pytest.raises(ValidationError) as caught:
        projector.bitmap(b"ID3" + bytes(100))
    assert str(caught.value) == f"{projector.path.name} takes no audio (MP3 audio was given)"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_threads": 0}, "n_threads is 0; choose an integer from 1 to 512"),
        ({"image_min_tokens": 0}, "image_min_tokens is 0; choose an integer from 1 to 65536"),
        ({"image_max_tokens": 2**40}, f"image_max_tokens is {2**40}; choose an integer"),
        (
            {"image_min_tokens": 9, "image_max_tokens": 8},
            "image_min_tokens is 9, more than image_max_tokens, 8",
        ),
    ],
)
def test_bad_parameters(vision: Path, given: dict[str, int], words: str) -> None:
    with Model(vision / "gemma3-f32.gguf") as model, pytest.raises(ValidationError) as caught:
        Projector(model, vision / "mmproj-gemma3-f32.gguf", ProjectorParams(**given))  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_another_models_projector(vision: Path, model_file: Path) -> None:
    with Model(vision / "qwen3vl-f32.gguf") as model, pytest.raises(ModelLoadError) as caught:
        Projector(model, vision / "mmproj-gemma3-f32.gguf", QUICK)
    text = str(caught.value)
    assert text.startswith(f"llama.cpp cannot use {vision / 'mmproj-gemma3-f32.gguf'} as the ")
    assert "mismatch between text model (n_embd = 128) and mmproj (n_embd = 64)" in text


def test_a_model_is_no_projector(vision: Path, model_file: Path) -> None:
    with Model(model_file) as model, pytest.raises(ModelLoadError) as caught:
        Projector(model, model_file, QUICK)
    assert str(caught.value) == (
        f"{model_file} is no projector (mmproj): its architecture is 'llama', not 'clip'. The "
        "projector is a file of its own, usually called mmproj-*.gguf, beside the model's"
    )


def test_a_model_without_weights(vision: Path) -> None:
    with (
        Model(vision / "gemma3-f32.gguf", ModelParams(vocab_only=True)) as model,
        pytest.raises(LlamaError, match="vocab_only=True and cannot compute"),
    ):
        Projector(model, vision / "mmproj-gemma3-f32.gguf", QUICK)


def stretched(vision: Path, folder: Path) -> Path:
    """Write a projector with a scale of 48 channels among 64, which nobody has checked."""
    reader = gguf.GGUFReader(vision / "mmproj-gemma3-f32.gguf")
    writer = gguf.GGUFWriter(folder / "stretched.gguf", "clip")
    for field in reader.fields.values():
        if field.name.startswith("clip."):
            kind, item = field.types[0], field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=item)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.add_tensor("v.blk.0.ls1.weight", np.ones(48, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "stretched.gguf"


def test_an_assertion_of_ggml_is_an_exception(vision: Path, tmp_path: Path) -> None:
    path = stretched(vision, tmp_path)
    with Model(vision / "gemma3-f32.gguf") as model:
        with pytest.raises(ModelLoadError) as refused:
            Projector(model, path, ProjectorParams(n_threads=1))
        assert str(refused.value).startswith(
            f"projector (mmproj) file {path} is damaged, or not what this llama.cpp takes: "
        )
        assert "GGML_ASSERT(ggml_can_repeat(b, a)) failed" in str(refused.value)
        projector = Projector(model, path, QUICK)
        prompt = projector.tokenize([projector.bitmap(png(16, 16, [RED])), "a"], add_special=True)
        engine = Engine(Context(model))
        with pytest.raises(GenerationError) as broken:
            prompt.prefill(engine)
        assert "cannot be used any more" in str(broken.value)
        assert "GGML_ASSERT(ggml_can_repeat(b, a)) failed" in str(broken.value)
        with pytest.raises(LlamaError, match=r"llama\.cpp gave up on it"):
            prompt.prefill(engine)
        # another projector of the same model works
        sound = Projector(model, vision / "mmproj-gemma3-f32.gguf", QUICK)
        image = sound.bitmap(png(16, 16, [RED]))
        assert sound.tokenize([image, "a"], add_special=True).prefill(engine) > 0
