"""States: saved, loaded elsewhere, and refused where they do not belong."""

from __future__ import annotations

import base64
import copy
import pickle
import struct
import threading
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from llama_cpp import GenerationError, Llama, SamplingParams, ValidationError
from llama_cpp._sampler import Sampler
from llama_cpp._sequence import MediaSpan
from llama_cpp._state import LlamaState, pack, unpack
from llama_cpp._vision import MTMDChatHandler
from tests.tiny.vision import RED, png

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

KINDS = ("llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0")


def upper_case(answers: Mapping[str, Any], name: str = "llama-f32") -> Mapping[str, Any]:
    """Return the case whose answer most depends on all that is in memory."""
    found: Mapping[str, Any] = max(answers[name]["greedy"], key=lambda case: len(case["prompt"]))
    return found


def rest(llm: Llama, case: Mapping[str, Any], said: int) -> str:
    """Return the whole answer, going on after ``said`` of its tokens."""
    prompt = [*case["prompt"], *case["tokens"][:said]]
    done = llm(prompt, max_tokens=len(case["tokens"]) - said, temperature=0)
    return llm.detokenize(case["tokens"][:said]).decode() + done["choices"][0]["text"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("flash_attn", [False, True])
def test_an_object_goes_on_where_another_was(
    tiny: Path, answers: dict[str, Any], name: str, flash_attn: bool
) -> None:
    case = upper_case(answers, name)
    path = tiny / f"{name}.gguf"
    with Llama(path, n_threads=1, flash_attn=flash_attn) as first:
        first.eval([*case["prompt"], *case["tokens"][:2]])
        state = first.save_state()
    with Llama(path, n_threads=1, n_ctx=1024, flash_attn=flash_attn) as second:
        second.load_state(state)
        assert list(second.eval_tokens) == [*case["prompt"], *case["tokens"][:2]]
        assert rest(second, case, 2) == case["text"]


def test_what_a_state_is(llm: Llama) -> None:
    llm.eval([1, 5, 6, 7])
    state = llm.save_state()
    assert state.n_tokens == 4
    assert state.input_ids.tolist() == [1, 5, 6, 7]
    assert state.scores.shape == (1, 320)
    assert state.scores[0].tolist() == llm.eval_logits[-1]
    assert state.llama_state_size == len(state.llama_state)
    assert state.seed == 0xFFFFFFFF
    # 4 tokens: K and V of one layer, 64 wide, in F16; a row of logits; tokens, positions, header
    assert 4 * 64 * 2 * 2 + 320 * 4 < state.llama_state_size < 4 * 64 * 2 * 2 + 320 * 4 + 1500


def test_logits_come_along(model_file: Path, llm: Llama) -> None:
    llm.eval([1, 5, 6])
    row = llm.eval_logits[-1]
    data = llm.get_state()
    with Llama(model_file, n_threads=1) as other:
        other.set_state(data)
        assert other.eval_logits[-1] == row
        assert other.get_state() == data
        other.eval([7])
        llm.eval([7])
        assert other.eval_logits[-1] == pytest.approx(llm.eval_logits[-1], abs=1e-5)
        other.set_state(data)
        other.reset()
        assert not other.eval_logits


def test_all_logits_go_on_from_the_last_one(model_file: Path, llm: Llama) -> None:
    llm.eval([1, 5, 6])
    state = llm.save_state()
    with Llama(model_file, n_threads=1, logits_all=True) as other:
        other.eval([9, 9])
        other.load_state(state)
        assert [any(row) for row in other._scores] == [False, False, True]
        assert other._scores[-1].tolist() == state.scores[0].tolist()
        other.eval([7])
        assert [any(row) for row in other._scores] == [False, False, True, True]
        assert other._scores[2].tolist() == state.scores[0].tolist()


def test_all_ways_in_and_out(llm: Llama, tmp_path: Path) -> None:
    llm.eval([1, 5, 6])
    path = tmp_path / "state"
    assert llm.save_state(path) is None
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    state, data = llm.save_state(), llm.get_state()
    assert path.read_bytes() == data == state.llama_state
    for source in (path, str(path), data, bytearray(data), memoryview(data), state):
        llm.reset()
        llm.load_state(source)
        assert list(llm.eval_tokens) == [1, 5, 6]
    for again in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        llm.reset()
        llm.load_state(again)
        assert list(llm.eval_tokens) == [1, 5, 6]
    made = LlamaState.from_bytes(data)
    assert (made.n_tokens, made.input_ids.tolist()) == (3, [1, 5, 6])


def test_an_empty_memory_is_a_state(llm: Llama) -> None:
    data = llm.get_state()
    llm.eval([1, 5])
    llm.set_state(data)
    assert llm.n_tokens == 0
    assert not llm.save_state().scores.size


def test_loading_ends_streams(llm: Llama) -> None:
    data = llm.get_state()
    stream = llm.create_completion([1], max_tokens=20, stream=True)
    next(stream)
    llm.set_state(data)
    with pytest.raises(GenerationError, match="this stream was ended"):
        list(stream)


def refused(llm: Llama, source: Any) -> str:
    """Return why a state is refused; what was in memory must be there after that."""
    before = list(llm.eval_tokens)
    with pytest.raises(ValidationError) as caught:
        llm.load_state(source)
    assert list(llm.eval_tokens) == before
    return str(caught.value)


def test_damage_is_seen(llm: Llama, tmp_path: Path) -> None:
    llm.eval([1, 5, 6])
    data = llm.get_state()
    head = 24 + struct.unpack_from("<I", data, 20)[0]
    assert refused(llm, b"") == "the state is no state that save_state() or get_state() made"
    assert refused(llm, b"GGUF" + data) == (
        "the state is no state that save_state() or get_state() made"
    )
    assert refused(llm, data[:30]) == "the state is truncated after 30 bytes"
    assert refused(llm, data[:100]) == "the state is truncated or damaged within its header"
    assert refused(llm, data[:-1]) == (
        f"the state is truncated: it has {len(data) - 1} bytes, and {len(data)} are announced"
    )
    newer = data[:16] + struct.pack("<I", 9) + data[20:]
    assert refused(llm, newer) == (
        "the state has version 9 of the format, and this llama-cpp-python reads version 1: make the "
        "state again"
    )
    for place in range(head, len(data), 97):
        flipped = bytearray(data)
        flipped[place] ^= 1
        assert refused(llm, flipped) == "the state is damaged: its checksum does not match"
    for place in range(16, head):
        flipped = bytearray(data)
        flipped[place] ^= 4
        refused(llm, flipped)
    path = tmp_path / "damaged"
    path.write_bytes(data[:-20])
    assert refused(llm, path).startswith(f"{path} is truncated: ")
    assert refused(llm, 5) == "load_state() takes a LlamaState, bytes or a path, not int"


def test_a_state_of_another_model(tiny: Path, llm: Llama) -> None:
    with Llama(tiny / "llama-q8_0.gguf", n_threads=1) as other:
        other.eval([1, 5])
        state = other.get_state()
    assert refused(llm, state) == (
        "this state was made with description = 'llama ?B Q8_0', and this object has "
        "'llama ?B all F32': load it into an object like the one that made it"
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"type_k": 8}, "type_k"),
        ({"flash_attn": True}, "flash_attn"),
        ({"rope_freq_base": 5e5}, "rope"),
    ],
)
def test_a_state_of_another_memory(
    model_file: Path, llm: Llama, options: dict[str, Any], name: str
) -> None:
    with Llama(model_file, n_threads=1, **options) as other:
        other.eval([1, 5])
        state = other.save_state()
    assert refused(llm, state).startswith(f"this state was made with {name} = ")


