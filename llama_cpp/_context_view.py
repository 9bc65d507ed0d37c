"""A context by the names of llama-cpp-python's internals, over the core's."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from llama_cpp import _abi, _choice, _library, _log
from llama_cpp._arguments import check_integer
from llama_cpp._context import Context
from llama_cpp._errors import GenerationError, ValidationError
from llama_cpp._model_view import LlamaModel
from llama_cpp._native_params import context_params

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from ctypes import _Pointer
    from typing import Any

    from llama_cpp._batch_view import LlamaBatch
    from llama_cpp._token_data import LlamaTokenDataArray

    Floats = _Pointer[ctypes.c_float]

_INT32 = (-(2**31), 2**31 - 1)


class LlamaContext:
    """A context over a model: the KV cache, decoding, logits and embeddings.

    Pointers that it returns are valid until the next decode, and end where their row or table ends.

    Attributes:
        model: the model.
        params: the ``struct llama_context_params`` it was made with.
        verbose: as its model's.
    """

    def __init__(
        self, *, model: LlamaModel, params: _abi.llama_context_params, verbose: bool = True
    ) -> None:
        """Make a context.

        Args:
            model: the model.
            params: from ``llama_context_default_params()``.
            verbose: False passes only llama.cpp's errors to the logger ``llama_cpp``.

        Raises:
            ValidationError: a parameter is out of range, or cannot be given here.
            LlamaError: llama.cpp refused (not enough memory, parameters that exclude each other).
        """
        _log.set_verbose(verbose)
        self._core = Context(model.core, context_params(params))
        self._start(model, params, verbose=verbose, changed=None)

    @classmethod
    def view(
        cls,
        core: Context,
        model: LlamaModel,
        *,
        verbose: bool = True,
        changed: Callable[[], object] | None = None,
    ) -> LlamaContext:
        """Return a context by these names; closing either closes both.

        Args:
            core: the context.
            model: its model by these names.
            verbose: as its model's.
            changed: called after a change of the memory from here, under the context's lock: what
                the owner believes to be in memory may no longer be.
        """
        made = cls.__new__(cls)
        made._core = core  # noqa: SLF001 - its own
        made._start(model, core.native, verbose=verbose, changed=changed)  # noqa: SLF001 - its own
        return made

    def _start(
        self,
        model: LlamaModel,
        params: _abi.llama_context_params,
        *,
        verbose: bool,
        changed: Callable[[], object] | None,
    ) -> None:
        self._lib = _library.load()
        self._changed = changed
        self._random = random.Random()  # noqa: S311 - to choose tokens
        self._grammars: dict[int, Any] = {}
        self.model = model
        self.params = params
        self.verbose = verbose

    @property
    def core(self) -> Context:
        """The context itself."""
        return self._core

    @property
    def ctx(self) -> int:
        """The native ``struct llama_context *``."""
        return self._core.handle.pointer

    @property
    def memory(self) -> int | None:
        """The native ``llama_memory_t``; None for a model without memory, such as BERT."""
        return self._lib.llama_get_memory(self._core.handle.pointer)

    def close(self) -> None:
        """Free the context; does nothing the second time."""
        self._core.close()

    def n_ctx(self) -> int:
        """Return the context length in tokens."""
        return self._open().n_ctx

    def pooling_type(self) -> int:
        """Return ``LLAMA_POOLING_TYPE_*``."""
        return self._open().pooling_type

    # -- memory --------------------------------------------------------------------------------

    def kv_cache_clear(self) -> None:
        """Forget all sequences."""
        with self._core.lock:
            self._core.clear()
            self._tell()

    def kv_cache_seq_rm(self, seq_id: int, p0: int, p1: int) -> bool:
        """Forget a sequence's tokens at positions ``p0`` (inclusive) to ``p1`` (exclusive).

        Args:
            seq_id: the sequence; negative means all.
            p0: first position; negative means the beginning.
            p1: end; negative means the end of the sequence.

        Returns:
            False where the memory cannot forget a part (recurrent models).

        Raises:
            ValidationError: there is no such sequence.
        """
        self._check_positions(p0, p1)
        with self._core.lock:
            memory = self._memory(*(() if seq_id < 0 else (seq_id,)))
            done = memory is None or self._lib.llama_memory_seq_rm(memory, max(seq_id, -1), p0, p1)
            self._tell()
            return done

    def kv_cache_seq_cp(self, seq_id_src: int, seq_id_dst: int, p0: int, p1: int) -> None:
        """Let a sequence have the tokens of another at positions ``p0`` to ``p1`` (exclusive).

        Args:
            seq_id_src: where they are.
            seq_id_dst: another, empty sequence.
            p0: first position; negative means the beginning.
            p1: end; negative means the end of the sequence.

        Raises:
            ValidationError: there is no such sequence, or it is not empty; or a part of a sequence
                is to be copied in a context whose sequences have buffers of their own.
        """
        self._check_positions(p0, p1)
        with self._core.lock:
            memory = self._memory(seq_id_src, seq_id_dst)
            if memory is None:
                return
            if not self._core.params.kv_unified and (p0 > 0 or p1 >= 0):
                raise ValidationError(
                    "sequences of this context have buffers of their own: copy the whole sequence "
                    "(p0=-1, p1=-1), or make the context with kv_unified"
                )
            if seq_id_src == seq_id_dst:
                raise ValidationError(f"sequence {seq_id_src} cannot be copied to itself")
            if self._lib.llama_memory_seq_pos_max(memory, seq_id_dst) >= 0:
                raise ValidationError(
                    f"sequence {seq_id_dst} is not empty; remove its tokens first"
                )
            self._lib.llama_memory_seq_cp(memory, seq_id_src, seq_id_dst, p0, p1)
            self._tell()

    def kv_cache_seq_keep(self, seq_id: int) -> None:
        """Forget all sequences but one.

        Raises:
            ValidationError: there is no such sequence.
        """
        with self._core.lock:
            memory = self._memory(seq_id)
            if memory is not None:
                self._lib.llama_memory_seq_keep(memory, seq_id)
                self._tell()

    def kv_cache_seq_shift(self, seq_id: int, p0: int, p1: int, shift: int) -> None:
        """Move a sequence's tokens at positions ``p0`` to ``p1`` (exclusive) by ``shift``.

        Args:
            seq_id: the sequence.
            p0: first position; negative means the beginning.
            p1: end; negative means the end of the sequence.
            shift: added to each position.

        Raises:
            ValidationError: there is no such sequence, the model cannot be shifted, or a position
                would be negative.
        """
        self._check_positions(p0, p1)
        check_integer("shift", shift, *_INT32)
        with self._core.lock:
            memory = self._memory(seq_id)
            if memory is None:
                return
            if not self._lib.llama_memory_can_shift(memory):
                raise ValidationError("this model's memory cannot be shifted")
            first = self._lib.llama_memory_seq_pos_min(memory, seq_id)
            if self._core.model.hybrid:
                # it says where the recurrent layers are; those with attention begin before that
                first = 0
            if max(p0, first, 0) + shift < 0:
                raise ValidationError(
                    f"shift is {shift}, and position {max(p0, first, 0)} would be negative"
                )
            self._lib.llama_memory_seq_add(memory, seq_id, p0, p1, shift)
            self._tell()

    def get_state_size(self) -> int:
        """Return how many bytes the state has now."""
        with self._core.lock:
            return self._lib.llama_state_get_size(self._core.handle.pointer)

    # -- computing -----------------------------------------------------------------------------

    def decode(self, batch: LlamaBatch) -> None:
        """Compute a batch.

        Raises:
            ValidationError: it is empty, too large, or an id, position or sequence is out of range.
            GenerationError: llama.cpp failed.
        """
        with self._core.lock:
            try:
                self._core.decode(batch.checked_for(self._core))
            finally:
                self._tell()

    def encode(self, batch: LlamaBatch) -> None:
        """Compute a batch with the encoder of a model that has one.

        Raises:
            ValidationError: it has no encoder; or as for :meth:`decode`.
            GenerationError: llama.cpp failed.
        """
        core = self._core
        with core.lock:
            pointer = core.handle.pointer
            if core.has_memory and not core.model.has_encoder:
                raise ValidationError("this model has no encoder; use decode()")
            native = batch.checked_for(core)
            if not core.has_memory:
                core.decode(native)
                return
            if len(native) > core.n_ubatch:
                raise ValidationError(
                    f"a batch of {len(native)} tokens; an encoder takes at most {core.n_ubatch} "
                    "(n_ubatch) at once"
                )
            _log.clear()
            if status := self._lib.llama_encode(pointer, native.struct):
                raise GenerationError(
                    f"llama.cpp failed while encoding (status {status})", log=_log.complaints()
                )

    def set_n_threads(self, n_threads: int, n_threads_batch: int) -> None:
        """Choose how many threads compute: for one token at a time, and for prompts."""
        check_integer("n_threads", n_threads, 1, _abi.GGML_MAX_N_THREADS)
        check_integer("n_threads_batch", n_threads_batch, 1, _abi.GGML_MAX_N_THREADS)
        with self._core.lock:
            self._lib.llama_set_n_threads(self._core.handle.pointer, n_threads, n_threads_batch)

    def get_logits(self) -> Floats:
        """Return the logits of the last batch, ``n_vocab`` floats for each of its outputs.

        Raises:
            ValidationError: nothing was asked for.
        """
        return self._table(self._lib.llama_get_logits, "logits")

    def get_logits_ith(self, i: int) -> Floats:
        """Return the logits of an output, ``n_vocab`` floats.

        Args:
            i: a token's place in the last batch; or negative, from the end of the outputs.

        Raises:
            ValidationError: nothing was asked for at that place.
        """
        return self._row(self._lib.llama_get_logits_ith, i, "logits")

    def get_embeddings(self) -> Floats:
        """Return the embeddings of the last batch, ``n_embd`` floats for each output.

        Raises:
            ValidationError: nothing was asked for.
            GenerationError: there are none (pooling makes one per sequence).
        """
        return self._table(self._lib.llama_get_embeddings, "embeddings")

    def get_embeddings_ith(self, i: int) -> Floats:
        """Return the embedding of an output, ``n_embd`` floats; ``i`` as for :meth:`get_logits_ith`."""
        return self._row(self._lib.llama_get_embeddings_ith, i, "embedding")

    def get_embeddings_seq(self, seq_id: int) -> Floats:
        """Return the pooled embedding of a sequence, ``n_embd`` floats; with rank pooling its scores.

        Raises:
            ValidationError: there is no such sequence.
            GenerationError: it has no embedding.
        """
        with self._core.lock:
            pointer = self._core.handle.pointer
            self._check_seq_id(seq_id)
            return _there(self._lib.llama_get_embeddings_seq(pointer, seq_id), "pooled embedding")

    # -- choosing ------------------------------------------------------------------------------

    def set_rng_seed(self, seed: int) -> None:
        """Choose the seed of :meth:`sample_token` and the mirostats; otherwise it is drawn."""
        self._random = random.Random(seed)  # noqa: S311 - to choose tokens

    def sample_repetition_penalties(
        self,
        candidates: LlamaTokenDataArray,
        last_tokens_data: Any,
        penalty_last_n: int,
        penalty_repeat: float,
        penalty_freq: float,
        penalty_present: float,
    ) -> None:
        """Lower the logits of recent tokens.

        Args:
            candidates: changed.
            last_tokens_data: their ids, oldest first; a sequence or an array of ctypes.
            penalty_last_n: how many of them count.
            penalty_repeat: divides positive logits; 1 is neutral.
            penalty_freq: taken for each occurrence.
            penalty_present: taken once.
        """
        _choice.penalize(
            candidates,
            last_tokens_data,
            penalty_last_n,
            penalty_repeat,
            penalty_freq,
            penalty_present,
        )

    def sample_softmax(self, candidates: LlamaTokenDataArray) -> None:
        """Sort by logit, likeliest first, and fill in the probabilities."""
        _choice.softmax(candidates)

    def sample_top_k(self, candidates: LlamaTokenDataArray, k: int, min_keep: int) -> None:
        """Keep the ``k`` likeliest, but at least ``min_keep``; 0 or less keeps all."""
        _choice.top_k(candidates, k, min_keep)

    def sample_top_p(self, candidates: LlamaTokenDataArray, p: float, min_keep: int) -> None:
        """Keep the likeliest whose probabilities add up to ``p``, but at least ``min_keep``."""
        _choice.top_p(candidates, p, min_keep)

    def sample_min_p(self, candidates: LlamaTokenDataArray, p: float, min_keep: int) -> None:
        """Keep those at least ``p`` times as likely as the likeliest, but at least ``min_keep``."""
        _choice.min_p(candidates, p, min_keep)

    def sample_typical(self, candidates: LlamaTokenDataArray, p: float, min_keep: int) -> None:
        """Keep the locally typical ones that add up to ``p``, but at least ``min_keep``."""
        _choice.typical(candidates, p, min_keep)

    def sample_temp(self, candidates: LlamaTokenDataArray, temp: float) -> None:
        """Divide the logits by ``temp``; 0 or less leaves the likeliest alone."""
        _choice.temperature(candidates, temp)

    def sample_grammar(self, candidates: LlamaTokenDataArray, grammar: Any) -> None:
        """Refuse what a grammar does not allow after the tokens given to :meth:`grammar_accept_token`.

        Args:
            candidates: changed.
            grammar: a ``LlamaGrammar``.
        """
        self._grammar(grammar).apply(candidates)

    def grammar_accept_token(self, grammar: Any, token: int) -> None:
        """Go on in a grammar by one token.

        Args:
            grammar: a ``LlamaGrammar``.
            token: what was chosen.

        Raises:
            ValidationError: the grammar does not allow it.
        """
        self.model.core.vocabulary.check((token,))
        self._grammar(grammar).accept(token)

    def sample_token_greedy(self, candidates: LlamaTokenDataArray) -> int:
        """Return the likeliest token."""
        return _choice.likeliest(candidates)

    def sample_token(self, candidates: LlamaTokenDataArray) -> int:
        """Return a token, drawn by the probabilities."""
        return _choice.draw(candidates, self._random)

    def sample_token_mirostat(
        self, candidates: LlamaTokenDataArray, tau: float, eta: float, m: int, mu: Any
    ) -> int:
        """Return a token, drawn by Mirostat (Basu et al., 2020).

        Args:
            candidates: changed.
            tau: target surprise in bits.
            eta: learning rate.
            m: how many candidates its estimate looks at.
            mu: twice ``tau`` at first; a ``ctypes.c_float`` or a pointer to one, which is changed.
        """
        return _choice.mirostat(candidates, tau, eta, m, mu, self._random)

    def sample_token_mirostat_v2(
        self, candidates: LlamaTokenDataArray, tau: float, eta: float, mu: Any
    ) -> int:
        """Return a token, drawn by Mirostat 2.0; arguments as for :meth:`sample_token_mirostat`."""
        return _choice.mirostat_v2(candidates, tau, eta, mu, self._random)

    # -- timings -------------------------------------------------------------------------------

    def print_timings(self) -> None:
        """Write the times of loading, prompts and tokens to the log."""
        with self._core.lock:
            self._lib.llama_perf_context_print(self._core.handle.pointer)

    def reset_timings(self) -> None:
        """Measure from now on."""
        with self._core.lock:
            self._lib.llama_perf_context_reset(self._core.handle.pointer)

    @staticmethod
    def default_params() -> _abi.llama_context_params:
        """Return llama.cpp's own choice of parameters."""
        return _library.load().llama_context_default_params()

    # -- inside --------------------------------------------------------------------------------

    def _open(self) -> Context:
        _ = self._core.handle.pointer
        return self._core

    def _memory(self, *seq_ids: int) -> int | None:
        pointer = self._core.handle.pointer
        for seq_id in seq_ids:
            self._check_seq_id(seq_id)
        return self._lib.llama_get_memory(pointer)

    def _check_seq_id(self, seq_id: int) -> None:
        if not 0 <= seq_id < self._core.n_seq_max:
            raise ValidationError(
                f"sequence id {seq_id}; this context's ids run from 0 to {self._core.n_seq_max - 1}"
            )

    def _check_positions(self, p0: int, p1: int) -> None:
        check_integer("p0", p0, *_INT32)
        check_integer("p1", p1, *_INT32)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()

    def _table(self, read: Callable[[int], Floats], what: str) -> Floats:
        core = self._core
        with core.lock:
            pointer = core.handle.pointer
            core.output_index(-1)
            return _there(read(pointer), what)

    def _row(self, read: Callable[[int, int], Floats], index: int, what: str) -> Floats:
        core = self._core
        with core.lock:
            return _there(read(core.handle.pointer, core.output_index(index)), what)

    def _grammar(self, grammar: Any) -> Any:
        from llama_cpp._grammar_state import GrammarState  # noqa: PLC0415 - few need it

        state = self._grammars.get(id(grammar))
        if state is None or state.grammar is not grammar:
            state = self._grammars[id(grammar)] = GrammarState(self.model.core, grammar)
        return state


def _there(found: Floats, what: str) -> Floats:
    if not found:
        raise GenerationError(f"llama.cpp has no {what} of the last batch", log=_log.complaints())
    return found
