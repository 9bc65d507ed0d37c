"""Awaiting one object: in order, never blocking the loop, ended when nobody waits any more."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from llama_cpp import GenerationError, Llama, LlamaError, ValidationError
from llama_cpp._async import _executor, _threads, _Work, generate_async
from llama_cpp._loop_stream import LoopStream, call, stream
from llama_cpp._sampler import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

pytestmark = pytest.mark.build

T = TypeVar("T")
GREEDY = SamplingParams(temperature=0)
PATIENCE = 60


def run(work: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        await asyncio.wait_for(work, PATIENCE)

    asyncio.run(within())


async def in_thread(llm: Llama, function: Callable[[], T]) -> T:
    return await call(_executor(llm), _Work(llm), function)


async def streamed(llm: Llama, parts: Callable[[], Iterator[T]]) -> LoopStream[T]:
    return await stream(_executor(llm), _Work(llm), parts)


def test_known_answers(llm: Llama, answers: dict[str, Any]) -> None:
    cases = [case for case in answers["llama-f32"]["greedy"] if case["prompt_text"] is not None]

    async def main() -> None:
        found = await asyncio.gather(
            *(generate_async(llm, c["prompt_text"], len(c["tokens"]), GREEDY) for c in cases)
        )
        assert found == [case["text"] for case in cases]
        for case in cases:
            parts = await generate_async(
                llm, case["prompt_text"], len(case["tokens"]), GREEDY, stream=True
            )
            assert "".join([part async for part in parts]) == case["text"]

    run(main())


def test_calls_on_one_object_run_in_their_order(llm: Llama) -> None:
    async def main() -> None:
        order: list[int] = []

        async def ask(number: int) -> None:
            await in_thread(llm, lambda: order.append(number))

        await asyncio.gather(*(ask(number) for number in range(20)))
        assert order == list(range(20))

    run(main())


def test_the_loop_goes_on_and_parts_come_as_they_are_made(llm: Llama) -> None:
    async def main() -> None:
        go = threading.Semaphore(0)

        def parts() -> Iterator[int]:
            for number in range(5):
                # the next part is not made before the loop has seen the last one
                assert go.acquire(timeout=PATIENCE)
                yield number

        go.release()
        seen = []
        async for part in await streamed(llm, parts):
            seen.append(part)
            go.release()
        assert seen == [0, 1, 2, 3, 4]

    run(main())


def test_cancelling_ends_the_computation(llm: Llama) -> None:
    begun, go = threading.Event(), threading.Event()
    ended: list[BaseException] = []

    def work() -> None:
        tokens = llm.generate([1], temp=0)
        next(tokens)
        begun.set()
        assert go.wait(PATIENCE)
        try:
            next(tokens)
        except GenerationError as error:
            ended.append(error)
            raise

    async def main() -> None:
        task = asyncio.create_task(in_thread(llm, work))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, PATIENCE)
        waiting = asyncio.create_task(generate_async(llm, "hello", 5, GREEDY))
        await asyncio.sleep(0)
        for each in (task, waiting):
            each.cancel()
            with pytest.raises(asyncio.CancelledError):
                await each
        go.set()
        # the object is free again, and the thread may generate again
        assert await generate_async(llm, " morning", 2, GREEDY) == " sun"

    run(main())
    assert [str(error) for error in ended] == ["this generation was cancelled"]


def test_cancelling_ends_a_long_prompt_between_its_parts(model_file: Path) -> None:
    with Llama(model_file, n_threads=1, n_batch=8) as llm:
        engine = llm._engine
        assert engine is not None
        computed = 0
        decode = engine.context.decode
        begun, go = threading.Event(), threading.Event()

        def slowly(batch: Any, **options: Any) -> None:
            nonlocal computed
            decode(batch, **options)
            computed += 1
            begun.set()
            assert go.wait(PATIENCE)

        engine.context.decode = slowly  # type: ignore[method-assign]

        async def main() -> None:
            task = asyncio.create_task(generate_async(llm, "x" * 100, 5, GREEDY))
            await asyncio.get_running_loop().run_in_executor(None, begun.wait, PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go.set()
            before = computed
            assert before == 1
            assert await generate_async(llm, " morning", 1, GREEDY) == " s"

        run(main())
        assert computed == 2


@pytest.mark.parametrize("how", ["close", "forget"])
def test_leaving_a_stream_ends_it(llm: Llama, how: str) -> None:
    go = threading.Event()
    ended: list[BaseException] = []

    def parts() -> Iterator[int]:
        tokens = llm.generate([1], temp=0)
        yield next(tokens)
        assert go.wait(PATIENCE)
        try:
            yield next(tokens)
        except GenerationError as error:
            ended.append(error)
            raise

    async def main() -> None:
        items = await streamed(llm, parts)
        assert await items.__anext__() == 266
        if how == "close":
            await items.aclose()
            with pytest.raises(StopAsyncIteration):
                await items.__anext__()
        del items
        gc.collect()
        go.set()
        assert await generate_async(llm, " morning", 2, GREEDY) == " sun"

    run(main())
    assert [str(error) for error in ended] == ["this generation was cancelled"]


def test_errors_reach_who_awaits(llm: Llama) -> None:
    async def main() -> None:
        with pytest.raises(ValidationError, match="max_tokens is 0"):
            await generate_async(llm, "hello", 0)
        items = await generate_async(llm, "hello", 0, stream=True)
        with pytest.raises(ValidationError, match="max_tokens is 0"):
            await items.__anext__()
        with pytest.raises(StopAsyncIteration):
            await items.__anext__()
        llm.close()
        with pytest.raises(LlamaError, match="the model is closed"):
            await generate_async(llm, "hello", 1)

    run(main())


def test_several_loops_one_after_another(llm: Llama) -> None:
    async def main() -> None:
        assert await generate_async(llm, " morning", 2, GREEDY) == " sun"

    for _ in range(3):
        run(main())


def test_the_thread_goes_with_the_object(model_file: Path) -> None:
    llm = Llama(model_file, n_threads=1)

    async def main(loaded: Llama) -> None:
        await generate_async(loaded, "hello", 1, GREEDY)

    run(main(llm))
    threads = list(_threads[llm]._threads)
    gone = weakref.ref(llm)
    llm.close()
    del llm
    gc.collect()
    assert gone() is None
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_methods_of_the_object(model_file: Path) -> None:
    messages = [{"role": "user", "content": "hello"}]

    async def main() -> None:
        with Llama(model_file, n_threads=1, embedding=True) as llm:
            assert await llm.generate_async(" morning", 2, GREEDY) == " sun"
            alone = llm.create_chat_completion(messages, max_tokens=5, temperature=0)
            whole = await llm.create_chat_completion_async(messages, max_tokens=5, temperature=0)
            assert whole["choices"] == alone["choices"]
            stream = await llm.create_chat_completion_async(
                messages, max_tokens=5, temperature=0, stream=True
            )
            text = "".join(
                [chunk["choices"][0]["delta"].get("content", "") async for chunk in stream]
            )
            assert text == whole["choices"][0]["message"]["content"]
            vectors = await llm.create_embedding_async(["hello", "x"])
            assert vectors == llm.create_embedding(["hello", "x"])

    run(main())
