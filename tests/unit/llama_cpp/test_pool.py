"""The pool against the known answers, and against one object with the same arguments."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama, LlamaError, ValidationError
from llama_cpp._sampler import SamplingParams
from llama_cpp._session import generate_text
from llama_cpp.config import LlamaConfig
from llama_cpp.pool import LlamaPool, QueueFullError
from tests.sequences import paired

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

    from llama_cpp._slot import Job

pytestmark = pytest.mark.build

GREEDY = SamplingParams(temperature=0)
PATIENCE = 60


@pytest.fixture
def pool(model_file: Path) -> Iterator[LlamaPool]:
    with LlamaPool(model_file, 3, n_threads=1, n_threads_batch=1) as made:
        yield made


@pytest.fixture
def cases(answers: dict[str, Any]) -> list[dict[str, Any]]:
    return list(answers["llama-f32"]["greedy"])


class Gate:
    """A request that stops the computing thread in the middle of its answer until it may go on."""

    def __init__(self, pool: LlamaPool) -> None:
        self.reached, self.go, self.over = (threading.Event() for _ in range(3))
        self.error: BaseException | None = None
        request = pool._shared.request("hello", None, GREEDY, None, None)
        self.job, _ = pool._shared.scheduler.submit(request, self)
        assert self.reached.wait(PATIENCE)

    def part(self, _text: str) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE)

    def done(self, _job: Job, error: BaseException | None) -> None:
        self.error = error
        self.over.set()

    def cancel(self, pool: LlamaPool) -> None:
        pool._shared.scheduler.cancel(self.job)
        self.go.set()


def run(work: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        await asyncio.wait_for(work, PATIENCE)

    asyncio.run(within())


@pytest.mark.parametrize("name", ["llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0"])
@pytest.mark.parametrize("size", [1, 4])
def test_known_answers(tiny: Path, answers: dict[str, Any], name: str, size: int) -> None:
    cases = answers[name]["greedy"] * 2

    async def main() -> None:
        async with LlamaPool(tiny / f"{name}.gguf", size, n_threads=1) as pool:
            found = await asyncio.gather(
                *(pool.generate(c["prompt"], len(c["tokens"]), GREEDY) for c in cases)
            )
            assert found == [case["text"] for case in cases]
            texts = [case for case in cases if case["prompt_text"] is not None]
            found = await pool.generate_batch([c["prompt_text"] for c in texts], 40, GREEDY)
            assert found == [case["text"] for case in texts]

            async def streamed(case: dict[str, Any]) -> str:
                stream = await pool.generate(
                    case["prompt"], len(case["tokens"]), GREEDY, stream=True
                )
                return "".join([part async for part in stream])

            found = await asyncio.gather(*(streamed(case) for case in cases))
            assert found == [case["text"] for case in cases]

    run(main())


def test_threads(pool: LlamaPool, cases: list[dict[str, Any]]) -> None:
    found: dict[tuple[int, int], str] = {}

    def work(number: int) -> None:
        for index, case in enumerate(cases):
            count = len(case["tokens"])
            if (number + index) % 2:
                found[number, index] = pool.sync.generate(case["prompt"], count, GREEDY)
            else:
                parts = pool.sync.generate(case["prompt"], count, GREEDY, stream=True)
                found[number, index] = "".join(parts)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {
        (number, index): case["text"] for number in range(5) for index, case in enumerate(cases)
    }
    assert pool.sync.generate_batch([c["prompt"] for c in cases], 3, GREEDY) == [
        pool.sync.generate(c["prompt"], 3, GREEDY) for c in cases
    ]


def test_the_same_seed_gives_what_one_object_gives(model_file: Path) -> None:
    prompts = ["hello", "<up> morning", "two birds", ":"]
    warm = SamplingParams(
        temperature=2.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.3, seed=5
    )
    with Llama(model_file, n_threads=1) as llm:
        alone = [generate_text(llm, prompt, 30, warm) for prompt in prompts]
    with LlamaPool(model_file, 4, n_threads=1) as pool:
        assert pool.sync.generate_batch(prompts, 30, warm) == alone
    assert len(set(alone)) == 4


def test_each_request_has_the_length_of_one_object(model_file: Path) -> None:
    with (
        Llama(model_file, n_threads=1, n_ctx=300) as llm,
        LlamaPool(model_file, 3, n_threads=1, n_ctx=300) as pool,
    ):
        assert pool.n_ctx == llm.n_ctx() == 512
        alone = generate_text(llm, " morning", None, GREEDY)
        assert pool.sync.generate_batch([" morning"] * 3, None, GREEDY) == [alone] * 3


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        pytest.param({"contexts": 2}, [3, 2], id="two contexts"),
        pytest.param({"contexts": 5}, [1] * 5, id="one sequence each"),
        pytest.param({"warmup": True, "contexts": 2}, [3, 2], id="warm"),
        pytest.param({"kv_size": 768}, [5], id="less memory"),
        pytest.param({"queue_size": 1, "prompt_part": 3, "n_batch": 16}, [5], id="small steps"),
        pytest.param({"config": LlamaConfig(n_ctx=1024, verbose=False)}, [5], id="config"),
    ],
)
def test_ways_to_share(
    model_file: Path, cases: list[dict[str, Any]], arguments: dict[str, Any], sizes: list[int]
) -> None:
    with LlamaPool(model_file, 5, n_threads=1, **arguments) as pool:
        found = pool.sync.generate_batch([c["prompt"] for c in cases] * 2, 40, GREEDY)
        assert found == [case["text"] for case in cases] * 2
        workers = pool._shared.scheduler._queue.workers
        params = [worker.context.params for worker in workers]
        assert {each.kv_unified for each in params} == {"kv_size" in arguments}
        assert {worker.context.n_ctx_seq for worker in workers} == {
            arguments.get("kv_size", pool.n_ctx)
        }
        assert [len(worker.slots) for worker in workers] == sizes
        assert pool.stats().n_sequences == 5
        assert pool.stats().finished == 2 * len(cases)


def test_lora(tiny: Path, answers: dict[str, Any]) -> None:
    lora = answers["lora-f32"]
    base = tiny / answers[lora["base"]]["file"]
    with LlamaPool(base, 4, n_threads=1, contexts=2, lora_path=str(tiny / lora["file"])) as pool:
        for case in lora["greedy"]:
            count = len(case["tokens"])
            assert (
                pool.sync.generate_batch([case["prompt"]] * 4, count, GREEDY) == [case["text"]] * 4
            )


def test_parts_come_while_others_run(pool: LlamaPool) -> None:
    async def main() -> None:
        long = await pool.generate("hello", None, GREEDY, stream=True)
        first = await long.__anext__()
        # an answer that begins later ends while the first one runs
        assert await pool.generate(" morning", 2, GREEDY) == " sun"
        text = first + "".join([part async for part in long])
        assert text == await pool.generate("hello", None, GREEDY)

    run(main())


def test_what_nobody_wants_is_not_computed(model_file: Path) -> None:
    async def main() -> None:
        async with LlamaPool(model_file, 1, n_threads=1) as pool:
            gate = Gate(pool)
            task = asyncio.create_task(pool.generate("hello", None, GREEDY))
            closed = await pool.generate("hello", None, GREEDY, stream=True)
            forgotten = await pool.generate("hello", None, GREEDY, stream=True)
            await asyncio.sleep(0)
            last = asyncio.create_task(pool.generate(" morning", 2, GREEDY))
            await asyncio.sleep(0)
            assert pool.stats().waiting == 4
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.aclose()  # type: ignore[attr-defined]
            del forgotten
            gc.collect()
            assert pool.stats().waiting == 1
            gate.cancel(pool)
            assert await last == " sun"
            stats = pool.stats()
        # one of the gate's, two of the last answer's
        assert (stats.failed, stats.finished, stats.generated_tokens) == (4, 1, 3)

    run(main())


def test_a_running_answer_is_cancelled(model_file: Path) -> None:
    with LlamaPool(model_file, 1, n_threads=1) as pool:
        gate = Gate(pool)
        gate.cancel(pool)
        assert gate.over.wait(PATIENCE)
        assert str(gate.error) == "the request was cancelled"
        assert pool.stats().generated_tokens == 1


def test_a_stream_that_a_thread_leaves(model_file: Path) -> None:
    with LlamaPool(model_file, 1, n_threads=1) as pool:
        gate = Gate(pool)
        forgotten = pool.sync.generate("hello", None, GREEDY, stream=True)
        closed = pool.sync.generate("hello", None, GREEDY, stream=True)
        assert pool.stats().waiting == 2
        closed.close()  # type: ignore[attr-defined]
        assert list(closed) == []
        assert pool.stats().waiting == 1
        del forgotten
        gc.collect()
        assert pool.stats().waiting == 0
        gate.cancel(pool)
        assert pool.sync.generate(" morning", 2, GREEDY) == " sun"


def test_one_failure_cancels_the_batch(pool: LlamaPool) -> None:
    message = "token 0 has id 999; this model's ids run from 0 to 319"

    async def main() -> None:
        with pytest.raises(ValidationError) as caught:
            await pool.generate_batch(["hello", [999], "hello"], None, GREEDY)
        assert str(caught.value) == message
        assert await pool.generate(" morning", 2, GREEDY) == " sun"

    run(main())
    with pytest.raises(ValidationError) as caught:
        pool.sync.generate_batch(["hello", [999]], None, GREEDY)
    assert str(caught.value) == message


def test_back_pressure(model_file: Path) -> None:
    async def main() -> None:
        async with LlamaPool(model_file, 1, queue_size=2, n_threads=1) as pool:
            assert await pool.generate_batch([" morning"] * 30, 2, GREEDY) == [" sun"] * 30
            streams = [await pool.generate(" morning", 2, GREEDY, stream=True) for _ in "12345"]
            for stream in streams:
                assert "".join([part async for part in stream]) == " sun"
            gate = Gate(pool)
            tasks = [
                asyncio.create_task(pool.generate(" morning", 2, GREEDY, stream=True))
                for _ in "1234"
            ]
            await asyncio.sleep(0)
            # two have a place in the queue, and two wait for one
            assert [task.done() for task in tasks] == [True, True, False, False]
            tasks[2].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[2]
            assert pool.stats().waiting == 3
            gate.cancel(pool)
            assert "".join([part async for part in await tasks[3]]) == " sun"

    run(main())


def test_a_full_queue_refuses_where_asked(model_file: Path) -> None:
    async def main() -> None:
        async with LlamaPool(model_file, 1, queue_size=1, n_threads=1, on_full="raise") as pool:
            gate = Gate(pool)
            waits = asyncio.create_task(pool.generate(" morning", 2, GREEDY))
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError, match=r"^the queue is full: 1 requests wait; try"):
                await pool.generate(" morning", 2, GREEDY)
            gate.cancel(pool)
            assert await waits == " sun"

    run(main())


def test_close_ends_what_runs_and_waits(model_file: Path) -> None:
    async def main() -> None:
        pool = LlamaPool(model_file, 1, n_threads=1)
        gate = Gate(pool)
        tasks = [asyncio.create_task(pool.generate("hello", None, GREEDY)) for _ in range(3)]
        stream = await pool.generate("hello", None, GREEDY, stream=True)
        await asyncio.sleep(0)
        closing = asyncio.create_task(pool.__aexit__(None, None, None))
        while not pool._shared.scheduler.closed:  # noqa: ASYNC110 - another thread's doing
            await asyncio.sleep(0)
        gate.go.set()
        await closing
        assert pool.closed
        assert repr(pool).endswith("llama-f32.gguf' of 1 closed>")
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [(type(error), str(error)) for error in found] == [
            (LlamaError, "the pool was closed")
        ] * 3
        with pytest.raises(LlamaError, match="the pool was closed"):
            await stream.__anext__()
        assert str(gate.error) == "the pool was closed"
        with pytest.raises(LlamaError, match="the model is closed"):
            await pool.generate("hello", 1)
        pool.close()

    run(main())


def five_more(tokens: Any, _logits: Any) -> bool:
    """Say that an answer to "hello" is over after five tokens."""
    return len(tokens) == 11


def no_story(_tokens: Any, logits: Any) -> Any:
    """Forbid the story to begin."""
    logits[266] = -100
    return logits


def without(head: Any) -> dict[str, Any]:
    """Return a completion, or a part of one, without what differs each time."""
    return {key: value for key, value in head.items() if key not in {"id", "created"}}


def test_completions_are_those_of_one_object(model_file: Path) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("hello", {"max_tokens": 9, "temperature": 0}),
        ("<up> morning", {"max_tokens": 20, "temperature": 0, "stop": ["FOG"], "echo": True}),
        ("say:", {"max_tokens": None, "temperature": 0}),
        (" birds", {"max_tokens": 12, "temperature": 1.5, "seed": 3, "top_k": 0}),
        ("hello", {"max_tokens": 4, "temperature": 0, "logit_bias": {266: -100.0}}),
        ("hello", {"max_tokens": 9, "temperature": 0, "stopping_criteria": [five_more]}),
        ("hello", {"max_tokens": 9, "temperature": 0, "logits_processor": [no_story]}),
    ]
    with Llama(model_file, n_threads=1) as llm:
        alone = [without(llm.create_completion(prompt, **more)) for prompt, more in asked]

    async def main() -> None:
        async with LlamaPool(model_file, 3, n_threads=1) as pool:
            found = await asyncio.gather(*(pool.create_completion(p, **more) for p, more in asked))
            assert [without(each) for each in found] == alone
            for (prompt, more), whole in paired(asked, alone):
                parts = [p async for p in await pool.create_completion(prompt, stream=True, **more)]
                assert (
                    "".join(part["choices"][0]["text"] for part in parts)
                    == (whole["choices"][0]["text"])
                )
                assert (
                    parts[-1]["choices"][0]["finish_reason"]
                    == (whole["choices"][0]["finish_reason"])
                )
            batch = await pool.create_completion_batch(["hello"] * 5, max_tokens=9, temperature=0)
            assert [without(each) for each in batch] == [alone[0]] * 5
            assert pool.stats().failed == 0

    run(main())
    with LlamaPool(model_file, 3, n_threads=1) as pool:
        assert [without(pool.sync.create_completion(p, **more)) for p, more in asked] == alone
        streamed = pool.sync.create_completion("hello", max_tokens=9, temperature=0, stream=True)
        assert "".join(p["choices"][0]["text"] for p in streamed) == alone[0]["choices"][0]["text"]
        batch = pool.sync.create_completion_batch(["hello"] * 5, max_tokens=9, temperature=0)
        assert [without(each) for each in batch] == [alone[0]] * 5


def test_chats_are_those_of_one_object(model_file: Path) -> None:
    chats = [
        [{"role": "user", "content": text}] for text in ("hello", "<up> birds", "two", "say:", "x")
    ]
    more: dict[str, Any] = {"max_tokens": 12, "temperature": 0}
    formats: list[dict[str, Any]] = [
        {},
        {"stop": ["sun"]},
        {"logprobs": True, "top_logprobs": 2},
        # with a choice, tokens of neither track would be equally likely
        {"grammar": 'root ::= "the moon"'},
    ]
    with Llama(model_file, n_threads=1) as llm:
        alone = [
            [without(llm.create_chat_completion(chat, **more, **form)) for chat in chats]
            for form in formats
        ]

    def text(chunks: list[dict[str, Any]]) -> str:
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

    async def main() -> None:
        async with LlamaPool(model_file, 3, n_threads=1) as pool:
            for form, expected in paired(formats, alone):
                found = await pool.create_chat_completion_batch(chats, **more, **form)
                assert [near(without(each)) for each in found] == [near(each) for each in expected]
                streams = [
                    await pool.create_chat_completion(chat, stream=True, **more, **form)
                    for chat in chats
                ]
                for stream, each in paired(streams, expected):
                    chunks = [chunk async for chunk in stream]
                    assert text(chunks) == each["choices"][0]["message"]["content"]
            assert pool.stats().failed == 0
            found = pool.sync.create_chat_completion_batch(chats, **more)
            assert [without(each) for each in found] == alone[0]
            stream = pool.sync.create_chat_completion(chats[0], stream=True, **more)
            assert text(list(stream)) == alone[0][0]["choices"][0]["message"]["content"]

    run(main())


def near(value: Any) -> Any:
    """Round what is computed in batches of other sizes."""
    if isinstance(value, dict):
        return {key: near(each) for key, each in value.items()}
    if isinstance(value, list):
        return [near(each) for each in value]
    return round(value, 2) + 0.0 if isinstance(value, float) else value


def test_cancelled_completions(model_file: Path) -> None:
    async def main() -> None:
        async with LlamaPool(model_file, 1, n_threads=1, queue_size=4) as pool:
            gate = Gate(pool)
            tasks = [
                asyncio.create_task(pool.create_completion("hello", max_tokens=None))
                for _ in range(3)
            ]
            stream = await pool.create_completion("hello", max_tokens=None, stream=True)
            while pool.stats().waiting < 4:  # noqa: ASYNC110 - other threads' doing
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await stream.aclose()
            assert pool.stats().waiting == 0
            gate.cancel(pool)
            assert await pool.generate(" morning", 2, GREEDY) == " sun"
            assert pool.stats().failed == 5
            for batch in (pool.create_completion_batch, pool.create_chat_completion_batch):
                with pytest.raises(
                    ValidationError, match=r"^a batch is not streamed; stream single"
                ):
                    await batch([], stream=True)

    run(main())


def test_what_a_pool_does_not_do(pool: LlamaPool) -> None:
    llm = pool._shared.guest().llm
    assert llm.n_ctx() == pool.n_ctx
    assert llm.tokenize(" morning") == [1, *llm.tokenize(" morning", add_bos=False)]
    with pytest.raises(ValidationError) as refused:
        pool.sync.create_completion("hello", echo=True, logprobs=1)
    assert str(refused.value) == (
        "a pool has no log probabilities of prompts: leave out echo or logprobs, or use a Llama of "
        "its own"
    )
    with pytest.raises(LlamaError) as caught:
        llm.eval([1])
    assert str(caught.value) == (
        "a pool computes for many requests at once and has no take_over of one: this needs a Llama "
        "of its own"
    )


def test_grammars(pool: LlamaPool) -> None:
    grammar = 'root ::= "yes" | "no"'
    texts = pool.sync.generate_batch(["hello"] * 6, 9, GREEDY, grammar=grammar)
    assert set(texts) <= {"yes", "no"}
    assert pool.sync.generate("hello", 2, GREEDY) not in texts
    with pytest.raises(ValidationError):
        pool.sync.generate("hello", 2, GREEDY, grammar="root ::= nothing")


def test_embeddings(tiny: Path, answers: dict[str, Any]) -> None:
    cases = answers["bert-f32"]["embeddings"]
    texts = [case["text"] for case in cases]

    async def main() -> None:
        async with LlamaPool(tiny / "bert-f32.gguf", 2, n_threads=1) as pool:
            one, every = await asyncio.gather(
                pool.create_embedding(texts[0]), pool.create_embedding(texts)
            )
            found = [each["embedding"] for each in every["data"]]
            for vector, case in paired([*found, *pool.sync.embed(texts)], cases * 2):
                assert vector == pytest.approx(case["vector"], abs=case["tolerance"])
            assert one["data"][0]["embedding"] == pytest.approx(found[0], abs=1e-5)
            assert pool.sync.create_embedding(texts)["usage"] == every["usage"]

    run(main())


def test_embeddings_beside_answers(model_file: Path) -> None:
    with Llama(model_file, n_threads=1, embedding=True) as llm:
        alone = llm.embed("hello")
    with LlamaPool(model_file, 2, n_threads=1) as pool:
        stream = pool.sync.generate(" morning", 6, GREEDY, stream=True)
        first = next(stream)
        assert pool.sync.embed("hello") == alone
        assert first + "".join(stream) == " sun lifts the"


def test_the_end_of_a_process_with_a_running_pool(model_file: Path, run_python: Any) -> None:
    code = """
