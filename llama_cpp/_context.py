"""An inference context: the KV cache, decoding, logits and embeddings."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

from llama_cpp import _abi, _library, _log
from llama_cpp._assertions import FailedAssertionError, guarded
from llama_cpp._batch import Batch
from llama_cpp._context_params import ContextParams, native_params
from llama_cpp._errors import GenerationError, LlamaError, ValidationError
from llama_cpp._handle import Handle
from llama_cpp._interrupts import deferred
from llama_cpp._model import Adapter, Model, _Owner
from llama_cpp._shortage import shortage, shortage_text
from llama_cpp._threadpool import attach

if TYPE_CHECKING:
    import array
    from collections.abc import Sequence
    from threading import RLock

    import numpy as np
    from numpy.typing import NDArray


__all__ = ["Context", "ContextFullError", "ContextParams"]


class ContextFullError(GenerationError):
    """There is no room in the context's memory for a batch; the memory is as it was before."""


class Context(_Owner):
    """A context over a model.

    One lock guards it: every method may be called from any thread, and waits for its turn.
    """

    def __init__(self, model: Model, params: ContextParams = ContextParams()) -> None:  # noqa: B008
        """Make a context.

        Raises:
            ValidationError: a parameter is out of range.
            LlamaError: llama.cpp refused (not enough memory, parameters that exclude each other).
            GenerationError: an RPC server of the model is lost.
        """
        params.check()
        if model.params.vocab_only:
            raise LlamaError("the model was loaded with vocab_only=True and cannot compute")
        self.model = model
        self.params = params
        self._lib = lib = _library.load()
        self.native = native = native_params(params, lib.llama_context_default_params())
        """The ``struct llama_context_params`` that it was made with."""
        _log.clear()
        with model.handle.lock, deferred():
            pointer = _make(model, native)
            if pointer is not None:
                stop_threads = attach(lib, pointer, native.n_threads, native.n_threads_batch)

                def free(pointer: int) -> None:
                    lib.llama_free(pointer)
                    stop_threads()

                self._handle = Handle("context", pointer, free, model.handle)
                self._handle.close_with(self)
        _log.reraise()
        if (lost := model.lost_server) is not None:
            if pointer is not None:
                self._handle.close()
            raise GenerationError(f"no context was made: {lost}; {_AGAIN}")
        if pointer is None:
            raise _context_error(params, _log.complaints())
        self.lock: RLock = self._handle.lock
        self.n_ctx: int = lib.llama_n_ctx(pointer)
        self.n_ctx_seq: int = min(lib.llama_n_ctx_seq(pointer), model.n_positions or self.n_ctx)
        """Tokens per sequence; no more than the model has positions for."""
        self.n_batch: int = lib.llama_n_batch(pointer)
        self.n_ubatch: int = lib.llama_n_ubatch(pointer)
        self.n_seq_max: int = lib.llama_n_seq_max(pointer)
        self.pooling_type: int = lib.llama_pooling_type(pointer)
        self.causal: bool = lib.llama_get_causal_attn(pointer)
        """Whether a token sees only what is before it."""
        self._memory = lib.llama_get_memory(pointer)
        self._embeddings = params.embeddings
        self._outputs: list[int] = []
        self._held: array.array[float] | None = None
        # a row of logits by the address at which llama.cpp keeps it
        self._view: tuple[int, NDArray[np.float32]] | None = None
        self._adapters: tuple[tuple[Adapter, float], ...] = ()

    @property
    def handle(self) -> Handle:
        """The native context's owner; its ``pointer`` is for a call made under :attr:`lock`."""
        return self._handle

    @property
    def has_memory(self) -> bool:
        """Whether it remembers tokens between calls; an encoder such as BERT does not."""
        return self._memory is not None

    @property
    def adapters(self) -> tuple[tuple[Adapter, float], ...]:
        """The LoRA adapters in use with their scales."""
        return self._adapters

    def batch(self, capacity: int | None = None) -> Batch:
        """Return an empty batch that fits this context.

        Args:
            capacity: most tokens; None is ``n_batch``.
        """
        return Batch(
            self.n_batch if capacity is None else capacity,
            n_vocab=self.model.vocabulary.size,
            n_seq_max=self.n_seq_max,
            n_positions=self.model.n_positions,
        )

    def decode(self, batch: Batch, *, interruptible: bool = False) -> None:
        """Compute a batch; a context without memory encodes it.

        Args:
            batch: the tokens.
            interruptible: end early on Ctrl-C, where the device can; what is in memory is unsure
                then.

        Raises:
            ValidationError: the batch is empty, too large, or made for another context.
            ContextFullError: there is no room for the batch; nothing has changed.
            GenerationError: llama.cpp failed, or an RPC server of the model is lost; what it had
                computed may be partly in memory.
        """
        with self.lock:
            pointer = self._handle.pointer
            count = len(batch)
            if not 0 < count <= self.n_batch:
                raise ValidationError(
                    f"a batch of {count} tokens; this context takes 1 to {self.n_batch} "
                    "at once (n_batch)"
                )
            if count > self.n_ubatch and not self.causal:
                raise ValidationError(
                    f"a batch of {count} tokens; a model that attends both ways takes at most "
                    f"{self.n_ubatch} (n_ubatch) at once"
                )
            if batch.n_vocab > self.model.vocabulary.size or batch.n_seq_max > self.n_seq_max:
                raise ValidationError("the batch was made for another context; use context.batch()")
            self._outputs = []
            self._held = None
            status = (self._decode_until_ctrl_c if interruptible else self._decode)(pointer, batch)
            if status:
                _log.reraise()
                if status == _FULL:
                    raise ContextFullError(_STATUS[status], log=_log.complaints())
                raise GenerationError(
                    _STATUS.get(status, _FATAL.format(status)), log=_log.complaints()
                )
            self._outputs = list(range(count)) if self._embeddings else batch.outputs

    def _decode(self, pointer: int, batch: Batch) -> int:
        if not self.model.remote:
            return self._lib.llama_decode(pointer, batch.struct)
        lost = self.model.lost_server
        if lost is None:
            status = self._lib.llama_decode(pointer, batch.struct)
            # what comes from a server has arrived only after this, or has not
            self._lib.llama_synchronize(pointer)
            lost = self.model.lost_server
            if lost is None:
                return status
        raise GenerationError(f"{lost}; {_AGAIN}")

    def _decode_until_ctrl_c(self, pointer: int, batch: Batch) -> int:
        with deferred() as interrupt:
            # runs on this thread between two operations: there Python sees that Ctrl-C was pressed
            pressed = _abi.ggml_abort_callback(lambda _data: interrupt.pressed)
            self._lib.llama_set_abort_callback(pointer, pressed, None)
            try:
                return self._decode(pointer, batch)
            finally:
                self._lib.llama_set_abort_callback(pointer, _abi.ggml_abort_callback(), None)

    @property
    def has_outputs(self) -> bool:
        """Whether there are logits or embeddings to read: the last decode's, or held ones."""
        return bool(self._outputs) or self._held is not None

    @property
    def held_logits(self) -> array.array[float] | None:
        """The logits of :meth:`hold_logits`, until the next decode; llama.cpp does not know them."""
        return self._held

    def hold_logits(self, row: array.array[float]) -> None:
        """Let ``row`` be the last token's logits, as they were when a state was saved."""
        with self.lock:
            self._outputs = []
            self._held = row

    def output_index(self, index: int) -> int:
        """Return ``index`` if logits were asked for there in the last decode.

        Args:
            index: a token's place in the last batch; or negative, from the end of the outputs.

        Raises:
            ValidationError: nothing was asked for at that place.
        """
        outputs = self._outputs
        if index in outputs if index >= 0 else -index <= len(outputs):
            return index
        if not outputs:
            raise ValidationError("no logits: decode a batch with at least one output first")
        raise ValidationError(
            f"no logits at index {index}: the last batch had outputs at {outputs[:8]}"
            f"{' …' if len(outputs) > 8 else ''}"
        )

    def logits(self, index: int = -1) -> list[float]:
        """Return the logits of an output, one per token id.

        Args:
            index: as for :meth:`output_index`.
        """
        with self.lock:
            if self._held is not None and index == -1:
                _ = self._handle.pointer
                return self._held.tolist()
            row = self._lib.llama_get_logits_ith(self._handle.pointer, self.output_index(index))
            return row[: self.model.vocabulary.size]

    def logits_view(self, index: int = -1, *, rows: int | None = None) -> NDArray[np.float32]:
        """Return the logits of an output where llama.cpp keeps them; for use under :attr:`lock`.

        The next decode overwrites them, and :meth:`close` frees them: copy what outlives the lock.

        Args:
            index: as for :meth:`output_index`.
            rows: so many outputs from this one on, as rows; None is this one alone.
        """
        import numpy as np  # noqa: PLC0415 - import llama_cpp does without it

        if self._held is not None and index == -1 and rows is None:
            _ = self._handle.pointer
            return np.frombuffer(self._held, dtype=np.float32)
        if rows is not None:
            self.output_index(index + rows - 1)
        row = self._lib.llama_get_logits_ith(self._handle.pointer, self.output_index(index))
        if not row:
            raise GenerationError("llama.cpp has no logits here", log=_log.complaints())
        size = self.model.vocabulary.size
        if rows is not None:
            return np.ctypeslib.as_array(row, (rows, size))
        # making an array of a pointer takes longer than looking for the largest logit in it
        address = ctypes.addressof(row.contents)
        if self._view is None or self._view[0] != address:
            self._view = address, np.ctypeslib.as_array(row, (size,))
        return self._view[1]

    def embedding(self, index: int) -> list[float]:
        """Return the embedding of one token of the last batch, ``n_embd_out`` long."""
        with self.lock:
            pointer = self._handle.pointer
            row = self._lib.llama_get_embeddings_ith(pointer, self.output_index(index))
            if not row:
                raise GenerationError(
                    "llama.cpp has no embedding for this token", log=_log.complaints()
                )
            return row[: self.model.n_embd_out]

    def sequence_embedding(self, seq_id: int) -> list[float]:
        """Return the pooled embedding of a sequence of the last batch.

        ``n_embd_out`` long; with rank pooling the scores, one per class.
        """
        with self.lock:
            row = self._lib.llama_get_embeddings_seq(self._handle.pointer, seq_id)
            if not row:
                raise GenerationError(
                    f"llama.cpp has no pooled embedding of sequence {seq_id}", log=_log.complaints()
                )
            size = self.model.n_embd_out
            if self.pooling_type == _abi.LLAMA_POOLING_TYPE_RANK:
                size = self._lib.llama_model_n_cls_out(self.model.handle.pointer)
            return row[:size]

    def set_embeddings(self, *, wanted: bool) -> None:
        """Choose whether the next batches answer with embeddings; logits come in either case."""
        with self.lock:
            if wanted != self._embeddings:
                self._lib.llama_set_embeddings(self._handle.pointer, wanted)
                self._embeddings = wanted
                self._outputs = []

    def forget_outputs(self) -> None:
        """Note that something was computed here without :meth:`decode`: the old logits are gone."""
        with self.lock:
            self._outputs = []

    def clear(self) -> None:
        """Forget all sequences."""
        with self.lock:
            _ = self._handle.pointer
            if self._memory is not None:
                self._lib.llama_memory_clear(self._memory, True)
            self._outputs = []
            self._held = None

    def remove(self, seq_id: int, start: int, stop: int = -1) -> bool:
        """Forget a sequence's tokens at positions ``start`` (inclusive) to ``stop`` (exclusive).

        Args:
            seq_id: the sequence.
            start: first position.
            stop: end; -1 is the end of the sequence.

        Returns:
            False where the memory cannot forget a part (recurrent models); nothing has changed then.
        """
        with self.lock:
            _ = self._handle.pointer
            self._check_seq_id(seq_id)
            self._held = None
            return self._memory is None or self._lib.llama_memory_seq_rm(
                self._memory, seq_id, start, stop
            )

    def copy(self, source: int, target: int) -> None:
        """Let an empty sequence begin with all the tokens of another.

        With ``kv_unified`` both share the same cells, and nothing is computed or moved; without it
        the next decode copies the whole buffer of the sequence first.

        Args:
            source: the sequence to take them from.
            target: another one, which is empty; :meth:`remove` then cuts what it shall not have.

        Raises:
            ValidationError: they are the same, or ``target`` is not empty.
        """
        with self.lock:
            _ = self._handle.pointer
            self._check_seq_id(source)
            self._check_seq_id(target)
            if source == target:
                raise ValidationError(f"sequence {source} cannot be copied to itself")
            if self._memory is None:
                return
            # llama.cpp would count the positions of cells that both have twice
            if self._lib.llama_memory_seq_pos_max(self._memory, target) >= 0:
                raise ValidationError(f"sequence {target} is not empty; remove its tokens first")
            self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def first_position(self, seq_id: int) -> int:
        """Return the smallest position in memory; -1 for an empty sequence.

        Not 0 where a sliding window has dropped the beginning.
        """
        with self.lock:
            _ = self._handle.pointer
            self._check_seq_id(seq_id)
            return (
                -1
                if self._memory is None
                else self._lib.llama_memory_seq_pos_min(self._memory, seq_id)
            )

    def sequence_state(self, seq_id: int) -> bytearray:
        """Return what llama.cpp remembers of a sequence, in its own format.

        Raises:
            GenerationError: llama.cpp failed.
        """
        with self.lock:
            pointer = self._handle.pointer
            self._check_seq_id(seq_id)
            _log.clear()
            size = self._lib.llama_state_seq_get_size(pointer, seq_id)
            data = bytearray(size)
            native = (ctypes.c_uint8 * size).from_buffer(data)
            if not size or size != self._lib.llama_state_seq_get_data(
                pointer, native, size, seq_id
            ):
                raise GenerationError(
                    f"llama.cpp cannot save the state of sequence {seq_id}", log=_log.complaints()
                )
            return data

    def set_sequence_state(self, seq_id: int, data: bytes | bytearray | memoryview) -> None:
        """Make llama.cpp remember what :meth:`sequence_state` returned, in place of a sequence.

        Its reader trusts the data: they must be known to be whole.

        Raises:
            ValidationError: llama.cpp refused; the sequence is empty or unsure then.
        """
        with self.lock:
            pointer = self._handle.pointer
            self._check_seq_id(seq_id)
            _log.clear()
            size = len(data)
            native = (ctypes.c_uint8 * size).from_buffer_copy(data)
            if self._lib.llama_state_seq_set_data(pointer, native, size, seq_id) != size:
                lines = _log.complaints()
                raise ValidationError(
                    "llama.cpp cannot load this state: it was made with other settings of the "
                    "context (flash_attn, type_k, type_v, n_seq_max), or does not fit; its own words: "
                    + ("; ".join(lines) or "none")
                )

    def set_adapters(self, adapters: Sequence[tuple[Adapter, float]]) -> None:
        """Apply LoRA adapters, each with its scale, in place of those applied before.

        Raises:
            ValidationError: an adapter belongs to another model, or a scale is not finite.
            LlamaError: an adapter is closed.
        """
        for adapter, scale in adapters:
            if adapter.model is not self.model:
                raise ValidationError(f"the LoRA adapter {adapter.path} belongs to another model")
            if not math.isfinite(scale):
                raise ValidationError(f"the scale of {adapter.path} is {scale}; it must be finite")
        with self.lock:
            pointer = self._handle.pointer
            count = len(adapters)
            pointers = (ctypes.c_void_p * max(count, 1))(
                *(adapter.handle.pointer for adapter, _ in adapters)
            )
            scales = (ctypes.c_float * max(count, 1))(*(scale for _, scale in adapters))
            self._lib.llama_set_adapters_lora(pointer, pointers, count, scales)
            before, self._adapters = self._adapters, tuple(adapters)
            for adapter, _ in adapters:
                adapter.users.add(self)
            for adapter in {adapter for adapter, _ in before} - {a for a, _ in adapters}:
                adapter.users.discard(self)

    def set_control(self, data: array.array[float] | None) -> None:
        """Add directions to what layers put out, in place of those added before.

        Args:
            data: ``n_embd`` floats for each layer from 1 to the last; None takes them out.

        Raises:
            LlamaError: llama.cpp refused.
        """
        width = self.model.n_embd
        with self.lock:
            pointer = self._handle.pointer
            _log.clear()
            if data is None:
                status = self._lib.llama_set_adapter_cvec(pointer, None, 0, width, -1, -1)
            else:
                # a layer that is missing at the end would keep what it had
                if len(data) != width * max(self.model.n_layer - 1, 1):
                    raise ValidationError(
                        f"{len(data)} numbers; a control vector has {width} for each layer but the "
                        f"first of {self.model.n_layer}"
                    )
                native = (ctypes.c_float * len(data)).from_buffer(data)
                status = self._lib.llama_set_adapter_cvec(
                    pointer, native, len(data), width, 1, self.model.n_layer
                )
            if status:
                raise LlamaError("llama.cpp cannot apply the control vector", log=_log.complaints())

    def close(self) -> None:
        """Free the context and let go of its adapters; does nothing the second time."""
        super().close()
        for adapter, _ in self._adapters:
            adapter.users.discard(self)
        self._adapters = ()

    def _check_seq_id(self, seq_id: int) -> None:
        if not 0 <= seq_id < self.n_seq_max:
            raise ValidationError(
                f"sequence id {seq_id}; this context's ids run from 0 to {self.n_seq_max - 1}"
            )


