"""Models, contexts, batches and samplers by the names of internals, on the model with known answers."""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llama_cpp
from llama_cpp import (
    GenerationError,
    Llama,
    LlamaError,
    ModelLoadError,
    ValidationError,
    _internals,
)
from llama_cpp import llama_cpp as low
from llama_cpp._internals import (
    LlamaBatch,
    LlamaContext,
    LlamaModel,
    LlamaSampler,
    LlamaSamplingContext,
    LlamaSamplingParams,
    LlamaTokenDataArray,
)

from .conftest import Outcome

pytestmark = pytest.mark.build

BEGIN, SPACE = 1, 264
# the model goes on by two: " morning sun lifts the fog"
GREEDY = [266, 268, 270, 272, 274, 276]


@pytest.fixture
def model(model_file: Path) -> Iterator[LlamaModel]:
    loaded = LlamaModel(
        path_model=str(model_file), params=low.llama_model_default_params(), verbose=False
    )
    yield loaded
    loaded.close()


def context_of(model: LlamaModel, **fields: object) -> LlamaContext:
    params = LlamaContext.default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 1
    for name, value in fields.items():
        setattr(params, name, value)
    return LlamaContext(model=model, params=params)


@pytest.fixture
def context(model: LlamaModel) -> LlamaContext:
    return context_of(model)


def batch_of(*tokens: int, n_past: int = 0, logits_all: bool = False) -> LlamaBatch:
    batch = LlamaBatch(n_tokens=16, embd=0, n_seq_max=1)
    batch.set_batch(tokens, n_past, logits_all)
    return batch


def test_generation_as_clients_write_it(model: LlamaModel, context: LlamaContext) -> None:
    sampler = LlamaSampler()
    sampler.add_top_k(40)
    sampler.add_temp(0.8)
    sampler.add_greedy()
    batch = LlamaBatch(n_tokens=16, embd=0, n_seq_max=1)
    tokens, n_past, found = [BEGIN], 0, []
    for _ in GREEDY:
        batch.set_batch(tokens, n_past=n_past, logits_all=False)
        context.decode(batch)
        n_past += len(tokens)
        tokens = [sampler.sample(context, -1)]
        found += tokens
    assert found == GREEDY
    assert model.detokenize(found) == b" morning sun"


# -- model ------------------------------------------------------------------------------------------


def test_model_facts(model: LlamaModel, llm: Llama) -> None:
    core = llm._core
    assert (model.n_vocab(), model.n_embd(), model.n_ctx_train()) == (
        core.vocabulary.size,
        core.n_embd,
        core.n_ctx_train,
    )
    assert (model.size(), model.n_params(), model.desc()) == (
        core.size,
        core.n_params,
        core.description,
    )
    assert model.metadata() == core.metadata
    assert model.rope_freq_scale_train() == 1.0
    assert model.vocab_type() == core.vocabulary.type
    assert model.vocab == low.llama_model_get_vocab(model.model)
    assert isinstance(model.default_params(), low.llama_model_params)


def test_model_tokens(model: LlamaModel, llm: Llama) -> None:
    vocabulary = llm._core.vocabulary
    assert (model.token_bos(), model.token_eos(), model.token_nl()) == (
        vocabulary.bos,
        vocabulary.eos,
        vocabulary.nl,
    )
    assert (model.token_eot(), model.token_sep(), model.token_cls()) == (
        vocabulary.eot,
        vocabulary.sep,
        vocabulary.bos,
    )
    assert (model.token_prefix(), model.token_middle(), model.token_suffix()) == (
        vocabulary.fim_prefix,
        vocabulary.fim_middle,
        vocabulary.fim_suffix,
    )
    assert (model.add_bos_token(), model.add_eos_token()) == (True, False)
    assert model.tokenize(b" morning", True, True) == [1, 266, 268, 270, 272]
    assert model.tokenize(b" morning", add_bos=False, special=False) == [266, 268, 270, 272]
    assert model.detokenize([1, 266, 268, 270, 272]) == llm.detokenize([1, 266, 268, 270, 272])
    assert model.token_to_piece(BEGIN) == b""
    assert model.token_to_piece(BEGIN, special=True) == model.token_get_text(BEGIN).encode()
    assert model.token_get_attr(BEGIN) == low.LLAMA_TOKEN_ATTR_CONTROL
    assert isinstance(model.token_get_score(SPACE), float)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda model: model.token_to_piece(320), id="piece"),
        pytest.param(lambda model: model.token_get_text(-1), id="text"),
        pytest.param(lambda model: model.token_get_score(320), id="score"),
        pytest.param(lambda model: model.token_get_attr(2**40), id="attribute"),
        pytest.param(lambda model: model.detokenize([1, 320]), id="detokenize"),
        pytest.param(lambda model: model.tokenize("text", True, True), id="no bytes"),
    ],
)
def test_model_refuses(model: LlamaModel, call: Callable[..., object]) -> None:
    with pytest.raises(ValidationError):
        call(model)


