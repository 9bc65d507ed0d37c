"""Continuous batching: many answers at once over one context.

One thread computes on each context. In every step one batch holds the next token of each running
answer and, in what room is left, a part of the prompts that are still to be computed: so an answer
that runs never waits for a long prompt for longer than one part of it.

A request waits in a bounded queue, first come, first served, and gets a sequence of the context for
itself. A beginning that another sequence has in memory already is taken over from there.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Literal

from llama_cpp._arguments import check_integer
from llama_cpp._batching import Worker
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._request_queue import RequestQueue, Stats
from llama_cpp._slot import CancelledError, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llama_cpp._context import Context
    from llama_cpp._slot import Request, Sink

_QUEUE_SIZE = 64
_PROMPT_PART = 128


class Scheduler:
    """Answers many requests at once over one or more contexts of one model."""

    def __init__(
        self,
        contexts: Sequence[Context],
        *,
        n_ctx: int | None = None,
        queue_size: int = _QUEUE_SIZE,
        prompt_part: int = _PROMPT_PART,
        on_full: Literal["wait", "raise"] = "wait",
    ) -> None:
        """Start a computing thread per context.

        Args:
            contexts: of one model; this object alone uses them from now on, and closes them.
            n_ctx: most tokens of one sequence; None is as many as the context has.
            queue_size: most requests that wait; more make their submitters wait.
            prompt_part: most tokens of prompts in a batch in which answers run, too.
            on_full: whether more than ``queue_size`` wait for a place, or are refused.

        Raises:
            ValidationError: an argument is out of range.
            LlamaError: the model does not generate.
        """
        check_integer("queue_size", queue_size, 1, 2**20)
        check_integer("prompt_part", prompt_part, 1, 2**31 - 1)
        if n_ctx is not None:
            check_integer("n_ctx", n_ctx, 2, 2**31 - 1)
        self._contexts = tuple(contexts)
        self.model = self._contexts[0].model
        for context in self._contexts:
            if not context.has_memory or context.model.has_encoder:
                raise LlamaError(
                    f"{context.model.path.name} ({context.model.description}) does not generate text"
                )
        self.room: int = min(*(context.n_ctx_seq for context in self._contexts), n_ctx or 2**31 - 1)
        """Most tokens of one sequence, prompt and answer together."""
        self._refuses = on_full == "raise"
        self._queue = queue = RequestQueue(queue_size)
        queue.workers = [
            Worker(context, queue, room=self.room, prompt_part=prompt_part)
            for context in self._contexts
        ]
        for worker in queue.workers:
            worker.thread.start()
        # threads are stopped before what they compute on is freed, at the latest at exit
        self._stop = weakref.finalize(self, _stop, queue)

    def submit(
        self, request: Request, sink: Sink, *, admitted: Callable[[], None] | None = None
    ) -> tuple[Job, bool]:
        """Queue a request.

        Args:
            request: what to answer.
            sink: gets the text and the end, in the computing thread.
            admitted: called once, in another thread, when the request has got a place in the queue
                after it had to wait for one. None never waits.

        Returns:
            The job, and whether it has a place in the queue already.

        Raises:
            ValidationError: the prompt is empty or does not fit, or a parameter is out of range.
            QueueFullError: the queue is full, and ``on_full`` is "raise" or ``admitted`` None.
            GenerationError: an earlier failure of llama.cpp has ended this scheduler.
            LlamaError: it is closed, or was made before this process was forked.
        """
        _ = self._contexts[0].model.handle.pointer
        request.sampling.check(self.model.vocabulary)
        if not request.prompt:
            raise ValidationError("the prompt has no tokens: give some text, or a begin token")
        count = len(request.prompt) + request.n_hidden
        if count >= self.room:
            raise ValidationError(
                f"the prompt has {count} tokens, a sequence holds {self.room} with at least one for "
                f"the answer: shorten the prompt, or make the pool with n_ctx={count + 1} or more"
            )
        job = Job(request, sink)
        return job, self._queue.put(job, None if self._refuses else admitted)

    def cancel(self, job: Job) -> None:
        """End a job; its sink gets :class:`CancelledError`. Does nothing for one that is over."""
        queue = self._queue
        job.cancelled.set()
        if queue.pid != os.getpid():
            return
        with queue.turn:
            waited = queue.withdraw(job)
            calls = queue.refill() if waited else []
            if waited:
                queue.counters.failed += 1
            queue.turn.notify_all()
        for call in calls:
            call()
        if waited:
            job.end(CancelledError("the request was cancelled"))

    def stats(self) -> Stats:
        """Return what was done so far."""
        queue = self._queue
        with queue.turn:
            done = queue.counters
            return Stats(
                running=sum(worker.load for worker in queue.workers),
                waiting=len(queue.waiting) + len(queue.outside),
                finished=done.finished,
                failed=done.failed,
                put_back=done.put_back,
                prompt_tokens=done.prompt_tokens,
                cached_tokens=done.cached_tokens,
                generated_tokens=done.generated_tokens,
                batches=done.batches,
                n_sequences=sum(len(worker.slots) for worker in queue.workers),
            )

    @property
    def closed(self) -> bool:
        """Whether it was closed, or has failed."""
        return self._queue.closing

    def close(self) -> None:
        """End all requests with a :class:`LlamaError` and free the contexts.

        Waits for the computing threads, unless it is called in one of them.
        """
        self._stop()
        for context in self._contexts:
            context.close()


def _stop(queue: RequestQueue) -> None:
    """End the threads and wait for them."""
    if queue.pid != os.getpid():
        # a fork's child has none of them, and the lock may have been held when it was made
        return
    with queue.turn:
        queue.closing = True
        queue.turn.notify_all()
    for worker in queue.workers:
        if worker.thread is not threading.current_thread():
            worker.thread.join()