def test_a_state_of_other_adapters(llm: Llama, tiny: Path) -> None:
    llm.load_lora(tiny / "lora-f32.gguf")
    llm.eval([1, 5])
    state = llm.get_state()
    llm.set_lora_scale("lora-f32", 0.5)
    assert refused(llm, state).startswith("this state was made with adapters = ")
    llm.set_lora_scale("lora-f32", 1.0)
    llm.set_state(state)
    assert list(llm.eval_tokens) == [1, 5]


def test_a_state_that_does_not_fit(model_file: Path, llm: Llama) -> None:
    with Llama(model_file, n_threads=1, n_ctx=1024) as large:
        large.eval([5] * 600)
        state = large.get_state()
    assert refused(llm, state) == (
        "this state has 600 tokens, and the context holds 512: load the model with n_ctx=600 or more"
    )


def test_what_llama_cpp_refuses_leaves_an_empty_memory(llm: Llama) -> None:
    llm.eval([1, 5, 6])
    parts = unpack(llm.get_state())
    native = bytearray(parts.native)
    native[12:16] = struct.pack("<I", 77)  # llama.cpp's number of cells
    with pytest.raises(ValidationError, match=r"^llama\.cpp cannot load this state: "):
        llm.set_state(pack(parts._replace(native=native)))
    assert llm.n_tokens == 0
    assert not llm.eval_logits
    llm.eval([1, 5, 6])
    assert llm.get_state() == pack(parts)