import sys
from llama_cpp.pool import LlamaPool
pool = LlamaPool(sys.argv[1], 2, n_threads=1, n_ctx=2048, verbose=False)
stream = pool.sync.generate("hello", None, stream=True)
print(bool(next(stream)))
"""
    outcome = run_python(code, str(model_file))
    assert (outcome.code, outcome.output, outcome.error) == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_a_fork_is_told(model_file: Path, run_python: Any) -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from llama_cpp import LlamaError
from llama_cpp.pool import LlamaPool
with LlamaPool(sys.argv[1], 2, n_threads=1, verbose=False) as pool:
    pool.sync.generate("hello", 3)
    child = os.fork()
    if not child:
        try:
            pool.sync.generate("hello", 3)
        except LlamaError as error:
            print("before this process was forked" in str(error), flush=True)
        pool.close()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(pool.sync.generate("hello", 3)) > 0)
"""
    outcome = run_python(code, str(model_file))
    assert (outcome.code, outcome.output) == (0, "True\n7 True\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool_size": 0}, "pool_size is 0; choose an integer from 1 to 256"),
        ({"contexts": 3}, "contexts is 3; choose an integer from 1 to 2"),
        ({"queue_size": 0}, "queue_size is 0; choose an integer from 1 to 1048576"),
        ({"on_full": "drop"}, "on_full is 'drop'; choose 'wait' or 'raise'"),
        ({"kv_size": -1}, "kv_size is -1; choose an integer from 1 to 2147483647"),
    ],
)
def test_refused(model_file: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LlamaPool(model_file, **{"pool_size": 2, **arguments})
    assert str(caught.value) == message


def test_embedding_models_do_not_generate(tiny: Path) -> None:
    with LlamaPool(tiny / "bert-f32.gguf", 2, n_threads=1) as pool:
        with pytest.raises(LlamaError, match=r"bert-f32.gguf .* does not generate text"):
            pool.sync.generate("hello")
        with pytest.raises(LlamaError, match="does not generate text"):
            pool.stats()
