"""Completions through a cache of states: what was computed once, in this process or another, is not again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_cpp._errors import ValidationError
from llama_cpp._sequence import shared_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llama_cpp.llama import Llama


def through(self: Llama, prompt: Sequence[int], texts: Iterator[str]) -> Iterator[str]:
    """Yield ``texts``, which begin to compute ``prompt`` when the first is asked for.

    Before that the state of the cache with the longest common beginning is loaded, if it holds more
    of the prompt than the memory does; after the last text the memory is put into the cache. An
    answer that is left early is not.
    """
    engine = self._running()
    with engine.context.lock:
        _restore(self, prompt)
    yield from texts
    with engine.context.lock:
        engine.take_over()
        self.cache[list(engine.sequence.tokens)] = self.save_state()


def _restore(self: Llama, prompt: Sequence[int]) -> None:
    try:
        state = self.cache[list(prompt)]
    except KeyError:
        return
    held = shared_length(self._running().sequence.tokens, prompt)
    if shared_length(state.input_ids.tolist()[: state.n_tokens], prompt) <= held:
        return
    try:
        self.load_state(state)
    except ValidationError:
        # of another model, or another kind of context: the cache may be shared
        return