_AGAIN = "close this object, start the server again, then load the model once more"

# llama.h, llama_decode: what its return values mean
_FULL = 1
_STATUS = {
    _FULL: "the context is full: no room for this batch; load with a larger n_ctx, or reset() first",
    2: "decoding was aborted",
    -1: "llama.cpp refused the batch as invalid",
}
_FATAL = "llama.cpp failed while decoding (status {}); reset() before going on"


def _make(model: Model, native: _abi.llama_context_params) -> int | None:
    """Make a context; what a file says of a model is asserted on only here, for most of it."""
    try:
        return guarded(_library.load().llama_init_from_model, model.handle.pointer, native)
    except FailedAssertionError as failed:
        raise LlamaError(
            f"llama.cpp cannot make a context of {model.path}, which is damaged, was made for another "
            f"llama.cpp, or cannot be used with these parameters: {failed}",
            log=_log.complaints(),
        ) from None


def _context_error(params: ContextParams, log: tuple[str, ...]) -> LlamaError:
    what = f"a context of {params.n_ctx} tokens"
    lacking = shortage(log)
    if lacking is None:
        return LlamaError(f"llama.cpp cannot make {what}; its own words follow", log=log)
    smaller = "choose a smaller n_ctx or n_ubatch, or smaller types for type_k and type_v"
    text = shortage_text(
        lacking,
        _library.devices(),
        on_gpu=f"{smaller}, or load the model with fewer n_gpu_layers",
        on_cpu=smaller,
    )
    return LlamaError(f"{what} does not fit: {text}. llama.cpp's own words follow", log=log)
