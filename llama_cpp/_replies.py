"""Where a pool's answers arrive: a thread that waits, or an event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from llama_cpp._loop_stream import Channel, LoopStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from typing_extensions import Self

    from llama_cpp._scheduler import Scheduler
    from llama_cpp._slot import Job, Request

    T_co = TypeVar("T_co", covariant=True)
    R_co = TypeVar("R_co", covariant=True)

    class Format(Protocol[T_co, R_co]):
        """What is made of an answer: items of a stream, or one result."""

        def begin(self) -> Iterable[T_co]:
            """Return what comes before the first text."""

        def part(self, text: str) -> T_co:
            """Return the item for a part of the text."""

        def end(self, job: Job) -> Iterable[T_co]:
            """Return what comes after the last text."""

        def whole(self, text: str, job: Job) -> R_co:
            """Return the result of a request that is not streamed."""


T = TypeVar("T")
R = TypeVar("R")


class ThreadStream(Generic[T]):
    """An answer's items for a thread; leaving the loop, :meth:`close` and collection cancel it.

    Attributes:
        job: what is computed.
    """

    def __init__(
        self,
        queue: SimpleQueue[tuple[T] | BaseException | None],
        job: Job,
        cancel: Callable[[Job], object],
    ) -> None:
        """Read from ``queue``; ``cancel`` is called when nobody wants more."""
        self.job = job
        self._queue = queue
        self._over = False
        self._cancel = cancel

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Wait for the next item."""
        if self._over:
            raise StopIteration
        entry = self._queue.get()
        if isinstance(entry, tuple):
            return entry[0]
        self._over = True
        if entry is None:
            raise StopIteration
        raise entry

    def close(self) -> None:
        """Cancel it; does nothing once everything has come."""
        if not self._over:
            self._over = True
            self._cancel(self.job)

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Cancel what was forgotten."""
        # ending is bound here: without a GIL modules are emptied before what is in them is deleted
        if not ending():
            self.close()


class _Sink(Generic[T]):
    """Puts an answer's items where they are awaited."""

    def __init__(
        self,
        form: Format[T, object],
        put: Callable[[T], None],
        finish: Callable[[BaseException | None], None],
    ) -> None:
        self._form = form
        self._put = put
        self._finish = finish
        for item in form.begin():
            put(item)

    def part(self, text: str) -> None:
        self._put(self._form.part(text))

    def done(self, job: Job, error: BaseException | None) -> None:
        if error is None:
            for item in self._form.end(job):
                self._put(item)
        self._finish(error)


class _Whole(Generic[R]):
    """Keeps an answer until it is complete."""

    def __init__(
        self,
        form: Format[object, R],
        finish: Callable[[R | None, BaseException | None], None],
    ) -> None:
        self._form = form
        self._finish = finish
        self._parts: list[str] = []

    def part(self, text: str) -> None:
        self._parts.append(text)

    def done(self, job: Job, error: BaseException | None) -> None:
        result = None
        if error is None:
            try:
                result = self._form.whole("".join(self._parts), job)
            except Exception as raised:  # noqa: BLE001 - for who waits
                error = raised
        self._finish(result, error)


def wait(scheduler: Scheduler, request: Request, form: Format[object, R]) -> R:
    """Answer a request; the calling thread waits.

    Raises:
        Exception: what :meth:`Scheduler.submit` raises, and what ended the request.
    """
    over: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()
    job, _ = scheduler.submit(
        request,
        _Whole(form, lambda result, error: over.put((result, error))),
        admitted=_nothing,
    )
    try:
        result, error = over.get()
    except BaseException:
        scheduler.cancel(job)
        raise
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def stream(scheduler: Scheduler, request: Request, form: Format[T, object]) -> ThreadStream[T]:
    """Return an answer's items for a thread; waits for a place in the queue.

    Raises:
        Exception: what :meth:`Scheduler.submit` raises.
    """
    queue: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    place = threading.Event()
    sink = _Sink(form, lambda item: queue.put((item,)), queue.put)
    job, at_once = scheduler.submit(request, sink, admitted=place.set)
    items = ThreadStream(queue, job, scheduler.cancel)
    if not at_once:
        try:
            place.wait()
        except BaseException:
            items.close()
            raise
    return items


async def wait_async(scheduler: Scheduler, request: Request, form: Format[object, R]) -> R:
    """Answer a request; cancelling the task cancels it.

    Raises:
        Exception: what :meth:`Scheduler.submit` raises, and what ended the request.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[R] = loop.create_future()

    def resolve(result: R | None, error: BaseException | None) -> None:
        if over.done():
            return
        if error is not None:
            over.set_exception(error)
        else:
            over.set_result(result)  # type: ignore[arg-type]

    def finish(result: R | None, error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, result, error)

    job, _ = scheduler.submit(request, _Whole(form, finish), admitted=_nothing)
    try:
        return await over
    except asyncio.CancelledError:
        scheduler.cancel(job)
        raise


async def stream_async(
    scheduler: Scheduler, request: Request, form: Format[T, object]
) -> LoopStream[T]:
    """Return an answer's items for an event loop; waits for a place in the queue.

    Raises:
        Exception: what :meth:`Scheduler.submit` raises.
    """
    loop = asyncio.get_running_loop()
    channel: Channel[T] = Channel(loop)
    place = asyncio.Event()

    def admitted() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(place.set)

    sink = _Sink(form, channel.put, channel.finish)
    job, at_once = scheduler.submit(request, sink, admitted=admitted)
    items = LoopStream(channel, lambda: scheduler.cancel(job))
    if not at_once:
        try:
            await place.wait()
        except asyncio.CancelledError:
            await items.aclose()
            raise
    return items


def _nothing() -> None:
    """Need not be told."""
