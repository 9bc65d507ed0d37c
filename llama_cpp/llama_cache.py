"""Where completions keep what they have computed: states by the tokens that they hold.

A look-up finds the state that shares the longest beginning with a prompt. Which states an object can
go on from is the object's to check (:meth:`llama_cpp.Llama.load_state`).
"""

from __future__ import annotations

import array
import os
import struct
import sys
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from llama_cpp._arguments import check_integer
from llama_cpp._errors import ValidationError
from llama_cpp._namespace import offer
from llama_cpp._sequence import shared_length
from llama_cpp._state import LlamaState, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DEFAULT_CAPACITY = 2 << 30


class BaseLlamaCache(ABC):
    """A mapping from tokens to states that forgets the least recently used beyond its capacity.

    Attributes:
        capacity_bytes: the most bytes to keep.
    """

    def __init__(self, capacity_bytes: int = _DEFAULT_CAPACITY) -> None:
        """Choose the most bytes to keep.

        Raises:
            ValidationError: it is negative or no integer.
        """
        check_integer("capacity_bytes", capacity_bytes, 0, 2**63 - 1)
        self.capacity_bytes = capacity_bytes

    @property
    @abstractmethod
    def cache_size(self) -> int:
        """Bytes that are kept now."""

    @abstractmethod
    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        """Return the state that shares the longest beginning with ``key``.

        Raises:
            KeyError: none shares even one token.
        """

    @abstractmethod
    def __contains__(self, key: Sequence[int]) -> bool:
        """Return whether some state shares a beginning with ``key``."""

    @abstractmethod
    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        """Keep a state under its tokens; forget others if there is no room."""


class LlamaRAMCache(BaseLlamaCache):
    """States in memory. May be used by several objects and threads."""

    def __init__(self, capacity_bytes: int = _DEFAULT_CAPACITY) -> None:
        """Start with none; see :class:`BaseLlamaCache`."""
        super().__init__(capacity_bytes)
        self.cache_state: OrderedDict[tuple[int, ...], LlamaState] = OrderedDict()
        """The states, the least recently used one first."""
        self._lock = threading.RLock()
        self._size = 0

    @property
    def cache_size(self) -> int:
        """Bytes that the states take."""
        with self._lock:
            return self._size

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        """Return the state that shares the longest beginning with ``key``; it is the newest then."""
        with self._lock:
            found = longest_match(self.cache_state, key)
            if found is None:
                raise KeyError("no state shares a beginning with these tokens")
            self.cache_state.move_to_end(found)
            return self.cache_state[found]

    def __contains__(self, key: object) -> bool:
        """Return whether some state shares a beginning with ``key``."""
        with self._lock:
            return longest_match(self.cache_state, key) is not None  # type: ignore[arg-type]

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        """Keep a state under its tokens; forget the least recently used ones if there is no room."""
        tokens = tuple(key)
        with self._lock:
            self._forget(tokens)
            self.cache_state[tokens] = value
            self._size += _bytes_of(value)
            while self._size > self.capacity_bytes and self.cache_state:
                self._forget(next(iter(self.cache_state)))

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self.cache_state)

    def __getstate__(self) -> dict[str, object]:
        """Return what a pickle keeps: everything but the lock."""
        with self._lock:
            return {"capacity_bytes": self.capacity_bytes, "states": list(self.cache_state.items())}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Fill it again."""
        LlamaRAMCache.__init__(self, state["capacity_bytes"])  # type: ignore[arg-type]
        for key, value in state["states"]:  # type: ignore[attr-defined]
            self[key] = value

    def _forget(self, tokens: tuple[int, ...]) -> None:
        gone = self.cache_state.pop(tokens, None)
        if gone is not None:
            self._size -= _bytes_of(gone)


LlamaCache = LlamaRAMCache
"""The cache in memory, by its older name."""


class LlamaDiskCache(BaseLlamaCache):
    """States in files of a folder, for several objects, threads and processes at once.

    A file holds the tokens and the state as bytes with a checksum, never a pickle; it is written in
    one step. A file that is damaged is not found. When the files take more than the capacity, those
    that were not used the longest go.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] = ".cache/llama_cache",
        capacity_bytes: int = _DEFAULT_CAPACITY,
    ) -> None:
        """Keep states in a folder, made if it is missing.

        Args:
            cache_dir: the folder; what is in there from before counts.
            capacity_bytes: the most bytes of all files together.

        Raises:
            ValidationError: the capacity is negative or no integer.
            OSError: the folder cannot be made.
        """
        super().__init__(capacity_bytes)
        self.cache_dir = Path(cache_dir)
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        # name → (modification time, key), so that a look-up reads each file's tokens once
        self._known: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._lock = threading.RLock()

    @property
    def cache_size(self) -> int:
        """Bytes of all files together."""
        return sum(size for _, size, _ in self._files())

    def __getitem__(self, key: Sequence[int]) -> LlamaState:
        """Return the state that shares the longest beginning with ``key``; it is the newest then.

        A file that another process has removed, or that is damaged, is passed over.
        """
        with self._lock:
            keys = self._keys()
            while (found := longest_match(keys, key)) is not None:
                path = keys.pop(found)
                try:
                    state = LlamaState.from_bytes(_read(path)[1])
                    os.utime(path)
                except (OSError, ValidationError):
                    self._known.pop(path.name, None)
                    continue
                return state
        raise KeyError("no state shares a beginning with these tokens")

    def __contains__(self, key: object) -> bool:
        """Return whether some state shares a beginning with ``key``."""
        with self._lock:
            return longest_match(self._keys(), key) is not None  # type: ignore[arg-type]

    def __setitem__(self, key: Sequence[int], value: LlamaState) -> None:
        """Write a state under its tokens; remove the least recently used ones if there is no room.

        Raises:
            OSError: the folder cannot be written.
        """
        tokens = array.array("i", key)
        with self._lock:
            data = _pack(tokens, value.llama_state)
            if len(data) <= self.capacity_bytes:
                write_atomically(self.cache_dir / _name(tokens), data)
            self._make_room()

    def __len__(self) -> int:
        """Return the number of states."""
        return len(self._files())

    def __getstate__(self) -> dict[str, object]:
        """Return what a pickle keeps: where the files are."""
        return {"cache_dir": self.cache_dir, "capacity_bytes": self.capacity_bytes}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Use the folder again."""
        LlamaDiskCache.__init__(self, **state)  # type: ignore[arg-type]

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return modification time, size and path of each file, the least recently used first."""
        found = []
        for path in self.cache_dir.glob(f"*{_ENDING}"):
            try:
                about = path.stat()
            except OSError:
                continue  # another process has removed it
            found.append((about.st_mtime_ns, about.st_size, path))
        return sorted(found)

    def _keys(self) -> dict[tuple[int, ...], Path]:
        keys: dict[tuple[int, ...], Path] = {}
        known: dict[str, tuple[int, tuple[int, ...]]] = {}
        for changed, _, path in self._files():
            entry = self._known.get(path.name)
            if entry is None:
                try:
                    entry = (changed, _read_key(path))
                except (OSError, ValidationError):
                    continue
            known[path.name] = entry
            keys[entry[1]] = path
        self._known = known
        return keys

    def _make_room(self) -> None:
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.capacity_bytes:
                return
            # Windows refuses while another process reads it: the next one goes instead
            try:
                path.unlink()
            except FileNotFoundError:
                pass
            except OSError:
                continue
            total -= size


