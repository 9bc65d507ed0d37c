"""Continuous batching against the tiny models' known answers: no sequence reads another's memory."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import GenerationError, LlamaError, ValidationError
from llama_cpp._context import Context, ContextFullError
from llama_cpp._context_params import ContextParams
from llama_cpp._model import Model
from llama_cpp._request_queue import QueueFullError
from llama_cpp._sampler import SamplingParams
from llama_cpp._scheduler import Scheduler
from llama_cpp._slot import CancelledError, Job, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.build

GREEDY = SamplingParams(temperature=0)
PATIENCE = 60


class Reply:
    """A sink that keeps everything, and can be waited for."""

    def __init__(self, on_part: Callable[[Reply], None] | None = None) -> None:
        self.parts: list[str] = []
        self.error: BaseException | None = None
        self.threads: set[threading.Thread] = set()
        self._over = threading.Event()
        self._on_part = on_part

    def part(self, text: str) -> None:
        self.parts.append(text)
        self.threads.add(threading.current_thread())
        if self._on_part is not None:
            self._on_part(self)

    def done(self, _job: Job, error: BaseException | None) -> None:
        assert not self._over.is_set()
        self.error = error
        self._over.set()

    def text(self) -> str:
        assert self._over.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return "".join(self.parts)

    def failure(self) -> BaseException:
        assert self._over.wait(PATIENCE)
        assert self.error is not None
        return self.error


class Gate:
    """Stops the computing thread in the middle of an answer until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self, _reply: Reply) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE)


@contextmanager
def scheduler(
    path: Path,
    *,
    n_seq: int = 4,
    n_ctx: int = 512,
    cells: int | None = None,
    contexts: int = 1,
    unified: bool = True,
    n_batch: int = 512,
    queue_size: int = 64,
    prompt_part: int = 128,
) -> Iterator[Scheduler]:
    total = n_ctx * n_seq if cells is None else cells
    params = ContextParams(
        n_ctx=total,
        n_seq_max=n_seq,
        kv_unified=unified,
        n_batch=n_batch,
        n_threads=1,
        n_threads_batch=1,
    )
    with Model(path) as model:
        made = [Context(model, params) for _ in range(contexts)]
        running = Scheduler(made, n_ctx=n_ctx, queue_size=queue_size, prompt_part=prompt_part)
        try:
            yield running
        finally:
            running.close()


def ask(
    running: Scheduler,
    prompt: Sequence[int],
    count: int,
    *,
    sampling: SamplingParams = GREEDY,
    stops: Sequence[str] = (),
    on_part: Callable[[Reply], None] | None = None,
) -> tuple[Job, Reply]:
    reply = Reply(on_part)
    request = Request(prompt=prompt, sampling=sampling, max_tokens=count, stops=stops)
    job, _ = running.submit(request, reply, admitted=lambda: None)
    return job, reply


@pytest.fixture
def cases(answers: dict[str, Any]) -> list[dict[str, Any]]:
    """Prompts with and without markers, of 1 to 300 tokens, and what must follow."""
    return list(answers["llama-f32"]["greedy"])


@pytest.mark.parametrize("n_seq", [1, 3, 8])
@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("contexts", [1, 2])
def test_answers_do_not_mix(
    model_file: Path, cases: list[dict[str, Any]], n_seq: int, unified: bool, contexts: int
) -> None:
    with scheduler(model_file, n_seq=n_seq, unified=unified, contexts=contexts) as running:
        asked = [
            (case, ask(running, case["prompt"], len(case["tokens"])))
            for _ in range(2)
            for case in cases
        ]
        for case, (job, reply) in asked:
            assert reply.text() == case["text"]
            assert job.tokens[job.n_prompt :] == [t for t in case["tokens"] if t != 2]
            assert reply.threads <= {worker.thread for worker in running._queue.workers}
        stats = running.stats()
    assert stats.finished == 2 * len(cases)
    assert stats.running == stats.waiting == stats.failed == stats.put_back == 0
    assert stats.n_sequences == n_seq * contexts
    assert stats.prompt_tokens + stats.cached_tokens == 2 * sum(len(c["prompt"]) for c in cases)
    assert stats.generated_tokens == 2 * sum(
        len([t for t in case["tokens"] if t != 2]) for case in cases
    )