def test_a_file_is_replaced_in_one_step(llm: Llama, tmp_path: Path) -> None:
    path = tmp_path / "state"
    ended = threading.Event()
    seen: list[int] = []
    llm.eval([1])
    llm.save_state(path)

    def read() -> None:
        while not ended.is_set():
            seen.append(len(unpack(path.read_bytes()).tokens))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        llm.eval([5])
        llm.save_state(path)
    ended.set()
    reader.join()
    assert seen
    assert unpack(path.read_bytes()).tokens == [1, *[5] * 20]


def test_a_folder_that_cannot_be_written(llm: Llama, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        llm.save_state(tmp_path / "no" / "state")


def test_another_process_goes_on(
    llm: Llama,
    model_file: Path,
    tmp_path: Path,
    answers: dict[str, Any],
    run_python: Callable[..., Outcome],
) -> None:
    case = upper_case(answers)
    llm.eval(case["prompt"])
    llm.save_state(tmp_path / "state")
    ended = run_python(
        "import sys\nfrom llama_cpp import Llama\n"
        "llm = Llama(sys.argv[1], n_threads=1, verbose=False)\nllm.load_state(sys.argv[2])\n"
        "print([llm.n_tokens, max(enumerate(llm.eval_logits[-1]), key=lambda p: p[1])[0]])",
        str(model_file),
        str(tmp_path / "state"),
    )
    assert ended.output.strip() == str([len(case["prompt"]), case["tokens"][0]])


def test_media_have_their_place(llm: Llama) -> None:
    llm.eval([1, 5, 6, 7])
    parts = unpack(llm.get_state())
    # as an image of two positions that takes three places, whose embeddings were these tokens
    image = MediaSpan("hash", 3, 2)
    llm.set_state(pack(parts._replace(tokens=[1, -1, -2, 7], media={1: image})))
    again = unpack(llm.get_state())
    assert (again.tokens, again.media) == ([1, -1, -2, 7], {1: image})
    assert list(llm.eval_tokens) == [1, -1, -2, 7]
    for media in ({}, {2: image}, {0: image}, {1: image._replace(n_positions=9)}):
        with pytest.raises(ValidationError):
            llm.set_state(pack(parts._replace(tokens=[1, -1, -2, 7], media=media)))


def test_sampling_goes_on_without_computing(llm: Llama, answers: dict[str, Any]) -> None:
    case = answers["llama-f32"]["greedy"][0]
    llm.eval(case["prompt"])
    data = llm.get_state()
    llm.reset()
    llm.perf_reset()
    llm.set_state(data)
    assert llm._engine is not None
    with Sampler(llm._core, SamplingParams(temperature=0)) as sampler:
        assert sampler.sample(llm._engine.context) == case["tokens"][0]
    assert llm.perf()["t_p_eval_ms"] == llm.perf()["t_eval_ms"] == 0


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
def test_an_image_is_not_computed_again(vision: Path, architecture: str) -> None:
    source = "data:image/png;base64," + base64.b64encode(png(32, 32, [RED])).decode()
    content = [
        {"type": "image_url", "image_url": {"url": source}},
        {"type": "text", "text": "what?"},
    ]

    def load() -> Llama:
        handler = MTMDChatHandler(
            vision / f"mmproj-{architecture}-f32.gguf", n_threads=1, warmup=False
        )
        return Llama(
            vision / f"{architecture}-f32.gguf", n_threads=1, n_ctx=1024, chat_handler=handler
        )

    def answer(llm: Llama) -> str:
        done: Any = llm.create_chat_completion(
            [{"role": "user", "content": content}], temperature=0, max_tokens=20
        )
        text: str = done["choices"][0]["message"]["content"]
        return text

    with load() as llm:
        said = answer(llm)
        assert said.startswith(" GOODBYE, until")
        computed = llm.perf()["n_p_eval"]
        state = llm.save_state()
    with load() as llm:
        llm.load_state(state)
        llm.perf_reset()
        assert answer(llm) == said
        assert llm.perf()["n_p_eval"] < computed / 2


# -- a memory that cannot go back ------------------------------------------------------------------


@pytest.fixture(scope="module")
def recurrent(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mamba of random weights: what counts is that its state carries on."""
    path = tmp_path_factory.mktemp("mamba") / "mamba.gguf"
    reader = gguf.GGUFReader(tiny / "llama-f32.gguf")
    writer = gguf.GGUFWriter(path, "mamba")
    for field in reader.fields.values():
        if field.name.startswith("tokenizer.") and "chat_template" not in field.name:
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(2)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(128)
    writer.add_ssm_state_size(16)
    writer.add_ssm_time_step_rank(4)
    writer.add_layer_norm_rms_eps(1e-6)
    random = np.random.default_rng(5)

    def drawn(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    tensors = {"token_embd.weight": drawn(320, 64), "output_norm.weight": np.ones(64, np.float32)}
    for layer in ("blk.0.", "blk.1."):
        tensors |= {
            layer + "attn_norm.weight": np.ones(64, np.float32),
            layer + "ssm_in.weight": drawn(256, 64),
            layer + "ssm_conv1d.weight": drawn(128, 4),
            layer + "ssm_conv1d.bias": drawn(128),
            layer + "ssm_x.weight": drawn(36, 128),
            layer + "ssm_dt.weight": drawn(128, 4),
            layer + "ssm_dt.bias": drawn(128),
            layer + "ssm_a": -np.abs(drawn(128, 16)),
            layer + "ssm_d": drawn(128),
            layer + "ssm_out.weight": drawn(64, 128),
        }
    for name, weight in tensors.items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_recurrent_state_carries_on(recurrent: Path) -> None:
    tokens = [1, *range(20, 60)]
    with Llama(recurrent, n_threads=1) as whole, Llama(recurrent, n_threads=1) as other:
        whole.eval(tokens)
        state = whole.save_state()
        whole.eval([70, 71])
        other.load_state(state)
        assert other.eval_logits[-1] == state.scores[0].tolist()
        other.eval([70, 71])
        assert list(other.eval_tokens) == [*tokens, 70, 71]
        assert other.eval_logits[-1] == pytest.approx(whole.eval_logits[-1], abs=1e-4)
        # going back computes again what stays
        other.n_tokens = 5
        other.eval(tokens[5:])
        assert other.eval_logits[-1] == pytest.approx(state.scores[0].tolist(), abs=1e-4)
