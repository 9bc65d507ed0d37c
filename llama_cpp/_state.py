"""What a context remembers, as a value: to go on later, elsewhere, or in another process.

llama.cpp's own format has no checksum and no model in it, and its reader trusts it. The format here
wraps it: magic, version, a header that says what it was made with, the tokens, the last logits,
llama.cpp's bytes of the one sequence, and a digest of all before. Whatever does not fit is refused
before llama.cpp sees it.
"""

from __future__ import annotations

import array
import os
import struct
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from llama_cpp import _abi
from llama_cpp._errors import ValidationError
from llama_cpp._sequence import MediaSpan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llama_cpp.llama import Llama

    Buffer = bytes | bytearray | memoryview

_MAGIC = b"llama_cpp state\0"
_VERSION = 1
_PREFIX = struct.Struct("<16sII")  # magic, version, length of the header
_DIGEST_SIZE = 16
_LONGEST_HEADER = 1 << 20
_ITEM_SIZE = 4  # of a token, and of a logit
_SEQUENCE = 0
_NO_MEDIA: Mapping[int, MediaSpan] = MappingProxyType({})


class LlamaState:
    """What :meth:`Llama.save_state` returns; it can be pickled.

    Attributes:
        input_ids: the tokens in memory, an array of shape ``(n_tokens,)``.
        scores: the logits of the last token, an array of shape ``(1, n_vocab)``; ``(0, n_vocab)``
            where they are not known.
        n_tokens: how many tokens.
        llama_state: the state as bytes, all of the above and a checksum in it.
        llama_state_size: their number.
        seed: of the object.
    """

    def __init__(
        self,
        input_ids: Any,
        scores: Any,
        n_tokens: int,
        llama_state: bytes,
        llama_state_size: int,
        seed: int,
    ) -> None:
        """Hold a state."""
        self.input_ids = input_ids
        self.scores = scores
        self.n_tokens = n_tokens
        self.llama_state = llama_state
        self.llama_state_size = llama_state_size
        self.seed = seed

    @classmethod
    def from_bytes(cls, data: bytes) -> LlamaState:
        """Return a state from what :meth:`Llama.get_state` returned.

        Raises:
            ValidationError: it is something else, truncated, or changed.
        """
        return _as_state(unpack(data), data)

    def __sizeof__(self) -> int:
        """Return the bytes that it takes."""
        arrays = (self.input_ids, self.scores)
        held = sum(getattr(each, "nbytes", sys.getsizeof(each)) for each in arrays)
        return object.__sizeof__(self) + held + sys.getsizeof(self.llama_state)


class Parts(NamedTuple):
    """A state taken apart; what it says has been checked against nothing yet."""

    tokens: list[int]
    logits: array.array[float]
    """Of the last token; empty where they are not known."""
    native: Buffer
    seed: int
    fingerprint: dict[str, Any]
    media: Mapping[int, MediaSpan] = _NO_MEDIA
    """Images and audio among the tokens, by position."""


class Header(NamedTuple):
    """What a state says of itself before its data."""

    fingerprint: dict[str, Any]
    n_tokens: int
    n_logits: int
    size: int
    """Bytes of llama.cpp's own part."""
    seed: int
    media: Mapping[int, MediaSpan] = _NO_MEDIA

    @property
    def n_cells(self) -> int:
        """Places in the context's memory: media may take more of them than positions."""
        return self.n_tokens + sum(span.n_tokens - span.n_positions for span in self.media.values())


def fingerprint(self: Llama) -> dict[str, Any]:
    """Return what a state depends on: the model, the kind of its memory, and what is applied to it."""
    core, params = self._core, self._running().context.params
    return {
        "architecture": core.architecture,
        "description": core.description,
        "n_params": core.n_params,
        "size": core.size,
        "n_vocab": core.vocabulary.size,
        "n_layer": core.n_layer,
        "n_embd": core.n_embd,
        "n_swa": core.n_swa,
        "swa_full": params.swa_full,
        "type_k": _abi.GGML_TYPE_F16 if params.type_k is None else params.type_k,
        "type_v": _abi.GGML_TYPE_F16 if params.type_v is None else params.type_v,
        "flash_attn": params.flash_attn,
        "rope": [
            params.rope_scaling_type,
            params.rope_freq_base,
            params.rope_freq_scale,
            params.yarn_ext_factor,
            params.yarn_attn_factor,
            params.yarn_beta_fast,
            params.yarn_beta_slow,
            params.yarn_orig_ctx,
        ],
        "byteorder": sys.byteorder,
        "adapters": [
            *(f"{path} * {scale!r}" for path, scale in self._loras.applied),
            *([self._control_key] if self._control_key else ()),
        ],
    }


