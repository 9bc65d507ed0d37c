"""Prompts of text and images: counts, answers, and what is not computed twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from llama_cpp import Llama, LlamaError, ValidationError
from llama_cpp._mtmd import Projector, ProjectorParams
from tests.tiny.audio import HIGH, LOW, wav
from tests.tiny.vision import BLUE, RED, TinyVision, png, vision_models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llama_cpp._media_prompt import MediaPrompt
    from llama_cpp._mtmd import Bitmap

pytestmark = pytest.mark.build

QUICK = ProjectorParams(n_threads=1, warmup=False)


class Loaded(NamedTuple):
    pair: TinyVision
    llm: Llama
    projector: Projector
    red: Bitmap
    blue: Bitmap

    def prompt(self, *parts: str | Bitmap, add_special: bool = True) -> MediaPrompt:
        return self.projector.tokenize(parts, add_special=add_special)

    def answer(self, *parts: str | Bitmap, **options: object) -> str:
        made = self.llm.create_completion(
            self.prompt(*parts),
            temperature=0,
            **{"max_tokens": 40, **options},  # type: ignore[call-overload]
        )
        text: str = made["choices"][0]["text"]
        return text


def load(vision: Path, pair: TinyVision, **options: object) -> Loaded:
    llm = Llama(
        vision / f"{pair.name}.gguf",
        **{"n_threads": 1, "n_threads_batch": 1, "verbose": False, **options},  # type: ignore[arg-type]
    )
    projector = Projector(llm._core, vision / f"{pair.projector_name}.gguf", QUICK)
    red, blue = (projector.bitmap(png(32, 32, [colour])) for colour in (RED, BLUE))
    return Loaded(pair, llm, projector, red, blue)


@pytest.fixture(params=["gemma3", "qwen3vl"])
def loaded(vision: Path, request: pytest.FixtureRequest) -> Iterator[Loaded]:
    made = load(vision, vision_models()[f"{request.param}-f32"])
    yield made
    made.llm.close()


def test_tokens_and_positions_are_two_counts(loaded: Loaded) -> None:
    prompt = loaded.prompt("user: ", loaded.red, "\nassistant:")
    tokens, positions = loaded.pair.image_tokens(32, 32)
    text = [len(loaded.pair.encode("user: ")), len(loaded.pair.encode("\nassistant:")) - 1]
    # the begin and the end of an image are tokens of their own, which mtmd adds
    assert [(c.n_tokens, c.n_positions) for c in prompt.chunks] == [
        (text[0] + 1, text[0] + 1),
        (tokens, positions),
        (text[1] + 1, text[1] + 1),
    ]
    assert len(prompt) == sum(text) + 2 + positions
    assert prompt.n_tokens == sum(text) + 2 + tokens
    assert [entry < 0 for entry in prompt] == (
        [False] * (text[0] + 1) + [True] * positions + [False] * (text[1] + 1)
    )


def test_text_alone_is_tokenized_as_ever(loaded: Loaded) -> None:
    for text in ("hello\nassistant:", "<up> a</s>b", " ", "ä🙂"):
        prompt = loaded.prompt(text)
        assert list(prompt) == loaded.pair.encode(text)
        assert prompt.n_tokens == len(prompt)
    assert list(loaded.prompt("a", " b", add_special=False)) == [
        *loaded.pair.encode("a", add_bos=False),
        *loaded.pair.encode(" b", add_bos=False),
    ]


@pytest.mark.parametrize("name", vision_models())
def test_an_image_decides_the_case(vision: Path, name: str) -> None:
    made = load(vision, vision_models()[name])
    pair, red, blue = made.pair, made.red, made.blue
    upper, lower = (pair.expected_text("assistant:", 40, upper=case) for case in (True, False))
    assert made.answer("user: ", red, "\nassistant:") == upper
    assert made.answer("user: ", blue, "\nassistant:") == lower
    assert made.answer("user: hello\nassistant:") == lower
    assert made.answer("user: ", red, blue, red, "\nassistant:") == upper
    assert made.answer(red, "user: ", blue, " and ", blue, "\nassistant:") == lower
    three = made.projector.bitmap(png(32, 32, [RED, BLUE, RED, RED]))
    one = made.projector.bitmap(png(32, 32, [RED, BLUE, BLUE, BLUE]))
    assert made.answer("user: ", three, "\nassistant:") == upper
    assert made.answer("user: ", one, "\nassistant:") == lower
    made.llm.close()


def test_small_batches_give_the_same(vision: Path) -> None:
    made = load(vision, vision_models()["qwen3vl-f32"], n_batch=3, n_ubatch=2)
    upper = made.pair.expected_text("assistant:", 40, upper=True)
    assert made.answer("user: ", made.red, "\nassistant:") == upper


def test_stream_usage_and_stop(loaded: Loaded) -> None:
    prompt = loaded.prompt("user: ", loaded.red, "\nassistant:")
    parts = loaded.llm.create_completion(prompt, temperature=0, max_tokens=40, stream=True)
    text = "".join(part["choices"][0]["text"] for part in parts)
    assert text == loaded.pair.expected_text("assistant:", 40, upper=True)
    made = loaded.llm.create_completion(prompt, temperature=0, max_tokens=40, stop=["DBYE"])
    assert made["choices"][0]["text"] == " GOO"
    assert made["usage"]["prompt_tokens"] == prompt.n_tokens
    penalised = loaded.llm.create_completion(
        prompt, temperature=0, max_tokens=1, repeat_penalty=1.0001
    )
    assert penalised["choices"][0]["text"] == " G"


def test_what_is_in_memory_is_not_computed_again(loaded: Loaded) -> None:
    llm, red, blue = loaded.llm, loaded.red, loaded.blue
    engine = llm._engine
    assert engine is not None
    first = loaded.prompt("user: ", red, "\nassistant:")
    answer = loaded.answer("user: ", red, "\nassistant:")
    assert len(engine.sequence.tokens) == len(first) + 6
    assert engine.sequence.n_cells == first.n_tokens + 6
    # the same turn again: all but its last token
    assert first.prefill(engine) == len(first) - 1
    # the next turn begins with all of it
    loaded.answer("user: ", red, "\nassistant:")
    second = loaded.prompt("user: ", red, f"\nassistant:{answer}\nuser: ", blue, "\nassistant:")
    assert second.prefill(engine) == len(first) + 6
    # another image in the first's place: only what is before it
    third = loaded.prompt("user: ", blue, "\nassistant:")
    assert third.prefill(engine) == third.chunks[0].n_positions
    # a text that begins alike
    assert loaded.prompt("user: hello").prefill(engine) == len(loaded.pair.encode("user: "))
    assert engine.sequence.n_cells == len(engine.sequence.tokens)


def test_an_image_that_only_looks_alike_is_computed(loaded: Loaded) -> None:
    from llama_cpp._sequence import MediaSpan  # noqa: PLC0415

    engine = loaded.llm._engine
    assert engine is not None
    prompt = loaded.prompt("user: ", loaded.red, "\nassistant:")
    prompt.prefill(engine)
    start = prompt.chunks[0].n_positions
    other = {start: MediaSpan("another key", *prompt.chunks[1][1:3])}
    # the same entries by chance, another key
    assert engine.sequence.keep_prefix(prompt, other) == start


def test_going_on_after_an_image(loaded: Loaded) -> None:
    loaded.prompt("user: ", loaded.red, "\nassis").prefill(loaded.llm._running())
    tokens = loaded.llm.generate(loaded.pair.encode("tant:", add_bos=False), temp=0, reset=False)
    assert next(tokens) == loaded.pair.encode(" G", add_bos=False)[-1]


def test_the_parts_of_one_context_end_each_other(loaded: Loaded) -> None:
    first = loaded.llm.create_completion(
        loaded.prompt(loaded.red, ":"), temperature=0, max_tokens=9, stream=True
    )
    next(first)
    loaded.answer(loaded.blue, ":")
    with pytest.raises(LlamaError, match="this stream was ended"):
        next(first)


def test_the_context_ends_an_answer(vision: Path) -> None:
    made = load(vision, vision_models()["qwen3vl-f32"], n_ctx=256)
    # images of 16 tokens and 4 positions, each between a begin and an end token
    prompt = made.prompt(*([made.red] * 13), " morning")
    assert (prompt.n_tokens, len(prompt)) == (13 * 18 + 5, 13 * 6 + 5)
    answer = made.llm.create_completion(prompt, temperature=0, max_tokens=100)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 257
    with pytest.raises(ValidationError) as caught:
        made.answer(*([made.red] * 15), " morning")
    assert str(caught.value) == (
        "the prompt has 275 tokens, the context holds 256 with at least one for the answer: give "
        "fewer or smaller images (image_max_tokens), or load the model with n_ctx=276 or more"
    )


def test_an_image_that_sees_itself_must_fit_a_batch(vision: Path) -> None:
    made = load(vision, vision_models()["gemma3-f32"], n_batch=8, n_ubatch=3)
    with pytest.raises(ValidationError) as caught:
        made.answer(made.red, ":")
    assert str(caught.value) == (
        "an image has 4 tokens, which this model computes at once, and a batch takes 3: load the "
        "model with n_batch and n_ubatch of at least 4"
    )


def test_a_prompt_ends_with_text(loaded: Loaded) -> None:
    # gemma3 and qwen3vl put an end token behind every image, so only nothing at all ends without
    with pytest.raises(ValidationError, match="the prompt must end with text"):
        loaded.prompt(add_special=False).prefill(loaded.llm._running())


def test_wrong_owners(vision: Path, loaded: Loaded) -> None:
    other = load(vision, loaded.pair)
    with pytest.raises(ValidationError, match="an image was decoded for another projector"):
        loaded.prompt(other.red, ":")
    with pytest.raises(ValidationError, match="the prompt was made for another model"):
        other.prompt(other.red, ":").prefill(loaded.llm._running())
    other.llm.close()


def test_a_context_that_attends_both_ways(vision: Path) -> None:
    made = load(vision, vision_models()["gemma3-f32"], attention_type=1)
    with pytest.raises(ValidationError, match="attends both ways"):
        made.answer(made.red, ":")


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 7)], ids=str)
def test_extreme_images(loaded: Loaded, size: tuple[int, int]) -> None:
    image = loaded.projector.bitmap(png(*size, [RED]))
    upper = loaded.pair.expected_text("assistant:", 40, upper=True)
    assert loaded.answer("user: ", image, "\nassistant:") == upper


def test_an_image_that_cannot_be_scaled(vision: Path) -> None:
    made = load(vision, vision_models()["qwen3vl-f32"])
    with pytest.raises(ValidationError) as caught:
        made.prompt(made.projector.bitmap(png(100000, 1, [RED])), ":")
    assert str(caught.value).splitlines()[0] == "mtmd cannot prepare the media"
    assert "out of range (max 65536)" in str(caught.value)


def test_audio(vision: Path) -> None:
    pair = vision_models()["gemma3-f32"]
    llm = Llama(
        vision / f"{pair.name}.gguf", n_threads=1, n_threads_batch=1, n_ctx=2048, verbose=False
    )
    projector = Projector(llm._core, vision / "mmproj-audio-f32.gguf", QUICK)
    assert (projector.supports_vision, projector.supports_audio) == (False, True)
    assert projector.sample_rate == 16000
    for sound, upper in ((wav(LOW), True), (wav(HIGH), False), (wav(LOW, 0.01), True)):
        clip = projector.bitmap(sound)
        assert (clip.is_audio, clip.height) == (True, 1)
        prompt = projector.tokenize(["user: ", clip, "\nassistant:"], add_special=True)
        assert (prompt.chunks[1].n_tokens, prompt.chunks[1].n_positions) == (750, 750)
        made = llm.create_completion(prompt, temperature=0, max_tokens=40)
        expected = pair.expected_text("assistant:", 40, upper=upper)
        assert made["choices"][0]["text"] == expected
    with pytest.raises(ValidationError, match="takes no images"):
        projector.bitmap(png(8, 8, [RED]))
    with pytest.raises(ValidationError, match="is empty"):
        projector.bitmap(wav(LOW, 1 / 16000))
    llm.close()


def test_lone_surrogate(loaded: Loaded) -> None:
    with pytest.raises(ValidationError, match="lone surrogate at character 1"):
        loaded.prompt("a\ud800")