def test_model_has_no_tensors(model: LlamaModel) -> None:
    with pytest.raises(NotImplementedError, match=r"^llama\.cpp gives no access to the tensor 'x'"):
        model.get_tensor("x")


def test_model_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="does not exist"):
        LlamaModel(path_model=str(tmp_path / "no.gguf"), params=LlamaModel.default_params())


def test_model_params_are_used(model_file: Path) -> None:
    params = LlamaModel.default_params()
    params.use_mmap = False
    params.use_mlock = False
    shares: list[tuple[float, object]] = []

    def progress(share: float, data: object) -> bool:
        shares.append((share, data))
        return True

    params.progress_callback = low.llama_progress_callback(progress)
    overrides = (low.llama_model_kv_override * 2)()
    overrides[0].key = b"general.name"
    overrides[0].tag = low.LLAMA_KV_OVERRIDE_TYPE_STR
    overrides[0].val_str = b"another"
    params.kv_overrides = overrides
    model = LlamaModel(path_model=str(model_file), params=params)
    assert params.load_mode == low.LLAMA_LOAD_MODE_NONE
    assert model.core.params.use_mmap is False
    assert model.core.params.kv_overrides == (("general.name", "another"),)
    assert shares[-1] == (1.0, None)
    model.close()


def test_vocabulary_alone_makes_no_context(model_file: Path) -> None:
    params = LlamaModel.default_params()
    params.vocab_only = True
    model = LlamaModel(path_model=str(model_file), params=params)
    assert model.tokenize(b" morning", True, True) == [1, 266, 268, 270, 272]
    with pytest.raises(LlamaError, match="vocab_only"):
        context_of(model)
    model.close()


def test_a_view_is_the_same_model(llm: Llama) -> None:
    view = LlamaModel.view(llm._core)
    assert (view.model, view.path_model, view.core) == (llm.model, llm.model_path, llm._core)
    assert view.params is llm.model_params


# -- parameters of earlier versions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mmap", "mlock", "mode"),
    [
        pytest.param(True, False, "LLAMA_LOAD_MODE_AUTO", id="mmap"),
        pytest.param(True, True, "LLAMA_LOAD_MODE_MMAP_MLOCK", id="both"),
        pytest.param(False, True, "LLAMA_LOAD_MODE_MLOCK", id="mlock"),
        pytest.param(False, False, "LLAMA_LOAD_MODE_NONE", id="neither"),
    ],
)
def test_load_mode_by_its_old_fields(mmap: bool, mlock: bool, mode: str) -> None:
    params = LlamaModel.default_params()
    params.use_mmap = mmap
    params.use_mlock = mlock
    assert params.load_mode == getattr(low, mode)
    assert (params.use_mmap, params.use_mlock) == (mmap, mlock)


def test_context_params_by_their_old_fields() -> None:
    params = LlamaContext.default_params()
    params.logits_all = True
    params.flash_attn = True
    assert (params.flash_attn, params.flash_attn_type) == (True, low.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    params.flash_attn = False
    assert params.flash_attn_type == low.LLAMA_FLASH_ATTN_TYPE_DISABLED
    with pytest.raises(AttributeError):
        params.n_context = 5


# -- context ----------------------------------------------------------------------------------------


def test_context_facts(context: LlamaContext) -> None:
    assert context.n_ctx() == 256
    assert context.pooling_type() == low.LLAMA_POOLING_TYPE_NONE
    assert context.memory == low.llama_get_memory(context.ctx)
    assert context.get_state_size() > 0


def test_logits_are_where_they_were_asked_for(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN, 266, 268, logits_all=True))
    all_rows = np.ctypeslib.as_array(context.get_logits(), (3, 320))
    assert all_rows.argmax(axis=1).tolist() == [266, 268, 270]
    assert np.ctypeslib.as_array(context.get_logits_ith(1), (320,)).argmax() == 268
    assert np.ctypeslib.as_array(context.get_logits_ith(-1), (320,)).argmax() == 270
    context.decode(batch_of(270, n_past=3))
    with pytest.raises(
        ValidationError, match=r"^no logits at index 1: the last batch had outputs at"
    ):
        context.get_logits_ith(1)