def take(self: Llama) -> Parts:
    """Return what the context remembers now.

    Raises:
        GenerationError: llama.cpp failed.
    """
    engine = self._running()
    context = engine.context
    with context.lock:
        tokens, media = engine.sequence.settled()
        logits = array.array(
            "f", context.logits(engine.output) if tokens and context.has_outputs else ()
        )
        return Parts(
            tokens, logits, context.sequence_state(_SEQUENCE), self._seed, fingerprint(self), media
        )


def put(self: Llama, parts: Parts) -> None:
    """Make the context remember ``parts`` in place of what it remembers; streams are ended.

    Raises:
        ValidationError: they were made with another model or another kind of memory, or do not fit
            this context. The context is empty then if llama.cpp had begun to read.
    """
    engine = self._running()
    _check_fits(
        self, Header(parts.fingerprint, len(parts.tokens), len(parts.logits), 0, 0, parts.media)
    )
    _check_tokens(self, parts)
    with engine.context.lock:
        engine.reset()
        if not parts.tokens:
            return
        engine.sequence.begin()
        try:
            engine.context.set_sequence_state(_SEQUENCE, parts.native)
        except BaseException:
            engine.reset()
            raise
        engine.sequence.restore(parts.tokens, parts.media)
        if parts.logits:
            engine.output = -1
            engine.context.hold_logits(parts.logits)
            if engine.rows is not None:
                import numpy as np  # noqa: PLC0415 - not every program keeps states

                row = np.frombuffer(parts.logits, np.float32)
                engine.rows.write(parts.tokens[:-1], parts.tokens[-1:], row[np.newaxis])


def _check_tokens(self: Llama, parts: Parts) -> None:
    """Check each id; what stands for an image or audio is negative, and has its place there."""
    hidden: set[int] = set()
    for at, span in parts.media.items():
        hidden.update(range(at, at + span.n_positions))
    tokens = parts.tokens
    self._core.vocabulary.check(0 if at in hidden else token for at, token in enumerate(tokens))
    if any(not 0 <= at < len(tokens) or tokens[at] >= 0 for at in hidden):
        raise ValidationError("the state is damaged: its media are not where they are said to be")


def _check_fits(self: Llama, header: Header) -> None:
    here = fingerprint(self)
    for name, value in here.items():
        found = header.fingerprint.get(name)
        if found != value:
            raise ValidationError(
                f"this state was made with {name} = {found!r}, and this object has {value!r}: "
                "load it into an object like the one that made it"
            )
    room = self._running().context.n_ctx_seq
    if header.n_cells > room:
        raise ValidationError(
            f"this state has {header.n_cells} tokens, and the context holds {room}: load the "
            f"model with n_ctx={header.n_cells} or more"
        )
    if header.n_logits not in (0, self.n_vocab()):
        raise ValidationError(
            f"this state has {header.n_logits} logits, and this model has {self.n_vocab()} tokens"
        )


# -- methods of Llama ----------------------------------------------------------------------------


@overload
def save_state(self: Llama) -> LlamaState: ...


@overload
def save_state(self: Llama, path: str | os.PathLike[str]) -> None: ...


def save_state(self: Llama, path: str | os.PathLike[str] | None = None) -> LlamaState | None:
    """Return what the context remembers, or write it into a file.

    Its size is that of the tokens in memory, not that of the context.

    Args:
        path: the file; it is replaced in one step. None returns the state instead.

    Raises:
        GenerationError: llama.cpp failed.
        OSError: the file cannot be written.
    """
    parts = take(self)
    data = pack(parts)
    if path is None:
        return _as_state(parts, data)
    write_atomically(Path(path), data)
    return None


def load_state(self: Llama, state: LlamaState | Buffer | str | os.PathLike[str]) -> None:
    """Go on from a state: tokens, memory and logits are those of when it was saved.

    Streams are ended. The seed stays the object's own.

    Args:
        state: what :meth:`save_state` or :meth:`get_state` returned, or the file that was written.

    Raises:
        ValidationError: it is something else, truncated, damaged, or made with another model, other
            adapters or another kind of memory; what is in memory stays then.
        OSError: the file cannot be read.
    """
    if isinstance(state, LlamaState):
        put(self, unpack(state.llama_state))
    elif isinstance(state, (bytes, bytearray, memoryview)):
        put(self, unpack(state))
    elif isinstance(state, (str, os.PathLike)):
        path = Path(state)
        put(self, unpack(path.read_bytes(), str(path)))
    else:
        raise ValidationError(
            f"load_state() takes a LlamaState, bytes or a path, not {type(state).__name__}"
        )


def get_state(self: Llama) -> bytes:
    """Return what the context remembers as bytes, for :meth:`set_state`.

    Raises:
        GenerationError: llama.cpp failed.
    """
    return pack(take(self))


