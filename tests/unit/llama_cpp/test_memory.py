"""Memories that are no plain KV cache, against known answers: recurrent, hybrid, sliding window."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from llama_cpp import Llama, LlamaRAMCache, SamplingParams, ValidationError
from llama_cpp._sequence import CachedSequence
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from llama_cpp.pool import LlamaPool
from tests.tiny.memory import TinyMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.build

MAMBA = TinyMemory(architecture="mamba")
JAMBA = TinyMemory(architecture="jamba")
WINDOWED = TinyMemory(architecture="granite_swa")
# with n_ubatch=8 its window fills a cache of 256 cells to the last
TIGHT = TinyMemory(architecture="granite_swa", window=248)

KINDS = pytest.mark.parametrize(
    ("model", "swa_full"),
    [
        pytest.param(MAMBA, None, id="recurrent"),
        pytest.param(JAMBA, None, id="hybrid"),
        pytest.param(WINDOWED, True, id="window-all-kept"),
        pytest.param(WINDOWED, False, id="window"),
        pytest.param(TIGHT, False, id="tight-window"),
    ],
)
WINDOWS = pytest.mark.parametrize("model", [WINDOWED, TIGHT], ids=["window", "tight-window"])
STATEFUL = pytest.mark.parametrize("model", [MAMBA, JAMBA], ids=["recurrent", "hybrid"])

STORY = " morning sun lifts the fog and river birds hum"
PROMPTS = (
    "",
    "<up> the",
    "<up>",
    "<down><up><up> and",
    "<up><up><down> and",
    "<up>farewell:",
    "<down>" * 3 + STORY * 10 + "<up>" * 6 + STORY,
    "<up>" * 2 + STORY * 30 + " the",
    STORY * 20 + "<up>" + STORY * 4,
)


@pytest.fixture
def load(memory: Path, tmp_path: Path) -> Iterator[Callable[..., Llama]]:
    """Load one of the models into a small memory, on one thread."""
    loaded: list[Llama] = []

    def one(model: TinyMemory, swa_full: bool | None = None, **arguments: Any) -> Llama:
        path = memory / f"{model.name}.gguf"
        if model == TIGHT:
            path = tmp_path / "tight.gguf"
            model.write(path)
        sizes = {"n_ctx": 1024, "n_batch": 64, "n_ubatch": 8, **arguments}
        loaded.append(Llama(path, n_threads=1, n_threads_batch=1, swa_full=swa_full, **sizes))
        return loaded[-1]

    yield one
    for llm in loaded:
        llm.close()


def answer(llm: Llama, prompt: str | Sequence[int], n: int = 12) -> str:
    prompt = prompt if isinstance(prompt, str) else list(prompt)
    found = llm.create_completion(prompt, max_tokens=n, temperature=0)
    return str(found["choices"][0]["text"])


def expected(model: TinyMemory, prompt: str | Sequence[int], n: int = 12) -> str:
    tokens = model.encode(prompt) if isinstance(prompt, str) else prompt
    # a character that is not complete is not given out
    return model.decode(model.expected_tokens(tokens, n)).decode(errors="ignore")


def memory_of(llm: Llama) -> list[int]:
    return list(llm.eval_tokens)


@KINDS
def test_known_answers(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    llm = load(model, swa_full)
    for prompt in PROMPTS:
        tokens = list(llm.generate(model.encode(prompt), temp=0, stopping_criteria=stop_after(40)))
        assert tokens == model.expected_tokens(model.encode(prompt), 40), prompt


def stop_after(n: int) -> Callable[[Any, Any], bool]:
    """Return a criterion that is met with the n-th token, or the ending one."""
    seen = 0

    def met(ids: Any, _logits: Any) -> bool:
        nonlocal seen
        seen += 1
        return seen == n or ids[-1] == 2

    return met


@KINDS
def test_parts_of_a_prompt(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    prompt = PROMPTS[6]
    for n_batch, n_ubatch in ((512, 512), (512, 8), (64, 64), (7, 3), (1, 1)):
        llm = load(model, swa_full, n_batch=n_batch, n_ubatch=n_ubatch)
        assert answer(llm, prompt) == expected(model, prompt)
        llm.close()


@KINDS
def test_other_prompts_in_between(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    for first in PROMPTS[3:]:
        for second in PROMPTS:
            for prompt in (first, second, first + STORY, first):
                assert answer(llm, prompt) == expected(model, prompt), (first, second)


@KINDS
def test_a_conversation_is_not_computed_again(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    prompt = model.encode("<up>" + STORY * 8)
    llm.create_completion(prompt, max_tokens=12, temperature=0)
    said = model.expected_tokens(prompt, 12)
    # the last token of an answer is not computed
    assert memory_of(llm) == [*prompt, *said[:-1]]
    following = [*prompt, *said, *model.encode("<down><up><up> and", add_bos=False)]
    assert llm._engine is not None
    assert llm._engine.prefill(following) == len(prompt) + len(said) - 1
    assert answer(llm, following) == expected(model, following)


@pytest.mark.parametrize("n", [1, 2, 3, 24, 25, 60])
@WINDOWS
def test_a_beginning_that_the_window_has_left(
    load: Callable[..., Llama], model: TinyMemory, n: int
) -> None:
    llm = load(model, False)
    long = "<up>" + "." * 700
    answer(llm, long)
    assert llm._engine is not None
    assert llm._engine.context.first_position(0) > 100
    prompt = "<up>" + "." * (n - 1) + " the"
    assert answer(llm, prompt) == expected(model, prompt)
    assert llm._engine.context.first_position(0) == 0


@KINDS
def test_states(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    llm = load(model, swa_full)
    other = load(model, swa_full)
    states = []
    for prompt in PROMPTS:
        answer(llm, prompt)
        states.append((memory_of(llm), llm.save_state()))
    for tokens, state in reversed(states):
        for each in (llm, other):
            each.load_state(state)
            assert memory_of(each) == tokens
            following = [*tokens, *model.encode(" the", add_bos=False)]
            assert answer(each, following) == expected(model, following)
            each.load_state(state)
            assert answer(each, tokens) == expected(model, tokens)


@KINDS
def test_a_state_goes_on_with_its_logits(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    prompt = model.encode(PROMPTS[6])
    llm.eval(prompt)
    state = llm.save_state()
    answer(llm, "<down> hello")
    llm.load_state(state)
    found: list[int] = []
    for _ in range(12):
        found.append(llm.sample(temp=0))
        llm.eval(found[-1:])
    assert found == model.expected_tokens(prompt, 12)


@KINDS
def test_a_shorter_prompt_after_a_loaded_state(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    """A state holds what the window still sees: what is before it cannot be gone back to."""
    llm = load(model, swa_full)
    llm.eval(model.encode("<up>" + "." * 400))
    llm.load_state(llm.save_state())
    for prompt in ("<up> the", "<up>" + "." * 300 + " the"):
        assert answer(llm, prompt) == expected(model, prompt)


@KINDS
def test_cache_of_states(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    llm = load(model, swa_full)
    llm.set_cache(LlamaRAMCache())
    for _ in range(2):
        for prompt in PROMPTS:
            assert answer(llm, prompt) == expected(model, prompt)
            following = prompt + expected(model, prompt) + "<up> the"
            assert answer(llm, following) == expected(model, following)


@KINDS
def test_fewer_tokens(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    llm = load(model, swa_full)
    long = model.encode("<up>" + "." * 500 + "<up><up>" + STORY * 2)
    for length in (len(long) - 1, 510, 400, 30, 2, 1, 0):
        llm.reset()
        llm.eval(long)
        llm.n_tokens = length
        assert memory_of(llm) == long[:length]
        following = [*long[:length], *model.encode(" the", add_bos=length == 0)]
        llm.eval(following[length:])
        assert llm.sample(temp=0) == model.expected_tokens(following, 1)[0]


@KINDS
def test_memory_changed_from_outside(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    prompt = "<up>" + STORY * 4
    for start, stop in ((0, -1), (20, -1), (1, 3)):
        answer(llm, prompt)
        llm._ctx.kv_cache_seq_rm(0, start, stop)
        assert answer(llm, prompt + STORY) == expected(model, prompt + STORY)


@KINDS
def test_after_what_is_in_memory(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    context: list[int] = []
    for text in ("<up>" + STORY * 9, "<down><up><up> the", STORY * 20, "<up><up>" + STORY):
        context += model.encode(text, add_bos=not context)
        said = model.expected_tokens(context, 6)
        found = llm.generate(text, 6, SamplingParams(temperature=0), reset_kv_cache=False)
        assert found == expected(model, context, 6)
        context += said
    # the last token of an answer is not computed
    assert memory_of(llm) == context[:-1]


@KINDS
def test_positions_are_not_moved_before_the_beginning(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    llm.eval(model.encode("<up> the"))
    if model == MAMBA:
        # a recurrent state has the position of its last token alone
        llm._ctx.kv_cache_seq_shift(0, -1, -1, -2)
    else:
        refused = "^(shift is -2, and position 0 would be neg|this model's memory cannot be shift)"
        with pytest.raises(ValidationError, match=refused):
            llm._ctx.kv_cache_seq_shift(0, -1, -1, -2)
    assert answer(llm, "<up> the") == expected(model, "<up> the")


@KINDS
def test_tokens_that_are_sent(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full)
    context = model.encode("<down>" + STORY * 5)
    tokens = llm.generate(context, temp=0)
    context.append(next(tokens))
    for text in ("<up><up>", STORY * 10 + "<up> the", "<down>" * 4):
        sent = model.encode(text, add_bos=False)
        context += sent
        said = model.expected_tokens(context, 1)
        assert [tokens.send(sent)] == said
        context += said


@STATEFUL
def test_a_draft_is_refused_with_a_recurrent_state(
    load: Callable[..., Llama], model: TinyMemory
) -> None:
    llm = load(model, draft_model=LlamaPromptLookupDecoding())
    message = rf"^{model.name}\.gguf has a recurrent state \(.*, which cannot take back wrong guesses: set d"
    with pytest.raises(ValidationError, match=message):
        answer(llm, "<up> the")
    llm.draft_model = None
    assert answer(llm, "<up> the") == expected(model, "<up> the")


class Guesses:
    """A draft that is right for a while and wrong after that."""

    def __init__(self, model: TinyMemory, right: int, wrong: int) -> None:
        self.model, self.right, self.wrong = model, right, wrong

    def __call__(self, ids: Any, /, **_more: Any) -> Any:
        right = self.model.expected_tokens(ids.tolist(), self.right)
        return np.array([*right, *[5] * self.wrong], dtype=np.intc)


@pytest.mark.parametrize("swa_full", [True, False])
@WINDOWS
def test_drafts(load: Callable[..., Llama], model: TinyMemory, swa_full: bool) -> None:
    llm = load(model, swa_full)
    # a marker that the window is about to leave, and a cache that is full
    prompts = ["." * 300 + "<up>" + "." * gap + " the" for gap in (3, model.window - 20)]
    for draft in (
        LlamaPromptLookupDecoding(num_pred_tokens=40),
        Guesses(model, 0, 7),
        Guesses(model, 0, 40),
        Guesses(model, 5, 40),
        Guesses(model, 40, 0),
    ):
        llm.draft_model = draft
        for prompt in (*prompts, *PROMPTS[3:]):
            assert answer(llm, prompt, 37) == expected(model, prompt, 37)


@WINDOWS
def test_memory_changed_from_outside_under_a_draft(
    load: Callable[..., Llama], model: TinyMemory
) -> None:
    """Guesses that are taken back do not make trustworthy what was changed meanwhile."""
    llm = load(model, False, draft_model=Guesses(model, 1, 5))
    prompt = "<up>" + STORY * 2
    tokens = llm.generate(model.encode(prompt), temp=0)
    next(tokens)
    next(tokens)
    llm._ctx.kv_cache_seq_rm(0, 1, -1)
    tokens.close()
    assert answer(llm, prompt) == expected(model, prompt)


@KINDS
def test_logits_of_all_tokens(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full, logits_all=True)
    context = model.encode("<up><up>" + STORY * 6 + "<down><down>" + STORY)
    llm.eval(model.encode("<down> hello"))
    llm.reset()
    llm.eval(context[:100])
    llm.eval(context[100:])
    chosen = llm.scores[: len(context)].argmax(axis=1).tolist()
    assert chosen == [
        model.expected_tokens(context[: end + 1], 1)[0] for end in range(len(context))
    ]


@KINDS
def test_embeddings_depend_on_all_that_is_remembered(
    load: Callable[..., Llama], model: TinyMemory, swa_full: bool
) -> None:
    llm = load(model, swa_full, embedding=True)
    texts = ["<up>" + "." * 20 + " the", "<down>" + "." * 20 + " the", "<up>" + "." * 20 + " the"]
    apart = [llm.embed(text) for text in texts]
    assert apart[0] == apart[2] != apart[1]
    np.testing.assert_allclose(llm.embed(texts), apart, atol=1e-5)
    assert answer(llm, "<up> the") == expected(model, "<up> the")


@WINDOWS
def test_a_copy_where_the_window_has_moved_on(
    load: Callable[..., Llama], model: TinyMemory
) -> None:
    """It is refused, and what was there stays: it may be of use."""
    llm = load(model, False, n_seq_max=2, kv_unified=True)
    assert llm._engine is not None
    context = llm._engine.context
    source, target = llm._engine.sequence, CachedSequence(context, 1)
    long = model.encode("<up>" + "." * 700)
    llm.eval(long)
    batch = context.batch()
    batch.add_run(long[:40], 0, 1, output=True)
    target.begin()
    context.decode(batch)
    target.extend(long[:40])
    assert context.first_position(0) > 100
    assert not target.copy_prefix(source, 100)
    assert target.tokens == long[:40]
    assert target.copy_prefix(source, len(long))
    assert target.tokens == long
    assert target.keep_prefix([*long[:690], 5, 5]) == 690


# -- many at once ----------------------------------------------------------------------------------

BEGINNINGS = (
    "<up>" + STORY * 6,
    "<up>" + STORY * 6 + "<up><up><down> the" + STORY * 3,
    "<down>" + "." * 90 + "<up><up><up> and",
)
REQUESTS = [
    (beginning + middle, n)
    for n in (1, 30, 60)
    for beginning in BEGINNINGS
    for middle in ("", STORY, "<up><up><up> the", "." * 60 + "<down>" * 6 + STORY)
]


@pytest.mark.parametrize(
    ("kv_size", "put_back"), [(None, False), (512, True)], ids=["apart", "unified"]
)
@KINDS
def test_pool(
    load: Callable[..., Llama],
    model: TinyMemory,
    swa_full: bool,
    kv_size: int | None,
    put_back: bool,
) -> None:
    path = load(model, swa_full).model_path
    sampling = SamplingParams(temperature=0)

    async def left_early(pool: LlamaPool, prompt: str) -> None:
        async for _ in await pool.generate(prompt, 60, sampling, stream=True):
            break

    async def main() -> None:
        sizes: dict[str, Any] = {"n_ctx": 512, "n_batch": 64, "n_ubatch": 8, "prompt_part": 32}
        pool = LlamaPool(
            path, 4, kv_size=kv_size, swa_full=swa_full, n_threads=1, n_threads_batch=1, **sizes
        )
        async with pool:
            whole = [pool.generate(prompt, n, sampling) for prompt, n in REQUESTS]
            early = [left_early(pool, prompt) for prompt, _ in REQUESTS[::5]]
            found = await asyncio.gather(*whole[::2], *early, *whole[1::2])
            found = [text for text in found if text is not None]
            stats = pool.stats()
        wanted = [expected(model, prompt, n) for prompt, n in REQUESTS]
        assert found == [*wanted[::2], *wanted[1::2]]
        # a recurrent state takes no more room when it is longer
        assert bool(stats.put_back) == (put_back and model != MAMBA)

    asyncio.run(asyncio.wait_for(main(), 60))