def test_nothing_was_asked_for(context: LlamaContext) -> None:
    for read in (context.get_logits, context.get_embeddings):
        with pytest.raises(ValidationError, match=r"^no logits: decode a batch"):
            read()
    context.decode(batch_of(BEGIN))
    with pytest.raises(GenerationError, match=r"^llama\.cpp has no embeddings of the last batch"):
        context.get_embeddings()
    with pytest.raises(GenerationError, match=r"^llama\.cpp has no pooled embedding"):
        context.get_embeddings_seq(0)
    with pytest.raises(
        ValidationError, match=r"^sequence id 1; this context's ids run from 0 to 0$"
    ):
        context.get_embeddings_seq(1)


def test_embeddings(tiny: Path) -> None:
    model = LlamaModel(path_model=str(tiny / "bert-f32.gguf"), params=LlamaModel.default_params())
    context = context_of(
        model, embeddings=True, flash_attn=False, pooling_type=low.LLAMA_POOLING_TYPE_MEAN
    )
    ids = model.tokenize(b"hello", True, True)
    context.encode(batch_of(*ids, logits_all=True))
    vector = context.get_embeddings_seq(0)[: model.n_embd()]
    with Llama(model.path_model, embedding=True, n_threads=1, n_threads_batch=1) as llm:
        assert vector == pytest.approx(llm.embed("hello"), abs=1e-5)
    model.close()


def test_encoding_needs_an_encoder(context: LlamaContext) -> None:
    with pytest.raises(ValidationError, match=r"^this model has no encoder; use decode"):
        context.encode(batch_of(BEGIN))


def test_memory_is_cleared_and_cut(context: LlamaContext) -> None:
    def last() -> int:
        return low.llama_memory_seq_pos_max(context.memory or 0, 0)

    context.decode(batch_of(BEGIN, 266, 268))
    assert last() == 2
    assert context.kv_cache_seq_rm(0, 1, -1) is True
    assert last() == 0
    assert context.kv_cache_seq_rm(-1, -1, -1) is True
    assert last() == -1
    context.decode(batch_of(BEGIN))
    context.kv_cache_clear()
    assert last() == -1


def test_memory_of_several_sequences(model: LlamaModel) -> None:
    context = context_of(model, n_seq_max=2, kv_unified=True)

    def last(sequence: int) -> int:
        return low.llama_memory_seq_pos_max(context.memory or 0, sequence)

    context.decode(batch_of(BEGIN, 266, 268))
    context.kv_cache_seq_cp(0, 1, 0, 2)
    assert (last(0), last(1)) == (2, 1)
    with pytest.raises(ValidationError, match=r"^sequence 1 is not empty"):
        context.kv_cache_seq_cp(0, 1, -1, -1)
    with pytest.raises(ValidationError, match=r"^sequence 1 cannot be copied to itself"):
        context.kv_cache_seq_cp(1, 1, -1, -1)
    context.kv_cache_seq_shift(1, 0, -1, 3)
    assert last(1) == 4
    with pytest.raises(ValidationError, match=r"^shift is -4, and position 3 would be negative"):
        context.kv_cache_seq_shift(1, 0, -1, -4)
    context.kv_cache_seq_keep(1)
    assert (last(0), last(1)) == (-1, 4)


def test_part_of_a_sequence_with_a_buffer_of_its_own(model: LlamaModel) -> None:
    context = context_of(model, n_seq_max=2)
    context.decode(batch_of(BEGIN, 266, 268))
    with pytest.raises(
        ValidationError, match=r"^sequences of this context have buffers of their own"
    ):
        context.kv_cache_seq_cp(0, 1, 0, 2)
    context.kv_cache_seq_cp(0, 1, -1, -1)
    assert low.llama_memory_seq_pos_max(context.memory or 0, 1) == 2


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda context: context.kv_cache_seq_rm(1, 0, -1), id="remove"),
        pytest.param(lambda context: context.kv_cache_seq_cp(0, 300, 0, -1), id="copy"),
        pytest.param(lambda context: context.kv_cache_seq_keep(-1), id="keep"),
        pytest.param(lambda context: context.kv_cache_seq_shift(9, 0, -1, 1), id="shift"),
        pytest.param(lambda context: context.kv_cache_seq_rm(0, 2**40, -1), id="position"),
        pytest.param(lambda context: context.set_n_threads(0, 1), id="threads"),
        pytest.param(lambda context: context.decode(batch_of(320)), id="token"),
        pytest.param(lambda context: context.decode(batch_of(-1)), id="negative token"),
        pytest.param(lambda context: context.decode(batch_of(1, n_past=-1)), id="past"),
        pytest.param(lambda context: context.get_logits_ith(0), id="logits"),
    ],
)
def test_context_refuses(context: LlamaContext, call: Callable[..., object]) -> None:
    with pytest.raises(ValidationError):
        call(context)


