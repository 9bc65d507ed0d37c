"""Ownership of llama.cpp's objects: who frees what, when, in which order, under which lock.

A handle owns one native object. Handles form a tree (a model's contexts, samplers and adapters hang
on it), and closing one closes what hangs on it first. That order holds for ``close``, for garbage
collection and for interpreter exit alike.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llama_cpp._errors import LlamaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_EXIT_PATIENCE_SECONDS = 10.0

_forks = 0
_roots: dict[Handle, None] = {}


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - the one place that learns of a fork
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class Handle:
    """One native object and the duty to free it.

    Attributes:
        lock: held around every native call on the object; reentrant.
        children: the handles that hang on it, oldest first.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_fork",
        "_free",
        "_kind",
        "_pointer",
        "_siblings",
        "_user",
        "children",
        "lock",
    )

    def __init__(
        self, kind: str, pointer: int, free: Callable[[int], object], parent: Handle | None = None
    ) -> None:
        """Own ``pointer``.

        Args:
            kind: what to call it in messages: "model", "context" …
            pointer: the native object.
            free: frees it; called once, under :attr:`lock`.
            parent: the handle it hangs on; its lock must be held by the caller.
        """
        self.lock = threading.RLock()
        self._kind = kind
        self._pointer: int | None = pointer
        self._free = free
        self.children: dict[Handle, None] = {}
        self._closing = False
        self._user: int | None = None
        self._fork = _forks
        self._siblings: dict[Handle, None] = _roots if parent is None else parent.children
        self._siblings[self] = None

    @property
    def pointer(self) -> int:
        """The native object, for a call that is made now under :attr:`lock`.

        Raises:
            LlamaError: it is closed, or it was made before this process was forked.
        """
        if self._closing or self._pointer is None:
            raise LlamaError(f"the {self._kind} is closed; load or create it again to use it")
        if self._fork != _forks:
            raise LlamaError(
                f"the {self._kind} was made before this process was forked, and its threads did not "
                "come along: load the model in the child, or start children with "
                "multiprocessing's 'spawn' method"
            )
        return self._pointer

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has begun."""
        return self._closing

    @property
    def freed(self) -> bool:
        """Whether the native object is gone."""
        return self._pointer is None

    @contextmanager
    def calling_back(self) -> Iterator[None]:
        """Refuse :meth:`close` by this thread in a block whose native calls call Python back."""
        before, self._user = self._user, threading.get_ident()
        try:
            yield
        finally:
            self._user = before

    def refuse_in_callback(self, what: str) -> None:
        """Raise in a callback under a native call on it, which must not be ``what`` before its end.

        Raises:
            LlamaError: this is one.
        """
        if self._calls_back():
            raise LlamaError(
                f"the {self._kind} is in use by the call that this callback belongs to; it can be "
                f"{what} after that call"
            )

    def _calls_back(self) -> bool:
        """Return whether this thread is in a callback under a native call on it."""
        return self._user == threading.get_ident() or any(
            child._calls_back()  # noqa: SLF001 - another of its kind
            for child in list(self.children)
        )

    def close(self, patience: float = -1) -> None:
        """Free the object after everything that hangs on it; does nothing the second time.

        Waits for native calls that are running on it in other threads.

        Raises:
            LlamaError: this is a callback under a native call on it.

        Args:
            patience: seconds to wait for each of them; -1 waits as long as it takes. What is still
                in use then is not freed.
        """
        if self._fork != _forks:
            # Freeing would join threads that exist in the parent process only.
            self._closing = True
            return
        if not self.lock.acquire(timeout=patience):
            return
        try:
            if self._closing:
                return
            self.refuse_in_callback("closed")
            self._closing = True
            children = list(self.children)
        finally:
            self.lock.release()
        # Outside the lock: a child's call may be waiting for it.
        for child in reversed(children):
            child.close(patience)
        if not self.lock.acquire(timeout=patience):
            return
        try:
            pointer, self._pointer = self._pointer, None
            if pointer is not None and all(child.freed for child in children):
                self._free(pointer)
        finally:
            self.lock.release()
        self._siblings.pop(self, None)

    def close_with(self, owner: object) -> None:
        """Close when ``owner`` is garbage-collected; at exit :func:`close_all` sees to it."""
        weakref.finalize(owner, self.close).atexit = False


def close_all() -> bool:
    """Close every open handle, children first, at interpreter exit.

    Returns:
        Whether this process is the one that made them all (not a fork's child).
    """
    for handle in reversed(list(_roots)):
        handle.close(_EXIT_PATIENCE_SECONDS)
    return _forks == 0


def shutdown() -> None:
    """Close everything that is open, in order: every model with its contexts, samplers, adapters.

    Waits for calls that are running in other threads. The libraries stay loaded, and new models can
    be loaded afterwards. Nobody needs it: the same happens at interpreter exit.
    """
    for handle in reversed(list(_roots)):
        handle.close()