@pytest.mark.parametrize(("n_batch", "prompt_part"), [(4, 1), (8, 3), (64, 64), (512, 7)])
def test_long_prompts_go_in_parts(
    model_file: Path, cases: list[dict[str, Any]], n_batch: int, prompt_part: int
) -> None:
    with scheduler(model_file, n_batch=n_batch, prompt_part=prompt_part) as running:
        asked = [(case, ask(running, case["prompt"], len(case["tokens"]))) for case in cases]
        assert [reply.text() for _, (_, reply) in asked] == [case["text"] for case in cases]


def test_a_running_answer_goes_on_between_the_parts_of_a_prompt(
    model_file: Path, cases: list[dict[str, Any]]
) -> None:
    long = max(cases, key=lambda case: len(case["prompt"]))
    order: list[str] = []
    gate = Gate()

    def first(reply: Reply) -> None:
        if len(reply.parts) == 1:
            gate(reply)
        order.append("short")

    with scheduler(model_file, prompt_part=16) as running:
        _, short = ask(running, [1], 60, on_part=first)
        assert gate.reached.wait(PATIENCE)
        _, other = ask(
            running, long["prompt"], len(long["tokens"]), on_part=lambda _: order.append("long")
        )
        gate.go.set()
        assert other.text() == long["text"]
        assert len(short.text()) > 0
        batches = -(-(len(long["prompt"])) // 16)
    # one token of the short answer in each of the prompt's batches (the emoji's bytes give no text)
    assert order.index("long") >= batches - 3


def test_first_come_first_served(model_file: Path) -> None:
    begun: list[int] = []
    gate = Gate()

    def note(number: int) -> Callable[[Reply], None]:
        return lambda reply: begun.append(number) if len(reply.parts) == 1 else None

    with scheduler(model_file, n_seq=1) as running:
        _, blocking = ask(running, [1], 3, on_part=gate)
        assert gate.reached.wait(PATIENCE)
        replies = [ask(running, [1, 10 + i], 2, on_part=note(i))[1] for i in range(20)]
        assert running.stats().waiting == 20
        gate.go.set()
        for reply in (blocking, *replies):
            reply.text()
    assert begun == list(range(20))


@pytest.mark.parametrize("unified", [True, False])
def test_a_shared_beginning_is_computed_once(model_file: Path, unified: bool) -> None:
    beginning = [1, *range(3, 103)]
    prompts = [[*beginning, 262 + i, 263] for i in range(4)]
    with scheduler(model_file, unified=unified) as running:
        alone = [ask(running, prompt, 8)[1].text() for prompt in prompts]
        before = running.stats()
        assert before.cached_tokens == 3 * len(beginning)
        assert before.prompt_tokens == 4 * len(prompts[0]) - 3 * len(beginning)
    with scheduler(model_file, unified=unified) as running:
        # all at once: who comes second waits for the first one's tokens instead of computing them
        asked = [ask(running, prompt, 8) for prompt in prompts]
        assert [reply.text() for _, reply in asked] == alone
        stats = running.stats()
        assert [job.n_cached for job, _ in asked] == [0, *[len(beginning)] * 3]
        assert stats.cached_tokens == before.cached_tokens
        # the whole of a prompt but its last token is there the second time
        job, reply = ask(running, prompts[2], 8)
        assert reply.text() == alone[2]
        assert job.n_cached == len(prompts[2]) - 1


def test_a_running_answer_lends_its_beginning(model_file: Path, answers: dict[str, Any]) -> None:
    gate = Gate()
    case = max(answers["llama-f32"]["greedy"], key=lambda each: len(each["prompt"]))
    with scheduler(model_file) as running:
        _, first = ask(running, case["prompt"], 40, on_part=gate)
        assert gate.reached.wait(PATIENCE)
        job, second = ask(running, case["prompt"], 40)
        gate.go.set()
        assert first.text() == second.text() == case["text"]
        assert job.n_cached == len(case["prompt"]) - 1


def test_a_full_memory_puts_the_newest_back(model_file: Path, cases: list[dict[str, Any]]) -> None:
    long = [case for case in cases if len(case["prompt"]) > 20]
    with scheduler(model_file, n_seq=8, n_ctx=500, cells=512) as running:
        asked = [
            (
                case,
                ask(
                    running, [*case["prompt"][:1], *range(20 + i, 150 + i), *case["prompt"][1:]], 60
                ),
            )
            for i in range(4)
            for case in long
        ]
        together = [reply.text() for _, (_, reply) in asked]
        assert running.stats().put_back > 0
        assert running.stats().finished == len(asked)
        prompts = [job.request.prompt for _, (job, _) in asked]
    with scheduler(model_file, n_seq=1) as running:
        assert [ask(running, prompt, 60)[1].text() for prompt in prompts] == together


def test_an_answer_ends_where_its_sequence_is_full(model_file: Path) -> None:
    with scheduler(model_file, n_ctx=40) as running:
        job, reply = ask(running, [1, 5, 6], 1000)
        reply.text()
        assert job.answer is not None
        assert job.answer.finish_reason == "length"
        assert len(job.tokens) == 41
        with pytest.raises(ValidationError) as caught:
            ask(running, [1] * 40, 1)
    assert str(caught.value) == (
        "the prompt has 40 tokens, a sequence holds 40 with at least one for the answer: shorten "
        "the prompt, or make the pool with n_ctx=41 or more"
    )


def test_stop_strings(model_file: Path) -> None:
    with scheduler(model_file) as running:
        job, reply = ask(running, [1], 40, stops=["the", "lifts"])
        assert reply.text() == " morning sun "
        assert job.answer is not None
        assert job.answer.finish_reason == "stop"


def test_seeds_give_each_request_its_own_random_numbers(model_file: Path) -> None:
    warm = SamplingParams(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0)
    with scheduler(model_file, n_seq=8) as running:
        asked = [
            (seed, ask(running, [1, 270], 20, sampling=warm._replace(seed=seed))[1])
            for seed in [1, 2, 3, 4] * 3
        ]
        texts: dict[int, set[str]] = {}
        for seed, reply in asked:
            texts.setdefault(seed, set()).add(reply.text())
    assert [len(found) for found in texts.values()] == [1, 1, 1, 1]
    assert len(set.union(*texts.values())) == 4


# -- limits ----------------------------------------------------------------------------------------


def test_a_full_queue_makes_submitters_wait(model_file: Path) -> None:
    gate = Gate()
    with scheduler(model_file, n_seq=1, queue_size=2) as running:
        _, first = ask(running, [1], 3, on_part=gate)
        assert gate.reached.wait(PATIENCE)
        entered: list[int] = []
        replies = [Reply() for _ in range(5)]
        request = Request(prompt=[1], sampling=GREEDY, max_tokens=2)
        placed = [
            running.submit(request, reply, admitted=lambda i=i: entered.append(i))[1]  # type: ignore[misc]
            for i, reply in enumerate(replies)
        ]
        assert placed == [True, True, False, False, False]
        assert entered == []
        assert running.stats().waiting == 5
        with pytest.raises(QueueFullError) as caught:
            running.submit(request, Reply())
        gate.go.set()
        for reply in (first, *replies):
            reply.text()
        assert entered == [2, 3, 4]
    assert str(caught.value) == (
        "the queue is full: 2 requests wait; try again later, or make the pool with a larger "
        "queue_size"
    )


def test_cancelling(model_file: Path) -> None:
    gate = Gate()
    with scheduler(model_file, n_seq=1, queue_size=1) as running:
        job, first = ask(running, [1], 400, on_part=gate)
        assert gate.reached.wait(PATIENCE)
        waiting, second = ask(running, [1], 3)
        outside, third = ask(running, [1], 3)
        _, last = ask(running, [1], 3)
        running.cancel(outside)
        running.cancel(waiting)
        running.cancel(waiting)
        for reply in (second, third):
            assert isinstance(reply.failure(), CancelledError)
            assert str(reply.failure()) == "the request was cancelled"
        assert running.stats().waiting == 1
        running.cancel(job)
        gate.go.set()
        assert isinstance(first.failure(), CancelledError)
        assert len(first.parts) == 1
        assert last.text() == " morni"
        running.cancel(job)
        assert running.stats().failed == 3
        assert running.stats().finished == 1


def test_what_one_request_raises_ends_that_request_only(model_file: Path) -> None:
    def fail(_reply: Reply) -> None:
        raise RuntimeError("the consumer is gone")

    with scheduler(model_file) as running:
        _, bad = ask(running, [1], 40, on_part=fail)
        good = [ask(running, [1], 6)[1] for _ in range(3)]
        assert str(bad.failure()) == "the consumer is gone"
        assert [reply.text() for reply in good] == [" morning sun"] * 3
        with pytest.raises(ValidationError, match="top_p is 7"):
            ask(running, [1], 4, sampling=SamplingParams(top_p=7))
        with pytest.raises(ValidationError, match="the prompt has no tokens"):
            ask(running, [], 4)
        assert ask(running, [1], 6)[1].text() == " morning sun"


def test_what_ends_the_context_ends_all(model_file: Path) -> None:
    gate = Gate()
    with scheduler(model_file, n_seq=1) as running:
        _, first = ask(running, [1], 40, on_part=gate)
        assert gate.reached.wait(PATIENCE)
        _, second = ask(running, [1], 40)
        worker = running._queue.workers[0]
        # what llama.cpp calls an invalid batch: a position that does not follow
        worker.slots[0].sequence._tokens.append(1)
        worker.slots[0].job.tokens.append(1)  # type: ignore[union-attr]
        gate.go.set()
        for reply in (first, second):
            assert isinstance(reply.failure(), GenerationError)
            assert str(reply.failure()).startswith("llama.cpp refused the batch as invalid")
        worker.thread.join(PATIENCE)
        with pytest.raises(GenerationError, match=r"^the pool has failed and was closed: "):
            ask(running, [1], 4)
        assert running.closed


def test_close_ends_everything(model_file: Path) -> None:
    gate = Gate()
    with scheduler(model_file, n_seq=1, queue_size=1) as running:
        asked = [ask(running, [1], 400, on_part=gate)[1]]
        assert gate.reached.wait(PATIENCE)
        asked += [ask(running, [1], 40)[1] for _ in range(3)]
        closing = threading.Thread(target=running.close)
        closing.start()
        while not running.closed:
            time.sleep(0)
        gate.go.set()
        closing.join(PATIENCE)
        assert [str(reply.failure()) for reply in asked] == ["the pool was closed"] * 4
        assert not running._queue.workers[0].thread.is_alive()
        with pytest.raises(LlamaError, match="the pool is closed; make another one"):
            ask(running, [1], 4)
        running.close()


def test_collected_without_close(model_file: Path) -> None:
    with Model(model_file) as model:
        params = ContextParams(n_seq_max=2, kv_unified=True, n_threads=1, n_threads_batch=1)
        running = Scheduler([Context(model, params)])
        _, reply = ask(running, [1], 4)
        assert reply.text() == " morning"
        thread = running._queue.workers[0].thread
        gone = weakref.ref(running)
        del running
        gc.collect()
        assert gone() is None
        assert not thread.is_alive()


def test_embedding_models_do_not_generate(tiny: Path) -> None:
    with Model(tiny / "bert-f32.gguf") as model:
        context = Context(model)
        with pytest.raises(LlamaError, match=r"bert-f32.gguf .* does not generate text"):
            Scheduler([context])


# -- the context's part ----------------------------------------------------------------------------


def test_copies_of_a_sequence(model_file: Path) -> None:
    params = ContextParams(n_seq_max=3, kv_unified=True, n_threads=1, n_threads_batch=1)
    with Model(model_file) as model, Context(model, params) as context:
        batch = context.batch()
        batch.set_run([1, 5, 6], 0, 0, output=True)
        context.decode(batch)
        context.copy(0, 1)
        assert context.remove(1, 2)
        assert context.first_position(1) == 0
        batch.clear()
        assert batch.add_run([7], 3, 0, output=True) == 0
        assert batch.add_run([6, 7], 2, 1, output=True) == 2
        assert batch.outputs == [0, 2]
        context.decode(batch)
        assert context.logits(0) == pytest.approx(context.logits(2), abs=1e-4)
        for source, target, message in (
            (0, 0, "sequence 0 cannot be copied to itself"),
            (0, 1, "sequence 1 is not empty; remove its tokens first"),
            (0, 3, "sequence id 3; this context's ids run from 0 to 2"),
            (-1, 2, "sequence id -1; this context's ids run from 0 to 2"),
        ):
            with pytest.raises(ValidationError) as caught:
                context.copy(source, target)
            assert str(caught.value) == message


def test_a_full_context_has_a_name_and_changes_nothing(model_file: Path) -> None:
    params = ContextParams(n_ctx=256, n_seq_max=2, kv_unified=True, n_threads=1, n_threads_batch=1)
    with Model(model_file) as model, Context(model, params) as context:
        batch = context.batch(256)
        batch.set_run([1] * 250, 0, 0, output=True)
        context.decode(batch)
        batch.set_run([1] * 10, 0, 1, output=True)
        with pytest.raises(ContextFullError, match=r"^the context is full: no room for this batch"):
            context.decode(batch)
        assert context.first_position(1) == -1
        batch.set_run([1] * 6, 0, 1, output=True)
        context.decode(batch)


def test_more_sequences_than_a_batch_has_room_for(model_file: Path) -> None:
    with scheduler(model_file, n_seq=8, n_batch=2) as running:
        asked = [ask(running, [1], 6)[1] for _ in range(8)]
        assert [reply.text() for reply in asked] == [" morning sun"] * 8
