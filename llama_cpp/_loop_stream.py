"""What threads produce, as an async iterator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

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

    def __del__(self) -> None:
        """Stop the work of a stream that was forgotten."""
        self._stop()

    def _stop(self) -> None:
        if not self._over:
            self._over = True
            self._cancel()