def longest_match(
    keys: OrderedDict[tuple[int, ...], LlamaState] | dict[tuple[int, ...], Path],
    wanted: Sequence[int],
) -> tuple[int, ...] | None:
    """Return the key that shares the longest beginning with ``wanted``, the newest of several.

    Args:
        keys: oldest first.
        wanted: tokens.
    """
    best, longest = None, 1
    for key in keys:
        shared = shared_length(key, wanted)
        if shared >= longest:
            best, longest = key, shared
    return best


def _bytes_of(state: LlamaState) -> int:
    return sys.getsizeof(state)


# -- files ---------------------------------------------------------------------------------------

_ENDING = ".llama-state"
_MAGIC = b"llama_cpp cache\0"
_HEAD = struct.Struct("<16sIQ")  # magic, version, number of tokens
_VERSION = 1
_MOST_TOKENS = 1 << 28


def _name(tokens: array.array[int]) -> str:
    import hashlib  # noqa: PLC0415 - only needed here

    return hashlib.blake2b(_stored(tokens), digest_size=20).hexdigest() + _ENDING


def _stored(tokens: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        tokens = tokens[:]
        tokens.byteswap()
    return tokens.tobytes()


def _pack(tokens: array.array[int], state: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, _VERSION, len(tokens)) + _stored(tokens) + state


def _read_key(path: Path) -> tuple[int, ...]:
    with path.open("rb") as file:
        return _key(path, file.read(_HEAD.size), file.read)


def _read(path: Path) -> tuple[tuple[int, ...], bytes]:
    with path.open("rb") as file:
        key = _key(path, file.read(_HEAD.size), file.read)
        return key, file.read()


def _key(path: Path, head: bytes, read: Callable[[int], bytes]) -> tuple[int, ...]:
    if len(head) < _HEAD.size:
        raise ValidationError(f"{path} is truncated")
    magic, version, number = _HEAD.unpack(head)
    if magic != _MAGIC or version != _VERSION or number > _MOST_TOKENS:
        raise ValidationError(f"{path} is no file of this cache")
    data = read(4 * number)
    tokens = array.array("i", data[: len(data) // 4 * 4])
    if len(tokens) != number:
        raise ValidationError(f"{path} is truncated")
    if sys.byteorder == "big":
        tokens.byteswap()
    if path.name != _name(tokens):
        raise ValidationError(f"{path} is damaged: its name is not that of its tokens")
    return tuple(tokens)


# names that callers import from here
offer(__name__, frozenset({"_state", "llama_types"}))
