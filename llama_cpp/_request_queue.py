"""Who waits for a place in a pool: first come, first served, and no more than fit."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._errors import GenerationError, LlamaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_cpp._batching import Worker
    from llama_cpp._slot import Job


class QueueFullError(LlamaError):
    """As many requests wait as may wait; try again when some have been answered."""


class Stats(NamedTuple):
    """What a scheduler has done so far, and is doing."""

    running: int
    """Requests that have a sequence."""
    waiting: int
    """Requests in the queue, and in front of it."""
    finished: int
    """Requests that were answered."""
    failed: int
    """Requests that ended with an error, or were cancelled."""
    put_back: int
    """How often a request had to give up its sequence because the memory was full."""
    prompt_tokens: int
    """Tokens of prompts that were computed."""
    cached_tokens: int
    """Tokens of prompts that were in memory already."""
    generated_tokens: int
    """Tokens of answers."""
    batches: int
    """Decode calls."""
    n_sequences: int
    """Requests that can run at the same time."""


class Counters:
    """The numbers of :class:`Stats` that only grow; changed under the queue's lock."""

    def __init__(self) -> None:
        """Start at zero."""
        self.finished = 0
        self.failed = 0
        self.put_back = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.batches = 0


class RequestQueue:
    """What the computing threads of one scheduler share.

    Attributes:
        turn: guards everything here, and who has which sequence; told of every change.
        waiting: who has a place, at most ``size``.
        outside: who found it full, with what to call once there is a place.
        failure: what ended the scheduler.
    """

    def __init__(self, size: int) -> None:
        """Begin empty, with ``size`` places."""
        self.turn = threading.Condition()
        self.size = size
        self.waiting: deque[Job] = deque()
        self.outside: deque[tuple[Job, Callable[[], None]]] = deque()
        self.workers: list[Worker] = []
        self.counters = Counters()
        self.numbers = 0
        self.closing = False
        self.failure: BaseException | None = None
        self.pid = os.getpid()

    def put(self, job: Job, admitted: Callable[[], None] | None) -> bool:
        """Queue a job; see :meth:`llama_cpp._scheduler.Scheduler.submit`."""
        with self.turn:
            self.check_open()
            self.numbers += 1
            job.number = self.numbers
            if len(self.waiting) < self.size and not self.outside:
                self.waiting.append(job)
                self.turn.notify_all()
                return True
            if admitted is None:
                raise QueueFullError(
                    f"the queue is full: {len(self.waiting)} requests wait; try again later, or "
                    "make the pool with a larger queue_size"
                )
            self.outside.append((job, admitted))
            return False

    def check_open(self) -> None:
        """Raise once it was closed, or has failed."""
        if self.failure is not None:
            raise GenerationError(f"the pool has failed and was closed: {self.failure}")
        if self.closing:
            raise LlamaError("the pool is closed; make another one")

    def refill(self) -> list[Callable[[], None]]:
        """Let those outside in where there is room; return what tells them. Needs the lock."""
        calls = []
        while self.outside and len(self.waiting) < self.size:
            job, admitted = self.outside.popleft()
            self.waiting.append(job)
            calls.append(admitted)
        return calls

    def withdraw(self, job: Job) -> bool:
        """Take a job out that has not begun; return whether it was there. Needs the lock."""
        if job in self.waiting:
            self.waiting.remove(job)
            return True
        for entry in self.outside:
            if entry[0] is job:
                self.outside.remove(entry)
                return True
        return False
