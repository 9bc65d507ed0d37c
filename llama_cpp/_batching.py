"""The thread that computes many answers on one context: what goes into each batch."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from llama_cpp import _log
from llama_cpp._context import ContextFullError
from llama_cpp._errors import LlamaError
from llama_cpp._slot import CancelledError, Job, Slot, SlotEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llama_cpp._context import Context
    from llama_cpp._request_queue import RequestQueue

# Waiting for another's prompt costs a step of delay; fewer tokens than this are computed faster.
_WORTH_WAITING = 32
# Taking tokens over costs a look at each cell; without a common buffer it moves a whole one.
_WORTH_SHARING = 8
_WORTH_MOVING = 64


class Worker:
    """One context, its sequences and the thread that computes on it.

    Attributes:
        slots: the sequences.
        thread: not started yet.
    """

    def __init__(
        self, context: Context, queue: RequestQueue, *, room: int, prompt_part: int
    ) -> None:
        """Get ready.

        Args:
            context: nobody else uses it.
            queue: where the requests come from.
            room: most tokens of a sequence.
            prompt_part: most tokens of prompts in a batch in which answers run, too.
        """
        self.context = context
        self.slots = [Slot(context, number) for number in range(context.n_seq_max)]
        # daemon: a thread that waits must not hold up the interpreter's exit, where _stop ends it
        self.thread = threading.Thread(target=self._run, name="llama_cpp pool", daemon=True)
        self._queue = queue
        self._room = room
        self._part = prompt_part
        self._batch = context.batch()
        self._steps = 0

    @property
    def load(self) -> int:
        """How many jobs it has."""
        return sum(slot.job is not None for slot in self.slots)

    def _run(self) -> None:
        queue = self._queue
        failure: BaseException | None = None
        try:
            self.context.set_embeddings(wanted=False)
            while self._wait():
                self._step()
        except BaseException as error:  # noqa: BLE001 - every request learns of it
            failure = error
        with queue.turn:
            if not queue.closing:
                queue.failure = failure
            queue.closing = True
            left = [slot.job for slot in self.slots if slot.job is not None]
            left += queue.waiting
            calls = [admitted for _, admitted in queue.outside]
            left += [job for job, _ in queue.outside]
            queue.waiting.clear()
            queue.outside.clear()
            queue.counters.failed += len(left)
            for slot in self.slots:
                slot.job = None
            queue.turn.notify_all()
        for call in calls:
            _tell(call)
        for job in left:
            _end(job, queue.failure or LlamaError("the pool was closed"))

    # -- who runs ------------------------------------------------------------------------------

    def _wait(self) -> bool:
        """Wait for something to compute; return whether there is."""
        queue = self._queue
        while True:
            with queue.turn:
                calls: list[Callable[[], None]] = []
                while not queue.closing and not (admitted := self._admit()) and not self.load:
                    queue.turn.wait()
                if queue.closing:
                    return False
                if admitted:
                    calls = queue.refill()
            for call in calls:
                _tell(call)
            if self.load:
                return True

    def _admit(self) -> bool:
        """Give free sequences to those who wait; return whether anyone got one. Needs the lock."""
        queue = self._queue
        admitted = False
        while queue.waiting:
            free = [slot for slot in self.slots if slot.job is None]
            job = queue.waiting[0]
            if not free or not self._my_turn():
                break
            if job.held == queue.counters.finished + queue.counters.failed and self.load:
                # it was put back, and nothing has become free since
                break
            queue.waiting.popleft()
            slot = self._choose(free, job)
            slot.job, slot.started = job, False
            admitted = True
        return admitted

    def _my_turn(self) -> bool:
        """Whether no other context has fewer jobs and a free sequence."""
        return not any(
            worker.load < self.load
            for worker in self._queue.workers
            if worker is not self and worker.load < len(worker.slots)
        )

    def _choose(self, free: Sequence[Slot], job: Job) -> Slot:
        """Return the free sequence that is best for a job.

        That is the one with the longest shared beginning, unless half of what it remembers would be
        lost: then the one that has not been used for longest.
        """
        prompt = job.tokens[:-1]
        best = max(free, key=lambda slot: slot.shared(prompt))
        if 2 * best.shared(prompt) >= max(1, len(best.sequence.tokens)):
            return best
        return min(free, key=lambda slot: (bool(slot.sequence.tokens), slot.used))

    def _running(self) -> list[tuple[Slot, Job]]:
        """Return the slots in use with their jobs, oldest first; cancelled ones are ended."""
        running = []
        for slot in self.slots:
            if (job := slot.job) is None:
                continue
            if job.cancelled.is_set():
                self._finish(slot, job, CancelledError("the request was cancelled"))
            else:
                running.append((slot, job))
        running.sort(key=lambda each: each[1].number)
        return running

    def _finish(self, slot: Slot, job: Job, error: BaseException | None = None) -> None:
        queue = self._queue
        slot.used = self._steps
        with queue.turn:
            slot.job = None
            if error is None:
                queue.counters.finished += 1
            else:
                queue.counters.failed += 1
            if job.answer is not None:
                queue.counters.generated_tokens += job.answer.n_tokens
            queue.turn.notify_all()
        _end(job, error)

    # -- what is computed ----------------------------------------------------------------------

    def _step(self) -> None:
        """Compute one batch and give out what it says."""
        self._steps += 1
        with self.context.lock:
            while True:
                plan = list(self._plan())
                if not plan:
                    return
                for slot, _, _ in plan:
                    slot.sequence.begin()
                _log.clear()
                try:
                    # a full memory is no news: room is made for the batch
                    with _log.kept() if self._may_fill() else nullcontext():
                        self.context.decode(self._batch)
                except ContextFullError as error:
                    for slot, _, _ in plan:
                        slot.sequence.extend(())
                    self._make_room(error)
                    continue
                break
            for slot, part, _ in plan:
                slot.sequence.extend(part)
            with self._queue.turn:
                self._queue.counters.batches += 1
            for slot, _, output in plan:
                if output is not None:
                    self._sample(slot, output)

    def _plan(self) -> Iterator[tuple[Slot, Sequence[int], int | None]]:
        """Fill the batch; yield each sequence with its tokens in it and the index of its output."""
        batch = self._batch
        batch.clear()
        prompts = []
        running = self._running()
        for slot, job in running:
            if not slot.started and not self._start(slot, job, [other for other, _ in running]):
                continue
            missing = slot.missing
            if len(missing) == 1:
                yield slot, missing, self._add(slot, missing, output=True)
            else:
                prompts.append((slot, missing))
        room = batch.capacity - len(batch)
        if len(batch):
            room = min(room, self._part)
        for slot, missing in prompts:
            if not room:
                break
            part = missing[:room]
            room -= len(part)
            last = len(part) == len(missing)
            index = self._add(slot, part, output=last)
            yield slot, part, index if last else None

    def _add(self, slot: Slot, tokens: Sequence[int], *, output: bool) -> int:
        number = self.slots.index(slot)
        return self._batch.add_run(tokens, len(slot.sequence.tokens), number, output=output)

    def _start(self, slot: Slot, job: Job, running: Sequence[Slot]) -> bool:
        """Settle what of a job's tokens is in memory already; return False to wait for more."""
        try:
            job.begin(self.context, self._room)
        except Exception as error:  # noqa: BLE001 - the request's own
            self._finish(slot, job, error)
            return False
        prompt = job.tokens[:-1]
        own = slot.shared(prompt)
        source = max(
            (other for other in self.slots if other is not slot),
            key=lambda other: other.shared(prompt),
            default=slot,
        )
        best = max(own, source.shared(prompt))
        older = running[: running.index(slot)]
        coming = max((other.promised(prompt) for other in older), default=0)
        if coming - best >= _WORTH_WAITING:
            return False
        worth = _WORTH_SHARING if self.context.params.kv_unified else _WORTH_MOVING
        copied = best - own >= worth and slot.sequence.copy_prefix(source.sequence, best)
        media = job.request.media
        if media is None:
            cached = best if copied else slot.sequence.keep_prefix(job.tokens)
        else:
            # at once, as the model may want it: others wait for it as for a part of a prompt
            if not self._has_room(slot, media.n_tokens):
                self._put_back(slot, job)
                return False
            try:
                cached = media.prefill(SlotEngine(self.context, slot.sequence), whole=False)
            except Exception as error:  # noqa: BLE001 - the request's own
                self._finish(slot, job, error)
                return False
        slot.started = True
        computed = len(job.tokens) - cached
        with self._queue.turn:
            self._queue.counters.cached_tokens += cached
            self._queue.counters.prompt_tokens += computed
        if job.held is None:
            job.n_cached = cached
        return True

    def _has_room(self, slot: Slot, count: int) -> bool:
        """Forget free sequences for ``count`` places; return whether they suffice, or must."""
        while True:
            others = [other for other in self.slots if other is not slot]
            taken = sum(other.sequence.n_cells for other in others)
            if taken + count <= self.context.n_ctx:
                return True
            free = [other for other in others if other.job is None and other.sequence.tokens]
            if not free:
                return self.load == 1
            min(free, key=lambda other: other.used).sequence.clear()

    def _put_back(self, slot: Slot, job: Job) -> None:
        """Let a job wait until another has ended."""
        queue = self._queue
        slot.sequence.clear()
        with queue.turn:
            slot.job = None
            job.held = queue.counters.finished + queue.counters.failed
            queue.waiting.appendleft(job)
            queue.counters.put_back += 1

    def _sample(self, slot: Slot, output: int) -> None:
        job = slot.job
        assert job is not None
        try:
            more = job.take(self.context, output, self._room)
        except Exception as error:  # noqa: BLE001 - the request's own: the sampler's, or the sink's
            self._finish(slot, job, error)
            return
        if not more:
            self._finish(slot, job)

    def _may_fill(self) -> bool:
        cells = sum(slot.sequence.n_cells for slot in self.slots) + len(self._batch)
        return cells > self.context.n_ctx

    def _make_room(self, error: ContextFullError) -> None:
        """Forget what is least needed: a free sequence's tokens, else put the newest job back."""
        free = [slot for slot in self.slots if slot.job is None and slot.sequence.tokens]
        if free:
            min(free, key=lambda slot: slot.used).sequence.clear()
            return
        running = self._running()
        if not running:
            return
        slot, job = running[-1]
        if len(running) > 1:
            self._put_back(slot, job)
        elif len(job.tokens) > job.n_prompt:
            job.cut()
            self._finish(slot, job)
        else:
            self._finish(slot, job, error)


def _end(job: Job, error: BaseException | None) -> None:
    """Tell the owner of a job; one that is gone must not stop the others' answers."""
    _tell(lambda: job.end(error))


def _tell(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # noqa: BLE001 - foreign code, and nobody to raise it to
        _log.LOGGER.exception("a pool's caller could not be told of its answer")
