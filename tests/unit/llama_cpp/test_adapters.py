"""LoRA adapters and control vectors against what they must change, on every quantisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from llama_cpp import (
    ControlVector,
    GenerationError,
    Llama,
    LlamaPool,
    ModelLoadError,
    SamplingParams,
    ValidationError,
)
from tests.tiny.llama import CODE_CHANNELS, WIDTH, TinyLlama, llama_weights, token_codes
from tests.tiny.lora import TinyLora

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.build

KINDS = ("llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0")
BASE = TinyLlama(name="llama-f32")


def greedy(llm: Llama, case: Mapping[str, Any]) -> str:
    done = llm(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
    return done["choices"][0]["text"]


def answers_like(llm: Llama, cases: Sequence[Mapping[str, Any]]) -> bool:
    return [greedy(llm, case) for case in cases] == [case["text"] for case in cases]


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, tiny: Path) -> Iterator[Llama]:
    with Llama(tiny / f"{request.param}.gguf", n_threads=1) as llm:
        yield llm


def test_load_scale_remove(base: Llama, tiny: Path, answers: dict[str, Any]) -> None:
    plain, adapted = answers["llama-f32"]["greedy"], answers["lora-f32"]["greedy"]
    assert answers_like(base, plain)
    name = base.load_lora(tiny / "lora-f32.gguf")
    assert name == "lora-f32"
    assert answers_like(base, adapted)
    base.reset()
    assert answers_like(base, adapted)
    base.set_lora_scale(name, 0.0)
    assert answers_like(base, plain)
    base.set_lora_scale(name, 1.0)
    assert answers_like(base, adapted)
    base.remove_lora(name)
    assert answers_like(base, plain)
    base.load_lora(str(tiny / "lora-f32.gguf"), 1.0, name="again")
    assert answers_like(base, adapted)
    base.clear_lora()
    base.clear_lora()
    assert answers_like(base, plain)


@pytest.fixture
def second(tmp_path: Path) -> TinyLora:
    """Another adapter, for another word piece."""
    lora = TinyLora(name="second", base=BASE, goes="ir", comes="iv")
    lora.write(tmp_path / "second.gguf")
    return lora


def test_several_at_once(model_file: Path, tiny: Path, tmp_path: Path, second: TinyLora) -> None:
    first = TinyLora(name="lora-f32", base=second.base, goes="▁f", comes="▁s")
    both = TinyLlama(name="both", redirect={**first.adapted.redirect, **second.adapted.redirect})
    files = [tiny / "lora-f32.gguf", tmp_path / "second.gguf"]
    prompt = second.base.encode("hello")
    with Llama(model_file, n_threads=1, lora_path=files, lora_scale=[1.0, 1.0]) as llm:

        def text() -> str:
            return llm(prompt, max_tokens=40, temperature=0)["choices"][0]["text"]

        assert text() == both.expected_text(prompt, 40)
        llm.remove_lora("lora-f32")
        assert text() == second.adapted.expected_text(prompt, 40)
        assert llm.load_lora(files[1], 0.0) == "second-2"
        llm.clear_lora()
        assert text() == second.base.expected_text(prompt, 40)


def test_logits_are_the_adapted_ones(llm: Llama, tiny: Path) -> None:
    lora = TinyLora(name="lora-f32", base=BASE, goes="▁f", comes="▁s")
    prompt = lora.base.encode("hello")
    llm.load_lora(tiny / "lora-f32.gguf")
    llm.eval(prompt)
    assert llm.eval_logits[-1] == pytest.approx(lora.logits(prompt).tolist(), abs=0.02)


def test_a_change_ends_streams_and_forgets(llm: Llama, tiny: Path) -> None:
    stream = llm.create_completion([1], max_tokens=20, temperature=0, stream=True)
    next(stream)
    llm.load_lora(tiny / "lora-f32.gguf")
    assert llm.n_tokens == 0
    with pytest.raises(GenerationError, match="this stream was ended"):
        list(stream)


def test_names_are_checked(llm: Llama, tiny: Path) -> None:
    llm.load_lora(tiny / "lora-f32.gguf", name="mine")
    for use, message in (
        (
            lambda: llm.load_lora(tiny / "lora-f32.gguf", name="mine"),
            "a LoRA adapter is named 'mine' already; remove_lora('mine') first",
        ),
        (lambda: llm.remove_lora("other"), "no LoRA adapter is named 'other'; loaded: 'mine'"),
        (
            lambda: llm.set_lora_scale("mine", float("nan")),
            "scale is nan; choose a number from -3.40282e+38 to 3.40282e+38",
        ),
        (
            lambda: llm.load_lora(tiny / "lora-f32.gguf", name=""),
            "name is ''; give a LoRA adapter a text that is not empty",
        ),
    ):
        with pytest.raises(ValidationError) as caught:
            use()
        assert str(caught.value) == message


def test_scales_and_files_are_counted(model_file: Path, tiny: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        Llama(model_file, lora_path=5)  # type: ignore[arg-type]
    assert str(caught.value) == "lora_path is 5; give a path, or a list of paths"
    with pytest.raises(ValidationError) as caught:
        Llama(model_file, lora_path=[str(tiny / "lora-f32.gguf")], lora_scale=[1.0, 2.0])
    assert str(caught.value) == (
        "lora_scale has 2 scales for 1 files in lora_path; give one for each, or a single number"
    )


def test_a_foreign_file_changes_nothing(
    llm: Llama, tiny: Path, answers: dict[str, Any], model_file: Path
) -> None:
    llm.load_lora(tiny / "lora-f32.gguf")
    for path in (model_file, tiny / "missing.gguf"):
        with pytest.raises(ModelLoadError):
            llm.load_lora(path)
    assert answers_like(llm, answers["lora-f32"]["greedy"])


# -- control vectors -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The tiny llama with a second layer that does nothing: the first one takes no direction."""
    path = tmp_path_factory.mktemp("deep") / "deep.gguf"
    reader = gguf.GGUFReader(tiny / "llama-f32.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            value = 2 if field.name == "llama.block_count" else field.contents()
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, value, field.types[0], inner)
    for name, weight in llama_weights().items():
        writer.add_tensor(name, weight.astype(np.float32))
        if name.startswith("blk.0."):
            idle = weight if "norm" in name else np.zeros_like(weight)
            writer.add_tensor(name.replace("blk.0.", "blk.1."), idle.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def direction(piece: str) -> list[float]:
    """Return what makes the model say ``piece``, whatever comes before."""
    vector = np.zeros(WIDTH)
    vector[list(CODE_CHANNELS)] = token_codes()[BASE.vocabulary.ids[piece]]
    found: list[float] = vector.tolist()
    return found


def vector_file(path: Path, directions: Mapping[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    for name, numbers in directions.items():
        writer.add_tensor(name, np.asarray(numbers))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def says(llm: Llama) -> str:
    return llm([1], max_tokens=3, temperature=0)["choices"][0]["text"]


def test_control_vectors(deep: Path, tmp_path: Path) -> None:
    plain = BASE.expected_text([1], 3)
    file = vector_file(tmp_path / "v.gguf", {"direction.1": np.array(direction("▁f"), np.float32)})
    with Llama(deep, n_threads=1) as llm:
        assert says(llm) == plain
        llm.set_control_vectors([ControlVector({1: direction("▁f")}, 50.0)])
        assert says(llm) == " f f f"
        llm.reset()
        assert says(llm) == " f f f"
        llm.set_control_vectors([])
        assert says(llm) == plain
        llm.set_control_vectors([ControlVector(file, 50.0)])
        assert says(llm) == " f f f"
        llm.set_control_vectors([file, ControlVector({1: direction("▁s")}, 50.0)])
        assert says(llm) == " s s s"
        llm.set_control_vectors([ControlVector(file, 50.0, layers=(2, 9))])
        assert says(llm) == plain
        llm.set_control_vectors([ControlVector(file, 50.0), ControlVector(file, -50.0)])
        assert says(llm) == plain
    with Llama(deep, n_threads=1) as llm:
        llm.set_control_vectors(ControlVector(file, 50.0))  # type: ignore[arg-type]
        assert says(llm) == " f f f"
        state = llm.get_state()
        llm.set_control_vectors([ControlVector(file, 51.0)])
        with pytest.raises(ValidationError, match=r"^this state was made with adapters = "):
            llm.set_state(state)
        llm.set_control_vectors([ControlVector({1: direction("▁f")}, 50.0)])
        llm.set_state(state)
    vectors = [ControlVector(file, 50.0)]
    with Llama(deep, n_threads=1, control_vectors=vectors) as llm:
        assert says(llm) == " f f f"


def test_directions_are_checked(deep: Path) -> None:
    with Llama(deep, n_threads=1) as llm:
        for directions, message in (
            (
                {1: [0.0] * 63},
                (
                    "a control vector: the direction of layer 1 has 63 numbers, this model's n_embd is "
                    "64: it was made for another model"
                ),
            ),
            (
                {2: [0.0] * 64},
                "a control vector: a layer is 2; choose an integer from 1 to 1",
            ),
            (
                {1: [float("nan")] * 64},
                "a control vector: layer 1 is nan; choose a number from -3.40282e+38 to 3.40282e+38",
            ),
            (
                5,
                (
                    "a control vector is a GGUF file, or a dict from layers to lists of numbers: 'int' "
                    "object is not iterable"
                ),
            ),
            (
                {1: ["a"]},
                (
                    "a control vector is a GGUF file, or a dict from layers to lists of numbers: could not "
                    "convert string to float: 'a'"
                ),
            ),
        ):
            with pytest.raises(ValidationError) as caught:
                llm.set_control_vectors([ControlVector(directions)])  # type: ignore[arg-type]
            assert str(caught.value) == message
        with pytest.raises(ValidationError) as caught:
            llm.set_control_vectors([ControlVector({}, layers=3)])  # type: ignore[arg-type]
        assert str(caught.value) == "a control vector's layers are 3; give the first and the last"


def test_files_are_checked(deep: Path, tmp_path: Path, model_file: Path) -> None:
    whole = vector_file(tmp_path / "w.gguf", {"direction.1": np.zeros(64, np.float32)})
    short = tmp_path / "short.gguf"
    short.write_bytes(whole.read_bytes()[:-80])
    double = vector_file(tmp_path / "d.gguf", {"direction.1": np.zeros(64, np.float64)})
    empty = vector_file(tmp_path / "e.gguf", {})
    with Llama(deep, n_threads=1) as llm:
        for path, message in (
            (
                tmp_path / "none.gguf",
                f"control vector file {tmp_path / 'none.gguf'} does not exist",
            ),
            (
                model_file,
                (
                    f"{model_file} is no control vector: it has a tensor 'token_embd.weight', where only "
                    "direction.1, direction.2 … are known"
                ),
            ),
            (short, f"{short} is truncated within direction.1; download it again"),
            (double, f"{double}: direction.1 is not stored as F32; convert it"),
            (empty, f"{empty} is no control vector: it holds no direction"),
        ):
            with pytest.raises(ModelLoadError) as caught:
                llm.set_control_vectors([path])
            assert str(caught.value).startswith(message)
        assert says(llm) == BASE.expected_text([1], 3)


def test_control_vectors_of_a_pool(deep: Path) -> None:
    vectors = [ControlVector({1: direction("▁f")}, 50.0)]
    with LlamaPool(deep, 4, contexts=2, n_threads=1, control_vectors=vectors) as pool:
        greedy = SamplingParams(temperature=0)
        assert pool.sync.generate_batch([[1]] * 8, 3, greedy) == [" f f f"] * 8
