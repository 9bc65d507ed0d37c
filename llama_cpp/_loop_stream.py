"""Work in threads for an event loop: results to await, items as an async iterator."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Generic, TypeVar

from llama_cpp._errors import GenerationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager
    from typing import Protocol

    from typing_extensions import Self

    class Work(AbstractContextManager[object], Protocol):
        """What a thread does for a loop: entered where it begins, left where it ends."""

        @property
        def cancelled(self) -> bool:
            """Whether :meth:`cancel` was called."""

        def cancel(self) -> None:
            """End it wherever it is; called in the loop's thread."""


T = TypeVar("T")


class Channel(Generic[T]):
    """The producer's end: takes items in any thread, never waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lead into ``loop``, which is the running one."""
        self._loop = loop
        self.queue: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()

    def put(self, item: T) -> None:
        """Hand over an item."""
        self._post((item,))

    def finish(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, and why."""
        self._post(error)

    def _post(self, entry: tuple[T] | BaseException | None) -> None:
        # a loop that was closed has nobody left who listens
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.queue.put_nowait, entry)


class LoopStream(Generic[T]):
    """The consumer's end; leaving the loop, :meth:`aclose` and garbage collection cancel the work."""

    def __init__(self, channel: Channel[T], cancel: Callable[[], object]) -> None:
        """Read from ``channel``; ``cancel`` is called when nobody wants more."""
        self._queue = channel.queue
        self._cancel = cancel
        self._over = False

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> T:
        """Wait for the next item."""
        if self._over:
            raise StopAsyncIteration
        try:
            entry = await self._queue.get()
        except asyncio.CancelledError:
            self._stop()
            raise
        if isinstance(entry, tuple):
            return entry[0]
        self._over = True
        if entry is None:
            raise StopAsyncIteration
        raise entry

    async def aclose(self) -> None:
        """Stop the work; does nothing once everything has come."""
        self._stop()

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Stop the work of a stream that was forgotten."""
        # ending is bound here: without a GIL modules are emptied before what is in them is deleted
        if not ending():
            self._stop()

    def _stop(self) -> None:
        if not self._over:
            self._over = True
            self._cancel()


async def call(executor: Executor, work: Work, function: Callable[[], T]) -> T:
    """Return what ``function`` does in a thread; cancelling the task ends it there."""

    def run() -> T:
        with work:
            if work.cancelled:
                raise GenerationError("the call was cancelled before it began")
            return function()

    future = asyncio.get_running_loop().run_in_executor(executor, run)
    try:
        return await future
    except asyncio.CancelledError:
        work.cancel()
        raise


async def stream(executor: Executor, work: Work, parts: Callable[[], Iterator[T]]) -> LoopStream[T]:
    """Return what ``parts`` yields in a thread; waits until that has begun."""
    loop = asyncio.get_running_loop()
    channel: Channel[T] = Channel(loop)
    begun = asyncio.Event()

    def run() -> None:
        error: BaseException | None = None
        try:
            with work:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(begun.set)
                if not work.cancelled:
                    for part in parts():
                        channel.put(part)
        except BaseException as raised:  # noqa: BLE001 - the consumer raises it
            error = raised
        channel.finish(error)

    items = LoopStream(channel, work.cancel)
    executor.submit(run)
    try:
        await begun.wait()
    except asyncio.CancelledError:
        await items.aclose()
        raise
    return items
