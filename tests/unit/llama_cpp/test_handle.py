"""Ownership: order of freeing, closed use, garbage collection, forks."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pytest

import llama_cpp
from llama_cpp import _handle
from llama_cpp._errors import LlamaError
from llama_cpp._handle import Handle


def test_children_are_freed_first_and_in_reverse_order() -> None:
    freed: list[int] = []
    parent = Handle("model", 1, freed.append)
    Handle("context", 2, freed.append, parent)
    child = Handle("context", 3, freed.append, parent)
    Handle("sampler", 4, freed.append, child)
    parent.close()
    assert freed == [4, 3, 2, 1]
    parent.close()
    child.close()
    assert freed == [4, 3, 2, 1]


def test_closed_child_is_not_freed_again() -> None:
    freed: list[int] = []
    parent = Handle("model", 1, freed.append)
    child = Handle("context", 2, freed.append, parent)
    child.close()
    parent.close()
    assert freed == [2, 1]


def test_closed_use_says_what_is_closed() -> None:
    handle = Handle("model", 7, lambda _pointer: None)
    assert (handle.pointer, handle.closed, handle.freed) == (7, False, False)
    handle.close()
    assert (handle.closed, handle.freed) == (True, True)
    with pytest.raises(LlamaError) as caught:
        _ = handle.pointer
    assert str(caught.value) == "the model is closed; load or create it again to use it"


def test_close_waits_for_a_call_in_another_thread() -> None:
    events: list[str] = []
    handle = Handle("context", 1, lambda _pointer: events.append("freed"))
    inside = threading.Event()

    def call() -> None:
        with handle.lock:
            inside.set()
            time.sleep(0.05)
            events.append("call ended")

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait()
    handle.close()
    thread.join()
    assert events == ["call ended", "freed"]


def test_impatient_close_leaves_what_is_in_use() -> None:
    freed: list[int] = []
    handle = Handle("context", 1, freed.append)
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with handle.lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait()
    handle.close(patience=0.01)
    leave.set()
    thread.join()
    assert freed == []
    handle.close()
    assert freed == [1]


def test_parent_is_not_freed_under_a_child_in_use() -> None:
    freed: list[int] = []
    parent = Handle("model", 1, freed.append)
    child = Handle("context", 2, freed.append, parent)
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with child.lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait()
    parent.close(patience=0.01)
    assert freed == []
    leave.set()
    thread.join()


def test_garbage_collection_frees_cycles_in_order() -> None:
    class Owner:
        pass

    freed: list[int] = []
    owner, part = Owner(), Owner()
    parent = Handle("model", 1, freed.append)
    parent.close_with(owner)
    Handle("context", 2, freed.append, parent).close_with(part)
    owner.part, part.owner = part, owner  # type: ignore[attr-defined]
    del owner, part, parent
    gc.collect()
    assert freed == [2, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_neither_uses_nor_frees() -> None:
    freed: list[int] = []
    handle = Handle("model", 1, freed.append)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _ = handle.pointer
        except LlamaError as error:
            os.write(write, str(error).encode())
        handle.close()
        os.write(write, f" freed={freed} all={_handle.close_all()}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said == (
        "the model was made before this process was forked, and its threads did not come along: "
        "load the model in the child, or start children with multiprocessing's 'spawn' method "
        "freed=[] all=False"
    )
    assert handle.pointer == 1
    handle.close()
    assert freed == [1]


def test_no_closing_in_a_callback() -> None:
    freed: list[int] = []
    parent = Handle("model", 1, freed.append)
    child = Handle("context", 2, freed.append, parent)
    with child.calling_back():
        for handle, kind in ((parent, "model"), (child, "context")):
            with pytest.raises(LlamaError) as caught:
                handle.close()
            assert str(caught.value) == (
                f"the {kind} is in use by the call that this callback belongs to; "
                "it can be closed after that call"
            )
        assert (parent.pointer, child.pointer) == (1, 2)
        thread = threading.Thread(target=child.close)
        thread.start()
        thread.join()
    parent.close()
    assert freed == [2, 1]


@pytest.mark.build
def test_shutdown_and_use_after_it(model_file: Path) -> None:
    first, second = (llama_cpp.Llama(model_file, n_threads=1, n_ctx=256) for _ in range(2))
    stream = second.create_completion("the quick", stream=True, temperature=0)
    next(stream)
    llama_cpp.shutdown()
    assert (first.closed, second.closed) == (True, True)
    with pytest.raises(LlamaError, match=r"^the .* is closed; load or create it again to use it$"):
        next(stream)
    llama_cpp.shutdown()
    with llama_cpp.Llama(model_file, n_threads=1, n_ctx=256) as again:
        answer = again.create_completion("the quick", max_tokens=3, temperature=0)
    assert answer["usage"]["completion_tokens"] == 3