def test_what_a_client_wrote_into_a_batch_is_checked(context: LlamaContext) -> None:
    batch = batch_of(BEGIN, 266)
    batch.batch.token[1] = 5000
    with pytest.raises(
        ValidationError, match=r"^token id 5000; this model's ids run from 0 to 319$"
    ):
        context.decode(batch)
    batch = batch_of(BEGIN)
    batch.batch.n_tokens = 17
    with pytest.raises(
        ValidationError, match=r"^the batch says 17 tokens; it holds 1 to 16 of them$"
    ):
        context.decode(batch)
    batch = batch_of(BEGIN)
    batch.batch.n_seq_id[0] = 2
    with pytest.raises(ValidationError, match=r"^token 0 of the batch is in 2 sequences"):
        context.decode(batch)
    batch = batch_of(BEGIN)
    batch.add_sequence([BEGIN], 7, logits_all=False)
    with pytest.raises(
        ValidationError, match=r"^sequence id 7; this context's ids run from 0 to 0$"
    ):
        context.decode(batch)


def test_fields_that_cannot_be_chosen(model: LlamaModel) -> None:
    callback = low.ggml_abort_callback(lambda _data: False)
    with pytest.raises(ValidationError, match=r"^abort_callback cannot be chosen here; call "):
        context_of(model, abort_callback=callback)


def test_threads_and_timings(context: LlamaContext) -> None:
    context.set_n_threads(1, 1)
    context.reset_timings()
    context.decode(batch_of(BEGIN))
    context.print_timings()


def test_the_owner_of_a_view_learns_of_changes(llm: Llama) -> None:
    assert llm._engine is not None
    told: list[str] = []
    view = LlamaContext.view(
        llm._engine.context, LlamaModel.view(llm._core), changed=lambda: told.append("changed")
    )
    assert (view.ctx, view.n_ctx(), view.params) == (llm.ctx, llm.n_ctx(), llm.context_params)
    assert told == []
    view.kv_cache_clear()
    view.decode(batch_of(BEGIN))
    view.kv_cache_seq_rm(0, 0, -1)
    assert told == ["changed"] * 3


# -- batch ------------------------------------------------------------------------------------------


def test_batch() -> None:
    batch = LlamaBatch(n_tokens=4, embd=0, n_seq_max=2)
    batch.set_batch([5, 6], n_past=3, logits_all=False)
    struct = batch.batch
    assert (batch.n_tokens(), struct.token[:2], struct.pos[:2]) == (2, [5, 6], [3, 4])
    assert (struct.logits[:2], struct.n_seq_id[:2], struct.seq_id[1][0]) == ([0, 1], [1, 1], 0)
    batch.add_sequence(np.array([7, 8]), 1, logits_all=True)  # type: ignore[arg-type]
    assert (struct.token[:4], struct.pos[:4]) == ([5, 6, 7, 8], [3, 4, 0, 1])
    assert (struct.logits[:4], struct.seq_id[3][0]) == ([0, 1, 1, 1], 1)
    with pytest.raises(ValidationError, match=r"^1 tokens; the batch has room for 0 more$"):
        batch.add_sequence([9], 0, logits_all=False)
    batch.reset()
    assert batch.n_tokens() == 0
    batch.close()
    batch.close()
    with pytest.raises(LlamaError, match=r"^the batch is closed; make another one$"):
        batch.n_tokens()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"n_tokens": 0, "embd": 0, "n_seq_max": 1}, id="no tokens"),
        pytest.param({"n_tokens": 2**40, "embd": 0, "n_seq_max": 1}, id="too many tokens"),
        pytest.param({"n_tokens": 1, "embd": 64, "n_seq_max": 1}, id="embeddings"),
        pytest.param({"n_tokens": 1, "embd": 0, "n_seq_max": 257}, id="too many sequences"),
    ],
)
def test_batch_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LlamaBatch(**arguments)


# -- samplers ---------------------------------------------------------------------------------------


