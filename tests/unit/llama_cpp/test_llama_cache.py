"""Caches of states: what is found, what is forgotten, who may share them."""

from __future__ import annotations

import contextlib
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from llama_cpp import Llama, ValidationError
from llama_cpp.llama_cache import (
    BaseLlamaCache,
    LlamaCache,
    LlamaDiskCache,
    LlamaRAMCache,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llama_cpp._state import LlamaState

    from .conftest import Outcome

pytestmark = pytest.mark.build


@pytest.fixture(params=["ram", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], BaseLlamaCache]:
    if request.param == "ram":
        return LlamaRAMCache
    return lambda capacity: LlamaDiskCache(tmp_path / "cache", capacity)


def state_of(llm: Llama, tokens: list[int]) -> LlamaState:
    llm.reset()
    llm.eval(tokens)
    return llm.save_state()


def test_the_longest_beginning_is_found(llm: Llama, make: Callable[[int], BaseLlamaCache]) -> None:
    cache = make(1 << 20)
    for tokens in ([1, 5], [1, 5, 6, 7], [1, 5, 6, 8, 9], [2, 5]):
        cache[tokens] = state_of(llm, tokens)
    assert cache[[1, 5, 6, 7, 8]].input_ids.tolist() == [1, 5, 6, 7]
    assert cache[(1, 5, 6, 8)].input_ids.tolist() == [1, 5, 6, 8, 9]
    assert cache[[2]].input_ids.tolist() == [2, 5]
    assert [1, 99] in cache
    assert [3, 1, 5] not in cache
    for tokens in ([3], []):
        with pytest.raises(KeyError, match="no state shares a beginning with these tokens"):
            cache[tokens]


def test_an_object_goes_on_from_a_found_state(
    llm: Llama, make: Callable[[int], BaseLlamaCache], answers: dict[str, Any]
) -> None:
    cache = make(1 << 20)
    case = answers["llama-f32"]["greedy"][0]
    cache[case["prompt"]] = state_of(llm, case["prompt"])
    llm.reset()
    llm.load_state(cache[[*case["prompt"], 5]])
    done = llm(case["prompt"], max_tokens=len(case["tokens"]), temperature=0)
    assert done["choices"][0]["text"] == case["text"]


def test_the_least_recently_used_goes(llm: Llama, make: Callable[[int], BaseLlamaCache]) -> None:
    states = {first: state_of(llm, [first, 5]) for first in (1, 2, 3)}
    probe = make(1 << 20)
    probe[[9, 5]] = states[1]
    one = probe.cache_size
    cache = make(int(2.5 * one))
    cache[[1, 5]], cache[[2, 5]] = states[1], states[2]
    assert cache[[1, 5]].n_tokens == 2
    cache[[3, 5]] = states[3]
    assert [[first, 5] in cache for first in (1, 2, 3)] == [True, False, True]
    assert 0 < cache.cache_size <= cache.capacity_bytes
    cache[[3, 5]] = states[3]
    assert [[first, 5] in cache for first in (1, 2, 3)] == [True, False, True]


def test_what_does_not_fit_is_not_kept(llm: Llama, make: Callable[[int], BaseLlamaCache]) -> None:
    cache = make(100)
    cache[[1, 5]] = state_of(llm, [1, 5])
    assert [1, 5] not in cache
    assert cache.cache_size == 0
    with pytest.raises(ValidationError) as caught:
        make(-1)
    assert str(caught.value) == (
        "capacity_bytes is -1; choose an integer from 0 to 9223372036854775807"
    )


def test_the_size_is_that_of_the_states(llm: Llama, tmp_path: Path) -> None:
    state = state_of(llm, [1, 5, 6])
    ram, disk = LlamaRAMCache(), LlamaDiskCache(tmp_path / "cache")
    ram[[1, 5, 6]] = disk[[1, 5, 6]] = state
    assert ram.capacity_bytes == disk.capacity_bytes == 2 << 30
    assert state.llama_state_size < ram.cache_size < state.llama_state_size + 2500
    assert disk.cache_size == state.llama_state_size + 28 + 12


def test_names() -> None:
    assert LlamaCache is LlamaRAMCache
    with pytest.raises(TypeError, match="abstract"):
        BaseLlamaCache()  # type: ignore[abstract]


def test_pickles(llm: Llama, make: Callable[[int], BaseLlamaCache]) -> None:
    cache = make(1 << 20)
    cache[[1, 5]] = state_of(llm, [1, 5])
    again = pickle.loads(pickle.dumps(cache))
    assert again.capacity_bytes == 1 << 20
    assert again[[1, 5]].input_ids.tolist() == [1, 5]


def test_damaged_files_are_passed_over(llm: Llama, tmp_path: Path) -> None:
    cache = LlamaDiskCache(tmp_path)
    for tokens in ([1, 5], [1, 5, 6]):
        cache[tokens] = state_of(llm, tokens)
    (tmp_path / "foreign.llama-state").write_bytes(b"not ours" * 10)
    (tmp_path / "short.llama-state").write_bytes(b"")
    damaged = next(path for path in tmp_path.iterdir() if b"\x06\0\0\0" in path.read_bytes()[28:40])
    data = bytearray(damaged.read_bytes())
    data[-500] ^= 1
    damaged.write_bytes(data)
    assert cache[[1, 5, 6]].input_ids.tolist() == [1, 5]
    other = LlamaDiskCache(tmp_path)
    assert other[[1, 5, 6]].input_ids.tolist() == [1, 5]
    damaged.write_bytes(data[:33])
    assert LlamaDiskCache(tmp_path)[[1, 5, 6]].input_ids.tolist() == [1, 5]


def test_another_process_finds_it(
    llm: Llama, model_file: Path, tmp_path: Path, run_python: Callable[..., Outcome]
) -> None:
    cache = LlamaDiskCache(tmp_path)
    cache[[1, 5, 6]] = state_of(llm, [1, 5, 6])
    ended = run_python(
        "import sys\nfrom llama_cpp import Llama\nfrom llama_cpp.llama_cache import LlamaDiskCache\n"
        "llm = Llama(sys.argv[1], n_threads=1, verbose=False)\ncache = LlamaDiskCache(sys.argv[2])\n"
        "llm.load_state(cache[[1, 5, 6, 7]])\nprint(list(llm.eval_tokens))\n"
        "llm.eval([9])\ncache[[1, 5, 6, 9]] = llm.save_state()",
        str(model_file),
        str(tmp_path),
    )
    assert ended.output.strip() == "[1, 5, 6]"
    assert cache[[1, 5, 6, 9]].input_ids.tolist() == [1, 5, 6, 9]


def test_many_threads_and_two_caches_over_one_folder(llm: Llama, tmp_path: Path) -> None:
    states = [state_of(llm, [first, 5]) for first in range(1, 7)]
    room = int(3.5 * (states[0].llama_state_size + 40))
    caches = [LlamaDiskCache(tmp_path, room), LlamaDiskCache(tmp_path, room)]
    failures: list[Exception] = []

    def use(cache: LlamaDiskCache) -> None:
        try:
            for _ in range(5):
                for first, state in enumerate(states, 1):
                    cache[[first, 5]] = state
                    # another one may have needed the room
                    with contextlib.suppress(KeyError):
                        assert cache[[first, 5]].input_ids.tolist() == [first, 5]
        except Exception as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=use, args=(cache,)) for cache in caches * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert caches[0].cache_size <= room
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
