"""Worker threads that stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc"),
]


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def settles(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true: the kernel lists an ended thread a little longer."""
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("n_threads", "n_threads_batch", "workers"),
    [(1, 1, 0), (2, 2, 1), (3, 3, 2), (1, 3, 2), (2, 3, 3)],
)
def test_threads_live_as_long_as_the_context(
    model_file: Path, answers: dict[str, Any], n_threads: int, n_threads_batch: int, workers: int
) -> None:
    before = tasks()
    case = answers["llama-f32"]["greedy"][0]
    with Llama(model_file, n_threads=n_threads, n_threads_batch=n_threads_batch) as llm:
        for _ in range(2):
            done = llm.create_completion(
                case["prompt"], max_tokens=len(case["tokens"]), temperature=0
            )
            assert done["choices"][0]["text"] == case["text"]
            assert settles(lambda: tasks() == before + workers), (before, tasks())
    assert settles(lambda: tasks() == before), (before, tasks())