def test_every_sampler_makes_a_chain(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    sampler.add_logit_bias(320, {266: -math.inf, 5: 1.5})
    sampler.add_penalties(320, 64, 1.1, 0.1, 0.1)
    sampler.add_dry(model, 0.8, 1.75, 2, -1, ["\n", ":"])
    sampler.add_top_n_sigma(20)
    sampler.add_top_k(40)
    sampler.add_typical(0.99)
    sampler.add_top_p(0.99)
    sampler.add_min_p(0.0, 1)
    sampler.add_xtc(0.0, 0.1, 1, 5)
    sampler.add_softmax()
    sampler.add_temp(0.9)
    sampler.add_temp_ext(1.0, 0.1, 1.0)
    sampler.add_dist(77)
    assert sampler.get_seed() == 77
    copy = sampler.clone()
    first = [sampler.sample(context) for _ in range(3)]
    assert 266 not in first
    assert [copy.sample(context) for _ in range(3)] == first
    sampler.reset()
    assert sampler.sample(context) == first[0]
    sampler.close()
    copy.close()


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat(context: LlamaContext, version: int) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    if version == 1:
        sampler.add_mirostat(320, 3, 0.1, 0.1, 100)
    else:
        sampler.add_mirostat_v2(3, 0.1, 0.1)
    assert sampler.sample(context) == 266


def test_infill(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    with pytest.raises(ValidationError, match=r"^infill compares all candidates with each other"):
        sampler.add_infill(model)
    sampler.add_top_k(20)
    sampler.add_infill(model)
    sampler.add_greedy()
    assert 0 <= sampler.sample(context) < 320


def test_a_chain_has_to_choose(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    sampler.add_top_k(5)
    with pytest.raises(ValidationError, match=r"^no sampler of the chain chooses"):
        sampler.sample(context)
    sampler.add_greedy()
    with pytest.raises(ValidationError, match=r"^no logits at index 3"):
        sampler.sample(context, 3)
    assert sampler.sample(context) == 266


def test_nothing_can_be_chosen(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    sampler.add_logit_bias(320, dict.fromkeys(range(320), -math.inf))
    sampler.add_dist(1)
    with pytest.raises(GenerationError, match=r"^nothing can be chosen: every token is refused$"):
        sampler.sample(context)


def test_grammar_in_a_chain(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    sampler.add_grammar(model, 'root ::= "x" "yz"')
    sampler.add_greedy()
    found = [sampler.sample(context) for _ in range(3)]
    assert model.detokenize(found) == b"xyz"
    with pytest.raises(LlamaError, match=r"^a chain with a grammar cannot be copied"):
        sampler.clone()
    sampler.reset()
    assert sampler.sample(context) == found[0]
    with pytest.raises(ValidationError, match=r"^the grammar does not allow token 266"):
        sampler.accept(266)
    with pytest.raises(ValidationError):
        sampler.add_grammar(model, "root ::= (")


def test_grammar_that_waits_for_a_pattern(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    sampler.add_grammar_lazy_patterns(model, 'root ::= "sun" "x"', [r"[^s]*(sun)"], [])
    sampler.add_greedy()
    for token in model.tokenize(b" morning sun", False, False):
        sampler.accept(token)
    assert model.detokenize([sampler.sample(context)]) == b"x"
    sampler.reset()
    assert sampler.sample(context) == 266


def test_grammar_that_waits_for_a_token(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    x = model.tokenize(b"x", False, False)[-1]
    sampler = LlamaSampler()
    sampler.add_grammar_lazy_patterns(model, 'root ::= "xy"', [], [x])
    sampler.add_greedy()
    assert sampler.sample(context) == 266
    sampler.accept(x)
    assert model.detokenize([sampler.sample(context)]) == b"y"


@pytest.mark.parametrize(
    ("patterns", "tokens", "message"),
    [
        pytest.param(["("], [], "a trigger pattern is no regular expression", id="pattern"),
        pytest.param([], [], "a lazy grammar needs a trigger", id="no trigger"),
        pytest.param([], [320], "token 0 has id 320", id="token"),
    ],
)
def test_triggers_that_are_none(
    model: LlamaModel, patterns: list[str], tokens: list[int], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        LlamaSampler().add_grammar_lazy_patterns(model, 'root ::= "x"', patterns, tokens)
    assert str(caught.value).startswith(message)


def test_what_triggers_a_grammar_must_be_in_it(model: LlamaModel) -> None:
    sampler = LlamaSampler()
    sampler.add_grammar_lazy_patterns(model, 'root ::= "y"', ["x"], [])
    *before, last = model.tokenize(b"x", False, False)
    for token in before:
        sampler.accept(token)
    with pytest.raises(ValidationError, match=r"^the grammar does not allow token"):
        sampler.accept(last)


def test_custom_sampler(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))

    def prefer(array: Any) -> None:
        for index in range(array.contents.size):
            if array.contents.data[index].id == 42:
                array.contents.data[index].logit = 1000.0

    sampler = LlamaSampler()
    sampler.add_custom(prefer)
    sampler.add_greedy()
    assert sampler.sample(context) == 42
    copy = sampler.clone()
    sampler.close()
    gc.collect()
    assert copy.sample(context) == 42


def test_what_a_custom_sampler_raises(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    answers: list[BaseException | None] = [KeyError("mine"), KeyboardInterrupt(), None]

    def fail(_array: object) -> None:
        if error := answers.pop(0):
            raise error

    sampler = LlamaSampler()
    sampler.add_custom(fail)
    sampler.add_greedy()
    with pytest.raises(KeyError, match="mine"):
        sampler.sample(context)
    with pytest.raises(KeyboardInterrupt):
        sampler.sample(context)
    assert sampler.sample(context) == 266


def test_a_custom_sampler_cannot_leave_nothing(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))

    def empty(array: Any) -> None:
        array.contents.size = 0

    sampler = LlamaSampler()
    sampler.add_custom(empty)
    sampler.add_dist(1)
    with pytest.raises(ValidationError, match=r"^a custom sampler left 0 tokens of 320"):
        sampler.sample(context)


def test_a_custom_sampler_cannot_change_ids(context: LlamaContext, model: LlamaModel) -> None:
    context.decode(batch_of(BEGIN))

    def change(array: Any) -> None:
        array.contents.data[0].id = 10**9

    sampler = LlamaSampler()
    sampler.add_top_k(20)
    sampler.add_custom(change)
    sampler.add_infill(model)
    sampler.add_greedy()
    with pytest.raises(
        ValidationError, match=r"^a custom sampler left 20 tokens of 20, or other ids"
    ):
        sampler.sample(context)


def test_logits_that_are_no_numbers(context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))

    def spoil(array: Any) -> None:
        for index in range(array.contents.size):
            array.contents.data[index].logit = math.nan

    sampler = LlamaSampler()
    sampler.add_custom(spoil)
    sampler.add_top_k(5)
    sampler.add_top_p(0.9)
    sampler.add_dist(1)
    with pytest.raises(GenerationError, match=r"^nothing can be chosen"):
        sampler.sample(context)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        pytest.param("sampler.close()", "the sampler is in use", id="closing the sampler"),
        pytest.param("model.close()", "the model is in use", id="closing the model"),
        pytest.param("context.close()", "the context is in use", id="closing the context"),
        pytest.param("sampler.add_greedy()", "the sampler is in use", id="changing the sampler"),
    ],
)
def test_in_a_callback(context: LlamaContext, model: LlamaModel, what: str, message: str) -> None:
    context.decode(batch_of(BEGIN))
    sampler = LlamaSampler()
    calls: dict[str, Callable[[], None]] = {
        "sampler.close()": sampler.close,
        "model.close()": model.close,
        "context.close()": context.close,
        "sampler.add_greedy()": sampler.add_greedy,
    }
    sampler.add_dry(model, 0.8, 1.75, 2, 64, ["x"])
    sampler.add_custom(lambda _array: calls[what]())
    sampler.add_greedy()
    with pytest.raises(LlamaError) as caught:
        sampler.sample(context)
    assert str(caught.value).startswith(message)
    assert context.n_ctx() == 256


def test_a_grammar_of_another_model(context: LlamaContext, tiny: Path) -> None:
    context.decode(batch_of(BEGIN))
    other = LlamaModel(path_model=str(tiny / "bert-f32.gguf"), params=LlamaModel.default_params())
    sampler = LlamaSampler()
    sampler.add_grammar(other, 'root ::= "x"+')
    sampler.add_greedy()
    with pytest.raises(ValidationError, match=r"^the grammar is for a model with 118 tokens"):
        sampler.sample(context)
    with pytest.raises(ValidationError, match=r"^token 0 has id 319; this model's ids run from 0"):
        sampler.accept(319)
    other.close()


ENDS = {
    "with everything open": "pass",
    "in an exception": "raise SystemExit(0)",
    "the model first": "del model; gc.collect(); del context; gc.collect()",
    "a cycle through a callback": "sampler.add_custom(lambda _: sampler); del sampler; gc.collect()",
    "shut down": "llama_cpp.shutdown()",
    "closed by many threads": (
        "many = [_internals.LlamaSampler() for _ in range(20)]\n"
        "for each in many:\n"
        "    each.add_dry(model, 0.8, 1.75, 2, 64, ['x'])\n"
        "threads = [threading.Thread(target=each.close) for each in (model, *many)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()"
    ),
}

PROLOGUE = """
import gc, sys, threading
import llama_cpp
from llama_cpp import _internals

model = _internals.LlamaModel(
    path_model=sys.argv[1], params=_internals.LlamaModel.default_params(), verbose=False
)
params = _internals.LlamaContext.default_params()
params.n_ctx, params.n_threads, params.n_threads_batch = 256, 1, 1
context = _internals.LlamaContext(model=model, params=params, verbose=False)
batch = _internals.LlamaBatch(n_tokens=4, embd=0, n_seq_max=1)
batch.set_batch([1, 266], 0, False)
context.decode(batch)
sampler = _internals.LlamaSampler()
sampler.add_dry(model, 0.8, 1.75, 2, 64, ["x"])
sampler.add_grammar(model, 'root ::= "x"+')
sampler.add_custom(lambda array: None)
sampler.add_dist(1)
sampler.sample(context)
"""


@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends(end: str, model_file: Path, run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(PROLOGUE + ENDS[end], str(model_file))
    assert (outcome.code, outcome.error) == (0, "")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda s, m: s.add_dist(-1), id="seed"),
        pytest.param(lambda s, m: s.add_top_k(2**40), id="k"),
        pytest.param(lambda s, m: s.add_top_p(math.nan), id="p"),
        pytest.param(lambda s, m: s.add_min_p(0.5, -1), id="min_keep"),
        pytest.param(lambda s, m: s.add_temp(math.inf), id="temperature"),
        pytest.param(lambda s, m: s.add_mirostat(320, 1, 5.0, 0.1, 1), id="m"),
        pytest.param(lambda s, m: s.add_mirostat_v2(1, 0.0, 0.1), id="tau"),
        pytest.param(lambda s, m: s.add_penalties(320, 2**30, 1, 0, 0), id="last_n"),
        pytest.param(lambda s, m: s.add_penalties(320, 64, 0, 0, 0), id="repeat"),
        pytest.param(lambda s, m: s.add_logit_bias(320, {320: 1.0}), id="bias of no token"),
        pytest.param(lambda s, m: s.add_logit_bias(320, {3: math.nan}), id="bias"),
        pytest.param(lambda s, m: s.add_dry(m, 1, 1, 1, 1, [""]), id="breaker"),
        pytest.param(lambda s, m: s.add_xtc(2, 0.1, 1, 1), id="xtc"),
        pytest.param(lambda s, m: s.accept(-1), id="token"),
    ],
)
def test_sampler_refuses(model: LlamaModel, call: Callable[..., object]) -> None:
    with pytest.raises(ValidationError):
        call(LlamaSampler(), model)


# -- use after close --------------------------------------------------------------------------------


def test_use_after_close(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    dry, plain, grammar = LlamaSampler(), LlamaSampler(), LlamaSampler()
    dry.add_dry(model, 0.8, 1.75, 2, 64, ["\n"])
    grammar.add_grammar(model, 'root ::= "x"')
    for sampler in (dry, plain, grammar):
        sampler.add_greedy()
    model.close()
    for call in (
        lambda: model.model,
        lambda: model.vocab,
        model.size,
        lambda: model.tokenize(b"a", True, True),
        lambda: context.ctx,
        lambda: context.memory,
        context.n_ctx,
        context.get_logits,
        context.kv_cache_clear,
        lambda: context.decode(batch_of(BEGIN)),
        context.get_state_size,
        lambda: dry.sampler,
        lambda: dry.sample(context),
        dry.reset,
        lambda: plain.sample(context),
        lambda: grammar.sample(context),
        lambda: grammar.accept(5),
        lambda: context_of(model),
    ):
        with pytest.raises(LlamaError, match=r" is closed; load or create it again to use it$"):
            call()
    plain.close()
    with pytest.raises(LlamaError, match=r"^the sampler is closed"):
        plain.add_greedy()
    context.close()


# -- sampling without a chain -----------------------------------------------------------------------


def candidates_of(*logits: float) -> LlamaTokenDataArray:
    made = LlamaTokenDataArray(n_vocab=len(logits))
    made.copy_logits(np.array(logits, np.single))
    return made


def left(candidates: LlamaTokenDataArray) -> list[int]:
    return sorted(candidates.left["id"].tolist())


def test_candidates() -> None:
    candidates = candidates_of(1.0, 3.0, 2.0)
    header = candidates.candidates
    assert (header.size, header.selected, header.sorted) == (3, -1, False)
    assert [header.data[i].logit for i in range(3)] == [1.0, 3.0, 2.0]
    with pytest.raises(ValidationError, match=r"^2 logits for 3 tokens$"):
        candidates.copy_logits(np.zeros(2, np.single))
    header.size = 9
    with pytest.raises(ValidationError, match=r"^the candidates' header says 9 tokens of 3"):
        _ = candidates.left


def test_filters(context: LlamaContext) -> None:
    logits = [0.0, 3.0, 2.0, 1.0, -5.0]
    candidates = candidates_of(*logits)
    context.sample_softmax(candidates)
    assert candidates.left["id"].tolist() == [1, 2, 3, 0, 4]
    assert candidates.left["p"].sum() == pytest.approx(1)
    context.sample_top_k(candidates, 2, 3)
    assert left(candidates) == [1, 2, 3]
    context.sample_top_k(candidates, 0, 1)
    assert left(candidates) == [1, 2, 3]
    candidates = candidates_of(*logits)
    context.sample_top_p(candidates, 0.7, 1)
    assert left(candidates) == [1, 2]
    candidates = candidates_of(*logits)
    context.sample_min_p(candidates, 0.2, 1)
    assert left(candidates) == [1, 2]
    candidates = candidates_of(*logits)
    context.sample_typical(candidates, 0.2, 1)
    assert left(candidates) == [2]
    candidates = candidates_of(*logits)
    context.sample_temp(candidates, 0.5)
    assert candidates.left["logit"].tolist() == [0.0, 6.0, 4.0, 2.0, -10.0]
    candidates = candidates_of(*logits)
    context.sample_repetition_penalties(candidates, [4, 1, 1], 2, 1.5, 0.25, 0.5)
    assert candidates.left["logit"].tolist() == [0.0, 1.0, 2.0, 1.0, -5.0]


def test_draws(context: LlamaContext) -> None:
    context.set_rng_seed(7)
    first = [context.sample_token(candidates_of(0.0, 1.0, 2.0)) for _ in range(200)]
    context.set_rng_seed(7)
    again = [context.sample_token(candidates_of(0.0, 1.0, 2.0)) for _ in range(200)]
    assert first == again
    shares = [first.count(token) / 200 for token in range(3)]
    assert shares == pytest.approx([0.09, 0.245, 0.665], abs=0.1)
    assert context.sample_token_greedy(candidates_of(0.0, 5.0, 2.0)) == 1
    for choose in (context.sample_token, context.sample_token_greedy):
        with pytest.raises(GenerationError, match=r"^nothing can be chosen"):
            choose(candidates_of(-math.inf, -math.inf))


def test_mirostats_learn(context: LlamaContext) -> None:
    context.set_rng_seed(3)
    logits = [-0.01 * index for index in range(1000)]
    for version in (1, 2):
        mu = ctypes.c_float(6.0)
        surprises = []
        for _ in range(300):
            before = mu.value
            candidates = candidates_of(*logits)
            if version == 1:
                context.sample_token_mirostat(candidates, 3.0, 0.1, 100, ctypes.pointer(mu))
            else:
                context.sample_token_mirostat_v2(candidates, 3.0, 0.1, mu)
            surprises.append((before - mu.value) / 0.1 + 3.0)
        assert sum(surprises[100:]) / 200 == pytest.approx(3.0, abs=0.3)
    with pytest.raises(ValidationError, match="give a ctypes"):
        context.sample_token_mirostat_v2(candidates_of(1.0, 2.0), 3.0, 0.1, 6.0)


def test_sampling_context(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampling = LlamaSamplingContext(LlamaSamplingParams(temp=0.0, n_prev=2))
    assert sampling.last() is None
    assert sampling.sample(context, -1) == 266
    for token in GREEDY[:3]:
        sampling.accept(context, token, apply_grammar=True)
    assert (sampling.prev, sampling.last()) == (GREEDY[1:3], 270)
    assert sampling.prev_str(context, 1) == model.detokenize([270]).decode()
    copy = sampling.cp()
    sampling.reset()
    assert (sampling.prev, copy.prev) == ([], GREEDY[1:3])
    logits = np.zeros(320, np.single)
    logits[9] = 5
    assert copy.sample(context, logits_array=logits) == 9
    biased = LlamaSamplingContext(LlamaSamplingParams(temp=0.0, logit_bias={266: -math.inf}))
    assert biased.sample(context, -1) == 267
    with pytest.raises(ValidationError):
        copy.accept(context, 320, apply_grammar=False)


@pytest.mark.parametrize("mirostat", [0, 1, 2])
def test_sampling_context_draws(context: LlamaContext, mirostat: int) -> None:
    context.decode(batch_of(BEGIN))
    context.set_rng_seed(1)
    params = LlamaSamplingParams(mirostat=mirostat, mirostat_tau=0.2, temp=0.2, penalize_nl=False)
    sampling = LlamaSamplingContext(params)
    assert sampling.sample(context, -1) == 266
    assert (sampling.mirostat_mu.value == 0) is (mirostat == 0)


def test_sampling_context_with_a_grammar(model: LlamaModel, context: LlamaContext) -> None:
    context.decode(batch_of(BEGIN))
    sampling = LlamaSamplingContext(LlamaSamplingParams(temp=0.0), grammar='root ::= "xy"')
    text = b""
    for _ in range(2):
        token = sampling.sample(context, -1)
        sampling.accept(context, token, apply_grammar=True)
        text += model.detokenize([token])
    assert text == b"xy"
    with pytest.raises(ValidationError, match=r"^the grammar does not allow token"):
        sampling.accept(context, 266, apply_grammar=True)


def test_normalize_embedding() -> None:
    assert _internals.normalize_embedding([3.0, 4.0]) == [0.6, 0.8]
    assert _internals.normalize_embedding([0.0, 0.0]) == [0.0, 0.0]


def test_names_of_answers_are_here_too() -> None:
    assert _internals.ChatCompletion is llama_cpp.ChatCompletion
