"""The sampler: what else may happen while it is in use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from llama_cpp._sampler import Sampler, SamplingParams

if TYPE_CHECKING:
    from llama_cpp import Llama

pytestmark = pytest.mark.build


def test_closing_waits_for_a_token_that_is_being_chosen(llm: Llama) -> None:
    # freeing a chain under another thread's llama_sampler_sample is a crash
    llm.eval([1, 5])
    assert llm._engine is not None
    context = llm._engine.context
    sampler = Sampler(context.model, SamplingParams(temperature=0.0))
    chosen: list[int] = []
    thread = threading.Thread(target=lambda: chosen.append(sampler.sample(context)))
    with sampler._handle.lock:
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert chosen == []
    thread.join(10)
    assert len(chosen) == 1
    sampler.close()