def set_state(self: Llama, state: Buffer) -> None:
    """Go on from what :meth:`get_state` returned; see :meth:`load_state`.

    Args:
        state: the bytes.
    """
    if not isinstance(state, (bytes, bytearray, memoryview)):
        raise ValidationError(f"set_state() takes bytes, not {type(state).__name__}")
    put(self, unpack(state))


def _as_state(parts: Parts, data: bytes) -> LlamaState:
    import numpy as np  # noqa: PLC0415 - what clients expect here

    logits = np.array(parts.logits, np.float32)
    return LlamaState(
        input_ids=np.array(parts.tokens, np.intc),
        scores=logits.reshape(-1, parts.fingerprint["n_vocab"]),
        n_tokens=len(parts.tokens),
        llama_state=data,
        llama_state_size=len(data),
        seed=parts.seed,
    )


# -- as bytes ------------------------------------------------------------------------------------


def pack(parts: Parts) -> bytes:
    """Return a state as bytes."""
    import json  # noqa: PLC0415 - not every program keeps states

    header = json.dumps(
        {
            "fingerprint": parts.fingerprint,
            "n_tokens": len(parts.tokens),
            "n_logits": len(parts.logits),
            "size": len(parts.native),
            "seed": parts.seed,
            "media": [[at, *span] for at, span in sorted(parts.media.items())],
        },
        separators=(",", ":"),
    ).encode()
    content = b"".join(
        (
            _PREFIX.pack(_MAGIC, _VERSION, len(header)),
            header,
            _little_endian(array.array("i", parts.tokens)),
            _little_endian(parts.logits),
            parts.native,
        )
    )
    return content + _digest(content)


def unpack(data: Buffer, where: str = "the state") -> Parts:
    """Take bytes apart that :func:`pack` made.

    Args:
        data: the bytes.
        where: how to call them in messages.

    Raises:
        ValidationError: they are something else, truncated, or changed.
    """
    view = memoryview(data).cast("B")
    header, start = _header(view, where)
    content = view[:-_DIGEST_SIZE]
    after_tokens = start + _ITEM_SIZE * header.n_tokens
    after_logits = after_tokens + _ITEM_SIZE * header.n_logits
    if after_logits + header.size != len(content):
        raise ValidationError(
            f"{where} is truncated: it has {len(view)} bytes, and "
            f"{after_logits + header.size + _DIGEST_SIZE} are announced"
        )
    if bytes(view[-_DIGEST_SIZE:]) != _digest(content):
        raise ValidationError(f"{where} is damaged: its checksum does not match")
    return Parts(
        _from_little_endian("i", content[start:after_tokens]).tolist(),
        _from_little_endian("f", content[after_tokens:after_logits]),
        content[after_logits:],
        header.seed,
        header.fingerprint,
        header.media,
    )


def _header(view: memoryview, where: str) -> tuple[Header, int]:
    """Return what a state says of itself, and where that ends."""
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise ValidationError(f"{where} is no state that save_state() or get_state() made")
    if len(view) < _PREFIX.size + _DIGEST_SIZE:
        raise ValidationError(f"{where} is truncated after {len(view)} bytes")
    _, version, length = _PREFIX.unpack_from(view)
    if version != _VERSION:
        raise ValidationError(
            f"{where} has version {version} of the format, and this llama-cpp-python reads version "
            f"{_VERSION}: make the state again"
        )
    if length > min(_LONGEST_HEADER, len(view) - _PREFIX.size - _DIGEST_SIZE):
        raise ValidationError(f"{where} is truncated or damaged within its header")
    start = _PREFIX.size + length
    import json  # noqa: PLC0415 - not every program keeps states

    try:
        fields = json.loads(bytes(view[_PREFIX.size : start]))
        media = {
            int(at): MediaSpan(str(key), int(n_tokens), int(n_positions))
            for at, key, n_tokens, n_positions in fields["media"]
        }
        n_tokens, n_logits, size, seed = (
            int(fields[name]) for name in ("n_tokens", "n_logits", "size", "seed")
        )
        header = Header(dict(fields["fingerprint"]), n_tokens, n_logits, size, seed, media)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValidationError(f"{where} is damaged: its header cannot be read") from error
    if min(header.n_tokens, header.n_logits, header.size) < 0:
        raise ValidationError(f"{where} is damaged: its header cannot be read")
    return header, start


def write_atomically(path: Path, data: Buffer) -> None:
    """Write a file that is there as a whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    import tempfile  # noqa: PLC0415 - not every program keeps states

    handle, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - its counterpart here is a name
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _digest(content: Buffer) -> bytes:
    import hashlib  # noqa: PLC0415 - not every program keeps states

    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def _little_endian(numbers: array.array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _from_little_endian(kind: str, data: Buffer) -> array.array[Any]:
    numbers: array.array[Any] = array.array(kind, bytes(data))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
